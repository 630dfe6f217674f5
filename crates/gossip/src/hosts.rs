//! Which other hosts are served: the filter that lies over what they said.
//!
//! ```text
//!            foca: down                 check: nobody there
//!   Alive ───────────────▶ Checking ───────────────────────▶ Down ──▶ (forgotten)
//!     ▲                     │  ▲  │                           │
//!     │ foca: up            │  └──┘ its registrar is gone,    │ foca: up
//!     └─────────────────────┴───────an instance answers ◀─────┘
//! ```
//! A host of which this one only hears that others have lost it is looked at as well, after this host's own start say:
//! its registrar may be dead and its instances there. It is not served before one of them has answered.
//!
//! A host that foca takes for dead is looked at directly before its instances are withdrawn: its registrar by
//! a stream, an instance by its port. Where most hosts are lost at once, it is more likely that this host is
//! the one in trouble, and all stay served.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use model::HostName;

use crate::identity::HostIdentity;
use crate::output::{ProbeId, StreamId};

/// Losses within this time count as one.
const LOSS_WINDOW: Duration = Duration::from_secs(30);

/// The smallest cluster, this host included, in which losing most hosts at once is taken for an own trouble.
const LOSS_HOSTS_MIN: usize = 4;

/// How a host fares, as this host sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostStatus {
    /// It takes part.
    Alive,
    /// Its registrar does not answer, but it is not certain that the host is gone: it is served on.
    Suspect,
    /// It is gone.
    Down,
    /// It has left of its own will.
    Left,
}

/// A direct look at a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Check {
    pub(crate) stream: Option<StreamId>,
    pub(crate) registrar: Answer,
    pub(crate) probes: BTreeMap<ProbeId, Answer>,
    /// How often a busy registrar was asked in vain.
    pub(crate) attempts: u8,
}

/// What came of one question.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Answer {
    #[default]
    Pending,
    Yes,
    No,
    /// Somebody is there and has no time.
    Busy,
    /// The machine is there, and nobody listens.
    Absent,
}

/// What a direct look found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Its registrar lives.
    Lives,
    /// Its registrar had no time; to be asked again.
    Busy,
    /// Its registrar is gone, an instance answers.
    Serves,
    /// Its registrar is gone, its machine is there, and it has nothing to knock at.
    Restarts,
    /// Nobody is there.
    Gone,
}

impl Check {
    /// What is found, once there is nothing more to wait for.
    pub(crate) fn verdict(&self, time_is_over: bool) -> Option<Verdict> {
        let any = |answer| self.probes.values().any(|probe| *probe == answer);
        let pending = !time_is_over && (self.registrar == Answer::Pending || any(Answer::Pending));
        match self.registrar {
            Answer::Yes => Some(Verdict::Lives),
            _ if pending => None,
            _ if any(Answer::Yes) => Some(Verdict::Serves),
            Answer::Busy => Some(Verdict::Busy),
            Answer::Absent if self.probes.is_empty() => Some(Verdict::Restarts),
            _ => Some(Verdict::Gone),
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) identity: HostIdentity,
    pub(crate) status: HostStatus,
    pub(crate) since: Instant,
    pub(crate) check: Option<Check>,
    /// It was seen alive, or one of its instances has answered.
    proven: bool,
    /// It is down, and served all the same because too many are.
    held: bool,
    /// Another host answered at its address, and so has it.
    pub(crate) superseded: Option<HostName>,
}

impl Host {
    /// It is being looked at, and nothing of it has answered yet.
    pub(crate) fn is_unproven(&self) -> bool {
        self.status == HostStatus::Suspect && !self.proven
    }

    /// Whether its instances are served.
    pub(crate) fn is_served(&self) -> bool {
        match self.status {
            HostStatus::Alive => true,
            HostStatus::Suspect => self.proven,
            HostStatus::Down => self.held,
            HostStatus::Left => false,
        }
    }
}

/// All other hosts that were ever heard of and are not forgotten.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hosts {
    hosts: BTreeMap<HostName, Host>,
    /// How many of them gossip at each address.
    at: BTreeMap<IpAddr, usize>,
    holding: bool,
}

impl Hosts {
    pub(crate) fn get(&self, name: &HostName) -> Option<&Host> {
        self.hosts.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &HostName) -> Option<&mut Host> {
        self.hosts.get_mut(name)
    }

    /// Whether there are [`crate::HOSTS_MAX`] already.
    pub(crate) fn is_full(&self) -> bool {
        self.hosts.len() >= crate::HOSTS_MAX
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&HostName, &Host)> {
        self.hosts.iter()
    }

    /// The host takes part. Returns the hosts that are now seen otherwise.
    pub(crate) fn up(&mut self, identity: HostIdentity, now: Instant) -> Vec<HostName> {
        let name = identity.name.as_ref().clone();
        let before = self.hosts.get(&name);
        let since = before.filter(|host| host.status == HostStatus::Alive).map_or(now, |host| host.since);
        let same = before.is_some_and(|host| host.status == HostStatus::Alive && host.identity == identity);
        let status = HostStatus::Alive;
        self.put(Host { identity, status, since, check: None, proven: true, held: false, superseded: None });
        let mut changed = self.release(now);
        if !same {
            changed.push(name);
        }
        changed
    }

    /// The host's record is known, and nothing of the host itself.
    pub(crate) fn heard_of(&mut self, identity: HostIdentity, now: Instant) {
        if self.hosts.contains_key(&*identity.name) {
            return;
        }
        let status = HostStatus::Down;
        self.put(Host { identity, status, since: now, check: None, proven: false, held: false, superseded: None });
    }

    fn put(&mut self, host: Host) {
        *self.at.entry(host.identity.address.ip()).or_default() += 1;
        let name = host.identity.name.as_ref().clone();
        if let Some(before) = self.hosts.insert(name, host) {
            self.leave_address(before.identity.address.ip());
        }
    }

    fn leave_address(&mut self, address: IpAddr) {
        if let Entry::Occupied(mut hosts) = self.at.entry(address) {
            *hosts.get_mut() -= 1;
            if *hosts.get() == 0 {
                hosts.remove();
            }
        }
    }

    /// Whether any host gossips at this address.
    pub(crate) fn is_at(&self, address: IpAddr) -> bool {
        self.at.contains_key(&address)
    }

    /// Another host answers at the host's address: it is withdrawn, and is no loss. Says whether that is news.
    pub(crate) fn supersede(&mut self, name: &HostName, by: &HostName, now: Instant) -> bool {
        match self.hosts.get_mut(name) {
            Some(host) if host.status != HostStatus::Left && host.superseded.as_ref() != Some(by) => {
                if host.status != HostStatus::Down {
                    (host.status, host.since) = (HostStatus::Down, now);
                }
                (host.check, host.proven, host.held) = (None, false, false);
                host.superseded = Some(by.clone());
                true
            }
            _ => false,
        }
    }

    /// The host is not answering; it is to be looked at. Says whether that is news.
    pub(crate) fn suspect(&mut self, name: &HostName, now: Instant) -> bool {
        match self.hosts.get_mut(name) {
            Some(host) if host.status == HostStatus::Alive => {
                (host.status, host.since) = (HostStatus::Suspect, now);
                true
            }
            _ => false,
        }
    }

    /// The host is down, and is to be looked at all the same. Says whether it is.
    pub(crate) fn look_again(&mut self, name: &HostName, now: Instant) -> bool {
        match self.hosts.get_mut(name) {
            Some(host) if host.status == HostStatus::Down && !host.held && host.superseded.is_none() => {
                (host.status, host.since, host.proven) = (HostStatus::Suspect, now, false);
                true
            }
            _ => false,
        }
    }

    /// The host was looked at, and something of it is there. Says whether it is served only now.
    pub(crate) fn prove(&mut self, name: &HostName) -> bool {
        self.hosts.get_mut(name).is_some_and(|host| !std::mem::replace(&mut host.proven, true))
    }

    /// The host has left.
    pub(crate) fn left(&mut self, name: &HostName, now: Instant) -> bool {
        match self.hosts.get_mut(name) {
            Some(host) if host.status != HostStatus::Left => {
                (host.status, host.since, host.check, host.held) = (HostStatus::Left, now, None, false);
                true
            }
            _ => false,
        }
    }

    /// The host was looked at, and nobody is there. Returns the hosts that are now seen otherwise.
    pub(crate) fn gone(&mut self, name: &HostName, now: Instant) -> Vec<HostName> {
        let Some(host) = self.hosts.get_mut(name) else { return Vec::new() };
        if matches!(host.status, HostStatus::Down | HostStatus::Left) {
            return Vec::new();
        }
        let was_served = host.proven;
        (host.status, host.since, host.check) = (HostStatus::Down, now, None);
        host.held = self.holding && was_served;
        let mut changed = if was_served { self.hold(now) } else { Vec::new() };
        changed.push(name.clone());
        changed
    }

    pub(crate) fn forget(&mut self, name: &HostName) {
        if let Some(host) = self.hosts.remove(name) {
            self.leave_address(host.identity.address.ip());
        }
    }

    /// The host that is gone and not served for the longest time.
    pub(crate) fn longest_gone(&self) -> Option<&Host> {
        let gone = |host: &&Host| matches!(host.status, HostStatus::Down | HostStatus::Left) && !host.held;
        self.hosts.values().filter(gone).min_by_key(|host| host.since)
    }

    /// Believes all losses: what is held is served no longer. Returns the hosts that are now seen otherwise.
    pub(crate) fn believe(&mut self, now: Instant) -> Vec<HostName> {
        self.holding = false;
        let believed = self.release_held(now);
        for name in &believed {
            // The next loss does not bring them back.
            if let Some(host) = self.hosts.get_mut(name) {
                host.proven = false;
            }
        }
        believed
    }

    /// How many hosts were lost of how many, while that is too many to believe.
    pub(crate) fn held(&self) -> Option<(usize, usize)> {
        let held = self.hosts.values().filter(|host| host.held).count();
        self.holding.then(|| (held, held + self.present() + 1))
    }

    fn present(&self) -> usize {
        let present = |host: &&Host| matches!(host.status, HostStatus::Alive | HostStatus::Suspect) && host.proven;
        self.hosts.values().filter(present).count()
    }

    /// Whether that many losses are more than half of the cluster.
    fn is_too_many(&self, lost: usize) -> bool {
        let hosts = lost + self.present() + 1;
        hosts >= LOSS_HOSTS_MIN && lost * 2 > hosts
    }

    /// Serves those that were lost lately again, if they are too many to believe.
    fn hold(&mut self, now: Instant) -> Vec<HostName> {
        let lately = |host: &Host| {
            host.status == HostStatus::Down && host.proven && now.saturating_duration_since(host.since) <= LOSS_WINDOW
        };
        let lost = self.hosts.values().filter(|host| host.held || lately(host)).count();
        if self.holding || !self.is_too_many(lost) {
            return Vec::new();
        }
        self.holding = true;
        let lost = self.hosts.iter_mut().filter(|(_, host)| lately(host));
        lost.map(|(name, host)| {
            host.held = true;
            name.clone()
        })
        .collect()
    }

    /// Stops serving those that are lost, once enough others are back to believe it.
    fn release(&mut self, now: Instant) -> Vec<HostName> {
        if !self.holding || self.is_too_many(self.hosts.values().filter(|host| host.held).count()) {
            return Vec::new();
        }
        self.holding = false;
        self.release_held(now)
    }

    fn release_held(&mut self, now: Instant) -> Vec<HostName> {
        let held = self.hosts.iter_mut().filter(|(_, host)| host.held);
        held.map(|(name, host)| {
            (host.held, host.since) = (false, now);
            name.clone()
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use model::Incarnation;

    use super::*;

    fn name(number: usize) -> HostName {
        format!("host-{number}").parse().unwrap()
    }

    fn cluster(others: usize, now: Instant) -> Hosts {
        let mut hosts = Hosts::default();
        for number in 0..others {
            let address = format!("10.0.0.{number}:7946").parse().unwrap();
            hosts.up(HostIdentity::new(name(number), address, Incarnation::new(1)), now);
        }
        hosts
    }

    fn lose(hosts: &mut Hosts, numbers: std::ops::Range<usize>, now: Instant) {
        for number in numbers {
            hosts.suspect(&name(number), now);
            hosts.gone(&name(number), now);
        }
    }

    fn served(hosts: &Hosts) -> usize {
        hosts.iter().filter(|(_, host)| host.is_served()).count()
    }

    #[test]
    fn a_suspect_is_served_until_nobody_is_found_there() {
        let now = Instant::now();
        let mut hosts = cluster(3, now);
        assert!(hosts.suspect(&name(0), now));
        assert_eq!(served(&hosts), 3);
        assert_eq!(hosts.gone(&name(0), now), [name(0)]);
        assert_eq!(served(&hosts), 2);
        assert!(hosts.gone(&name(0), now).is_empty());
    }

    #[test]
    fn losing_most_hosts_at_once_withdraws_none_until_enough_are_back() {
        let now = Instant::now();
        let mut hosts = cluster(9, now);
        lose(&mut hosts, 0..5, now);
        assert_eq!((served(&hosts), hosts.held()), (4, None), "5 of 10 is not most");
        lose(&mut hosts, 5..6, now);
        assert_eq!((served(&hosts), hosts.held()), (9, Some((6, 10))), "those lost just before are served again");
        lose(&mut hosts, 6..8, now);
        assert_eq!(served(&hosts), 9);
        for number in 0..3 {
            let identity = hosts.get(&name(number)).unwrap().identity.clone();
            hosts.up(identity, now);
        }
        assert_eq!((served(&hosts), hosts.held()), (4, None), "5 of 10 are believed");
    }

    #[test]
    fn the_operator_has_held_losses_believed_and_the_next_loss_brings_none_of_them_back() {
        let now = Instant::now();
        let mut hosts = cluster(9, now);
        lose(&mut hosts, 0..6, now);
        assert_eq!(served(&hosts), 9);
        assert_eq!(hosts.believe(now).len(), 6);
        assert_eq!((served(&hosts), hosts.held()), (3, None));
        lose(&mut hosts, 6..7, now);
        assert_eq!((served(&hosts), hosts.held()), (2, None));
    }

    #[test]
    fn a_superseded_host_is_no_loss_and_comes_back_when_it_takes_part_anew() {
        let now = Instant::now();
        let mut hosts = cluster(3, now);
        assert!(hosts.supersede(&name(0), &name(1), now) && !hosts.supersede(&name(0), &name(1), now));
        assert_eq!((served(&hosts), hosts.look_again(&name(0), now)), (2, false));
        let identity = hosts.get(&name(0)).unwrap().identity.renewed();
        let at = identity.address.ip();
        hosts.up(identity, now);
        assert_eq!((served(&hosts), hosts.is_at(at)), (3, true));
        hosts.forget(&name(0));
        assert!(!hosts.is_at(at));
    }

    #[test]
    fn hosts_lost_one_after_the_other_are_withdrawn_each() {
        let mut now = Instant::now();
        let mut hosts = cluster(9, now);
        for number in 0..8 {
            now += LOSS_WINDOW + Duration::from_secs(1);
            lose(&mut hosts, number..number + 1, now);
        }
        assert_eq!((served(&hosts), hosts.held()), (1, None));
    }

    #[test]
    fn in_a_small_cluster_each_loss_is_believed() {
        let now = Instant::now();
        let mut hosts = cluster(2, now);
        lose(&mut hosts, 0..2, now);
        assert_eq!(served(&hosts), 0);
    }

    #[test]
    fn a_host_that_left_is_withdrawn_at_once_and_comes_back_in_its_next_life() {
        let now = Instant::now();
        let mut hosts = cluster(1, now);
        assert!(hosts.left(&name(0), now));
        assert_eq!(served(&hosts), 0);
        assert!(hosts.gone(&name(0), now).is_empty());
        assert_eq!(hosts.get(&name(0)).unwrap().status, HostStatus::Left);
        let identity = hosts.get(&name(0)).unwrap().identity.renewed();
        assert_eq!(hosts.up(identity, now), [name(0)]);
        assert_eq!(served(&hosts), 1);
    }

    #[test]
    fn an_instance_that_answers_outweighs_a_registrar_that_does_not() {
        let check = |registrar, probes: &[Answer]| Check {
            registrar,
            probes: probes.iter().enumerate().map(|(n, answer)| (ProbeId(n as u64), *answer)).collect(),
            ..Check::default()
        };
        use Answer::{Absent, Busy, No, Pending, Yes};
        let cases = [
            (Yes, &[Pending][..], Some(Verdict::Lives)),
            (No, &[Pending, No], None),
            (Pending, &[Yes], None),
            (No, &[No, Yes], Some(Verdict::Serves)),
            (No, &[No], Some(Verdict::Gone)),
            (No, &[], Some(Verdict::Gone)),
            (Busy, &[No], Some(Verdict::Busy)),
            (Absent, &[], Some(Verdict::Restarts)),
            (Absent, &[No], Some(Verdict::Gone)),
            (Absent, &[Yes], Some(Verdict::Serves)),
        ];
        for (registrar, probes, expected) in cases {
            assert_eq!(check(registrar, probes).verdict(false), expected, "{registrar:?} {probes:?}");
        }
        assert_eq!(check(Pending, &[Pending]).verdict(true), Some(Verdict::Gone));
        assert_eq!(check(Pending, &[Yes, Pending]).verdict(true), Some(Verdict::Serves));
    }
}

//! Looking directly at hosts that do not answer, before anything of theirs is withdrawn.

use std::time::{Duration, Instant};

use model::{HostName, Protocol};
use rand::seq::IndexedRandom as _;

use super::Gossip;
use super::joining::Phase;
use super::streams::Purpose;
use crate::hosts::{Answer, Check, Host, HostStatus, Verdict};
use crate::identity::HostIdentity;
use crate::members::Members;
use crate::output::{Output, ProbeId};
use crate::timers::Wake;

/// All hosts hear of a loss at once; they do not all look at the same moment.
const CHECK_WITHIN: Duration = Duration::from_millis(500);

/// The longest time for one look: a connect and a few packets.
const CHECK_MAX: Duration = Duration::from_millis(1500);

/// How many instances of a host are probed in one look.
const PROBES_MAX: usize = 3;

/// How long a registrar may take to be started again, where its machine answers and nothing else can be looked at.
const RESTART_MAX: Duration = Duration::from_secs(60);

/// How long until such a host is looked at again.
const RESTART_LOOK: Duration = Duration::from_secs(2);

/// How often a registrar may say that it has no time.
const BUSY_MAX: u8 = 3;

/// How long until a host that serves without its registrar is looked at again, for each 50 hosts that look.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

impl Gossip {
    /// foca takes the host for dead, or it has said so itself.
    pub(super) fn host_is_down(&mut self, now: Instant, identity: &HostIdentity) {
        let name = identity.name.as_ref();
        self.last_loss = Some(now);
        if self.has_said_goodbye(name) {
            if self.hosts.left(name, now) {
                self.changed.insert(name.clone());
            }
        } else if self.hosts.get(name).is_some_and(|host| host.identity == *identity) {
            self.doubt(now, name);
        }
    }

    /// Looks at a host soon.
    pub(super) fn doubt(&mut self, now: Instant, name: &HostName) {
        if self.hosts.suspect(name, now) {
            self.changed.insert(name.clone());
            let at = self.soon(now, CHECK_WITHIN);
            self.timers.set(Wake::Check(name.clone()), at);
        }
    }

    /// Others have lost the host, and this one has not seen it: that its registrar is dead says nothing of its
    /// instances, so they are knocked at before it counts as down.
    pub(super) fn hear_of_lost(&mut self, now: Instant, identity: HostIdentity) {
        let name = identity.name.as_ref().clone();
        if self.hosts.get(&name).is_none() && !self.hosts.is_full() {
            self.hosts.heard_of(identity, now);
            self.catalogue.set_told(&name, true);
            self.look_again(now, &name);
        }
    }

    /// Looks at a host that is down, if it has said what could be looked at.
    pub(super) fn look_again(&mut self, now: Instant, name: &HostName) {
        let has_instances =
            self.catalogue.get(name).is_some_and(|record| !record.left && !record.instances().is_empty());
        if has_instances && self.hosts.look_again(name, now) {
            self.changed.insert(name.clone());
            let at = self.soon(now, CHECK_WITHIN);
            self.timers.set(Wake::Check(name.clone()), at);
        }
    }

    /// Begins to look at a host, or ends it because time is over.
    pub(super) fn check(&mut self, now: Instant, name: HostName) {
        let Some(host) = self.hosts.get(&name).filter(|host| host.status == HostStatus::Suspect) else { return };
        let (address, attempts) = (host.identity.address, host.check.as_ref().map_or(0, |check| check.attempts));
        if host.check.as_ref().is_some_and(|check| check.stream.is_some()) {
            return self.conclude(now, &name, true);
        }
        let Some(stream) = self.open_stream(now, address, Purpose::Check(name.clone())) else {
            // Too many looks at once: this one a little later.
            let at = now + CHECK_WITHIN;
            return self.timers.set(Wake::Check(name), at);
        };
        let probes = self.probe(&name).into_iter().map(|probe| (probe, Answer::Pending)).collect();
        if let Some(host) = self.hosts.get_mut(&name) {
            host.check = Some(Check { stream: Some(stream), registrar: Answer::Pending, probes, attempts });
        }
        self.timers.set(Wake::Check(name), now + CHECK_MAX);
    }

    /// Asks the driver to knock at a few instances of the host.
    fn probe(&mut self, name: &HostName) -> Vec<ProbeId> {
        let view = self.host(name);
        let ports = view.iter().flat_map(|host| &host.instances).flat_map(|instance| &instance.ports);
        // A static service on some other machine says nothing of this host.
        let record = self.catalogue.get(name);
        let is_there = |address| {
            view.iter().any(|host| host.address.is_some_and(|gossip| gossip.ip() == address))
                || record.is_some_and(|record| record.addresses().contains(&address))
        };
        let tcp = ports.filter(|port| port.protocol == Protocol::Tcp && is_there(port.address));
        let all: Vec<_> = tcp.map(|port| std::net::SocketAddr::new(port.address, port.port)).collect();
        let chosen: Vec<_> = all.sample(&mut self.rng, PROBES_MAX).copied().collect();
        let ask = |address| {
            let probe = ProbeId(self.next_id());
            self.probes.insert(probe, name.clone());
            self.outputs.push_back(Output::Probe { probe, address });
            probe
        };
        chosen.into_iter().map(ask).collect()
    }

    /// What came of an [`Output::Probe`]: whether somebody accepted the connection.
    pub fn handle_probe_result(&mut self, now: Instant, probe: ProbeId, reachable: bool) {
        let Some(name) = self.probes.remove(&probe) else { return };
        let check = self.hosts.get_mut(&name).and_then(|host| host.check.as_mut());
        if let Some(answer) = check.and_then(|check| check.probes.get_mut(&probe)) {
            *answer = if reachable { Answer::Yes } else { Answer::No };
            self.conclude(now, &name, false);
        }
        self.settle(now);
    }

    /// What came of the stream to the host's registrar.
    pub(super) fn registrar_answered(&mut self, now: Instant, name: &HostName, answer: Answer) {
        if let Some(check) = self.hosts.get_mut(name).and_then(|host| host.check.as_mut()) {
            check.registrar = answer;
            self.conclude(now, name, false);
        }
    }

    fn conclude(&mut self, now: Instant, name: &HostName, time_is_over: bool) {
        let Some(host) = self.hosts.get_mut(name) else { return };
        let Some(verdict) = host.check.as_ref().and_then(|check| check.verdict(time_is_over)) else { return };
        let check = host.check.take().unwrap_or_default();
        let identity = host.identity.clone();
        // A registrar that lives has more to say on the stream.
        if let Some(stream) = check.stream.filter(|_| verdict != Verdict::Lives) {
            self.close_stream(stream);
        }
        self.probes.retain(|_, host| host != name);
        match verdict {
            Verdict::Gone => self.withdraw(now, name, identity),
            Verdict::Busy if check.attempts < BUSY_MAX => {
                if let Some(host) = self.hosts.get_mut(name) {
                    host.check = Some(Check { attempts: check.attempts + 1, ..Check::default() });
                }
                let at = self.soon(now + CHECK_WITHIN, CHECK_WITHIN);
                self.timers.set(Wake::Check(name.clone()), at);
            }
            // A host without instances that can be knocked at is most often between two lives of its registrar.
            Verdict::Restarts if self.may_restart(now, name) => {
                let at = self.soon(now + RESTART_LOOK, RESTART_LOOK);
                self.timers.set(Wake::Check(name.clone()), at);
            }
            Verdict::Restarts => self.withdraw(now, name, identity),
            // Any program can accept and hang up: without an instance that answers it proves nothing.
            Verdict::Busy => self.withdraw(now, name, identity),
            // It has heard from this look that it is taken for dead, and takes a new identity.
            Verdict::Lives | Verdict::Serves => self.keep(now, name, &identity),
        }
    }

    /// Whether a host whose machine answers may still have its registrar started again. One that only others have seen is
    /// not waited for.
    fn may_restart(&self, now: Instant, name: &HostName) -> bool {
        let is_lately = |host: &Host| !host.is_unproven() && now.saturating_duration_since(host.since) < RESTART_MAX;
        self.hosts.get(name).is_some_and(is_lately)
    }

    fn withdraw(&mut self, now: Instant, name: &HostName, identity: HostIdentity) {
        let was_holding = self.hosts.held().is_some();
        let changed = self.hosts.gone(name, now);
        self.changed.extend(changed);
        if self.hosts.held().is_some() != was_holding {
            self.problems_changed();
        }
        let is_member = |members: &Members| members.active().any(|active| *active == identity);
        if let Some(members) = self.members.as_mut().filter(|members| is_member(members)) {
            members.declare_down(identity);
        }
    }

    /// The host is served on: as a member if it is one, else until it is looked at again.
    fn keep(&mut self, now: Instant, name: &HostName, identity: &HostIdentity) {
        if self.hosts.prove(name) {
            self.changed.insert(name.clone());
        }
        let is_member = self.members.as_ref().is_some_and(|members| members.active().any(|active| active == identity));
        if is_member {
            return self.host_is_up(now, identity.clone());
        }
        let lookers = u32::try_from(self.hosts.iter().count() / 50).unwrap_or(u32::MAX).max(1);
        let at = self.soon(now + LOOK_AGAIN * lookers, LOOK_AGAIN);
        self.timers.set(Wake::Check(name.clone()), at);
    }

    /// Compares who is served with who is a member, for news may be lost, and forgets who is gone for long.
    pub(super) fn reconcile(&mut self, now: Instant) {
        let (Some(members), Phase::Inside) = (&self.members, self.phase) else { return };
        let active: std::collections::BTreeMap<_, _> =
            members.active().map(|identity| (identity.name.as_ref().clone(), identity.clone())).collect();
        let is_missing =
            |(name, host): &(&HostName, &Host)| host.status == HostStatus::Alive && !active.contains_key(*name);
        let missing: Vec<_> = self.hosts.iter().filter(is_missing).map(|(name, _)| name.clone()).collect();
        let is_news = |identity: &&HostIdentity| {
            self.hosts
                .get(&identity.name)
                .is_none_or(|host| host.status != HostStatus::Alive || host.identity != **identity)
        };
        let unnoticed: Vec<_> = active.values().filter(is_news).cloned().collect();
        unnoticed.into_iter().for_each(|identity| self.host_is_up(now, identity));
        missing.iter().for_each(|name| self.doubt(now, name));
        self.expire(now);
        self.look_for_holders(now);
        self.check_unattended(now);
        self.timers.set(Wake::Reconcile, now + Duration::from_secs(10));
    }

    /// Hosts that were being looked at when this host was cut off are looked at again.
    fn check_unattended(&mut self, now: Instant) {
        let suspects = self.hosts.iter().filter(|(_, host)| host.status == HostStatus::Suspect && host.check.is_none());
        let suspects: Vec<_> = suspects.map(|(name, _)| name.clone()).collect();
        let latest = now + LOOK_AGAIN * 20;
        suspects.into_iter().for_each(|name| self.timers.set_earlier(Wake::Check(name), latest));
    }
}

//! What is known, for the outside.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use model::instance::Origin;
use model::{HostName, Instance, Stamp};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::Gossip;
use super::joining::Phase;
use crate::addresses::Disbelief;
use crate::hosts::{Host, HostStatus};
use crate::members::Members;
use crate::own::LeftOut;
use crate::refusal::Counters;
use crate::seeds::{SeedOutcome, SeedView};

/// How often a host hears no datagram after getting in before that is a problem.
const IN_VAIN_REPORTED: u32 = 2;

/// Another host, as it is to be shown and served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostView {
    /// Its name.
    pub name: HostName,
    /// Where its gossip is reached; `None` while only its record is known.
    pub address: Option<SocketAddr>,
    /// How it fares.
    pub status: HostStatus,
    /// Since when, by this host's clock; `None` while only its record is known.
    pub since: Option<Instant>,
    /// Whether its instances are to be served. A host that is down is served all the same while most hosts
    /// are lost at once.
    pub served: bool,
    /// What it said last.
    pub stamp: Option<Stamp>,
    /// Its instances, with those of their ports alone whose addresses are believed.
    pub instances: Vec<Instance>,
    /// The addresses that are not believed.
    pub disbelieved: Vec<(IpAddr, Disbelief)>,
    /// The host that answers at its address instead: it was renamed, or one of the two advertises a wrong address. What
    /// is connected to its instances stays: they may be the other's.
    pub superseded_by: Option<HostName>,
}

/// What part this host has in the cluster now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It looks for a way in, or is alone.
    Outside,
    /// It was inside, and hears nobody any longer.
    CutOff,
    /// It takes part.
    Inside,
    /// It keeps away, since another host has its name.
    Apart,
    /// It leaves, or has left.
    Leaving,
}

/// What is wrong, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Another process bears this host's name and keeps it.
    #[error(
        "another host at {0} is called {1} too, and keeps the name: this host takes no part in the cluster until one of them is given another --host-name"
    )]
    NameTaken(SocketAddr, HostName),
    /// Another process bears this host's name and takes no part.
    #[error("another host at {0} is called {1} too, and takes no part in the cluster: give it another --host-name")]
    NameContested(SocketAddr, HostName),
    /// Another host answers at the address that this one advertises.
    #[error(
        "host {1} answers at {0}, the address that this host advertises: others do not serve this host's instances until one of the two is given another --advertise-address or --gossip-listen port"
    )]
    AddressTaken(SocketAddr, HostName),
    /// Nobody is heard any longer.
    #[error("cut off from the cluster: no other host is heard; what they said last is served on")]
    CutOff,
    /// Streams to other hosts work, and datagrams do not.
    #[error("other hosts are reached by TCP, but no UDP comes through: let both pass to and from {0}")]
    NoDatagrams(SocketAddr),
    /// Most hosts were lost at once.
    #[error(
        "{lost} of {of} hosts were lost at once, too many to believe: their instances are served on. If they are gone: curl --unix-socket /run/envoy-docker-shim/admin.sock -X POST http://localhost/api/v1/gossip/believe-losses"
    )]
    MostHostsLost {
        /// How many.
        lost: usize,
        /// Of how many, this one included.
        of: usize,
    },
    /// An instance of this host is not announced.
    #[error(transparent)]
    NotAnnounced(#[from] LeftOut),
    /// The bound on hosts is reached.
    #[error("{} hosts are known, and no more can be", crate::HOSTS_MAX)]
    TooManyHosts,
}

impl Gossip {
    /// What is known of another host; `None` for this host itself and for those not known.
    #[must_use]
    pub fn host(&self, name: &HostName) -> Option<HostView> {
        let record = self.catalogue.get(name).filter(|_| name != self.own_name());
        let host = self.hosts.get(name);
        if record.is_none() && host.is_none() {
            return None;
        }
        let mut disbelieved = Vec::new();
        let instances = record.iter().flat_map(|record| record.instances().values());
        let instances = instances.map(|instance| self.believed(name, instance, &mut disbelieved)).collect();
        disbelieved.sort_unstable();
        disbelieved.dedup();
        let left = record.is_some_and(|record| record.left);
        Some(HostView {
            name: name.clone(),
            address: host.map(|host| host.identity.address),
            status: host.map_or(if left { HostStatus::Left } else { HostStatus::Down }, |host| host.status),
            since: host.map(|host| host.since),
            served: host.is_some_and(Host::is_served),
            stamp: record.map(|record| record.stamp),
            instances,
            disbelieved,
            superseded_by: host.and_then(|host| host.superseded.clone()),
        })
    }

    /// How another host fares, and whether its instances are to be served: what [`host`](Self::host) says of it,
    /// without its instances. `None` where only its record is known, or nothing.
    #[must_use]
    pub fn status(&self, name: &HostName) -> Option<(HostStatus, bool)> {
        self.hosts.get(name).map(|host| (host.status, host.is_served()))
    }

    /// All other hosts that are known, in the order of their names.
    pub fn hosts(&self) -> impl Iterator<Item = HostView> {
        let members = self.hosts.iter().map(|(name, _)| name);
        let names: std::collections::BTreeSet<_> = self.catalogue.hosts().chain(members).collect();
        names.into_iter().filter_map(|name| self.host(name))
    }

    /// Where the other hosts that take part are reached. What this host announces at one of these, no other believes.
    pub fn member_addresses(&self) -> impl Iterator<Item = (IpAddr, &HostName)> {
        let alive = self.hosts.iter().filter(|(_, host)| host.status == HostStatus::Alive);
        alive.map(|(name, host)| (host.identity.address.ip(), name))
    }

    /// What went over the network since the start.
    #[must_use]
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What part this host has in the cluster now.
    #[must_use]
    pub const fn part(&self) -> Part {
        match self.phase {
            Phase::Outside { cut_off: true, .. } => Part::CutOff,
            Phase::Outside { cut_off: false, .. } => Part::Outside,
            Phase::Inside => Part::Inside,
            Phase::Yielding => Part::Apart,
            Phase::Leaving { .. } | Phase::Left => Part::Leaving,
        }
    }

    /// Every seed's address, and how the last attempt to reach it ended. A host that takes part counts as reached,
    /// although nobody asked it as a seed.
    pub fn seeds(&self, now: Instant) -> impl Iterator<Item = SeedView> {
        self.seeds.views(now).map(move |view| {
            let at = |host: &&Host| host.status == HostStatus::Alive && host.identity.address == view.address;
            let member = self.hosts.iter().map(|(_, host)| host).find(at);
            let outcome = match member {
                _ if view.address == self.identity.address => SeedOutcome::Itself,
                Some(host) => SeedOutcome::Reached(host.identity.name.as_ref().clone()),
                None => return view,
            };
            SeedView { outcome, reached: Some(now), ..view }
        })
    }

    /// The names of the keys, the encrypting one first. No name says anything of its key.
    pub fn key_names(&self) -> impl Iterator<Item = String> {
        self.envelope.keys.names()
    }

    /// Where others reach this host's gossip.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.identity.address
    }

    /// Whether this host takes part in the cluster now.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.phase == Phase::Inside
    }

    /// Whether this host knows what there is to know after a start: it is inside, has compared all with somebody who
    /// was inside before, and has looked at the hosts that only others had seen.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.is_inside() && self.is_informed && !self.hosts.iter().any(|(_, host)| host.is_unproven())
    }

    /// How many others take part, as this host sees it.
    #[must_use]
    pub fn members(&self) -> usize {
        self.members.as_ref().map_or(0, Members::others)
    }

    /// Believes that the hosts that were lost at once are lost: what [`Problem::MostHostsLost`] serves on is served no
    /// longer. For the operator, who knows better. Says how many hosts that were.
    pub fn believe_losses(&mut self, now: Instant) -> usize {
        let released = self.hosts.believe(now);
        let count = released.len();
        self.changed.extend(released);
        self.problems_changed();
        count
    }

    /// Begins with randomness that nobody else has: of a virtual machine that was copied with its memory, both copies
    /// would otherwise draw the same nonces. `seed` must come from the operating system.
    pub fn reseed(&mut self, seed: [u8; 32]) {
        self.rng = StdRng::from_seed(seed);
    }

    /// Stands for all that is known of all hosts: equal on two hosts exactly if they know the same.
    #[must_use]
    pub fn knowledge(&self) -> u64 {
        let buckets = self.catalogue.buckets().map(u64::to_be_bytes);
        crate::cluster::fingerprint(&buckets.each_ref().map(|bucket| &bucket[..]))
    }

    /// The stamp of what is known of a host, this one included.
    #[must_use]
    pub fn stamp(&self, host: &HostName) -> Option<Stamp> {
        self.catalogue.stamp(host)
    }

    /// All that is wrong with this host's own part. What is not believed of others is in their
    /// [`HostView::disbelieved`].
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(clash) = self.current_clash() {
            let problem = if clash.yields { Problem::NameTaken } else { Problem::NameContested };
            problems.push(problem(clash.address, self.own_name().clone()));
        }
        let taken = self.holder_of_own_address();
        problems.extend(taken.map(|holder| Problem::AddressTaken(self.identity.address, holder.clone())));
        if matches!(self.phase, Phase::Outside { cut_off: true, .. }) {
            problems.push(Problem::CutOff);
        }
        if self.in_vain >= IN_VAIN_REPORTED {
            problems.push(Problem::NoDatagrams(self.identity.address));
        }
        problems.extend(self.hosts.held().map(|(lost, of)| Problem::MostHostsLost { lost, of }));
        if self.hosts.is_full() && self.hosts.longest_gone().is_none() {
            problems.push(Problem::TooManyHosts);
        }
        problems.extend(self.left_out.iter().cloned().map(Problem::from));
        problems
    }

    /// The instance with those of its ports whose addresses are believed.
    fn believed(&self, host: &HostName, instance: &Instance, disbelieved: &mut Vec<(IpAddr, Disbelief)>) -> Instance {
        let mut instance = instance.clone();
        let origin = instance.origin.clone();
        instance.ports.retain(|port| match self.believe(host, &origin, port.address) {
            Ok(()) => true,
            Err(why) => {
                disbelieved.push((port.address, why));
                false
            }
        });
        instance
    }

    /// Whether `address` is taken for the host's own, or for that of something it speaks for: a static service is
    /// most often a machine that takes no part.
    fn believe(&self, name: &HostName, origin: &Origin, address: IpAddr) -> Result<(), Disbelief> {
        self.rules.check(address)?;
        if self.is_anothers(name, address) {
            return Err(Disbelief::OtherHosts);
        }
        let gossips_at = |host: &Host| host.identity.address.ip() == address;
        if self.hosts.get(name).is_some_and(gossips_at) {
            return Ok(());
        }
        let is_alive = |host: &Host| host.status == HostStatus::Alive;
        if self.hosts.iter().any(|(other, host)| other != name && is_alive(host) && gossips_at(host)) {
            return Err(Disbelief::OtherHosts);
        }
        let is_static = matches!(origin, Origin::Static(_));
        let announced = self.catalogue.get(name).is_some_and(|record| record.addresses().contains(&address));
        if is_static || announced { Ok(()) } else { Err(Disbelief::NotAnnounced) }
    }
}

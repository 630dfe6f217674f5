//! The hosts, and the events between them in the order of virtual time.

mod events;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gossip::{Answer, ClusterName, Config, Gossip, HostStatus, KeyRing, Order, OrderError, OrderId};
use model::{HostName, Instance, InstanceKey, Stamp, Status};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use self::events::{End, Event};
use crate::host::{Connection, Host, instance};
use crate::network::{Conditions, Network};
use crate::oracle::Oracle;
use crate::report::Times;

/// The Unix time at which simulations begin, in milliseconds.
const EPOCH_MS: u64 = 1_800_000_000_000;

/// What a cluster begins with.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Everything follows from it.
    pub seed: u64,
    /// How many hosts there are; none runs yet. At most 65,536.
    pub hosts: usize,
    /// How many instances each has.
    pub instances: usize,
    /// How good the network is.
    pub conditions: Conditions,
}

/// How a host dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// Its registrar; its instances go on, and connections to the registrar are refused at once.
    Registrar,
    /// The whole machine: nothing answers.
    Machine,
}

/// A change whose way through the cluster is watched.
#[derive(Debug)]
struct Tracked {
    subject: HostName,
    stamp: Stamp,
    since: Instant,
    known: BTreeMap<usize, Duration>,
}

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    /// What carries the events; may be made worse at any time.
    pub network: Network,
    /// What must hold.
    pub oracle: Oracle,
    hosts: Vec<Host>,
    by_name: BTreeMap<HostName, usize>,
    seeds: Vec<SocketAddr>,
    keys: KeyRing,
    start: Instant,
    now: Instant,
    events: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    connections: BTreeMap<Connection, [End; 2]>,
    tracked: Vec<Tracked>,
    /// When an observer saw a host become anything else than alive.
    losses: Vec<(usize, usize, Duration, HostStatus)>,
    /// What came of the orders that hosts gave.
    outcomes: BTreeMap<(usize, OrderId), Result<Answer, OrderError>>,
    rng: StdRng,
}

impl Cluster {
    /// Hosts that do not run yet. Their seeds are the first three of them.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let mut rng = StdRng::seed_from_u64(options.seed);
        let network = Network::new(options.conditions, StdRng::from_seed(rng.random()));
        let mut hosts: Vec<_> = (0..options.hosts)
            .map(|number| Host::new(number, format!("host-{number}").parse().expect("a valid name")))
            .collect();
        for (number, host) in hosts.iter_mut().enumerate() {
            host.instances = (0..options.instances).map(|n| instance(number, n, Status::Alive)).collect();
        }
        let now = Instant::now();
        Self {
            network,
            oracle: Oracle::default(),
            by_name: hosts.iter().enumerate().map(|(number, host)| (host.name.clone(), number)).collect(),
            seeds: hosts.iter().take(3).map(|host| host.address).collect(),
            hosts,
            keys: KeyRing::insecure(),
            start: now,
            now,
            events: BTreeMap::new(),
            sequence: 0,
            connections: BTreeMap::new(),
            tracked: Vec::new(),
            losses: Vec::new(),
            outcomes: BTreeMap::new(),
            rng,
        }
    }

    /// How much virtual time has passed.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// A running host's gossip.
    ///
    /// # Panics
    /// The host does not run.
    #[must_use]
    pub fn gossip(&self, host: usize) -> &Gossip {
        self.hosts[host].gossip.as_ref().expect("the host runs")
    }

    /// A host's name.
    #[must_use]
    pub fn name(&self, host: usize) -> &HostName {
        &self.hosts[host].name
    }

    /// The hosts that run and have not left.
    pub fn running(&self) -> impl Iterator<Item = usize> + '_ {
        let runs = |host: &Host| host.gossip.is_some() && !host.has_left;
        self.hosts.iter().enumerate().filter(move |(_, host)| runs(host)).map(|(number, _)| number)
    }

    /// Starts a host's registrar, and its machine where that is off. It announces its instances at once.
    pub fn start(&mut self, host: usize) {
        let clock = EPOCH_MS + u64::try_from(self.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.start_at(host, clock);
    }

    /// The same, with any clock.
    pub fn start_at(&mut self, host: usize, unix_ms: u64) {
        let address = self.hosts[host].address;
        let name = self.hosts[host].name.clone();
        self.start_as(host, name, address, unix_ms);
    }

    /// The same, under any name: to have two hosts of one name.
    pub fn start_as(&mut self, host: usize, name: HostName, address: SocketAddr, unix_ms: u64) {
        let config = Config {
            host: name,
            cluster: "sim".parse::<ClusterName>().expect("a valid name"),
            keys: self.keys.clone(),
            address,
            own_addresses: vec![address.ip()],
            service_addresses: vec![],
            unix_ms,
        };
        let mut gossip = Gossip::new(config, StdRng::from_seed(self.rng.random()), self.now);
        gossip.set_seeds(self.now, self.seeds.clone());
        gossip.announce(self.now, self.hosts[host].instances.clone());
        let this = &mut self.hosts[host];
        this.gossip = Some(gossip);
        this.life += 1;
        (this.powered, this.has_left, this.wake_at) = (true, false, None);
        this.streams.clear();
        self.carry_out(host);
    }

    /// Starts all hosts, each at a random moment within some time.
    pub fn start_all(&mut self, within: Duration) {
        let begin = self.now;
        let mut moments: Vec<_> = (0..self.hosts.len()).map(|_| within.mul_f64(self.rng.random())).collect();
        moments.sort_unstable();
        for (host, moment) in moments.into_iter().enumerate() {
            self.run_for((begin + moment).saturating_duration_since(self.now));
            self.start(host);
        }
    }

    /// Kills a host.
    pub fn kill(&mut self, host: usize, death: Death) {
        let this = &mut self.hosts[host];
        this.gossip = None;
        this.life += 1;
        this.powered = death == Death::Registrar;
        this.paused_until = None;
        let streams = std::mem::take(&mut this.streams);
        if death == Death::Registrar {
            streams.into_iter().for_each(|(stream, connection)| self.close((host, stream), connection));
        }
    }

    /// Stops a host as a signal would, and lets it go on later.
    pub fn pause(&mut self, host: usize, time: Duration) {
        self.hosts[host].paused_until = Some(self.now + time);
    }

    /// Lets a host leave.
    pub fn leave(&mut self, host: usize, drain: Duration) {
        self.with(host, |gossip, now| gossip.leave(now, drain));
        self.hosts[host].instances.clear();
    }

    /// Changes one instance of a host, and watches how the change spreads.
    pub fn change(&mut self, host: usize) {
        let number = self.rng.random_range(0..self.hosts[host].instances.len().max(1));
        let turned = |status| if status == Status::Alive { Status::Unhealthy } else { Status::Alive };
        if let Some(instance) = self.hosts[host].instances.get_mut(number) {
            instance.status = turned(instance.status);
        }
        let instances = self.hosts[host].instances.clone();
        self.announce(host, instances);
    }

    /// Gives a host any instances, and watches how they spread.
    pub fn announce(&mut self, host: usize, instances: Vec<Instance>) {
        self.hosts[host].instances.clone_from(&instances);
        let subject = self.hosts[host].name.clone();
        let since = self.now;
        self.with(host, |gossip, now| drop(gossip.announce(now, instances)));
        if let Some(stamp) = self.hosts[host].gossip.as_ref().and_then(|gossip| gossip.stamp(&subject)) {
            self.tracked.push(Tracked { subject, stamp, since, known: BTreeMap::new() });
        }
    }

    /// Gives a host this many instances.
    pub fn announce_many(&mut self, host: usize, count: usize) {
        self.announce(host, (0..count).map(|number| instance(host, number, Status::Alive)).collect());
    }

    /// Has one host order another to drain its instance of this number, or to take that back.
    ///
    /// # Errors
    /// Nobody can be asked.
    ///
    /// # Panics
    /// The host does not run, or the other has no such instance.
    pub fn order(&mut self, host: usize, to: usize, number: usize, drains: bool) -> Result<OrderId, OrderError> {
        let (name, key) = (self.hosts[to].name.clone(), self.hosts[to].instances[number].key());
        let gossip = self.hosts[host].gossip.as_mut().expect("the host runs");
        let order = gossip.order(self.now, &name, Order::Drain { key, drains });
        self.carry_out(host);
        order
    }

    /// What came of an order, once it has ended.
    #[must_use]
    pub fn outcome(&self, host: usize, order: OrderId) -> Option<&Result<Answer, OrderError>> {
        self.outcomes.get(&(host, order))
    }

    /// A host does what another orders, as the registrar does.
    fn obey(&mut self, host: usize, key: InstanceKey, drains: bool) -> Answer {
        let instances = &mut self.hosts[host].instances;
        let Some(instance) = instances.iter_mut().find(|instance| instance.key() == key) else {
            return Answer::NoSuchInstance;
        };
        instance.status = if drains { Status::Draining } else { Status::Alive };
        let instances = instances.clone();
        self.announce(host, instances);
        Answer::Done
    }

    /// Does anything with a running host.
    pub fn with(&mut self, host: usize, act: impl FnOnce(&mut Gossip, Instant)) {
        if let Some(gossip) = &mut self.hosts[host].gossip {
            act(gossip, self.now);
        }
        self.carry_out(host);
    }

    /// How long each change so far took to be known by each host (first), and by the last (second), and how
    /// many changes have not reached all hosts that run.
    #[must_use]
    pub fn spread(&self) -> (Times, Times, usize) {
        let running: BTreeSet<_> = self.running().collect();
        let mut each = Times::default();
        let mut last = Times::default();
        let mut incomplete = 0;
        for change in &self.tracked {
            let others = running.iter().filter(|host| self.hosts[**host].name != change.subject);
            let known: Vec<_> = others.clone().filter_map(|host| change.known.get(host)).copied().collect();
            known.iter().for_each(|time| each.add(*time));
            match known.iter().max() {
                Some(time) if known.len() == others.count() => last.add(*time),
                _ => incomplete += 1,
            }
        }
        (each, last, incomplete)
    }

    /// Forgets the changes and losses that were watched so far.
    pub fn watch_anew(&mut self) {
        self.tracked.clear();
        self.losses.clear();
    }

    /// Since [`Self::watch_anew`]: who saw whom become what, and when.
    #[must_use]
    pub fn losses(&self) -> &[(usize, usize, Duration, HostStatus)] {
        &self.losses
    }

    /// Lets virtual time pass.
    pub fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), event) = entry.remove_entry();
            self.now = at;
            self.handle(event);
        }
        self.now = end;
    }

    /// Lets virtual time pass until something holds, looking every 100 ms. Returns how long it took.
    pub fn run_until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> Option<Duration> {
        let begin = self.now;
        while !holds(self) {
            if self.now - begin >= limit {
                return None;
            }
            self.run_for(Duration::from_millis(100));
        }
        Some(self.now - begin)
    }

    /// Whether all running hosts know the same, know the truth, and see each other alive.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.disagreement().is_none()
    }

    /// What is not as it should be when all is quiet, in words.
    #[must_use]
    pub fn disagreement(&self) -> Option<String> {
        let running: Vec<_> = self.running().collect();
        let knowledge = self.gossip(*running.first()?).knowledge();
        for observer in &running {
            let gossip = self.gossip(*observer);
            if !gossip.is_inside() && running.len() > 1 {
                return Some(format!("host {observer} is outside"));
            }
            if gossip.knowledge() != knowledge {
                return Some(format!("host {observer} knows something else than host {}", running[0]));
            }
            if let Some(what) = running.iter().find_map(|subject| self.misjudges(*observer, *subject)) {
                return Some(what);
            }
        }
        // All know the same, so one stands for all.
        let two = running.iter().take(2);
        two.flat_map(|observer| running.iter().map(move |subject| (*observer, *subject)))
            .find_map(|(observer, subject)| self.knows_wrong(observer, subject))
    }

    fn misjudges(&self, observer: usize, subject: usize) -> Option<String> {
        let status = self.gossip(observer).status(&self.hosts[subject].name);
        let is_right = observer == subject || status == Some((HostStatus::Alive, true));
        (!is_right).then(|| format!("host {observer} sees host {subject} as {status:?}"))
    }

    fn knows_wrong(&self, observer: usize, subject: usize) -> Option<String> {
        let host = &self.hosts[subject];
        if observer == subject {
            return None;
        }
        let Some(view) = self.gossip(observer).host(&host.name) else {
            return Some(format!("host {observer} does not know host {subject}"));
        };
        (view.instances != host.instances).then(|| format!("host {observer} has other instances of host {subject}"))
    }
}

//! This host among others, as the loop sees it: its own instances and their checks, what other hosts announce,
//! and the services that follow.
//!
//! ```text
//!  Docker's listing, static services, checks ──▶ OwnInstances ──▶ announced ──▶ Gossip ◀──▶ other hosts
//!                                                     │                            │
//!                                                     └────────▶ ServicePorts ◀────┘
//! ```

mod gossip_report;
mod told;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use catalog::{
    Lessons, ListedContainer, OwnHost, OwnInstance, OwnInstances, ProgramPort, ServicePortChange, ServicePorts,
    ServiceRow, ShimTarget, StaticInstance,
};
use evidence::Finding;
use gossip::{Answer, ClusterName, Gossip, HostStatus, Order, Output};
use health::{Outcome, ProbeId};
use model::{ContainerId, HostName, InstanceId, InstanceKey, PublishedPort, Status};
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::disbelieved::{self, Disbelieved};
use crate::drains::{self, DrainError, Drains, Waiter};
use crate::event::Event;
use crate::gossip_net::{self, GossipEvent, GossipNet};
use crate::host::unix_ms;
use crate::host_addresses;
use crate::lost_host::LostHosts;
use crate::probe;
use crate::seed_names::SeedLookup;
use crate::static_services::StaticList;
use crate::watch::Audience;

/// How long the first announcement waits for the first round of checks: until then peers go on with what this
/// host said in its last life.
const FIRST_CHECKS: Duration = Duration::from_secs(3);

/// How long a host that leaves is still there for what is under way.
const LEAVE_DRAIN: Duration = Duration::from_secs(1);

/// See the file's head.
pub(crate) struct Cluster {
    name: HostName,
    advertise_address: IpAddr,
    started: Instant,
    started_at: SystemTime,
    own: OwnInstances,
    announced: BTreeMap<InstanceKey, OwnInstance>,
    may_announce: bool,
    services: ServicePorts,
    service_addresses: HashSet<IpAddr>,
    /// Those of this host's interfaces at the last look.
    present_addresses: BTreeSet<IpAddr>,
    gossip: Option<(Gossip, GossipNet)>,
    events: mpsc::Sender<Event>,
    drains: Drains,
    disbelieved: Disbelieved,
    lost_hosts: LostHosts,
    static_problems: Vec<String>,
    audience: Audience,
    /// By the listener's name; only those that have one.
    listener_problems: BTreeMap<String, String>,
    /// No static service is known yet, although there may be some: their drains are not forgotten.
    awaits_statics: bool,
    world_was_known: bool,
    /// How many passed, and how many failed.
    checks: (u64, u64),
    cluster_name: ClusterName,
    /// How the host's name had to be changed, if it had.
    name_problem: Option<String>,
    /// What the names of the seeds led to.
    seeds: Vec<SeedLookup>,
    envoy_uid: u32,
    has_left: bool,
}

/// What a host begins with.
pub(crate) struct Start {
    /// What is left of the registrar's last life.
    pub(crate) drains: Drains,
    /// Static services will be told of.
    pub(crate) awaits_statics: bool,
    /// Which cluster this host is of.
    pub(crate) cluster_name: ClusterName,
    /// How this host's name had to be changed, if it had.
    pub(crate) name_problem: Option<String>,
    /// Others to be heard: `HOST:PORT` each.
    pub(crate) seeds: Vec<String>,
    /// Who Envoy runs as.
    pub(crate) envoy_uid: u32,
    /// What was learned of unlabelled ports before.
    pub(crate) lessons: Lessons,
}

impl Cluster {
    /// `gossip` is `None` on a host that is by itself.
    pub(crate) fn new(
        own: OwnHost,
        service_addresses: HashSet<IpAddr>,
        gossip: Option<(Gossip, GossipNet)>,
        start: Start,
        events: mpsc::Sender<Event>,
        audience: Audience,
    ) -> Self {
        let seed = own.name.as_str().bytes().fold(0, |hash: u64, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let (name, advertise_address) = (own.name.clone(), own.settings.advertise_address);
        let mut own_instances = OwnInstances::new(own, seed);
        own_instances.restore_drained(start.drains.restored().clone());
        own_instances.restore_lessons(start.lessons);
        Self {
            advertise_address,
            started: Instant::now(),
            started_at: SystemTime::now(),
            services: ServicePorts::new(name.clone(), service_addresses.clone()),
            name,
            service_addresses,
            present_addresses: host_addresses::all(),
            own: own_instances,
            announced: BTreeMap::new(),
            may_announce: false,
            gossip,
            events,
            cluster_name: start.cluster_name,
            name_problem: start.name_problem,
            drains: start.drains,
            disbelieved: Disbelieved::default(),
            lost_hosts: LostHosts::default(),
            static_problems: Vec::new(),
            audience,
            listener_problems: BTreeMap::new(),
            awaits_statics: start.awaits_statics,
            world_was_known: false,
            seeds: start.seeds.into_iter().map(SeedLookup::unknown).collect(),
            envoy_uid: start.envoy_uid,
            checks: (0, 0),
            has_left: false,
        }
    }

    /// What passed checks have shown since the last call.
    pub(crate) fn take_evidence(&mut self) -> Vec<ProgramPort> {
        self.own.take_evidence()
    }

    /// It was learned how the application of an image behaves.
    pub(crate) fn learned(&mut self, subject: &ProgramPort, finding: Finding, now: Instant) {
        self.own.learned(subject, finding, now);
    }

    pub(crate) fn docker_listed_all(&mut self, listed: &[ListedContainer], now: Instant) {
        self.own.docker_listed_all(listed, now);
    }

    pub(crate) fn docker_listed(&mut self, listed: &ListedContainer, now: Instant) {
        self.own.docker_listed(listed, now);
    }

    /// Where the port's shim reaches its container now; `None`: no shim has it any longer.
    pub(crate) fn set_target(&mut self, port: PublishedPort, target: Option<ShimTarget>, now: Instant) {
        self.own.set_target(port, target, now);
    }

    /// Takes in which addresses this host has.
    pub(crate) fn set_present_addresses(&mut self, present: BTreeSet<IpAddr>) {
        if self.present_addresses != present {
            self.present_addresses = present;
            self.tell_audience();
        }
    }

    /// The user that Envoy runs as.
    pub(crate) const fn envoy_uid(&self) -> u32 {
        self.envoy_uid
    }

    pub(crate) fn docker_stopped(&mut self, id: &ContainerId) {
        self.own.docker_stopped(id);
    }

    /// `docker stop` has begun: new requests go elsewhere, those under way finish.
    pub(crate) fn docker_stopping(&mut self, id: &ContainerId) {
        self.own.docker_stopping(id);
    }

    pub(crate) fn set_static(&mut self, list: StaticList, now: Instant) {
        let advertise = self.advertise_address;
        let since_ms = unix_ms(self.started_at);
        let static_instance = |service: &crate::static_services::StaticService| {
            let instance = service.instance(advertise, Status::Unknown, since_ms);
            let local = service
                .checked_ports(advertise)
                .iter()
                .filter_map(|port| Some((port.published, port.direct?)))
                .collect();
            let listener = service.listener(advertise);
            StaticInstance { own: OwnInstance { instance, local, listener }, check: service.check.clone() }
        };
        self.own.set_static(list.services.iter().map(static_instance).collect(), now);
        for problem in &list.problems {
            warn!(problem, "static services");
        }
        self.awaits_statics &= list.is_unknown();
        self.static_problems = list.problems;
    }

    pub(crate) fn check_finished(&mut self, id: ProbeId, outcome: Outcome, now: Instant) {
        *(if outcome.healthy { &mut self.checks.0 } else { &mut self.checks.1 }) += 1;
        self.own.check_finished(id, outcome, now);
    }

    /// Takes an instance out of service, or back; one of another host by an order to that host.
    pub(crate) fn drain(&mut self, instance: InstanceId, drains: bool, waiter: Waiter, now: Instant) {
        if instance.host == self.name {
            return drop(waiter.send(self.drain_own(instance, drains)));
        }
        let Some((gossip, _)) = &mut self.gossip else {
            return drop(waiter.send(Err(DrainError::ByItself(instance.host))));
        };
        match gossip.order(now, &instance.host, Order::Drain { key: instance.key, drains }) {
            Ok(order) => self.drains.forwarded(order, instance, waiter),
            Err(error) => drop(waiter.send(Err(DrainError::Order(instance.host, error)))),
        }
    }

    fn drain_own(&mut self, instance: InstanceId, drains: bool) -> Result<(), DrainError> {
        if !self.own.set_drained(instance.key, drains) {
            let is_starting = !self.world_was_known && !self.may_announce;
            let why = if is_starting { DrainError::Starting } else { DrainError::NoSuchInstance };
            return Err(why(instance));
        }
        self.drains.keep(self.own.drained()).map_err(|problem| DrainError::Failed(self.name.clone(), problem))
    }

    /// Another host's operator wants something done here.
    fn obey(&mut self, from: &HostName, Order::Drain { key, drains }: Order) -> Answer {
        info!(%from, instance = %key, drains, "another host's operator has this instance drained, or put back");
        drains::answer(self.drain_own(InstanceId { host: self.name.clone(), key }, drains))
    }

    /// Believes that the hosts that were lost at once are lost. Says how many they are.
    pub(crate) fn believe_losses(&mut self, now: Instant) -> usize {
        let believed = self.gossip.as_mut().map_or(0, |(gossip, _)| gossip.believe_losses(now));
        info!(hosts = believed, "the operator says that the hosts that were lost at once are lost");
        believed
    }

    pub(crate) fn handle_gossip(&mut self, event: GossipEvent, now: Instant) {
        let Some((gossip, net)) = &mut self.gossip else { return };
        gossip_net::reseed(gossip);
        match event {
            GossipEvent::Datagram(bytes) => gossip.handle_datagram(now, &bytes),
            GossipEvent::Accepted(stream, from) => {
                if let Some(id) = gossip.handle_stream_accepted(now, from) {
                    net.adopt(id, stream);
                }
            }
            GossipEvent::Opened(id, stream) => {
                net.adopt(id, stream);
                gossip.handle_stream_opened(now, id);
            }
            GossipEvent::Data(id, bytes) => gossip.handle_stream_data(now, id, &bytes),
            GossipEvent::NotOpened(id, why) => gossip.handle_stream_failed(now, id, why),
            GossipEvent::Closed(id) => {
                net.forget(id);
                gossip.handle_stream_closed(now, id);
            }
            GossipEvent::Probed(probe, reachable) => gossip.handle_probe_result(now, probe, reachable),
            GossipEvent::Seed(number, lookup) => {
                if let Some(seed) = self.seeds.get_mut(number) {
                    *seed = lookup;
                }
                gossip.set_seeds(now, self.seeds.iter().flat_map(|seed| seed.addresses.iter().copied()).collect());
            }
        }
    }

    /// Does what is due. Yields when to call again.
    pub(crate) fn handle_timers(&mut self, now: Instant) -> Option<Instant> {
        for started in self.own.start_checks(now) {
            let events = self.events.clone();
            tokio::spawn(async move {
                let outcome = probe::run(&started.probe, started.timeout).await;
                let _ = events.send(Event::CheckFinished(started.id, outcome)).await;
            });
        }
        let gossip_due = self.gossip.as_mut().and_then(|(gossip, _)| {
            if gossip.poll_timeout().is_some_and(|due| due <= now) {
                gossip_net::reseed(gossip);
                gossip.handle_timeout(now);
            }
            gossip.poll_timeout()
        });
        let first = (!self.may_announce).then_some(self.started + FIRST_CHECKS).filter(|due| *due > now);
        [self.own.next_check(), gossip_due, first].into_iter().flatten().min()
    }

    /// Everything that follows from what was taken in. `docker_is_heard`: or there is none.
    pub(crate) fn settle(&mut self, docker_is_heard: bool, now: Instant) -> Vec<ServicePortChange> {
        let world_is_known = docker_is_heard && !self.awaits_statics;
        if world_is_known && !std::mem::replace(&mut self.world_was_known, true) {
            self.own.forget_gone_drained();
        }
        self.drains.follow(self.own.drained());
        self.settle_own();
        self.announce(docker_is_heard, now);
        while self.settle_gossip() {
            self.settle_own();
        }
        self.services.take_changes()
    }

    fn settle_own(&mut self) {
        self.own.take_found().iter().for_each(told::log_found);
        let changes = self.own.take_changes();
        if changes.is_empty() {
            return;
        }
        for (key, own) in changes {
            match own {
                Some(own) => drop(self.announced.insert(key, own)),
                None => drop(self.announced.remove(&key)),
            }
        }
        let local = self
            .announced
            .iter()
            .flat_map(|(key, own)| own.reached_from_here(&self.service_addresses).map(|(at, to)| ((*key, at), to)));
        self.services.set_local_addresses(local.collect());
        self.services.set_host(&self.name, self.announced.values().map(|own| own.instance.clone()));
        self.set_listeners();
        self.tell_audience();
        if self.may_announce {
            self.say(Instant::now());
        }
    }

    /// The first announcement waits until all is known that there is.
    fn announce(&mut self, docker_is_heard: bool, now: Instant) {
        let all_is_known = self.world_was_known && self.own.are_all_checked();
        let is_time = all_is_known || (docker_is_heard && now >= self.started + FIRST_CHECKS);
        if !self.may_announce && is_time {
            self.may_announce = true;
            self.say(now);
        }
    }

    fn say(&mut self, now: Instant) {
        let Some((gossip, _)) = &mut self.gossip else { return };
        gossip.announce(now, self.announced.values().map(|own| own.instance.clone()).collect());
    }

    /// Says whether another host had something done here, from which more may follow.
    fn settle_gossip(&mut self) -> bool {
        let mut obeyed = false;
        while let Some(output) = self.gossip.as_mut().and_then(|(gossip, _)| gossip.poll_output()) {
            obeyed |= self.settle_output(output);
        }
        obeyed
    }

    fn settle_output(&mut self, output: Output) -> bool {
        if let Output::Ordered { order, from, what } = output {
            let answer = self.obey(&from, what);
            if let Some((gossip, _)) = &mut self.gossip {
                gossip.answer(order, answer);
            }
            return true;
        }
        let Some((gossip, net)) = &mut self.gossip else { return false };
        match output {
            Output::HostChanged(host) => {
                let view = gossip.host(&host);
                self.disbelieved.look(&host, view.as_ref());
                if let Some(view) = &view {
                    drop(self.lost_hosts.look(view, self.envoy_uid));
                }
                let view = view.filter(|view| view.served);
                self.services.set_host(&host, view.into_iter().flat_map(|view| view.instances));
                self.audience.changed.notify_one();
            }
            Output::ProblemsChanged => {
                self.audience.changed.notify_one();
                for problem in gossip.problems() {
                    warn!(%problem, "cluster");
                }
            }
            Output::OrderEnded { order, outcome } => self.drains.ended(order, outcome),
            Output::Left => {
                info!("the cluster was left");
                self.has_left = true;
            }
            output => net.begin(output),
        }
        false
    }

    /// Whether there are others to be heard, and not all is known that they know.
    pub(crate) fn waits_for_seeds(&self) -> bool {
        !self.seeds.is_empty() && self.gossip.as_ref().is_some_and(|(gossip, _)| !gossip.is_settled())
    }

    /// Begins to leave the cluster; [`Self::has_left`] says when that is done.
    pub(crate) fn leave(&mut self, now: Instant) {
        match &mut self.gossip {
            Some((gossip, _)) => gossip.leave(now, LEAVE_DRAIN),
            None => self.has_left = true,
        }
    }

    /// Whether others know that this host is gone.
    pub(crate) fn has_left(&self) -> bool {
        self.has_left
    }

    /// Every service of the cluster.
    pub(crate) fn service_rows(&self) -> Vec<ServiceRow> {
        let mut rows = self.services.rows();
        rows.iter_mut().for_each(|row| self.add_own_knowledge(row));
        rows
    }

    /// Every host of the cluster, this one among them.
    pub(crate) fn hosts(&self) -> Vec<admin_api::Host> {
        let own = admin_api::Host {
            name: self.name.to_string(),
            address: Some(self.advertise_address),
            status: "alive".to_owned(),
            instances: self.announced.len(),
            since: unix_ms(self.started_at),
            problem: self.problem(),
        };
        let others = self.gossip.iter().flat_map(|(gossip, _)| gossip.hosts()).map(|view| admin_api::Host {
            name: view.name.to_string(),
            address: view.address.map(|address| address.ip()),
            status: status_word(view.status).to_owned(),
            instances: view.instances.len(),
            since: view.since.map_or(0, |since| self.in_unix_ms(since)),
            problem: disbelieved::problem_of(&view),
        });
        let mut hosts: Vec<_> = std::iter::once(own).chain(others).collect();
        hosts.sort_by(|a, b| a.name.cmp(&b.name));
        hosts
    }

    /// What is wrong with this host's part in the cluster.
    fn problem(&self) -> Option<String> {
        let of_name = self.name_problem.iter().cloned();
        let of_gossip = self.gossip.iter().flat_map(|(gossip, _)| gossip.problems()).map(|problem| problem.to_string());
        let of_listeners = self.listener_problems.iter().map(|(listener, problem)| format!("{listener}: {problem}"));
        let problems: Vec<_> = of_name
            .chain(of_gossip)
            .chain(self.missing_service_addresses())
            .chain(self.disbelieved_elsewhere())
            .chain(of_listeners)
            .chain(self.label_problems())
            .chain(
                self.static_problems
                    .iter()
                    .take(told::PROBLEMS_MAX)
                    .map(|problem| format!("static services: {problem}")),
            )
            .collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }

    fn disbelieved_elsewhere(&self) -> Option<String> {
        let members = self.gossip.as_ref()?.0.member_addresses().collect();
        disbelieved::of_own(self.announced.values().map(|own| &own.instance), &members)
    }

    /// Service ports are of no use at an address that leads elsewhere. Without service ports nobody misses it.
    fn missing_service_addresses(&self) -> Vec<String> {
        if !self.services.has_service_ports() {
            return Vec::new();
        }
        let missing = self.service_addresses.iter().filter(|address| !self.present_addresses.contains(address));
        let in_words = |address: &IpAddr| {
            format!(
                "this host does not have the service address {address}: `ip address add {address} dev lo` gives it now, \
                 and assign-service-address at each start of the registrar"
            )
        };
        missing.map(in_words).collect()
    }
}

const fn status_word(status: HostStatus) -> &'static str {
    match status {
        HostStatus::Alive => "alive",
        HostStatus::Suspect => "suspect",
        HostStatus::Down | HostStatus::Left => "down",
    }
}

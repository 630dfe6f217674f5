//! The one loop: it owns the catalogue and Envoy's resources, and every change passes through it.
//!
//! An event goes in, the catalogue decides, what changed becomes resources, and whoever waits is answered.
//! Time is read here, once per turn, and handed down.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use capture::{Capture, UNPROXIED_CATCH_PORT};
use catalog::{Catalog, Changes, Lessons, Lookup, PortChange, Registration, RegistrationId};
use model::PublishedPort;
use shim_wire::{FromRegistrar, Register};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tonic::Status;
use tracing::{debug, info, warn};
use xds::resources::{self, Settings, names};
use xds::{Hub, ResourceType, Response, StreamError, StreamId};

mod envoy_report;
mod learning;
mod ports_report;
pub(crate) mod unproxied;
mod who_listens;

use self::unproxied::Unproxied;
use crate::bypasses::Bypasses;
use crate::cluster::Cluster;
use crate::docker::DockerEvent;
use crate::ended_ports;
use crate::event::{Event, Order, Query, ShimEvent, XdsEvent};
use crate::metrics::Numbers;
use crate::missing_listeners::MissingListeners;
use crate::pulse::{IDLE_MAX, Pulse};
use crate::readiness::{DockerState, Gate, Missing, Readiness};
use crate::releases::{Releases, Standing};
use crate::served_services::{Consequences, ServedServices};
use crate::standby::Standby;
use crate::watchdog::{Steering, Watchdog};

/// The most events that one turn takes in.
const TURN_MAX_EVENTS: usize = 256;
/// For how long a turn takes in events at most; the last of them may take longer.
const TURN_MAX_TIME: Duration = Duration::from_millis(10);

/// What the loop is told, and tells, beside events.
#[derive(Clone, Debug, Default)]
pub(crate) struct Signals {
    /// An Envoy has taken a response.
    pub(crate) writable: Arc<Notify>,
    /// The registrar is to stop.
    pub(crate) stop: Arc<Notify>,
    /// The loop turns.
    pub(crate) pulse: Pulse,
}

/// The orders to leave, with what came of each. They are answered when all is done.
#[derive(Debug, Default)]
pub(crate) struct Left(Vec<(oneshot::Sender<LeaveOutcome>, LeaveOutcome)>);

type LeaveOutcome = Result<(), String>;

impl Left {
    /// Answers those who wait.
    pub(crate) fn answer(self) {
        for (answer, outcome) in self.0 {
            // One that has gone does not wait.
            let _ = answer.send(outcome);
        }
    }
}

/// All that this host's registrar knows.
pub(crate) struct Host {
    catalog: Catalog,
    hub: Hub,
    settings: Settings,
    services: ServedServices,
    standby: Standby,
    cluster: Cluster,
    capture: Capture,
    unproxied: Unproxied,
    readiness: Readiness,
    bypasses: Bypasses<PublishedPort>,
    /// Where what was learned is written down.
    lessons: watch::Sender<Lessons>,
    watchdog: Watchdog,
    missing_listeners: MissingListeners,
    /// Where anybody listened at the last look.
    listened: HashSet<SocketAddr>,
    docker_problem: Option<String>,
    lookups: watch::Sender<Option<Lookup>>,
    shims: HashMap<RegistrationId, mpsc::Sender<FromRegistrar>>,
    releases: Releases,
    streams: HashMap<StreamId, mpsc::Sender<Result<Response, Status>>>,
    last_envoy: Option<(String, String)>,
    left: Left,
    is_leaving: bool,
}

/// Where the loop leaves what others work off in their own time.
pub(crate) struct Outlets {
    /// What Docker is to be asked.
    pub(crate) lookups: watch::Sender<Option<Lookup>>,
    /// What is to be written down of what was learned.
    pub(crate) lessons: watch::Sender<Lessons>,
}

impl Host {
    /// Service ports come with who stands by for them. `docker` says whether there is a Docker to wait for; `lookups` is
    /// where it is asked.
    pub(crate) fn new(
        catalog: Catalog,
        settings: Settings,
        (services, mut standby): (ServedServices, Standby),
        cluster: Cluster,
        capture: Capture,
        docker: DockerState,
        Outlets { lookups, lessons }: Outlets,
    ) -> Self {
        let mut hub = Hub::new();
        hub.apply(resources::common(&settings));
        let now = Instant::now();
        services.catches().for_each(|address| standby.add(address, now));
        hub.apply(services.common());
        if catalog.serves_unproxied() {
            hub.apply(resources::unproxied(&unproxied::catch_addresses(), UNPROXIED_CATCH_PORT));
        }
        Self {
            catalog,
            hub,
            settings,
            services,
            standby,
            cluster,
            capture,
            unproxied: Unproxied::default(),
            bypasses: Bypasses::default(),
            lessons,
            watchdog: Watchdog::default(),
            missing_listeners: MissingListeners::default(),
            listened: HashSet::new(),
            readiness: Readiness::new(now, docker),
            docker_problem: None,
            lookups,
            shims: HashMap::new(),
            releases: Releases::default(),
            streams: HashMap::new(),
            last_envoy: None,
            left: Left::default(),
            is_leaving: false,
        }
    }

    /// Turns until it has left, or is told to stop. Each turn sees to what is due before it takes in more.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>, signals: Signals) -> Left {
        loop {
            self.settle(Instant::now());
            let due = self.handle_timers(Instant::now());
            signals.pulse.beat();
            if self.is_leaving && self.cluster.has_left() {
                return self.left;
            }
            tokio::select! {
                biased;
                () = signals.stop.notified() => return Left::default(),
                event = events.recv() => match event {
                    Some(event) => self.take_in(event, &mut events),
                    None => return Left::default(),
                },
                () = signals.writable.notified() => {}
                () = sleep_until(due) => {}
            }
        }
    }

    /// What is there already is taken in with the first, up to a bound: Envoy is told once.
    fn take_in(&mut self, first: Event, events: &mut mpsc::Receiver<Event>) {
        let began = Instant::now();
        self.handle(first, began);
        for _ in 1..TURN_MAX_EVENTS {
            if began.elapsed() >= TURN_MAX_TIME {
                return;
            }
            let Ok(event) = events.try_recv() else { return };
            self.handle(event, Instant::now());
        }
    }

    fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::Shim { id, event } => self.handle_shim(id, event, now),
            Event::Docker(event) => self.handle_docker(event, now),
            Event::Xds { id, event } => self.handle_xds(id, event, now),
            Event::Listeners(listeners) => self.watch_over(&listeners, now),
            Event::Firewall(notice) => self.capture.noticed(notice, now),
            Event::Addresses(present) => self.cluster.set_present_addresses(present),
            Event::Gossip(event) => self.cluster.handle_gossip(event, now),
            Event::CheckFinished(id, outcome) => self.cluster.check_finished(id, outcome, now),
            Event::StaticServices(list) => self.cluster.set_static(list, now),
            Event::Listener { listener, problem } => self.cluster.listener_reported(listener, problem),
            Event::Refused(refusal) => self.refused(&refusal, now),
            Event::Query(query) => self.answer(query, now),
            Event::Order(order) => {
                self.obey(order, now);
                // Who is answered, and looks, is to see what was done.
                self.settle(now);
            }
        }
    }

    fn handle_shim(&mut self, id: RegistrationId, event: ShimEvent, now: Instant) {
        match event {
            ShimEvent::Register { register, pid, replies } => self.register(id, register, pid, replies),
            ShimEvent::Release => {
                let since = self.catalog.release(id, now);
                let Some(registration) = self.catalog.registration(id) else {
                    return self.reply(id, FromRegistrar::Released);
                };
                self.releases.begin(id, registration.published, registration.socket_inode, since);
            }
            ShimEvent::Seen { finding } => self.seen(id, finding, now),
            ShimEvent::Gone => {
                self.catalog.unregister(id);
                self.releases.forget(id);
                self.shims.remove(&id);
            }
        }
    }

    fn register(&mut self, id: RegistrationId, register: Register, pid: u32, replies: mpsc::Sender<FromRegistrar>) {
        info!(port = %register.published, container = %register.container, pid, "registered");
        if !register.problem.is_empty() {
            warn!(port = %register.published, pid, problem = register.problem, "a shim has a problem");
        }
        let registration = Registration {
            published: register.published,
            container: register.container,
            shim_pid: pid,
            shareable: register.shareable,
            socket_inode: register.socket_inode,
            observes: register.observes,
            problem: register.problem,
            announced_at: SystemTime::now(),
        };
        self.shims.insert(id, replies);
        let published = registration.published;
        self.catalog.register(id, registration);
        self.reply(id, FromRegistrar::Registered);
        if self.watchdog.is_stuck(&published) {
            self.steer(&published, Steering::Standby);
        }
        self.tell_bypass(&published);
    }

    fn handle_docker(&mut self, event: DockerEvent, now: Instant) {
        match event {
            DockerEvent::ListedAll(containers) => {
                self.readiness.docker = DockerState::Listed;
                self.docker_problem = None;
                self.cluster.docker_listed_all(&containers, now);
                self.catalog.docker_listed_all(containers);
            }
            DockerEvent::Listed(container) => {
                self.cluster.docker_listed(&container, now);
                self.catalog.docker_listed(container);
            }
            DockerEvent::Stopping(id) => self.cluster.docker_stopping(&id),
            DockerEvent::Stopped(id) => {
                ended_ports::end_listeners(&self.catalog.shimless_ports_of(&id), self.cluster.envoy_uid());
                self.cluster.docker_stopped(&id);
                self.catalog.docker_stopped(&id);
            }
            DockerEvent::Found { number, containers } => {
                for (address, container) in containers {
                    debug!(%address, container = container.facts.name, "container found");
                    self.catalog.found(number, address, container);
                }
            }
            DockerEvent::Lost(reason) => self.docker_problem = Some(reason),
        }
    }

    fn handle_xds(&mut self, id: StreamId, event: XdsEvent, now: Instant) {
        let result = match event {
            XdsEvent::Opened { variant, responses } => {
                self.streams.insert(id, responses);
                self.hub.open(id, variant, xds::Services::Ads)
            }
            XdsEvent::Delta(request, _turn) => self.hub.handle_delta(id, *request, now),
            XdsEvent::Sotw(request, _turn) => self.hub.handle_sotw(id, *request, now),
            XdsEvent::Closed => return self.close_stream(id),
        };
        if let Err(error) = result {
            self.refuse_stream(id, &error);
        }
        while let Some(id) = self.hub.too_much() {
            self.refuse_stream(id, &StreamError::TooMuch);
        }
    }

    fn refuse_stream(&mut self, id: StreamId, error: &StreamError) {
        warn!(stream = id.0, %error, "a stream was ended");
        if let Some(responses) = self.streams.get(&id) {
            let reason = error.to_string();
            let status = if error.is_for_want() { Status::resource_exhausted } else { Status::invalid_argument };
            let _ = responses.try_send(Err(status(reason)));
        }
        self.close_stream(id);
    }

    fn close_stream(&mut self, id: StreamId) {
        self.streams.remove(&id);
        self.hub.close(id);
        if self.streams.is_empty() {
            warn!("no Envoy is connected; it serves what it has, and shims serve the rest");
        }
        // It may be gone, and nobody else listens for what would be caught.
        self.look_at_unproxied(|_| true);
    }

    fn obey(&mut self, order: Order, now: Instant) {
        match order {
            Order::BelieveLosses(answer) => drop(answer.send(self.cluster.believe_losses(now))),
            Order::Leave(answer) => {
                let outcome = self.leave(now);
                self.left.0.push((answer, outcome));
            }
            Order::Drain { instance, drains, answer } => self.cluster.drain(instance, drains, answer, now),
        }
    }

    /// Takes back what outlives the registrar. Envoy keeps what it was told, and shims go on serving.
    fn leave(&mut self, now: Instant) -> Result<(), String> {
        info!("leaving: traffic takes Docker's own path from now on");
        self.is_leaving = true;
        self.cluster.leave(now);
        self.capture.remove_for_good(now).map_err(|error| format!("the firewall's table is still there: {error}"))
    }

    fn handle_timers(&mut self, now: Instant) -> Option<Instant> {
        self.hub.handle_timeout(now);
        let held = self.catalog.expire_releases(now);
        self.expire_bypasses(now);
        let bypasses = self.bypasses.next_timeout();
        let releases = self.releases.next_timeout();
        let capture = self.capture.tick(now);
        let cluster = self.cluster.handle_timers(now);
        let hub = self.hub.next_timeout();
        [held, bypasses, releases, capture, cluster, hub, self.readiness.deadline()].into_iter().flatten().min()
    }

    /// Everything that follows from what was taken in.
    fn settle(&mut self, now: Instant) {
        self.take_evidence(now);
        let mut changes = self.take_port_changes();
        for (port, target) in changes.targets.drain(..) {
            self.cluster.set_target(port, target, now);
        }
        let world_is_known = self.readiness.docker != DockerState::Unheard;
        for change in self.cluster.settle(world_is_known, now) {
            let consequences = self.services.change(&change, &self.catalog, &self.settings);
            self.serve(consequences, now);
        }
        for (port, _) in changes.captured.iter().chain(&changes.caught) {
            let consequences = self.services.published_changed(port.port, &self.catalog, &self.settings);
            self.serve(consequences, now);
        }
        if self.readiness.is_serving() {
            changes.captured.iter().for_each(|(port, wanted)| self.capture_port(port, *wanted));
            changes.caught.iter().for_each(|(port, wanted)| self.catch_port(port, *wanted));
        }
        if !self.readiness.is_serving() {
            self.try_open(now);
        }
        self.write_streams();
        self.finish_releases(now);
        self.publish_lookup();
    }

    /// What follows for the ports; Envoy's part is done.
    fn take_port_changes(&mut self) -> Changes {
        let changes = self.catalog.take_changes();
        for change in &changes.envoy {
            self.hub.apply(resources_of(change, &self.settings));
        }
        changes.envoy.iter().for_each(|change| self.end_bypasses(change));
        for (id, observes) in &changes.observed {
            self.reply(*id, FromRegistrar::Observe { observes: *observes });
        }
        for port in self.releases.ports() {
            // Whatever else is not known yet: its container stops.
            self.hub.withdraw(ResourceType::Listener, &names::port_listener(port));
        }
        changes
    }

    fn try_open(&mut self, now: Instant) {
        let missing = self.missing();
        match self.readiness.try_open(now, missing) {
            None | Some(Gate::Shut) => {}
            Some(Gate::Ajar) => {
                warn!("Docker says nothing: Envoy keeps what it has, and is told only of what is new");
                self.hub.start_adding();
                self.standby.start();
                self.capture.keep_services(self.services.captured());
            }
            Some(Gate::Open) => {
                info!(
                    without_shim = missing.shims,
                    without_container = missing.containers,
                    "Envoy is told from now on"
                );
                self.open();
            }
        }
    }

    fn open(&mut self) {
        self.adopt_ports();
        self.hub.start_serving();
        self.cluster.tell_audience();
        self.standby.start();
        self.capture.set_ports(self.catalog.captured_ports());
        self.catalog.caught_ports().for_each(|port| self.capture.add_unproxied(&port));
        self.capture.set_services(self.services.captured());
    }

    fn serve(&mut self, consequences: Consequences, now: Instant) {
        if self.services.are_bound() {
            for (address, port, wanted) in &consequences.captured {
                let address = (*address, *port).into();
                if *wanted { self.standby.add(address, now) } else { self.standby.remove(address) }
            }
        }
        self.hub.apply(consequences.envoy);
        if self.readiness.gate() == Gate::Shut {
            return;
        }
        for (address, port, wanted) in consequences.captured {
            if wanted {
                self.capture.add_service(address, port);
            } else {
                self.capture.remove_service(address, port);
            }
        }
    }

    fn capture_port(&mut self, port: &PublishedPort, wanted: bool) {
        if wanted {
            self.capture.add(port);
        } else {
            self.capture.remove(port);
        }
    }

    fn write_streams(&mut self) {
        for (id, responses) in &self.streams {
            while let Ok(place) = responses.try_reserve() {
                let Some(response) = self.hub.poll_response(*id) else { break };
                place.send(Ok(response));
            }
        }
    }

    /// Tells the shims whose port Envoy has let go of, or was made to.
    fn finish_releases(&mut self, now: Instant) {
        let (hub, envoy_uid) = (&self.hub, self.cluster.envoy_uid());
        let is_away = self.streams.is_empty();
        let standing = |port: &_| {
            let name = names::port_listener(port);
            if is_away {
                Standing::Away
            } else if hub.is_released(ResourceType::Listener, &name) {
                Standing::Free
            } else if hub.is_under_way(ResourceType::Listener, &name) {
                Standing::UnderWay
            } else {
                Standing::Taken
            }
        };
        let end = |port: &_, shims_inode| ended_ports::end(port, envoy_uid, Some(shims_inode));
        let done = self.releases.take_finished(now, standing, end);
        done.into_iter().for_each(|id| self.reply(id, FromRegistrar::Released));
        let unanswered = self.releases.take_unanswered();
        unanswered.into_iter().for_each(|id| self.reply(id, FromRegistrar::Releasing));
    }

    fn publish_lookup(&self) {
        let lookup = self.catalog.lookup();
        self.lookups.send_if_modified(|current| {
            let differs = *current != lookup;
            *current = lookup;
            differs
        });
    }

    /// A shim that does not read its replies loses them: it asks again when it connects again.
    fn reply(&self, id: RegistrationId, message: FromRegistrar) {
        if let Some(replies) = self.shims.get(&id) {
            let _ = replies.try_send(message);
        }
    }

    fn missing(&self) -> Missing {
        Missing {
            shims: self.catalog.unregistered_ports().count(),
            containers: self.catalog.lookup().map_or(0, |lookup| lookup.addresses.len()),
            cluster: self.cluster.waits_for_seeds(),
        }
    }

    fn answer(&mut self, query: Query, now: Instant) {
        match query {
            Query::Ports(answer) => drop(answer.send(self.ports())),
            Query::Envoy(answer) => drop(answer.send(self.envoy())),
            Query::Services(answer) => drop(answer.send(self.cluster.service_rows())),
            Query::Hosts(answer) => drop(answer.send(self.cluster.hosts())),
            Query::Gossip(answer) => drop(answer.send(self.cluster.gossip_report(now))),
            Query::View(answer) => drop(answer.send(self.cluster.view(self.readiness.is_serving()))),
            Query::Metrics(answer) => drop(answer.send(self.numbers())),
            Query::Instances { meant, answer } => {
                let instances = self.standby.instances(self.services.at(meant), self.services.prefer_local());
                drop(answer.send(instances));
            }
            Query::Readiness(answer) => {
                drop(answer.send(self.readiness.waiting(now, self.missing(), self.docker_problem.as_deref())));
            }
        }
    }

    fn numbers(&self) -> Numbers {
        let status = self.hub.status();
        Numbers {
            is_ready: self.readiness.is_serving(),
            registrations: self.shims.len(),
            envoys: status.streams.len(),
            is_in_sync: !status.streams.is_empty() && status.streams.iter().all(|stream| stream.in_sync),
            resources: status.resources,
            nacks: status.nack_count,
            cluster: self.cluster.numbers(),
        }
    }
}

fn resources_of(change: &PortChange, settings: &Settings) -> Vec<xds::Change> {
    match (&change.before, &change.after) {
        (Some(before), Some(after)) => resources::replace(before, after, settings),
        (None, Some(after)) => resources::set(after, settings),
        (Some(before), None) => resources::remove(before),
        (None, None) => Vec::new(),
    }
}

/// Milliseconds of Unix time; 0 for times before it.
pub(crate) fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Until what is due, or until the next turn of a loop with nothing to do.
async fn sleep_until(due: Option<Instant>) {
    let idle = Instant::now() + IDLE_MAX;
    tokio::time::sleep_until(due.map_or(idle, |due| due.min(idle)).into()).await;
}

//! The catalogue of this host: who claims which port, and what follows for Envoy.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use evidence::Finding;
use model::labels::{Defaults, PortMeaning};
use model::{ContainerId, Protocol, ProxiedPort, PublishedPort};

use crate::docker_listing::{DockerListing, ListedContainer, ListedPort};
use crate::learning::Learning;
use crate::lessons::{Lessons, ProgramPort};
use crate::registration::{
    Claim, Container, RELEASE_HOLD, Registration, RegistrationId, ShimTarget, treatment_without_shim,
};

/// What Envoy is to do differently for one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortChange {
    /// What it served until now.
    pub before: Option<ProxiedPort>,
    /// What it is to serve from now on.
    pub after: Option<ProxiedPort>,
}

/// What follows from all that happened, port by port in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What Envoy is to do differently.
    pub envoy: Vec<PortChange>,
    /// Which ports' traffic is to be brought to their sockets from now on (true), or no longer.
    pub captured: Vec<(PublishedPort, bool)>,
    /// Which unproxied ports' traffic is to be brought to Envoy from now on (true), or no longer.
    pub caught: Vec<(PublishedPort, bool)>,
    /// Where each port's shim reaches the container now; `None`: no shim has the port any longer.
    pub targets: Vec<(PublishedPort, Option<ShimTarget>)>,
    /// Which shims are to say what they see from now on (true), or no longer.
    pub observed: Vec<(RegistrationId, bool)>,
}

/// A question for Docker: which containers have these addresses?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Says which registrations the answer is good for: an address that was asked for before a shim
    /// registered may have been another container's then.
    pub number: u64,
    /// The addresses, in order, each once.
    pub addresses: Vec<IpAddr>,
}

/// All that is known of one published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortRow {
    /// The host's side.
    pub published: PublishedPort,
    /// The container's port.
    pub container_port: u16,
    /// The container's address, where known.
    pub container_address: Option<IpAddr>,
    /// The container, once found.
    pub container: Option<Arc<Container>>,
    /// What its labels mean, once it is found; without the problems.
    pub meaning: Option<PortMeaning>,
    /// How its traffic is treated where neither label nor setting says so; `None` where one does.
    pub learning: Option<Learning>,
    /// The registration, where a shim of ours serves the port.
    pub registration: Option<Registration>,
    /// Whether Envoy is meant to serve the port.
    pub wanted_in_envoy: bool,
    /// Whether it is meant to do so although no shim ever held the port. See [`Catalog::with_unproxied`].
    pub is_unproxied: bool,
    /// Whether the port had a shim, and its container runs on without it.
    pub lost_shim: bool,
    /// All that is wrong, in words for the operator.
    pub problems: Vec<String>,
}

/// Everything that is known of this host's published ports. See the crate's head for the flow.
///
/// Methods named for an event (`register`, `found`, …) take it in; [`Self::take_changes`] then yields what
/// follows for Envoy.
#[derive(Debug, Default)]
pub struct Catalog {
    defaults: Defaults,
    claims: HashMap<RegistrationId, Claim>,
    /// Who claims a port, oldest first. The youngest is served: dockerd may start a port's next shim before
    /// the last one has gone.
    claimants: BTreeMap<PublishedPort, Vec<RegistrationId>>,
    /// Claims whose container is still to be found, by its address.
    unjoined: BTreeMap<IpAddr, BTreeSet<RegistrationId>>,
    claims_made: u64,
    /// Ports whose shim was killed while their container runs on. dockerd does not start it again, so Envoy
    /// serves them alone.
    orphans: BTreeMap<PublishedPort, Claim>,
    /// The same, where the shim was killed before anything was known here, with the container that publishes the port.
    adopted: BTreeMap<PublishedPort, ContainerId>,
    /// Ports that Envoy serves alone.
    shimless: BTreeSet<PublishedPort>,
    /// Those of them that it listens on. Without a shim nobody would answer in its stead.
    listening: BTreeSet<PublishedPort>,
    released: BTreeSet<(Instant, RegistrationId)>,
    listing: DockerListing,
    served: HashMap<PublishedPort, ProxiedPort>,
    captured: BTreeSet<PublishedPort>,
    /// Whether Envoy is to serve the ports that Docker publishes without a shim.
    serves_unproxied: bool,
    /// Ports that Docker still lists although their shims were told to stop: their containers are about to.
    stopping: BTreeSet<PublishedPort>,
    /// The unproxied ports that Envoy would take connections for now.
    ready: BTreeSet<PublishedPort>,
    caught: BTreeSet<PublishedPort>,
    targets: BTreeMap<PublishedPort, ShimTarget>,
    /// What was learned of unlabelled ports.
    lessons: Lessons,
    /// The shims that were told to say what they see.
    observed: BTreeSet<RegistrationId>,
    touched: BTreeSet<PublishedPort>,
}

impl Catalog {
    /// An empty catalogue. `defaults` hold where a container's labels say nothing.
    #[must_use]
    pub fn new(defaults: Defaults) -> Self {
        Self { defaults, ..Self::default() }
    }

    /// Whether Envoy is to serve the TCP ports that Docker publishes and no shim holds, too. Their way back is Docker's
    /// own path, so their traffic is brought to Envoy only while it is said to be ready: [`Self::set_ready`].
    #[must_use]
    pub fn with_unproxied(self, serves_unproxied: bool) -> Self {
        Self { serves_unproxied, ..self }
    }

    /// Begins with what was learned before.
    #[must_use]
    pub fn with_lessons(self, lessons: Lessons) -> Self {
        Self { lessons, ..self }
    }

    /// A shim claims its port, or announces the same again.
    pub fn register(&mut self, id: RegistrationId, registration: Registration) {
        let published = registration.published;
        match self.claims.get_mut(&id) {
            Some(claim)
                if claim.registration.published == published
                    && claim.registration.container == registration.container =>
            {
                claim.registration = registration;
                self.touched.insert(published);
                return;
            }
            Some(_) => self.unregister(id),
            None => {}
        }
        self.unjoined.entry(registration.container.ip()).or_default().insert(id);
        self.orphans.remove(&published);
        self.stopping.remove(&published);
        self.claims_made += 1;
        self.claims.insert(id, Claim::new(registration, self.claims_made));
        self.claimants.entry(published).or_default().push(id);
        self.touched.insert(published);
    }

    /// The shim is gone, and with it the claim. One that was not told to stop was killed: its port stays
    /// Envoy's as long as Docker says that the container publishes it.
    pub fn unregister(&mut self, id: RegistrationId) {
        let Some(claim) = self.claims.remove(&id) else { return };
        self.forget_unjoined(claim.registration.container.ip(), id);
        self.observed.remove(&id);
        if let Some(until) = claim.released_until {
            self.released.remove(&(until, id));
        }
        let published = claim.registration.published;
        if let Some(claimants) = self.claimants.get_mut(&published) {
            claimants.retain(|other| *other != id);
            if claimants.is_empty() {
                self.claimants.remove(&published);
                if claim.released_until.is_some() && self.listing.publisher_of(&published).is_some() {
                    self.stopping.insert(published);
                }
                self.keep_if_killed(claim);
            }
        }
        self.touched.insert(published);
    }

    /// What was registered under this id.
    #[must_use]
    pub fn registration(&self, id: RegistrationId) -> Option<&Registration> {
        self.claims.get(&id).map(|claim| &claim.registration)
    }

    /// The registration that serves this port, if there is one.
    #[must_use]
    pub fn registration_of(&self, port: &PublishedPort) -> Option<(RegistrationId, &Registration)> {
        let id = *self.claimants.get(port)?.last()?;
        self.claims.get(&id).map(|claim| (id, &claim.registration))
    }

    /// Whether a TCP port of this number is published at this address, or at any address of its family.
    #[must_use]
    pub fn publishes(&self, address: IpAddr, port: u16) -> bool {
        let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        [address, any].into_iter().any(|address| {
            let published = PublishedPort { address, port, protocol: Protocol::Tcp };
            self.claimants.contains_key(&published) || self.listing.publisher_of(&published).is_some()
        })
    }

    /// A shim, or Envoy, saw how the application behind a port behaves. It counts for every port of the same program
    /// and container port, now and later, where no label says how they are treated. Yields what was learned anew.
    pub fn saw(&mut self, port: &PublishedPort, finding: Finding) -> Option<ProgramPort> {
        let claim = self.claim_on(port).filter(|claim| claim.is_observed())?;
        let subject = claim.subject()?;
        self.learn(&subject, finding).then_some(subject)
    }

    /// Whether a finding is about what one client asks, on a port whose application is known to speak HTTP: others get it
    /// as before.
    #[must_use]
    pub fn is_clients_own(&self, port: &PublishedPort, finding: Finding) -> bool {
        let is_http = self.claim_on(port).is_some_and(|claim| claim.lesson == Some(Finding::Http));
        is_http && matches!(finding, Finding::Tcp(reason) if reason.is_about_requests())
    }

    /// It was found out how every port of this program and container port behaves. Yields whether that is news: a port
    /// that is for bytes stays so.
    pub fn learn(&mut self, subject: &ProgramPort, finding: Finding) -> bool {
        if matches!(self.lessons.get(subject), Some(Finding::Tcp(_))) || !self.lessons.learn(subject.clone(), finding) {
            return false;
        }
        for claim in self.claims.values_mut() {
            if claim.subject().as_ref() == Some(subject) {
                claim.lesson = Some(finding);
                self.touched.insert(claim.registration.published);
            }
        }
        true
    }

    /// What was learned, to be kept over a restart.
    #[must_use]
    pub fn lessons(&self) -> &Lessons {
        &self.lessons
    }

    fn observation(&mut self, port: &PublishedPort) -> Option<(RegistrationId, bool)> {
        let id = *self.claimants.get(port)?.last()?;
        let is_observed = self.claims.get(&id).is_some_and(Claim::is_observed);
        let differs = if is_observed { self.observed.insert(id) } else { self.observed.remove(&id) };
        differs.then_some((id, is_observed))
    }

    /// dockerd told this shim to stop. It will tell the others of the container next, one after the other, so
    /// Envoy is to let go of all their ports at once.
    ///
    /// A shim that is registered again afterwards under another id is not held. Returns when the first of the
    /// container's shims was told to stop.
    pub fn release(&mut self, id: RegistrationId, now: Instant) -> Instant {
        let Some(claim) = self.claims.get(&id) else { return now };
        if let Some(until) = claim.released_until {
            return until.checked_sub(RELEASE_HOLD).unwrap_or(now);
        }
        let siblings: Vec<_> = match &claim.container {
            Some(container) => self.claims_of(&container.id.clone()),
            None => vec![id],
        };
        for id in siblings {
            self.hold(id, now + RELEASE_HOLD);
        }
        now
    }

    /// The shims that were released and live on get their ports back in Envoy once it is clear that nobody
    /// stops them. Returns when this is to be called next.
    pub fn expire_releases(&mut self, now: Instant) -> Option<Instant> {
        while let Some(&(until, id)) = self.released.first() {
            if until > now {
                return Some(until);
            }
            self.released.pop_first();
            if let Some(claim) = self.claims.get_mut(&id) {
                claim.released_until = None;
                self.touched.insert(claim.registration.published);
            }
        }
        None
    }

    /// Docker says, to a [`Lookup`] of this number, which container has this address.
    pub fn found(&mut self, lookup_number: u64, address: IpAddr, container: Container) {
        let container = Arc::new(container);
        for id in self.unjoined.get(&address).cloned().unwrap_or_default() {
            let Some(claim) = self.claims.get_mut(&id) else { continue };
            if claim.number <= lookup_number {
                claim.join(&container, &self.defaults);
                claim.lesson = claim.subject().and_then(|subject| self.lessons.get(&subject));
                self.touched.insert(claim.registration.published);
                self.forget_unjoined(address, id);
            }
        }
    }

    /// What is to be asked of Docker now, if anything.
    #[must_use]
    pub fn lookup(&self) -> Option<Lookup> {
        let addresses: Vec<_> = self.unjoined.keys().copied().collect();
        (!addresses.is_empty()).then_some(Lookup { number: self.claims_made, addresses })
    }

    /// Docker's whole listing of running containers.
    pub fn docker_listed_all(&mut self, listed: Vec<ListedContainer>) {
        let touched = self.listing.replace_all(listed);
        self.listing_changed(touched);
    }

    /// Docker's listing of one container that runs, or runs otherwise than before.
    pub fn docker_listed(&mut self, listed: ListedContainer) {
        let touched = self.listing.replace(listed);
        self.listing_changed(touched);
    }

    /// Docker says that the container runs no longer.
    pub fn docker_stopped(&mut self, id: &ContainerId) {
        let touched = self.listing.remove(id);
        self.listing_changed(touched);
    }

    fn listing_changed(&mut self, ports: impl IntoIterator<Item = PublishedPort>) {
        for port in ports {
            self.stopping.remove(&port);
            self.refresh_facts(&port);
            if self.serves_unproxied || self.adopted.contains_key(&port) {
                self.touched.insert(port);
            }
        }
        self.check_orphans();
    }

    /// A container's name may be another one now.
    fn refresh_facts(&mut self, port: &PublishedPort) {
        let Some((container, _)) = self.listing.get(port) else { return };
        for id in self.claimants.get(port).into_iter().flatten() {
            let Some(claim) = self.claims.get_mut(id) else { continue };
            let known = claim.container.as_ref().filter(|known| known.id == container.id);
            if known.is_some_and(|known| known.facts != container.facts) {
                claim.join(container, &self.defaults);
                self.touched.insert(*port);
            }
        }
    }

    /// Envoy has served this port since before anything was known here, and no shim claims it: the shim was killed then,
    /// or hangs. The port stays Envoy's as long as the container that publishes it now does so.
    pub fn adopt(&mut self, port: PublishedPort) {
        let is_free = !self.claimants.contains_key(&port) && !self.stopping.contains(&port);
        if let Some(container) = self.listing.publisher_of(&port).filter(|_| is_free) {
            self.adopted.insert(port, container.id.clone());
            self.touched.insert(port);
        }
    }

    /// The ports that Docker publishes and no shim has registered, those aside whose shim was killed, and
    /// SCTP, which is docker-proxy's.
    pub fn unregistered_ports(&self) -> impl Iterator<Item = (&PublishedPort, &Arc<Container>)> {
        let known = |port: &PublishedPort| {
            self.claimants.contains_key(port) || self.orphans.contains_key(port) || self.adopted.contains_key(port)
        };
        let ours = move |port: &PublishedPort| port.protocol != Protocol::Sctp && !known(port);
        self.listing.ports().filter(move |(port, _)| ours(port)).map(|(port, (container, _))| (port, container))
    }

    /// What follows from all that happened since the last call.
    pub fn take_changes(&mut self) -> Changes {
        let mut changes = Changes::default();
        for port in std::mem::take(&mut self.touched) {
            if self.claim_on(&port).is_some_and(|claim| claim.meaning.is_some()) {
                self.adopted.remove(&port);
            }
            changes.observed.extend(self.observation(&port));
            let (proxied, captured) = self.wanted(&port);
            if proxied.is_some() && !self.claimants.contains_key(&port) {
                self.shimless.insert(port);
            } else if self.shimless.remove(&port) {
                self.listening.remove(&port);
            }
            let is_unproxied = proxied.as_ref().is_some_and(|proxied| !proxied.is_bound);
            let caught = is_unproxied && self.ready.contains(&port);
            changes.envoy.extend(self.change_for_envoy(port, proxied));
            changes.captured.extend(change(&mut self.captured, port, captured));
            changes.caught.extend(change(&mut self.caught, port, caught));
            changes.targets.extend(self.target_change(port));
        }
        changes
    }

    /// What Envoy was to serve at the last [`Self::take_changes`].
    pub fn proxied_ports(&self) -> impl Iterator<Item = &ProxiedPort> {
        self.served.values()
    }

    /// The same for one port.
    #[must_use]
    pub fn proxied_port(&self, port: &PublishedPort) -> Option<&ProxiedPort> {
        self.served.get(port)
    }

    /// The ports that Envoy serves alone, on a socket of its own.
    pub fn shimless_ports(&self) -> impl Iterator<Item = PublishedPort> {
        self.served_alone(true)
    }

    /// Those of them that this container publishes.
    #[must_use]
    pub fn shimless_ports_of(&self, id: &ContainerId) -> Vec<PublishedPort> {
        let is_its =
            |port: &PublishedPort| self.listing.publisher_of(port).is_some_and(|container| container.id == *id);
        self.shimless_ports().filter(is_its).collect()
    }

    /// The ports that Envoy serves although no shim ever held them.
    pub fn unproxied_ports(&self) -> impl Iterator<Item = PublishedPort> {
        self.served_alone(false)
    }

    fn served_alone(&self, is_bound: bool) -> impl Iterator<Item = PublishedPort> {
        let is_so = move |port: &&PublishedPort| self.served.get(port).is_some_and(|port| port.is_bound == is_bound);
        self.shimless.iter().filter(is_so).copied()
    }

    /// For which of the unproxied ports Envoy would take connections now. The traffic of the others is left on Docker's
    /// own path.
    pub fn set_ready(&mut self, ready: BTreeSet<PublishedPort>) {
        self.touched.extend(self.ready.symmetric_difference(&ready));
        self.ready = ready;
    }

    /// Whether Envoy is to serve unproxied ports: [`Self::with_unproxied`].
    #[must_use]
    pub fn serves_unproxied(&self) -> bool {
        self.serves_unproxied
    }

    /// Whether the port is unproxied, and its traffic to be brought to Envoy.
    #[must_use]
    pub fn is_caught(&self, port: &PublishedPort) -> bool {
        self.caught.contains(port)
    }

    /// The unproxied ports whose traffic is to be brought to Envoy.
    pub fn caught_ports(&self) -> impl Iterator<Item = PublishedPort> {
        self.caught.iter().copied()
    }

    /// Which of the ports that Envoy serves alone it listens on now. The traffic of the others is left on Docker's
    /// own path.
    pub fn set_listening(&mut self, listening: BTreeSet<PublishedPort>) {
        self.touched.extend(self.listening.symmetric_difference(&listening));
        self.listening = listening;
    }

    /// The ports whose traffic is to be brought to their sockets: Envoy's, or the shim's while there is none.
    pub fn captured_ports(&self) -> impl Iterator<Item = PublishedPort> {
        self.captured.iter().copied()
    }

    /// Every port known, in order: those that shims registered, and those that Docker alone publishes.
    #[must_use]
    pub fn rows(&self) -> Vec<PortRow> {
        let claimed = self.claimants.values().filter_map(|ids| self.claim_row(ids));
        let unclaimed = self.listing.ports().filter(|(port, _)| !self.claimants.contains_key(port));
        let mut rows: Vec<_> =
            claimed.chain(unclaimed.map(|(_, (container, port))| self.orphan_row(container, port))).collect();
        rows.sort_by_key(|row| row.published);
        rows
    }

    fn keep_if_killed(&mut self, claim: Claim) {
        let published = claim.registration.published;
        let publisher = self.listing.publisher_of(&published).map(|container| &container.id);
        let runs_on = publisher.is_some() && publisher == claim.container.as_ref().map(|container| &container.id);
        if runs_on && claim.proxied_alone().is_some() {
            self.orphans.insert(published, claim);
        }
    }

    /// Lets go of the orphans whose container no longer publishes the port.
    fn check_orphans(&mut self) {
        let listing = &self.listing;
        let gone = self.orphans.extract_if(.., |port, claim| {
            listing.publisher_of(port).map(|container| &container.id)
                != claim.container.as_ref().map(|container| &container.id)
        });
        self.touched.extend(gone.map(|(port, _)| port));
        let is_gone = |port: &PublishedPort, container: &mut ContainerId| {
            listing.publisher_of(port).is_none_or(|publisher| publisher.id != *container)
        };
        self.touched.extend(self.adopted.extract_if(.., is_gone).map(|(port, _)| port));
    }

    /// What Envoy is to serve on this port, and whether its traffic is to be brought to its sockets.
    fn wanted(&self, port: &PublishedPort) -> (Option<ProxiedPort>, bool) {
        let claim = self.claim_on(port);
        // Until its container is found, what Envoy has served all along it goes on to serve.
        if let Some(claim) = claim.filter(|claim| claim.meaning.is_some() || !self.adopted.contains_key(port)) {
            return (claim.proxied(), claim.is_captured());
        }
        if let Some(alone) = self.orphans.get(port).and_then(Claim::proxied_alone) {
            return (Some(alone), self.listening.contains(port));
        }
        if self.adopted.contains_key(port) {
            let proxied = self.proxied_by_listing(port, true);
            let has_listener = claim.is_some() || self.listening.contains(port);
            let captured = proxied.is_some() && has_listener;
            return (proxied, captured);
        }
        let is_unproxied = self.serves_unproxied && !self.stopping.contains(port);
        (self.proxied_by_listing(port, false).filter(|_| is_unproxied), false)
    }

    /// The newest claim on a port.
    fn claim_on(&self, port: &PublishedPort) -> Option<&Claim> {
        self.claimants.get(port).and_then(|ids| self.claims.get(ids.last()?))
    }

    /// What Envoy is to serve on a port of which Docker alone tells.
    fn proxied_by_listing(&self, port: &PublishedPort, is_bound: bool) -> Option<ProxiedPort> {
        let (container, listed) = self.listing.get(port).filter(|_| port.protocol == Protocol::Tcp)?;
        let meaning = container.facts.meaning_for(listed.container_port, &self.defaults);
        let treatment = treatment_without_shim(meaning.mode, self.lesson_of(container, listed))?;
        let address = listed.container_address?;
        Some(ProxiedPort {
            published: *port,
            container: SocketAddr::new(address, listed.container_port),
            service: meaning.service,
            treatment,
            is_bound,
        })
    }

    /// A shim whose container is still to be found changes nothing: it may be another one than Docker's listing has.
    fn target_change(&mut self, port: PublishedPort) -> Option<(PublishedPort, Option<ShimTarget>)> {
        let after = match self.claim_on(&port) {
            Some(claim) => Some(claim.target()?),
            None => None,
        };
        let before = match &after {
            Some(after) => self.targets.insert(port, after.clone()),
            None => self.targets.remove(&port),
        };
        (before != after).then_some((port, after))
    }

    fn change_for_envoy(&mut self, port: PublishedPort, after: Option<ProxiedPort>) -> Option<PortChange> {
        let before = match &after {
            Some(after) => self.served.insert(port, after.clone()),
            None => self.served.remove(&port),
        };
        (before != after).then_some(PortChange { before, after })
    }

    fn claims_of(&self, container: &ContainerId) -> Vec<RegistrationId> {
        let is_of = |claim: &Claim| claim.container.as_ref().is_some_and(|own| own.id == *container);
        self.claims.iter().filter(|(_, claim)| is_of(claim)).map(|(id, _)| *id).collect()
    }

    fn hold(&mut self, id: RegistrationId, until: Instant) {
        let Some(claim) = self.claims.get_mut(&id) else { return };
        if claim.released_until.is_some() {
            return;
        }
        claim.released_until = Some(until);
        self.adopted.remove(&claim.registration.published);
        self.released.insert((until, id));
        self.touched.insert(claim.registration.published);
    }

    fn forget_unjoined(&mut self, address: IpAddr, id: RegistrationId) {
        if let Some(ids) = self.unjoined.get_mut(&address) {
            ids.remove(&id);
            if ids.is_empty() {
                self.unjoined.remove(&address);
            }
        }
    }

    fn claim_row(&self, ids: &[RegistrationId]) -> Option<PortRow> {
        let claim = self.claims.get(ids.last()?)?;
        Some(PortRow {
            published: claim.registration.published,
            container_port: claim.registration.container.port(),
            container_address: Some(claim.registration.container.ip()),
            container: claim.container.clone(),
            meaning: claim.meaning.clone(),
            learning: Learning::of_claim(claim),
            registration: Some(claim.registration.clone()),
            wanted_in_envoy: claim.proxied().is_some(),
            is_unproxied: false,
            lost_shim: false,
            problems: claim.problems(),
        })
    }

    fn lesson_of(&self, container: &Container, port: &ListedPort) -> Option<Finding> {
        self.lessons.get(&ProgramPort::of(&container.facts, port.container_port)?)
    }

    fn listed_row(&self, container: &Arc<Container>, port: &ListedPort) -> PortRow {
        let meaning = container.facts.meaning_for(port.container_port, &self.defaults);
        PortRow {
            published: port.published,
            container_port: port.container_port,
            container_address: port.container_address,
            container: Some(Arc::clone(container)),
            problems: meaning.problems.clone(),
            learning: Learning::of_listed(&meaning, self.lesson_of(container, port)),
            meaning: Some(meaning),
            registration: None,
            wanted_in_envoy: false,
            is_unproxied: false,
            lost_shim: false,
        }
    }

    fn orphan_row(&self, container: &Arc<Container>, port: &ListedPort) -> PortRow {
        let mut row = self.listed_row(container, port);
        row.wanted_in_envoy = self.shimless.contains(&port.published);
        row.is_unproxied = self.served.get(&port.published).is_some_and(|proxied| !proxied.is_bound);
        row.lost_shim = self.adopted.contains_key(&port.published) || self.orphans.contains_key(&port.published);
        if self.adopted.contains_key(&port.published) {
            row.problems.push(
                "its shim was killed before the registrar started, or hangs: Envoy alone has the port; `shimctl resync` \
                 names one that hangs, and a restart of the container gives it a new one"
                    .to_owned(),
            );
        }
        if let Some(orphan) = self.orphans.get(&port.published) {
            row.problems.push(format!(
                "its shim (process {}) was killed: Envoy alone has the port; restart the container to have both again",
                orphan.registration.shim_pid
            ));
        }
        row
    }
}

/// Makes the port a member or not; yields what that changed.
fn change(members: &mut BTreeSet<PublishedPort>, port: PublishedPort, is_one: bool) -> Option<(PublishedPort, bool)> {
    let differs = if is_one { members.insert(port) } else { members.remove(&port) };
    differs.then_some((port, is_one))
}

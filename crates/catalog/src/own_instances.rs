//! This host's own instances: its containers and static services, with the health that checks find.
//!
//! ```text
//! Docker's listing, static services, drains ──▶ OwnInstances ──▶ what to announce (changes only)
//!                             checks' outcomes ──▶    │
//!                                                     └──▶ checks to make now
//! ```
//!
//! Deliberately absent: how a check is made, and who is told of the instances.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::Instant;

use evidence::Finding;
use health::{
    Check, CheckedPort, Checker, Limits, Outcome, Peer, Plan, Policy, Probe, ProbeId, Started, StatusChange, Subject,
    plan,
};
use model::instance::InstancePort;
use model::service_labels::{Announcement, PROBLEMS_MAX};
use model::{CheckSettings, ContainerId, HostName, InstanceKey, PublishedPort, Status};

use crate::docker_listing::ListedContainer;
use crate::lessons::{Lessons, ProgramPort};
use crate::own_instance::{self, OwnInstance, OwnSettings};
use crate::registration::ShimTarget;

/// What holds for this host.
#[derive(Clone, Debug)]
pub struct OwnHost {
    /// Its name.
    pub name: HostName,
    /// All its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// What holds for all its containers.
    pub settings: OwnSettings,
    /// What checks may do.
    pub policy: Policy,
}

/// A static service: what is announced of it, and how it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticInstance {
    /// What is announced; its status is found by checking.
    pub own: OwnInstance,
    /// How it is checked.
    pub check: CheckSettings,
}

/// What is different about one own instance now; `None`: it is no more.
pub type OwnChange = (InstanceKey, Option<OwnInstance>);

/// See the file's head. Methods named for an event take it in; [`Self::take_changes`] yields what follows.
#[derive(Debug)]
pub struct OwnInstances {
    host: OwnHost,
    checker: Checker,
    containers: HashMap<ContainerId, (ListedContainer, Announcement)>,
    statics: BTreeMap<InstanceKey, StaticInstance>,
    /// Where shims reach the containers of their ports.
    targets: BTreeMap<PublishedPort, ShimTarget>,
    /// What was learned of unlabelled ports.
    lessons: Lessons,
    /// Taken out of service by an operator. Those of an earlier life of the registrar may not be known yet.
    drained: BTreeSet<InstanceKey>,
    /// Docker has asked them to stop.
    stopping: BTreeSet<InstanceKey>,
    problems: BTreeMap<InstanceKey, Vec<String>>,
    announced: BTreeMap<InstanceKey, OwnInstance>,
    changed: BTreeSet<InstanceKey>,
    found: Vec<StatusChange>,
    /// What passed checks have shown.
    evidence: Vec<ProgramPort>,
}

impl OwnInstances {
    /// A host without instances. `seed` should differ from host to host: it spreads checks.
    #[must_use]
    pub fn new(host: OwnHost, seed: u64) -> Self {
        Self {
            host,
            checker: Checker::new(Limits::default(), seed),
            containers: HashMap::new(),
            statics: BTreeMap::new(),
            targets: BTreeMap::new(),
            lessons: Lessons::default(),
            drained: BTreeSet::new(),
            stopping: BTreeSet::new(),
            problems: BTreeMap::new(),
            announced: BTreeMap::new(),
            changed: BTreeSet::new(),
            found: Vec::new(),
            evidence: Vec::new(),
        }
    }

    /// Docker's whole listing of running containers.
    pub fn docker_listed_all(&mut self, listed: &[ListedContainer], now: Instant) {
        let present: BTreeSet<_> = listed.iter().map(|listed| &listed.container.id).collect();
        let gone: Vec<_> = self.containers.keys().filter(|id| !present.contains(id)).cloned().collect();
        gone.iter().for_each(|id| self.docker_stopped(id));
        listed.iter().for_each(|listed| self.docker_listed(listed, now));
    }

    /// One container that runs, or runs otherwise than before.
    pub fn docker_listed(&mut self, listed: &ListedContainer, now: Instant) {
        let announcement = listed.container.facts.announcement(listed.image_labels.as_ref());
        let id = listed.container.id.clone();
        self.containers.insert(id.clone(), (listed.clone(), announcement));
        self.refresh_container(&id, now);
    }

    /// Where the port's shim reaches its container from now on; `None`: no shim has it any longer.
    pub fn set_target(&mut self, port: PublishedPort, target: Option<ShimTarget>, now: Instant) {
        let before = match &target {
            Some(target) => self.targets.insert(port, target.clone()),
            None => self.targets.remove(&port),
        };
        let ids: BTreeSet<_> = [before, target].into_iter().flatten().map(|target| target.container).collect();
        ids.iter().for_each(|id| self.refresh_container(id, now));
    }

    /// What was learned of unlabelled ports before. To be called before anything is listed.
    pub fn restore_lessons(&mut self, lessons: Lessons) {
        self.lessons = lessons;
    }

    /// It was learned how the application of an image behaves: its instances are announced so.
    pub fn learned(&mut self, subject: &ProgramPort, finding: Finding, now: Instant) {
        self.lessons.learn(subject.clone(), finding);
        let is_of = |listed: &ListedContainer| listed.container.facts.program == subject.program;
        let of_image = self.containers.iter().filter(|(_, (listed, _))| is_of(listed));
        for id in of_image.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.refresh_container(&id, now);
        }
    }

    /// A container that runs no longer. What was drained is not when it starts again.
    pub fn docker_stopped(&mut self, id: &ContainerId) {
        if let Some((listed, _)) = self.containers.remove(id) {
            self.forget(key_of(&listed.container.id));
        }
    }

    /// `docker stop` has begun: the container drains until it has stopped.
    pub fn docker_stopping(&mut self, id: &ContainerId) {
        let key = key_of(id);
        if self.announced.contains_key(&key) && self.stopping.insert(key) {
            self.update_status(key);
        }
    }

    /// All static services, in place of those that were.
    pub fn set_static(&mut self, services: Vec<StaticInstance>, now: Instant) {
        let services: BTreeMap<_, _> = services.into_iter().map(|service| (service.own.key(), service)).collect();
        let gone: Vec<_> = self.statics.keys().filter(|key| !services.contains_key(key)).copied().collect();
        gone.into_iter().for_each(|key| self.forget(key));
        self.statics = services;
        for key in self.statics.keys().copied().collect::<Vec<_>>() {
            self.refresh_static(key, now);
        }
    }

    /// Takes an instance out of service until it stops, or until this is taken back; says whether it is known.
    pub fn set_drained(&mut self, key: InstanceKey, drained: bool) -> bool {
        if !self.announced.contains_key(&key) {
            return false;
        }
        if drained {
            self.drained.insert(key);
        } else {
            self.drained.remove(&key);
            self.stopping.remove(&key);
        }
        self.update_status(key);
        true
    }

    /// The instances that an operator has taken out of service.
    #[must_use]
    pub fn drained(&self) -> &BTreeSet<InstanceKey> {
        &self.drained
    }

    /// Takes in what was drained in an earlier life of the registrar. To be called before anything else: these
    /// instances are never seen in any other state.
    pub fn restore_drained(&mut self, keys: BTreeSet<InstanceKey>) {
        self.drained = keys;
    }

    /// All instances are known that there are: those that were drained and are gone stay gone.
    pub fn forget_gone_drained(&mut self) {
        self.drained.retain(|key| self.announced.contains_key(key));
    }

    /// When [`Self::start_checks`] is to be called next.
    #[must_use]
    pub fn next_check(&self) -> Option<Instant> {
        self.checker.next_due()
    }

    /// The checks to be made now. Each must be [`Self::check_finished`].
    pub fn start_checks(&mut self, now: Instant) -> Vec<Started> {
        self.checker.start(now)
    }

    /// What came of a check.
    pub fn check_finished(&mut self, id: ProbeId, outcome: Outcome, now: Instant) {
        if let Some(change) = self.checker.finished(id, outcome, now) {
            self.update_status(change.key);
            if change.status == Status::Alive {
                self.evidence.extend(self.checked_by_http(change.key));
            }
            self.found.push(change);
        }
    }

    /// The ports of images that answered a check by HTTP well since the last call: evidence that they speak it.
    pub fn take_evidence(&mut self) -> Vec<ProgramPort> {
        std::mem::take(&mut self.evidence)
    }

    /// The container port at which the instance's check by HTTP is aimed.
    fn checked_by_http(&self, key: InstanceKey) -> Option<ProgramPort> {
        let Check::Probed(Probe::HttpGet(get), _) = self.checker.health(key)?.check else { return None };
        let Peer::Address(target) = get.peer else { return None };
        let own = self.announced.get(&key)?;
        let (listed, _) = self.containers.get(own.instance.origin.container()?)?;
        let is_its = own.local.iter().any(|(_, direct)| *direct == target);
        ProgramPort::of(&listed.container.facts, target.port()).filter(|_| is_its)
    }

    /// What checks found since the last call that makes another status, with what was seen; also of instances that are
    /// drained, or gone since.
    pub fn take_found(&mut self) -> Vec<StatusChange> {
        std::mem::take(&mut self.found)
    }

    /// Why the instance is not alive, as far as that is known.
    #[must_use]
    pub fn reason(&self, key: InstanceKey) -> Option<&str> {
        if self.drained.contains(&key) {
            return Some("an operator drains it");
        }
        if self.stopping.contains(&key) {
            return Some("Docker has told it to stop");
        }
        let health = self.checker.health(key).filter(|health| health.status != Status::Alive)?;
        Some(health.reason).filter(|reason| !reason.is_empty())
    }

    /// Whether every instance was checked at least once.
    #[must_use]
    pub fn are_all_checked(&self) -> bool {
        self.announced.values().all(|own| own.instance.status != Status::Unknown)
    }

    /// What is wrong with the labels and the check of one instance.
    #[must_use]
    pub fn problems(&self, key: InstanceKey) -> &[String] {
        self.problems.get(&key).map_or(&[], Vec::as_slice)
    }

    /// What is wrong with the labels and checks of all instances, in the order of keys.
    pub fn label_problems(&self) -> impl Iterator<Item = (InstanceKey, &str)> {
        self.problems.iter().flat_map(|(key, problems)| problems.iter().map(|problem| (*key, problem.as_str())))
    }

    /// What is different since the last call, in the order of keys.
    pub fn take_changes(&mut self) -> Vec<OwnChange> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().map(|key| (key, self.announced.get(&key).cloned())).collect()
    }

    fn refresh_container(&mut self, id: &ContainerId, now: Instant) {
        let Some((listed, announcement)) = self.containers.get(id) else { return };
        let listed = self.as_shims_reach_it(listed);
        let own = OwnInstance::of_container(&listed, announcement, Status::Unknown, &self.host.settings, &self.lessons);
        let Some(own) = own else { return self.forget(key_of(id)) };
        let ports = checked_ports(&own);
        let subject = Subject { docker_health: listed.health, ..subject(&self.host, &ports) };
        // An image must not have the host ask around in the operator's network.
        let allow_other_targets = self.host.policy.allow_other_targets && !announcement.args_may_be_the_images;
        let policy = Policy { allow_other_targets, ..self.host.policy };
        let Plan { check, problem } = plan(&announcement.check, &subject, policy);
        let no_listener = own_instance::listener_problem(announcement, &own);
        let no_service_ports = own_instance::service_port_problems(announcement, &listed, &own);
        // The service is the container's, whatever the port.
        let problems = listed.container.facts.meaning_for(0, &self.host.settings.defaults).problems.into_iter();
        let problems = problems.chain(announcement.problems.iter().cloned());
        let problems = problems.chain(problem).chain(no_listener).chain(no_service_ports).take(PROBLEMS_MAX).collect();
        self.found.extend(self.checker.set(own.key(), check, now));
        self.announce(own, problems);
    }

    /// The container with the addresses by which its shims reach it, where it has shims.
    fn as_shims_reach_it(&self, listed: &ListedContainer) -> ListedContainer {
        let mut listed = listed.clone();
        for port in &mut listed.ports {
            let target = self.targets.get(&port.published).filter(|target| target.container == listed.container.id);
            port.container_address = target.map(|target| target.address).or(port.container_address);
        }
        listed
    }

    fn refresh_static(&mut self, key: InstanceKey, now: Instant) {
        let Some(service) = self.statics.get(&key) else { return };
        let ports = checked_ports(&service.own);
        // The file is the operator's own word.
        let policy = Policy { allow_other_targets: true, ..self.host.policy };
        let Plan { check, problem } = plan(&service.check, &subject(&self.host, &ports), policy);
        let own = service.own.clone();
        self.checker.set(key, check, now);
        self.announce(own, problem.into_iter().collect());
    }

    fn announce(&mut self, mut own: OwnInstance, problems: Vec<String>) {
        let key = own.key();
        own.instance.status = self.status(key);
        self.problems.insert(key, problems);
        if self.announced.get(&key) != Some(&own) {
            self.announced.insert(key, own);
            self.changed.insert(key);
        }
    }

    fn update_status(&mut self, key: InstanceKey) {
        let status = self.status(key);
        if let Some(own) = self.announced.get_mut(&key).filter(|own| own.instance.status != status) {
            own.instance.status = status;
            self.changed.insert(key);
        }
    }

    fn status(&self, key: InstanceKey) -> Status {
        if self.drained.contains(&key) || self.stopping.contains(&key) {
            return Status::Draining;
        }
        self.checker.health(key).map_or(Status::Unknown, |health| health.status)
    }

    fn forget(&mut self, key: InstanceKey) {
        self.checker.remove(key);
        self.problems.remove(&key);
        self.drained.remove(&key);
        self.stopping.remove(&key);
        if self.announced.remove(&key).is_some() {
            self.changed.insert(key);
        }
    }
}

fn key_of(id: &ContainerId) -> InstanceKey {
    model::instance::Origin::Container(id.clone()).key()
}

fn subject<'a>(host: &'a OwnHost, ports: &'a [CheckedPort]) -> Subject<'a> {
    Subject {
        host_name: host.name.as_str(),
        host_address: host.settings.advertise_address,
        host_addresses: &host.addresses,
        ports,
        docker_health: None,
    }
}

fn checked_ports(own: &OwnInstance) -> Vec<CheckedPort> {
    let checked = |port: &InstancePort| {
        let published = (port.address, port.port).into();
        CheckedPort {
            protocol: port.protocol,
            service_port: port.service_port,
            published,
            direct: own.local.iter().find(|(announced, _)| *announced == published).map(|(_, direct)| *direct),
        }
    };
    own.instance.ports.iter().map(checked).collect()
}

#[cfg(test)]
#[path = "own_instances/tests.rs"]
mod tests;

//! Every service of the cluster as this host knows it: who announces which service port, who gets it, and
//! where its instances are reached from here.
//!
//! Instances come in host by host, as gossip holds them (this host's own among them). What differs from what
//! the host had before touches its service ports, and those alone are looked at again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::instance::InstancePort;
use model::{
    Endpoint, HostName, Instance, InstanceId, InstanceKey, Protocol, ProxiedServicePort, ProxyMode, Service, Treatment,
    check_service_port,
};

/// What Envoy is to do differently for one service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePortChange {
    /// What it served until now.
    pub before: Option<ProxiedServicePort>,
    /// What it is to serve from now on.
    pub after: Option<ProxiedServicePort>,
}

/// One service at one of its service ports, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceRow {
    /// The service.
    pub service: Service,
    /// Its service port; `None` for what is only listed.
    pub service_port: Option<u16>,
    /// How its traffic is treated.
    pub mode: Option<ProxyMode>,
    /// Its instances, in the order of ids.
    pub instances: Vec<ServiceInstance>,
    /// What is wrong, in words for the operator.
    pub problem: Option<String>,
}

/// One instance in a [`ServiceRow`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceInstance {
    /// Where it runs.
    pub host: HostName,
    /// What its host says of it.
    pub instance: Arc<Instance>,
    /// The port that is meant; `None` where it has none.
    pub port: Option<InstancePort>,
    /// Why it is not alive, where its host is this one and knows.
    pub reason: Option<String>,
}

/// Where this host's own instances are reached without leaving it: by key and container's published address.
pub type LocalAddresses = HashMap<(InstanceKey, SocketAddr), SocketAddr>;

type Claimants = BTreeMap<InstanceId, (Arc<Instance>, InstancePort)>;

/// The services of the cluster. Methods take events in; [`Self::take_changes`] yields what follows for Envoy.
#[derive(Debug)]
pub struct ServicePorts {
    own_host: HostName,
    service_addresses: HashSet<IpAddr>,
    hosts: BTreeMap<HostName, BTreeMap<InstanceKey, Arc<Instance>>>,
    local: LocalAddresses,
    /// Who claims a service port, service by service in their order. The first gets it: the same one on every
    /// host, and not another one because something was restarted.
    claims: BTreeMap<u16, BTreeMap<Service, Claimants>>,
    touched: BTreeSet<u16>,
    served: HashMap<u16, ProxiedServicePort>,
}

impl ServicePorts {
    /// Knows no service yet. No endpoint is ever one of `service_addresses`: a connection would come back.
    #[must_use]
    pub fn new(own_host: HostName, service_addresses: HashSet<IpAddr>) -> Self {
        Self {
            own_host,
            service_addresses,
            hosts: BTreeMap::new(),
            local: HashMap::new(),
            claims: BTreeMap::new(),
            touched: BTreeSet::new(),
            served: HashMap::new(),
        }
    }

    /// Takes in what a host announces now, all of it; nothing, if it is not to be served any longer.
    pub fn set_host(&mut self, host: &HostName, instances: impl IntoIterator<Item = Instance>) {
        let before = self.hosts.remove(host).unwrap_or_default();
        let mut after = BTreeMap::new();
        for instance in instances {
            let key = instance.key();
            let known = before.get(&key).filter(|known| ***known == instance);
            after.insert(key, known.cloned().unwrap_or_else(|| Arc::new(instance)));
        }
        for (key, instance) in &before {
            if !after.get(key).is_some_and(|now| Arc::ptr_eq(now, instance)) {
                self.withdraw(host, *key, instance);
            }
        }
        for (key, instance) in &after {
            if !before.get(key).is_some_and(|known| Arc::ptr_eq(known, instance)) {
                self.claim(host, *key, instance);
            }
        }
        if !after.is_empty() {
            self.hosts.insert(host.clone(), after);
        }
    }

    /// Takes in where this host's own instances are reached.
    pub fn set_local_addresses(&mut self, local: LocalAddresses) {
        let differs = |key: &(InstanceKey, SocketAddr)| self.local.get(key) != local.get(key);
        let changed: HashSet<_> =
            self.local.keys().chain(local.keys()).filter(|key| differs(key)).map(|(key, _)| *key).collect();
        let own = self.hosts.get(&self.own_host);
        let ports = own
            .into_iter()
            .flatten()
            .filter(|(key, _)| changed.contains(key))
            .flat_map(|(_, instance)| service_ports(instance));
        self.touched.extend(ports.map(|(port, _)| port));
        self.local = local;
    }

    /// What follows for Envoy from all that happened since the last call, in the order of service ports.
    pub fn take_changes(&mut self) -> Vec<ServicePortChange> {
        let touched = std::mem::take(&mut self.touched);
        touched.into_iter().filter_map(|port| self.change_of(port)).collect()
    }

    /// Every service that is announced, in order; those without a service port too.
    #[must_use]
    pub fn rows(&self) -> Vec<ServiceRow> {
        let with_port = self.claims.iter().flat_map(|(port, services)| {
            services.iter().map(move |(service, claimants)| self.port_row(*port, service, claimants))
        });
        let mut rows: Vec<_> = with_port.chain(self.portless_rows()).collect();
        rows.sort_by(|a, b| (&a.service, a.service_port).cmp(&(&b.service, b.service_port)));
        rows
    }

    /// Whether any service port is claimed: [`Self::rows`] has one with a service port.
    #[must_use]
    pub fn has_service_ports(&self) -> bool {
        !self.claims.is_empty()
    }

    /// How many instances a host announces.
    #[must_use]
    pub fn instance_count(&self, host: &HostName) -> usize {
        self.hosts.get(host).map_or(0, BTreeMap::len)
    }

    fn claim(&mut self, host: &HostName, key: InstanceKey, instance: &Arc<Instance>) {
        for (port, instance_port) in service_ports(instance) {
            let services = self.claims.entry(port).or_default();
            let claimants = services.entry(instance.service.clone()).or_default();
            claimants.insert(InstanceId { host: host.clone(), key }, (Arc::clone(instance), instance_port.clone()));
            self.touched.insert(port);
        }
    }

    fn withdraw(&mut self, host: &HostName, key: InstanceKey, instance: &Instance) {
        let id = InstanceId { host: host.clone(), key };
        for (port, _) in service_ports(instance) {
            self.touched.insert(port);
            let Some(services) = self.claims.get_mut(&port) else { continue };
            let Some(claimants) = services.get_mut(&instance.service) else { continue };
            claimants.remove(&id);
            if claimants.is_empty() {
                services.remove(&instance.service);
            }
            if services.is_empty() {
                self.claims.remove(&port);
            }
        }
    }

    fn change_of(&mut self, port: u16) -> Option<ServicePortChange> {
        let claims = self.claims.get(&port).filter(|_| check_service_port(port).is_ok());
        let winner = claims.and_then(BTreeMap::first_key_value);
        let after = winner.and_then(|(service, claimants)| self.proxied(port, service, claimants));
        let before = match &after {
            Some(after) => self.served.insert(port, after.clone()),
            None => self.served.remove(&port),
        };
        (before != after).then_some(ServicePortChange { before, after })
    }

    fn proxied(&self, port: u16, service: &Service, claimants: &Claimants) -> Option<ProxiedServicePort> {
        let mode = mode_of(claimants)?;
        let endpoints: Vec<_> =
            claimants.iter().filter_map(|(id, (instance, port))| self.endpoint(id, instance, port)).collect();
        (mode != ProxyMode::None && !endpoints.is_empty()).then(|| ProxiedServicePort {
            port,
            service: service.clone(),
            // While their own host has not learned how its instances answer, bytes are passed on.
            treatment: Treatment::asked_by(mode).unwrap_or(Treatment::Tcp),
            endpoints,
        })
    }

    fn endpoint(&self, id: &InstanceId, instance: &Instance, port: &InstancePort) -> Option<Endpoint> {
        let announced = SocketAddr::new(port.address, port.port);
        let is_local = id.host == self.own_host;
        let address = if is_local { *self.local.get(&(id.key, announced))? } else { announced };
        (!self.service_addresses.contains(&address.ip())).then(|| Endpoint {
            instance: id.clone(),
            address,
            status: instance.status,
            is_local,
        })
    }

    fn port_row(&self, port: u16, service: &Service, claimants: &Claimants) -> ServiceRow {
        let instance = |(id, (instance, port)): (&InstanceId, &(Arc<Instance>, InstancePort))| ServiceInstance {
            host: id.host.clone(),
            instance: Arc::clone(instance),
            port: Some(port.clone()),
            reason: None,
        };
        ServiceRow {
            service: service.clone(),
            service_port: Some(port),
            mode: mode_of(claimants),
            instances: claimants.iter().map(instance).collect(),
            problem: self.problem(port, service, claimants),
        }
    }

    fn problem(&self, port: u16, service: &Service, claimants: &Claimants) -> Option<String> {
        if let Err(reserved) = check_service_port(port) {
            return Some(format!("{reserved} (the ServicePort label, or service-port of a static service)"));
        }
        let services = self.claims.get(&port)?;
        let (winner, _) = services.first_key_value()?;
        if winner != service {
            if winner.looks_like(service) {
                return Some(format!(
                    "service port {port} is another service's, whose name or environment had to be changed to the same: \
                     give one of them a ServiceName or EnvironmentName of A-Z a-z 0-9 . _ -"
                ));
            }
            let holder = &winner.name;
            let environment = &winner.environment;
            return Some(format!(
                "service port {port} is {holder}'s (environment {environment:?}), which is first by name: give one of them another ServicePort label",
                environment = environment.as_str()
            ));
        }
        if services.len() > 1 {
            let others: Vec<_> = services.keys().skip(1).map(|other| other.name.marked()).collect();
            return Some(format!("service port {port} is claimed by {} too, and not given to them", others.join(", ")));
        }
        let mode = mode_of(claimants)?;
        let differing = claimants.iter().find(|(_, (_, port))| port.mode != mode && port.mode != ProxyMode::Auto)?;
        Some(format!("instance {} has another ProxyMode ({}): {mode} holds for all", differing.0, differing.1.1.mode))
    }

    /// Services of which some instance has no service port at all.
    fn portless_rows(&self) -> impl Iterator<Item = ServiceRow> {
        let mut rows: BTreeMap<&Service, Vec<ServiceInstance>> = BTreeMap::new();
        for (host, instances) in &self.hosts {
            for instance in instances.values().filter(|instance| service_ports(instance).next().is_none()) {
                let listed = ServiceInstance {
                    host: host.clone(),
                    instance: Arc::clone(instance),
                    port: instance.ports.first().cloned(),
                    reason: None,
                };
                rows.entry(&instance.service).or_default().push(listed);
            }
        }
        rows.into_iter().map(|(service, instances)| ServiceRow {
            service: service.clone(),
            service_port: None,
            mode: instances.iter().find_map(|instance| instance.port.as_ref()).map(|port| port.mode),
            instances,
            problem: None,
        })
    }
}

/// The instance's service ports. Envoy serves TCP alone, so the others are only listed.
fn service_ports(instance: &Instance) -> impl Iterator<Item = (u16, &InstancePort)> {
    let tcp = instance.ports.iter().filter(|port| port.protocol == Protocol::Tcp);
    tcp.filter_map(|port| port.service_port.map(|number| (number, port)))
}

/// How a service port is treated: as the first instance says whose host knows it.
fn mode_of(claimants: &Claimants) -> Option<ProxyMode> {
    let modes = || claimants.values().map(|(_, port)| port.mode);
    modes().find(|mode| *mode != ProxyMode::Auto).or_else(|| modes().next())
}

#[cfg(test)]
#[path = "service_ports/tests.rs"]
mod tests;

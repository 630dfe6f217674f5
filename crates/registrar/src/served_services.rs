//! Which service ports are served where on this host. Pure: what follows for Envoy and for capture is returned.
//!
//! At an address by which other hosts reach this one, a published port beats a service port of the same number:
//! whoever publishes a port there means it. At an address of services alone there is nothing to beat.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use catalog::{Catalog, ServicePortChange};
use model::ProxiedServicePort;
use xds::resources::Settings;
use xds::resources::service::{self, Binding, ServiceSettings};

/// What is served, and where.
#[derive(Debug)]
pub(crate) struct ServedServices {
    settings: ServiceSettings,
    /// The service addresses by which other hosts reach this one.
    shared: BTreeSet<IpAddr>,
    served: BTreeMap<u16, (ProxiedServicePort, Vec<IpAddr>)>,
}

/// What follows from a change.
#[derive(Debug, Default)]
pub(crate) struct Consequences {
    pub(crate) envoy: Vec<xds::Change>,
    /// Where a service port is to be captured from now on (true), or no longer.
    pub(crate) captured: Vec<(IpAddr, u16, bool)>,
}

impl ServedServices {
    /// Serves nothing yet. `host_addresses`: those by which other hosts reach this one.
    pub(crate) fn new(settings: ServiceSettings, host_addresses: &BTreeSet<IpAddr>) -> Self {
        let shared = settings.addresses.iter().filter(|address| host_addresses.contains(address)).copied().collect();
        Self { settings, shared, served: BTreeMap::new() }
    }

    /// What Envoy needs before any service port.
    pub(crate) fn common(&self) -> Vec<xds::Change> {
        service::common(&self.settings)
    }

    /// Every pair of service address and service port that is to be captured.
    pub(crate) fn captured(&self) -> impl Iterator<Item = (IpAddr, u16)> {
        self.served.iter().flat_map(|(port, (_, addresses))| addresses.iter().map(|address| (*address, *port)))
    }

    /// Where Envoy listens for all service ports together; nowhere, if it binds each.
    pub(crate) fn catches(&self) -> impl Iterator<Item = SocketAddr> {
        let addresses = self.settings.addresses.iter();
        let port = self.catch_port();
        addresses.filter_map(move |address| Some(SocketAddr::new(*address, port?)))
    }

    /// Whether Envoy binds service ports.
    pub(crate) const fn are_bound(&self) -> bool {
        self.catch_port().is_none()
    }

    /// The service port that is served at this address.
    pub(crate) fn at(&self, address: SocketAddr) -> Option<&ProxiedServicePort> {
        let (port, addresses) = self.served.get(&address.port())?;
        addresses.contains(&address.ip()).then_some(port)
    }

    /// Whether instances of this host come first.
    pub(crate) const fn prefer_local(&self) -> bool {
        self.settings.prefer_local
    }

    const fn catch_port(&self) -> Option<u16> {
        match self.settings.binding {
            Binding::Captured { catch_port } => Some(catch_port),
            Binding::Bound => None,
        }
    }

    /// A service port is to be served otherwise.
    pub(crate) fn change(
        &mut self,
        change: &ServicePortChange,
        catalog: &Catalog,
        settings: &Settings,
    ) -> Consequences {
        let port = change.after.as_ref().or(change.before.as_ref()).map(|port| port.port);
        port.map(|port| self.serve(port, change.after.clone(), catalog, settings)).unwrap_or_default()
    }

    /// A port was published, or is no longer: it may beat a service port, or give way to it.
    pub(crate) fn published_changed(&mut self, port: u16, catalog: &Catalog, settings: &Settings) -> Consequences {
        if self.shared.is_empty() {
            return Consequences::default();
        }
        let Some((served, _)) = self.served.get(&port) else { return Consequences::default() };
        let served = served.clone();
        self.serve(port, Some(served), catalog, settings)
    }

    fn serve(
        &mut self,
        port: u16,
        after: Option<ProxiedServicePort>,
        catalog: &Catalog,
        settings: &Settings,
    ) -> Consequences {
        let is_free = |address: &IpAddr| !self.shared.contains(address) || !catalog.publishes(*address, port);
        let addresses: Vec<_> = self.settings.addresses.iter().filter(|address| is_free(address)).copied().collect();
        let before = self.served.remove(&port);
        let here = ServiceSettings { addresses: addresses.clone(), ..self.settings.clone() };
        let envoy = match (&before, &after) {
            (Some((before, _)), Some(after)) => service::replace(before, after, &here, settings),
            (None, Some(after)) => service::set(after, &here, settings),
            (Some((before, _)), None) => service::remove(before),
            (None, None) => Vec::new(),
        };
        let was_at = before.map(|(_, addresses)| addresses).unwrap_or_default();
        let is_at = if after.is_some() { addresses } else { Vec::new() };
        let gone = was_at.iter().filter(|address| !is_at.contains(address)).map(|address| (*address, port, false));
        let new = is_at.iter().filter(|address| !was_at.contains(address)).map(|address| (*address, port, true));
        let captured = gone.chain(new).collect();
        if let Some(after) = after {
            self.served.insert(port, (after, is_at));
        }
        Consequences { envoy, captured }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use catalog::{Registration, RegistrationId};
    use model::{Endpoint, EnvironmentName, Protocol, PublishedPort, Service, ServiceName, Status, Treatment};

    use super::*;

    const OWN: [u8; 4] = [10, 0, 0, 1];
    const ALIAS: [u8; 4] = [192, 168, 168, 168];

    fn served() -> ServedServices {
        let addresses = vec![OWN.into(), ALIAS.into()];
        let settings =
            ServiceSettings { addresses, binding: Binding::Captured { catch_port: 15_001 }, prefer_local: false };
        ServedServices::new(settings, &BTreeSet::from([OWN.into()]))
    }

    fn change(port: u16) -> ServicePortChange {
        let service =
            Service { name: ServiceName::corrected("web").unwrap().0, environment: EnvironmentName::default() };
        let instance = "there/00ff00ff00ff".parse().unwrap();
        let address = "10.0.0.2:80".parse().unwrap();
        let endpoints = vec![Endpoint { instance, address, status: Status::Alive, is_local: false }];
        let after = ProxiedServicePort { port, service, treatment: Treatment::Http, endpoints };
        ServicePortChange { before: None, after: Some(after) }
    }

    fn publishing(port: u16) -> Catalog {
        let mut catalog = Catalog::default();
        let published = PublishedPort { address: [0, 0, 0, 0].into(), port, protocol: Protocol::Tcp };
        let registration = Registration {
            published,
            container: "172.17.0.2:80".parse().unwrap(),
            shim_pid: 1,
            shareable: true,
            socket_inode: 1,
            observes: true,
            problem: String::new(),
            announced_at: SystemTime::UNIX_EPOCH,
        };
        catalog.register(RegistrationId(1), registration);
        catalog
    }

    fn captured(consequences: &Consequences) -> Vec<(String, bool)> {
        consequences.captured.iter().map(|(address, _, wanted)| (address.to_string(), *wanted)).collect()
    }

    #[test]
    fn a_service_port_is_served_at_every_service_address() {
        let mut served = served();
        let consequences = served.change(&change(9500), &Catalog::default(), &Settings::default());
        assert_eq!(captured(&consequences), [("10.0.0.1".to_owned(), true), ("192.168.168.168".to_owned(), true)]);
        assert!(!consequences.envoy.is_empty());
        assert_eq!(served.captured().count(), 2);
        assert_eq!(served.at((ALIAS, 9500).into()).map(|port| port.port), Some(9500));
        for elsewhere in [(ALIAS, 9501), (ALIAS, 15_001), ([10, 0, 0, 2], 9500)] {
            assert_eq!(served.at(elsewhere.into()), None);
        }
    }

    #[test]
    fn a_published_port_beats_it_at_the_hosts_own_address_alone_and_gives_way_again() {
        let mut served = served();
        let catalog = publishing(8000);
        let consequences = served.change(&change(8000), &catalog, &Settings::default());
        assert_eq!(captured(&consequences), [("192.168.168.168".to_owned(), true)]);
        let consequences = served.published_changed(8000, &Catalog::default(), &Settings::default());
        assert_eq!(captured(&consequences), [("10.0.0.1".to_owned(), true)]);
        let consequences = served.published_changed(8000, &catalog, &Settings::default());
        assert_eq!(captured(&consequences), [("10.0.0.1".to_owned(), false)]);
    }

    #[test]
    fn a_service_port_that_goes_is_captured_no_longer() {
        let mut served = served();
        let set = change(9500);
        served.change(&set, &Catalog::default(), &Settings::default());
        let gone = ServicePortChange { before: set.after, after: None };
        let consequences = served.change(&gone, &Catalog::default(), &Settings::default());
        assert!(consequences.captured.iter().all(|(_, _, wanted)| !wanted) && consequences.captured.len() == 2);
        assert_eq!(served.captured().count(), 0);
    }
}

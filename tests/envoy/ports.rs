//! Ports as the catalogue would describe them.

use model::{
    Endpoint, EnvironmentName, HostName, ProxiedPort, ProxiedServicePort, PublishedPort, Service, ServiceName, Status,
    Treatment,
};
use xds::Change;
use xds::resources::service::{self, Binding, ServiceSettings};
use xds::resources::{self, Hops, Settings};

fn web() -> Service {
    Service { name: ServiceName::corrected("web").unwrap().0, environment: EnvironmentName::corrected("test").0 }
}

/// What a host of this name is told, with a secret that all share.
pub(crate) fn of_host(name: &str) -> Settings {
    let name = HostName::corrected(name).unwrap().0;
    Settings { hops: Some(Hops::new(name, vec![[7; 32]])), ..Settings::default() }
}

/// A published port whose container is at this address.
pub(crate) fn published(address: &str, container: &str, mode: Treatment) -> ProxiedPort {
    let published: std::net::SocketAddr = address.parse().unwrap();
    let (address, port) = (published.ip(), published.port());
    ProxiedPort {
        published: PublishedPort { address, port, protocol: model::Protocol::Tcp },
        container: container.parse().unwrap(),
        service: web(),
        treatment: mode,
        is_bound: true,
    }
}

pub(crate) fn set(port: &ProxiedPort, settings: &Settings) -> Vec<Change> {
    resources::set(port, settings)
}

/// Service port 9500, whose instances are at these addresses of the host "here" or of others.
pub(crate) fn service_9500(instances: &[(&str, &str)], mode: Treatment) -> ProxiedServicePort {
    let endpoint = |(index, (host, address)): (usize, &(&str, &str))| Endpoint {
        instance: format!("{host}/{index:012x}").parse().unwrap(),
        address: address.parse().unwrap(),
        status: Status::Alive,
        is_local: *host == "here",
    };
    let endpoints = instances.iter().enumerate().map(endpoint).collect();
    ProxiedServicePort { port: 9500, service: web(), treatment: mode, endpoints }
}

/// The same in mode `http`, bound at 127.0.0.5.
pub(crate) fn service(instances: &[(&str, &str)], settings: &Settings) -> Vec<Change> {
    let services =
        ServiceSettings { addresses: vec!["127.0.0.5".parse().unwrap()], binding: Binding::Bound, prefer_local: false };
    service::set(&service_9500(instances, Treatment::Http), &services, settings)
}

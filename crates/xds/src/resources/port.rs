//! What filters and spans are told of a port, whether it is published or a service's.

use std::net::IpAddr;

use model::{ProxiedPort, ProxiedServicePort, Service, Treatment};

use super::names;

/// A port as clients see it, and where its traffic goes.
pub(super) struct Port<'a> {
    pub(super) service: &'a Service,
    pub(super) treatment: Treatment,
    /// The address that clients connect to; `None`: one of several, each connection knows which.
    pub(super) address: Option<IpAddr>,
    /// The port that clients connect to.
    pub(super) number: u16,
    /// The Envoy cluster.
    pub(super) cluster: String,
    /// Whether what one instance did not take is tried on others.
    pub(super) has_retries: bool,
}

impl<'a> From<&'a ProxiedPort> for Port<'a> {
    /// Published ports never retry: there is one container, and docker-proxy does not.
    fn from(port: &'a ProxiedPort) -> Self {
        Self {
            service: &port.service,
            treatment: port.treatment,
            address: Some(port.published.address),
            number: port.published.port,
            cluster: names::port_cluster(&port.published, &port.service),
            has_retries: false,
        }
    }
}

impl<'a> From<&'a ProxiedServicePort> for Port<'a> {
    fn from(port: &'a ProxiedServicePort) -> Self {
        Self {
            service: &port.service,
            treatment: port.treatment,
            address: None,
            number: port.port,
            cluster: names::service_port(port.port, &port.service),
            has_retries: true,
        }
    }
}

//! What Envoy is asked to serve for one published port.

use std::net::SocketAddr;

use crate::{PublishedPort, Service, Treatment};

/// A published TCP port that Envoy is to serve: where, for whom, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProxiedPort {
    /// Where clients connect. Its protocol is always TCP.
    pub published: PublishedPort,
    /// The container's address and port, where Envoy sends the traffic.
    pub container: SocketAddr,
    /// Whose traffic it is: names the stats and tags the spans.
    pub service: Service,
    /// How the traffic is treated.
    pub treatment: Treatment,
    /// Whether Envoy listens on the port itself, as beside a shim. If not, the kernel sends it the port's connections
    /// another way, and Envoy must not hold the port: dockerd may.
    pub is_bound: bool,
}

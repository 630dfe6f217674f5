//! What Envoy is asked to serve for one published port.

use std::net::SocketAddr;

use crate::{ProxyMode, PublishedPort, Service};

/// A published TCP port that Envoy is to serve: where, for whom, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProxiedPort {
    /// Where Envoy listens. Its protocol is always TCP.
    pub published: PublishedPort,
    /// The container's address and port, where Envoy sends the traffic.
    pub container: SocketAddr,
    /// Whose traffic it is: names the stats and tags the spans.
    pub service: Service,
    /// How the traffic is treated; never [`ProxyMode::None`].
    pub mode: ProxyMode,
}

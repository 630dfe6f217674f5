//! What Envoy is asked to serve for one service port.

use std::net::SocketAddr;

use crate::{InstanceId, ProxyMode, Service, Status};

/// A service port as this host's Envoy is to serve it: to whom its connections may go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProxiedServicePort {
    /// The cluster-wide port, 1 to 65535.
    pub port: u16,
    /// Whose port it is.
    pub service: Service,
    /// How its traffic is treated; never [`ProxyMode::None`].
    pub mode: ProxyMode,
    /// Every instance that can be reached from this host, healthy or not, in the order of ids.
    pub endpoints: Vec<Endpoint>,
}

/// Where one instance of a service is reached from this host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Which instance.
    pub instance: InstanceId,
    /// For an instance of this host its container's own address, else the address that its host announced.
    pub address: SocketAddr,
    /// Whether it may be sent traffic.
    pub status: Status,
    /// Whether it runs on this host.
    pub is_local: bool,
}

//! What Envoy is asked to serve for one service port, and which ports can't be one.

use std::net::SocketAddr;

use crate::{InstanceId, Service, Status, Treatment};

/// Where the kernel sends connections to service ports on every host: the port of the one listener of Envoy's that
/// takes them all. Above 1024, so that Envoy may be an ordinary user.
pub const CATCH_PORT: u16 = 15001;

/// Where the kernel sends connections to unproxied ports, as those to service ports to [`CATCH_PORT`]. Another port, as
/// Envoy listens on it at any address, and there whoever stands in for Envoy at service addresses may listen on the
/// first.
pub const UNPROXIED_CATCH_PORT: u16 = 15002;

/// The port can't be a service port: every host's Envoy listens on it for connections to all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("port {0} is Envoy's own on every host: choose another")]
pub struct ReservedPort(pub u16);

/// Checks that a port can be a service port.
///
/// # Errors
/// Envoy needs it itself.
pub const fn check_service_port(port: u16) -> Result<u16, ReservedPort> {
    match port {
        CATCH_PORT | UNPROXIED_CATCH_PORT => Err(ReservedPort(port)),
        _ => Ok(port),
    }
}

/// A service port as this host's Envoy is to serve it: to whom its connections may go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProxiedServicePort {
    /// The cluster-wide port, 1 to 65535.
    pub port: u16,
    /// Whose port it is.
    pub service: Service,
    /// How Envoy treats its traffic.
    pub treatment: Treatment,
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

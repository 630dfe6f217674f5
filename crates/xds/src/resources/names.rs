//! What resources are called: a contract with operators, who meet these names in Envoy's stats and logs.

use model::{PublishedPort, Service};

/// The Envoy cluster of the trace collector.
pub const TRACE_COLLECTOR: &str = "trace-collector";

/// The listener of a published port: `port/ADDRESS/HOSTPORT`, an IPv6 address without brackets.
#[must_use]
pub fn port_listener(port: &PublishedPort) -> String {
    format!("port/{}/{}", port.address, port.port)
}

/// The Envoy cluster of a published port, and its endpoints: `local/SERVICE/ENVIRONMENT/ADDRESS/HOSTPORT`.
#[must_use]
pub fn port_cluster(port: &PublishedPort, service: &Service) -> String {
    format!("local/{}/{}/{}/{}", service.name, service.environment, port.address, port.port)
}

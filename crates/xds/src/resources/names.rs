//! What resources are called: a contract with operators, who meet these names in Envoy's stats and logs.

use std::net::IpAddr;

use model::{ProxiedPort, PublishedPort, Service};

/// The Envoy cluster of the trace collector.
pub const TRACE_COLLECTOR: &str = "trace-collector";

/// The Envoy cluster by which Envoy reports to the registrar what it refused.
pub const REFUSAL_LOG: &str = "refusal-log";

/// The listener of a published port: `port/ADDRESS/HOSTPORT`, an IPv6 address without brackets.
///
/// The name says the address, so a listener never changes its address, and two never trade theirs: Envoy refuses
/// that.
#[must_use]
pub fn port_listener(port: &PublishedPort) -> String {
    format!("port/{}/{}", port.address, port.port)
}

/// The listener of a published port that Envoy does not listen on itself: `unproxied/ADDRESS/HOSTPORT`. Another name
/// than [`port_listener`]'s: Envoy can't be told to listen, or no longer to, under the same.
#[must_use]
pub fn unproxied_listener(port: &PublishedPort) -> String {
    format!("unproxied/{}/{}", port.address, port.port)
}

/// The listener of a port as it is served.
pub(super) fn listener(port: &ProxiedPort) -> String {
    if port.is_bound { port_listener(&port.published) } else { unproxied_listener(&port.published) }
}

/// The Envoy cluster of a published port, and its endpoints: `local/SERVICE/ENVIRONMENT/ADDRESS/HOSTPORT`.
///
/// As [`stats_prefix`] it also begins the names of all of the port's stats.
#[must_use]
pub fn port_cluster(port: &PublishedPort, service: &Service) -> String {
    format!("local/{}/{}/{}/{}", service.name, service.environment, port.address, port.port)
}

/// The listener of a service port, its Envoy cluster and its endpoints: `service/SERVICE/ENVIRONMENT/SERVICEPORT`.
#[must_use]
pub fn service_port(port: u16, service: &Service) -> String {
    format!("service/{}/{}/{port}", service.name, service.environment)
}

/// The Envoy cluster without instances where captured connections end that are for no service port. Their stats
/// begin with it, too.
pub const CATCH: &str = "service-capture";

/// The same for connections that are for no unproxied port.
pub const CATCH_UNPROXIED: &str = "unproxied-capture";

/// The listener that catches connections at one address: `service-capture/ADDRESS` those to all service ports,
/// `unproxied-capture/ADDRESS` those to all unproxied ports.
#[must_use]
pub fn catch_listener(kind: &str, address: IpAddr) -> String {
    format!("{kind}/{address}")
}

/// How the stats of an Envoy cluster and its listeners begin; `examples/envoy.yaml` makes labels of it.
///
/// It is the cluster's name with `_` for `:`. Envoy would put that in by itself, but makes one `_` of `:/` too,
/// and `::/8080` would lose its slash.
#[must_use]
pub fn stats_prefix(cluster: &str) -> String {
    cluster.replace(':', "_")
}

#[cfg(test)]
mod tests {
    use model::{EnvironmentName, Protocol, ServiceName};

    use super::*;

    #[test]
    fn names_are_those_of_the_contract() {
        let service = |name, environment| Service {
            name: ServiceName::corrected(name).unwrap().0,
            environment: EnvironmentName::corrected(environment).0,
        };
        let port =
            |address: &str| PublishedPort { address: address.parse().unwrap(), port: 8080, protocol: Protocol::Tcp };
        assert_eq!(port_listener(&port("0.0.0.0")), "port/0.0.0.0/8080");
        assert_eq!(port_listener(&port("::")), "port/::/8080");
        assert_eq!(unproxied_listener(&port("::")), "unproxied/::/8080");
        assert_eq!(port_cluster(&port("0.0.0.0"), &service("web", "test")), "local/web/test/0.0.0.0/8080");
        assert_eq!(port_cluster(&port("fd00::1"), &service("web.v1", "")), "local/web.v1//fd00::1/8080");
        assert_eq!(service_port(9500, &service("web", "test")), "service/web/test/9500");
        assert_eq!(service_port(9500, &service("web.v1", "")), "service/web.v1//9500");
        assert_eq!(stats_prefix(&port_cluster(&port("::"), &service("web", "test"))), "local/web/test/__/8080");
    }
}

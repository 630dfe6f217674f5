//! Published ports that no shim holds: when Envoy is given their connections.
//!
//! Their way back is Docker's own path, and only while nothing of ours sends their connections elsewhere. So Envoy must
//! be seen to take them: its listeners for caught connections are there, and it has acknowledged the port's own.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use capture::UNPROXIED_CATCH_PORT;
use model::{Protocol, PublishedPort};
use xds::ResourceType;
use xds::resources::names;

use super::Host;

/// Missing where the kernel does not know IPv6, and so lets nobody listen there.
const IPV6_ADDRESSES: &str = "/proc/net/if_inet6";

/// Where Envoy is to take the connections, one listener for each family that the kernel knows.
pub(crate) fn catch_addresses() -> Vec<IpAddr> {
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)];
    if Path::new(IPV6_ADDRESSES).exists() {
        addresses.push(Ipv6Addr::UNSPECIFIED.into());
    }
    addresses
}

/// Where connections to a port at this address are caught.
pub(crate) fn catching(address: IpAddr) -> SocketAddr {
    let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
    SocketAddr::new(any, UNPROXIED_CATCH_PORT)
}

/// The same, in the form that the watchdog knows listeners by.
pub(crate) fn catching_port(address: IpAddr) -> PublishedPort {
    let address = catching(address);
    PublishedPort { address: address.ip(), port: address.port(), protocol: Protocol::Tcp }
}

/// What was seen of Envoy at the last look.
#[derive(Debug, Default)]
pub(crate) struct Unproxied {
    accepted: HashSet<PublishedPort>,
}

impl Unproxied {
    /// Takes in one look: which of the ports Envoy has acknowledged. Yields those that it may be given.
    ///
    /// It has to be seen twice: Envoy acknowledges a listener, and has its workers and the port's cluster ready some
    /// milliseconds later. Nothing shows when, and what arrives before is closed.
    pub(crate) fn look(&mut self, accepted: HashSet<PublishedPort>) -> BTreeSet<PublishedPort> {
        let ready = accepted.intersection(&self.accepted).copied().collect();
        self.accepted = accepted;
        ready
    }
}

impl Host {
    /// `listens`: whether anybody listens for the connections that are caught at an address.
    pub(super) fn look_at_unproxied(&mut self, listens: impl Fn(IpAddr) -> bool) {
        let (hub, watchdog) = (&self.hub, &self.watchdog);
        let has_accepted = |name: &str| hub.is_accepted(ResourceType::Listener, name);
        let catches = |address: IpAddr| {
            let catching = catching_port(address);
            let name = names::catch_listener(names::CATCH_UNPROXIED, catching.address);
            listens(address) && has_accepted(&name) && !watchdog.is_stuck(&catching)
        };
        let takes = |port: &PublishedPort| catches(port.address) && has_accepted(&names::unproxied_listener(port));
        let accepted = self.catalog.unproxied_ports().filter(takes).collect();
        let ready = self.unproxied.look(accepted);
        if !ready.is_empty() {
            self.capture.confirm_unproxied();
        }
        self.catalog.set_ready(ready);
    }

    pub(super) fn catch_port(&mut self, port: &PublishedPort, wanted: bool) {
        if wanted {
            self.capture.add_unproxied(port);
        } else {
            self.capture.remove_unproxied(port);
        }
    }

    /// Why Envoy does not take the connections of unproxied ports at this address, in its own words.
    pub(super) fn rejected_catch(&self, address: IpAddr) -> Option<&str> {
        let name = names::catch_listener(names::CATCH_UNPROXIED, catching(address).ip());
        self.hub.rejection(ResourceType::Listener, &name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(port: u16) -> PublishedPort {
        PublishedPort { address: [0, 0, 0, 0].into(), port, protocol: Protocol::Tcp }
    }

    #[test]
    fn envoy_is_given_a_port_at_the_second_look_and_loses_it_at_the_first() {
        let mut unproxied = Unproxied::default();
        assert!(unproxied.look([port(80)].into()).is_empty());
        assert_eq!(unproxied.look([port(80), port(81)].into()), [port(80)].into());
        assert_eq!(unproxied.look([port(81)].into()), [port(81)].into());
        assert!(unproxied.look([].into()).is_empty());
        assert!(unproxied.look([port(81)].into()).is_empty());
    }

    #[test]
    fn connections_are_caught_at_any_address_of_their_family() {
        assert_eq!(catching([127, 0, 0, 1].into()), "0.0.0.0:15002".parse().unwrap());
        assert_eq!(catching("::1".parse().unwrap()), "[::]:15002".parse().unwrap());
    }
}

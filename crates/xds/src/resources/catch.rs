//! The listeners where the kernel sends captured connections, of all service ports together.
//!
//! Each asks the kernel for the address that a connection was meant for, and hands it to the listener of that
//! address. What is meant for none (a service port just gone, or somebody who connects to the port itself) stays, and
//! meets an Envoy cluster without instances: the connection is closed.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::util::pack_any;

use super::service::{Binding, ServiceSettings};
use super::values::{boolean, set, socket_address};
use super::{listener, names, tcp};
use crate::{Change, ResourceType};

/// One for each family, so that a host without IPv6 loses nothing.
const ANY: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

/// The listeners and the Envoy cluster, or their removal.
pub(super) fn changes(services: &ServiceSettings) -> Vec<Change> {
    let port = match services.binding {
        Binding::Captured { catch_port } => Some(catch_port),
        Binding::Bound => None,
    };
    let mut changes: Vec<_> = ANY.into_iter().map(|any| listener_change(any, port, &services.addresses)).collect();
    let cluster_change = if changes.iter().any(|change| change.body.is_some()) {
        set(ResourceType::Cluster, names::CATCH.to_owned(), &nobody())
    } else {
        Change { resource_type: ResourceType::Cluster, name: names::CATCH.to_owned(), body: None }
    };
    changes.push(cluster_change);
    changes
}

fn listener_change(any: IpAddr, port: Option<u16>, addresses: &[IpAddr]) -> Change {
    let name = names::catch_listener(any);
    let is_needed = addresses.iter().any(|address| address.is_ipv4() == any.is_ipv4());
    match port.filter(|_| is_needed) {
        Some(port) => set(ResourceType::Listener, name.clone(), &catch_all(name, SocketAddr::new(any, port))),
        None => Change { resource_type: ResourceType::Listener, name, body: None },
    }
}

fn catch_all(name: String, address: SocketAddr) -> Listener {
    Listener {
        name,
        address: Some(socket_address(address)),
        stat_prefix: names::CATCH.to_owned(),
        use_original_dst: boolean(true),
        listener_filters: vec![listener::listener_filter(
            "envoy.filters.listener.original_dst",
            pack_any(OriginalDst::default()),
        )],
        filter_chains: vec![listener::chain(tcp::to_cluster(names::CATCH))],
        ..Default::default()
    }
}

fn nobody() -> Cluster {
    let nobody = ClusterLoadAssignment { cluster_name: names::CATCH.to_owned(), ..Default::default() };
    Cluster {
        name: names::CATCH.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(nobody),
        ..Default::default()
    }
}

//! The listeners where the kernel sends captured connections, of all service ports together: one at each service
//! address.
//!
//! Each asks the kernel for the address that a connection was meant for, and hands it to the listener of that
//! address. What is meant for none (a service port just gone, or somebody who connects to the port itself) stays, and
//! meets an Envoy cluster without instances: the connection is closed.
//!
//! They listen at the service addresses and not at any: to others the port is closed. And while Envoy is away, whoever
//! listens on the same port at any address gets the connections, and has to give nothing back when Envoy returns: the
//! kernel prefers the socket of the very address.

use std::net::{IpAddr, SocketAddr};

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

/// The listeners and the Envoy cluster, or their removal.
pub(super) fn changes(services: &ServiceSettings) -> Vec<Change> {
    let port = match services.binding {
        Binding::Captured { catch_port } => Some(catch_port),
        Binding::Bound => None,
    };
    let cluster = names::CATCH.to_owned();
    let mut changes = vec![match port {
        Some(_) if !services.addresses.is_empty() => set(ResourceType::Cluster, cluster, &nobody()),
        _ => Change { resource_type: ResourceType::Cluster, name: cluster, body: None },
    }];
    changes.extend(services.addresses.iter().map(|address| listener_change(*address, port)));
    changes
}

fn listener_change(address: IpAddr, port: Option<u16>) -> Change {
    let name = names::catch_listener(address);
    match port {
        Some(port) => set(ResourceType::Listener, name.clone(), &catch_all(name, SocketAddr::new(address, port))),
        None => Change { resource_type: ResourceType::Listener, name, body: None },
    }
}

fn catch_all(name: String, address: SocketAddr) -> Listener {
    Listener {
        name,
        address: Some(socket_address(address)),
        stat_prefix: names::CATCH.to_owned(),
        // The service address may come later than Envoy.
        freebind: boolean(true),
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

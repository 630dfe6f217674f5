//! The listeners where the kernel sends captured connections: of all service ports together, one at each service
//! address; of all unproxied ports together, one at any address of each family.
//!
//! Each asks the kernel for the address that a connection was meant for, and hands it to the listener of that
//! address, or of any address with that port. What is meant for none (a port just gone, or somebody who connects to the port itself) stays, and
//! meets an Envoy cluster without instances: the connection is closed.
//!
//! Those of service ports listen at the service addresses and not at any: to others the port is closed. And while Envoy is away, whoever
//! listens on the same port at any address gets the connections, and has to give nothing back when Envoy returns: the
//! kernel prefers the socket of the very address.

use std::net::{IpAddr, SocketAddr};

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::util::pack_any;

use super::values::{boolean, set, socket_address, tcp_keepalive};
use super::{listener, names, tcp};
use crate::{Change, ResourceType};

/// The listeners and the Envoy cluster of this name; without a port, their removal.
pub(super) fn changes(kind: &str, addresses: &[IpAddr], port: Option<u16>) -> Vec<Change> {
    let cluster = kind.to_owned();
    let mut changes = vec![match port {
        Some(_) if !addresses.is_empty() => set(ResourceType::Cluster, cluster, &nobody(kind)),
        _ => Change { resource_type: ResourceType::Cluster, name: cluster, body: None },
    }];
    changes.extend(addresses.iter().map(|address| listener_change(kind, *address, port)));
    changes
}

fn listener_change(kind: &str, address: IpAddr, port: Option<u16>) -> Change {
    let name = names::catch_listener(kind, address);
    match port {
        Some(port) => {
            let listener = catch_all(kind, name.clone(), SocketAddr::new(address, port));
            set(ResourceType::Listener, name, &listener)
        }
        None => Change { resource_type: ResourceType::Listener, name, body: None },
    }
}

fn catch_all(kind: &str, name: String, address: SocketAddr) -> Listener {
    Listener {
        name,
        address: Some(socket_address(address)),
        stat_prefix: kind.to_owned(),
        // The service address may come later than Envoy.
        freebind: boolean(true),
        use_original_dst: boolean(true),
        // Envoy sets socket options where it accepts a connection; the listener that it hands it to has no say in it.
        tcp_keepalive: tcp_keepalive(),
        listener_filters: vec![listener::listener_filter(
            "envoy.filters.listener.original_dst",
            pack_any(OriginalDst::default()),
        )],
        filter_chains: vec![listener::chain(tcp::to_cluster(kind))],
        ..Default::default()
    }
}

fn nobody(kind: &str) -> Cluster {
    let nobody = ClusterLoadAssignment { cluster_name: kind.to_owned(), ..Default::default() };
    Cluster {
        name: kind.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        load_assignment: Some(nobody),
        ..Default::default()
    }
}

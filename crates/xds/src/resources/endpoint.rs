//! EDS: the container's address behind an Envoy cluster.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};

use super::values::socket_address;
use envoy_types::pb::envoy::config::core::v3::Address;

/// The endpoints of a published port: its one container.
pub(super) fn assignment(cluster: &str, container: SocketAddr) -> ClusterLoadAssignment {
    to_address(cluster, socket_address(container))
}

/// Endpoints that are one address.
pub(super) fn to_address(cluster: &str, address: Address) -> ClusterLoadAssignment {
    let endpoint = Endpoint { address: Some(address), ..Default::default() };
    let lb_endpoint =
        LbEndpoint { host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)), ..Default::default() };
    let locality = LocalityLbEndpoints { lb_endpoints: vec![lb_endpoint], ..Default::default() };
    ClusterLoadAssignment { cluster_name: cluster.to_owned(), endpoints: vec![locality], ..Default::default() }
}

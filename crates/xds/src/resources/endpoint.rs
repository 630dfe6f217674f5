//! EDS: the addresses behind an Envoy cluster, and which of them get traffic.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::core::v3::{Address, HealthStatus};
use envoy_types::pb::envoy::config::endpoint::v3::cluster_load_assignment::Policy;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use model::Status;

use super::hops::Hops;
use super::values::{number, socket_address};

/// With instances of this host preferred: half of them alive are taken for enough.
const ENOUGH_PERCENT: u32 = 200;

/// The endpoints of a published port: its one container.
pub(super) fn assignment(cluster: &str, container: SocketAddr) -> ClusterLoadAssignment {
    to_address(cluster, socket_address(container))
}

/// Endpoints that are one address.
pub(super) fn to_address(cluster: &str, address: Address) -> ClusterLoadAssignment {
    let locality = LocalityLbEndpoints { lb_endpoints: vec![lb_endpoint(address)], ..Default::default() };
    ClusterLoadAssignment { cluster_name: cluster.to_owned(), endpoints: vec![locality], ..Default::default() }
}

/// The endpoints of a service port: all instances alike, or those of this host first.
/// With `hops`, each instance of another host has what its Envoy's own answers are known by.
pub(super) fn of_service(
    cluster: &str,
    endpoints: &[model::Endpoint],
    prefer_local: bool,
    hops: Option<&Hops>,
) -> ClusterLoadAssignment {
    let group = |priority: u32, wanted: fn(&model::Endpoint) -> bool| {
        let instances = endpoints.iter().filter(|endpoint| wanted(endpoint)).map(|endpoint| instance(endpoint, hops));
        LocalityLbEndpoints { priority, lb_endpoints: instances.collect(), ..Default::default() }
    };
    let (endpoints, policy) = if prefer_local {
        let enough = Policy { overprovisioning_factor: number(ENOUGH_PERCENT), ..Default::default() };
        (vec![group(0, |endpoint| endpoint.is_local), group(1, |endpoint| !endpoint.is_local)], Some(enough))
    } else {
        (vec![group(0, |_| true)], None)
    };
    ClusterLoadAssignment { cluster_name: cluster.to_owned(), endpoints, policy, ..Default::default() }
}

fn instance(endpoint: &model::Endpoint, hops: Option<&Hops>) -> LbEndpoint {
    // Envoy takes an unknown status for a healthy one; here it is not.
    let health = match endpoint.status {
        Status::Alive => HealthStatus::Healthy,
        Status::Draining => HealthStatus::Draining,
        Status::Unhealthy | Status::Unknown => HealthStatus::Unhealthy,
    };
    let hops = hops.filter(|_| !endpoint.is_local);
    LbEndpoint {
        health_status: health.into(),
        metadata: hops.map(|hops| hops.metadata(&endpoint.instance.host, endpoint.address.port())),
        ..lb_endpoint(socket_address(endpoint.address))
    }
}

fn lb_endpoint(address: Address) -> LbEndpoint {
    let endpoint = Endpoint { address: Some(address), ..Default::default() };
    LbEndpoint { host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(endpoint)), ..Default::default() }
}

//! To which instances a connection is offered, and in which order. Pure.

use std::net::SocketAddr;

use model::{ProxiedServicePort, Status};
use xds::resources::service::TRIES;

/// The instances that are alive, from a random one on, and no more of them than Envoy would try. Where those of this
/// host are preferred they come first.
pub(crate) fn instances(port: &ProxiedServicePort, prefer_local: bool, random: u64) -> Vec<SocketAddr> {
    let alive = |is_preferred: bool| -> Vec<SocketAddr> {
        let alive = port.endpoints.iter().filter(|endpoint| endpoint.status == Status::Alive);
        alive
            .filter(|endpoint| (prefer_local && endpoint.is_local) == is_preferred)
            .map(|found| found.address)
            .collect()
    };
    let groups = [alive(true), alive(false)].map(|group| from_random(group, random));
    groups.into_iter().flatten().take(TRIES as usize).collect()
}

fn from_random(mut addresses: Vec<SocketAddr>, random: u64) -> Vec<SocketAddr> {
    if !addresses.is_empty() {
        let first = (random % addresses.len() as u64) as usize;
        addresses.rotate_left(first);
    }
    addresses
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::{Endpoint, EnvironmentName, Service, ServiceName, Treatment};

    use super::*;

    /// Instances at 10.0.0.1, 10.0.0.2 and so on; `L` is one of this host, `.` one elsewhere, `x` one that is not alive.
    fn port(instances: &str) -> ProxiedServicePort {
        let service =
            Service { name: ServiceName::corrected("web").unwrap().0, environment: EnvironmentName::default() };
        let endpoint = |(number, kind): (u8, char)| Endpoint {
            instance: "there/00ff00ff00ff".parse().unwrap(),
            address: SocketAddr::from(([10, 0, 0, number], 80)),
            status: if kind == 'x' { Status::Draining } else { Status::Alive },
            is_local: kind == 'L',
        };
        let endpoints = (1..).zip(instances.chars()).map(endpoint).collect();
        ProxiedServicePort { port: 9500, service, treatment: Treatment::Http, endpoints }
    }

    fn last_bytes(chosen: &[SocketAddr]) -> Vec<u8> {
        let last = |address: &SocketAddr| match address {
            SocketAddr::V4(address) => address.ip().octets()[3],
            SocketAddr::V6(_) => unreachable!("only IPv4 here"),
        };
        chosen.iter().map(last).collect()
    }

    #[test]
    fn each_instance_that_is_alive_is_the_first_equally_often_and_the_others_follow() {
        let port = port("..x.");
        let mut first = BTreeMap::new();
        for random in 0..30 {
            let mut chosen = last_bytes(&instances(&port, false, random));
            *first.entry(chosen[0]).or_insert(0) += 1;
            chosen.sort_unstable();
            assert_eq!(chosen, [1, 2, 4]);
        }
        assert_eq!(first, BTreeMap::from([(1, 10), (2, 10), (4, 10)]));
    }

    #[test]
    fn those_of_this_host_come_first_where_they_are_preferred() {
        let port = port(".L.L");
        assert_eq!(last_bytes(&instances(&port, true, 0)), [2, 4, 1, 3]);
        assert_eq!(last_bytes(&instances(&port, true, 1)), [4, 2, 3, 1]);
        assert_eq!(last_bytes(&instances(&port, false, 0)), [1, 2, 3, 4]);
    }

    #[test]
    fn no_more_are_tried_than_envoy_would_and_of_none_there_is_none() {
        assert_eq!(instances(&port(&".".repeat(50)), false, 7).len(), TRIES as usize);
        assert!(instances(&port("xx"), true, 7).is_empty());
        assert!(instances(&port(""), false, u64::MAX).is_empty());
    }
}

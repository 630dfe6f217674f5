//! Tries, by opening a TCP connection and closing it again, what Envoy is to reach from this host: other hosts' instances,
//! and the trace collector. What is tried is decided here too; what follows is not.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::thread;
use std::time::Duration;

use admin_api::{Host, Instance, Service};

use super::facts::{Answers, Unreachable};
use crate::show_services::ALIVE;

/// How long a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(1);
/// The most instances of one host that are tried, and the most of all: a firewall closes by host and port.
const OF_A_HOST_MAX: usize = 4;
const INSTANCES_MAX: usize = 32;

/// The instances on other hosts that could not be reached, of those that are tried.
pub(super) fn unreachable(answers: &Answers) -> Vec<Unreachable> {
    let Some(gossip) = &answers.gossip else { return Vec::new() };
    let tried = tried(&answers.services, &answers.hosts, &gossip.host_name);
    thread::scope(|scope| {
        let attempts: Vec<_> = tried
            .into_iter()
            .map(|(service, instance, at)| {
                scope.spawn(move || {
                    let reason = silence(at)?;
                    let name = service.service_name.clone();
                    Some(Unreachable { host: instance.host.clone(), service: name, at, reason })
                })
            })
            .collect();
        attempts.into_iter().filter_map(|attempt| attempt.join().ok().flatten()).collect()
    })
}

/// Instances that Envoy is to use and that run on other hosts, as far as these are up.
fn tried<'a>(services: &'a [Service], hosts: &[Host], own: &str) -> Vec<(&'a Service, &'a Instance, SocketAddr)> {
    let is_up = |name: &str| hosts.iter().any(|host| host.name == name && host.status == "alive");
    let mut of_host: BTreeMap<&str, usize> = BTreeMap::new();
    let with_port = services.iter().filter(|service| service.service_port.is_some());
    let all = with_port.flat_map(|service| service.instances.iter().map(move |instance| (service, instance)));
    let usable = all.filter(|(_, instance)| instance.host != own && instance.status == ALIVE && is_up(&instance.host));
    let at = usable.filter_map(|(service, instance)| {
        Some((service, instance, SocketAddr::new(instance.address?, instance.port?)))
    });
    let few = at.filter(|(_, instance, _)| {
        let count = of_host.entry(&instance.host).or_default();
        *count += 1;
        *count <= OF_A_HOST_MAX
    });
    few.take(INSTANCES_MAX).collect()
}

/// Why nobody answers at `HOST:PORT`; `None` where somebody does.
pub(super) fn silence_at(address: &str) -> Option<String> {
    match address.to_socket_addrs() {
        Err(error) => Some(format!("its name can't be looked up: {error}")),
        Ok(addresses) => {
            let reasons: Vec<_> = addresses.map(silence).collect();
            if reasons.contains(&None) { None } else { reasons.into_iter().flatten().next() }
        }
    }
}

fn silence(at: SocketAddr) -> Option<String> {
    let error = TcpStream::connect_timeout(&at, CONNECT_MAX).err()?;
    Some(match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => format!("nothing answers within {} s", CONNECT_MAX.as_secs()),
        ErrorKind::ConnectionRefused => "the connection is refused".to_owned(),
        _ => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::show_services::tests::{instance, service};

    #[test]
    fn somebody_who_listens_is_reached_and_nobody_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(silence_at(&address.to_string()), None);
        drop(listener);
        assert_eq!(silence_at(&address.to_string()).as_deref(), Some("the connection is refused"));
    }

    #[test]
    fn living_instances_of_other_hosts_that_are_up_are_tried_and_few_of_each() {
        let host = |name: &str, status: &str| Host {
            name: name.to_owned(),
            address: None,
            status: status.to_owned(),
            instances: 0,
            since: 0,
            problem: None,
        };
        let hosts = [host("own", "alive"), host("up", "alive"), host("gone", "down")];
        let mut instances: Vec<_> = (0..9).map(|number| instance(&format!("up/{number:012}"), "alive")).collect();
        instances.extend(["own", "gone"].map(|host| instance(&format!("{host}/0123456789ab"), "alive")));
        instances.push(instance("up/0123456789ab", "unhealthy"));
        let services = [service("web", Some(9500), instances.clone()), service("published", None, instances)];
        let tried = tried(&services, &hosts, "own");
        assert_eq!(tried.len(), OF_A_HOST_MAX);
        assert!(tried.iter().all(|(service, instance, _)| service.service_name == "web" && instance.host == "up"));
    }
}

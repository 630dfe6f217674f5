//! Ends Envoy's connections to the instances of a host that is gone.
//!
//! A host without power answers nothing, not even with a reset: a request that was sent to it over an open connection
//! would wait for a quarter of an hour, until TCP gives up (`tcp_retries2`). The host was looked at and is withdrawn, so
//! nobody is waited for in vain; Envoy then tries what may be retried on another instance.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;

use gossip::{HostStatus, HostView};
use model::HostName;
use tokio::task::JoinHandle;
use tracing::{info, warn};

/// The hosts whose instances were served at the last look.
#[derive(Debug, Default)]
pub(crate) struct LostHosts {
    served: HashSet<HostName>,
}

impl LostHosts {
    /// Takes in how a host is seen now, and ends Envoy's connections to it where it has just been lost. That is done
    /// beside the loop: the kernel lists all connections of this machine for it. Without `CAP_NET_ADMIN` they stay, and
    /// the log says so.
    ///
    /// Where Envoy runs as root, those of root's other programs to the same ports end too.
    pub(crate) fn look(&mut self, view: &HostView, envoy_uid: u32) -> Option<JoinHandle<()>> {
        let peers = self.dead_ends(view);
        let host = view.name.clone();
        (!peers.is_empty())
            .then(|| tokio::task::spawn_blocking(move || tell(&host, &sock_diag::end_connections(&peers, envoy_uid))))
    }

    /// Where connections can only wait: the containers' ports of a host that was served until now and is down. A host
    /// that left in order still finishes what is under way; a static service may be on another machine.
    fn dead_ends(&mut self, view: &HostView) -> HashSet<SocketAddr> {
        if view.served {
            self.served.insert(view.name.clone());
            return HashSet::new();
        }
        // A host that was renamed has the same containers under its new name.
        let is_gone = view.status == HostStatus::Down && view.superseded_by.is_none();
        if !self.served.remove(&view.name) || !is_gone {
            return HashSet::new();
        }
        let containers = view.instances.iter().filter(|instance| instance.origin.container().is_some());
        let ports = containers.flat_map(|instance| &instance.ports);
        ports.map(|port| SocketAddr::new(port.address, port.port)).collect()
    }
}

fn tell(host: &HostName, ended: &io::Result<usize>) {
    match ended {
        Ok(0) => {}
        Ok(connections) => info!(%host, connections, "a host is gone: Envoy's connections to it were ended"),
        Err(error) => warn!(
            %host, %error,
            "a host is gone, and Envoy's connections to it stay: what is under way there waits until it is given up"
        ),
    }
}

#[cfg(test)]
mod tests {
    use model::instance::{InstancePort, Origin, Text};
    use model::{EnvironmentName, Instance, InstanceKey, Protocol, ProxyMode, Service, ServiceName, Status};

    use super::*;

    fn instance(origin: Origin, last: u8) -> Instance {
        let port = InstancePort {
            service_port: Some(9500),
            address: [10, 0, 0, last].into(),
            port: 32768,
            protocol: Protocol::Tcp,
            mode: ProxyMode::Http,
        };
        Instance {
            origin,
            service: Service {
                name: ServiceName::corrected("web").unwrap().0,
                environment: EnvironmentName::default(),
            },
            ports: vec![port],
            status: Status::Alive,
            image: Text::default(),
            version: Text::default(),
            since_ms: 0,
        }
    }

    /// A host with a container of its own, and a static service on another machine.
    fn view(status: HostStatus, served: bool) -> HostView {
        let container = Origin::Container("a".repeat(64).parse().unwrap());
        let elsewhere = Origin::Static(InstanceKey::from_bytes([0; 6]));
        let (name, instances) = ("gone".parse().unwrap(), vec![instance(container, 7), instance(elsewhere, 9)]);
        let (disbelieved, superseded_by) = (Vec::new(), None);
        HostView {
            name,
            address: None,
            status,
            since: None,
            served,
            stamp: None,
            instances,
            disbelieved,
            superseded_by,
        }
    }

    fn seen(hosts: &mut LostHosts, status: HostStatus, served: bool) -> Vec<SocketAddr> {
        hosts.dead_ends(&view(status, served)).into_iter().collect()
    }

    #[test]
    fn a_host_that_was_served_and_is_down_is_a_dead_end_once_and_what_it_tells_of_other_machines_is_none() {
        let mut hosts = LostHosts::default();
        assert_eq!(seen(&mut hosts, HostStatus::Down, false), [], "it may only not be known yet");
        assert_eq!(seen(&mut hosts, HostStatus::Alive, true), []);
        assert_eq!(seen(&mut hosts, HostStatus::Down, true), [], "held while most hosts are lost");
        assert_eq!(seen(&mut hosts, HostStatus::Down, false), ["10.0.0.7:32768".parse().unwrap()]);
        assert_eq!(seen(&mut hosts, HostStatus::Down, false), [], "once");
    }

    #[test]
    fn a_host_that_was_renamed_keeps_its_connections() {
        let mut hosts = LostHosts::default();
        seen(&mut hosts, HostStatus::Alive, true);
        let renamed = HostView { superseded_by: Some("new".parse().unwrap()), ..view(HostStatus::Down, false) };
        assert!(hosts.dead_ends(&renamed).is_empty());
        assert_eq!(seen(&mut hosts, HostStatus::Down, false), [], "not later either");
    }

    #[test]
    fn a_host_that_left_finishes_what_is_under_way() {
        let mut hosts = LostHosts::default();
        seen(&mut hosts, HostStatus::Alive, true);
        assert_eq!(seen(&mut hosts, HostStatus::Left, false), []);
    }
}

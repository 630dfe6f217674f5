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

/// Where connections can only wait: the instances' addresses, of a host that is down and no longer served. A host that
/// left in order still finishes what is under way.
fn dead_ends(view: &HostView) -> HashSet<SocketAddr> {
    if view.status != HostStatus::Down || view.served {
        return HashSet::new();
    }
    let ports = view.instances.iter().flat_map(|instance| &instance.ports);
    ports.map(|port| SocketAddr::new(port.address, port.port)).collect()
}

/// Ends them, beside the loop: the kernel lists all connections of this machine for it. Without `CAP_NET_ADMIN` they
/// stay, and the log says so.
pub(crate) fn end_connections_to(view: &HostView, envoy_uid: u32) -> Option<JoinHandle<()>> {
    let peers = dead_ends(view);
    let host = view.name.clone();
    (!peers.is_empty())
        .then(|| tokio::task::spawn_blocking(move || tell(&host, &sock_diag::end_connections(&peers, envoy_uid))))
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

    fn view(status: HostStatus, served: bool) -> HostView {
        let port = InstancePort {
            service_port: Some(9500),
            address: [10, 0, 0, 7].into(),
            port: 32768,
            protocol: Protocol::Tcp,
            mode: ProxyMode::Http,
        };
        let instance = Instance {
            origin: Origin::Static(InstanceKey::from_bytes([0; 6])),
            service: Service {
                name: ServiceName::corrected("web").unwrap().0,
                environment: EnvironmentName::default(),
            },
            ports: vec![port],
            status: Status::Alive,
            image: Text::default(),
            version: Text::default(),
            since_ms: 0,
        };
        let (name, instances) = ("gone".parse().unwrap(), vec![instance]);
        HostView { name, address: None, status, since: None, served, stamp: None, instances, disbelieved: Vec::new() }
    }

    #[test]
    fn only_a_host_that_is_down_and_withdrawn_is_a_dead_end() {
        let seen = |status, served| dead_ends(&view(status, served)).len();
        assert_eq!(seen(HostStatus::Down, false), 1);
        assert_eq!(seen(HostStatus::Down, true), 0, "held while most hosts are lost");
        assert_eq!(seen(HostStatus::Left, false), 0, "what is under way finishes");
        assert_eq!((seen(HostStatus::Alive, true), seen(HostStatus::Suspect, true)), (0, 0));
    }
}

//! The network that tests of connections begin with, and short words for addresses and ports. What listens there, and
//! whose rules there are, is each test file's own.

use std::net::IpAddr;

use model::{Protocol, PublishedPort};

use crate::namespace::{Namespace, run};

pub(crate) fn ip(address: &str) -> IpAddr {
    address.parse().unwrap()
}

pub(crate) fn tcp(address: &str, port: u16) -> PublishedPort {
    PublishedPort { address: ip(address), port, protocol: Protocol::Tcp }
}

/// A client, a host beside it that forwards, and a container whose way out is the host.
pub(crate) struct Machines {
    pub(crate) client: Namespace,
    pub(crate) host: Namespace,
    pub(crate) container: Namespace,
}

impl Machines {
    /// The host is 10.77.0.1 and fd77::1 for the client, which is its neighbour with 2; the same in 172.17.0 and fd17 for
    /// the container.
    pub(crate) fn new() -> Self {
        let (client, host, container) = (Namespace::new(), Namespace::new(), Namespace::new());
        host.connect("eth0", &client, "eth0", "10.77.0", "fd77");
        host.connect("docker0", &container, "eth0", "172.17.0", "fd17");
        host.within(|| {
            std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
        });
        container.within(|| {
            run("ip", "route add default via 172.17.0.1");
            run("ip", "route add default via fd17::1");
        });
        Self { client, host, container }
    }
}

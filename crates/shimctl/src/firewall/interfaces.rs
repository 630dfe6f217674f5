//! This host's network interfaces: by which of them connections come from other hosts, by which from containers.

use std::fs;
use std::net::IpAddr;
use std::path::Path;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{SockaddrLike, SockaddrStorage};

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interface {
    /// Its name.
    pub name: String,
    /// One of its addresses.
    pub address: IpAddr,
    /// Where it leads to.
    pub side: Side,
}

/// Where an interface leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// Nowhere: `lo`.
    Loopback,
    /// To containers of this host.
    Containers,
    /// To other hosts, by the default route.
    Default,
    /// To other hosts.
    Others,
}

/// All addresses of all interfaces. Link-local ones are left out: nobody publishes ports for them.
pub(crate) fn interfaces() -> Vec<Interface> {
    let read = |name: &str| fs::read_to_string(Path::new("/proc/self/net").join(name)).unwrap_or_default();
    let defaults = default_interfaces(&read("route"), &read("ipv6_route"));
    let addresses = getifaddrs().into_iter().flatten();
    let known = addresses.filter_map(|entry| Some((entry.interface_name, ip(entry.address.as_ref()?)?)));
    let usable = known.filter(|(_, address)| !is_link_local(*address));
    usable.map(|(name, address)| Interface { side: side(&name, address, &defaults), name, address }).collect()
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    match address.family()? {
        nix::sys::socket::AddressFamily::Inet => Some(address.as_sockaddr_in()?.ip().into()),
        nix::sys::socket::AddressFamily::Inet6 => Some(address.as_sockaddr_in6()?.ip().into()),
        _ => None,
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn side(name: &str, address: IpAddr, defaults: &[String]) -> Side {
    // Docker's own names for its bridges.
    let is_network = |rest: &str| rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_docker = name.starts_with("docker") || name.strip_prefix("br-").is_some_and(is_network);
    if name == "lo" || address.is_loopback() {
        Side::Loopback
    } else if is_docker || name.starts_with("veth") {
        Side::Containers
    } else if defaults.iter().any(|default| default == name) {
        Side::Default
    } else {
        Side::Others
    }
}

/// The interfaces of default routes, out of `/proc/net/route` and `ipv6_route`.
fn default_interfaces(routes: &str, routes6: &str) -> Vec<String> {
    let of4 = routes.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        (fields.get(1) == Some(&"00000000") && fields.get(7) == Some(&"00000000")).then(|| fields[0].to_owned())
    });
    let of6 = routes6.lines().filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let is_default = fields.first().is_some_and(|network| network.bytes().all(|byte| byte == b'0'));
        (is_default && fields.get(1) == Some(&"00")).then(|| fields.last().map(|name| (*name).to_owned()))?
    });
    of4.chain(of6).filter(|name| name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_routes_name_their_interfaces() {
        let routes = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n\
                      eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\t0\n\
                      eth1\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\n";
        let zeros = "0".repeat(32);
        let routes6 = format!("{zeros} 00 {zeros} 00 {zeros} 1 1 0 1 eth6\n{zeros} 00 {zeros} 00 {zeros} 1 1 0 1 lo\n");
        assert_eq!(default_interfaces(routes, &routes6), ["eth0", "eth6"]);
    }

    #[test]
    fn an_interface_leads_to_this_host_to_containers_or_to_others() {
        let of = |name, address: &str| side(name, address.parse().unwrap(), &["eth0".to_owned()]);
        assert_eq!(of("lo", "192.168.168.168"), Side::Loopback);
        assert_eq!(of("eth9", "127.0.0.5"), Side::Loopback);
        assert_eq!(of("docker0", "172.17.0.1"), Side::Containers);
        assert_eq!(of("br-0123456789ab", "172.18.0.1"), Side::Containers);
        assert_eq!(of("br-lan", "10.0.0.1"), Side::Others);
        assert_eq!(of("eth0", "10.0.0.1"), Side::Default);
    }

    #[test]
    fn this_host_has_a_loopback_address() {
        assert!(interfaces().iter().any(|interface| interface.side == Side::Loopback), "{:?}", interfaces());
    }
}

//! This host's own addresses, as the kernel says them.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, SockaddrLike};

/// Addresses for documentation (RFC 5737, RFC 3849): whatever the default route leads to. Nothing is sent.
const ELSEWHERE: [&str; 2] = ["192.0.2.1:9", "[2001:db8::1]:9"];

/// The address by which this host would speak to others: that of the default route's interface.
pub(crate) fn default_route() -> Option<IpAddr> {
    ELSEWHERE.iter().find_map(|elsewhere| {
        let any = if elsewhere.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(elsewhere).ok()?;
        socket.local_addr().ok().map(|address| address.ip())
    })
}

/// The addresses by which others can reach this host: those of all interfaces but `lo`.
pub(crate) fn reachable() -> BTreeSet<IpAddr> {
    let interfaces = getifaddrs().into_iter().flatten();
    interfaces
        .filter(|interface| interface.interface_name != "lo")
        .filter_map(|interface| ip(&interface.address?))
        .collect()
}

/// All addresses of all interfaces; none where the kernel does not tell.
pub(crate) fn all() -> BTreeSet<IpAddr> {
    let interfaces = getifaddrs().into_iter().flatten();
    interfaces.filter_map(|interface| ip(&interface.address?)).collect()
}

fn ip(address: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    match address.family()? {
        AddressFamily::Inet => address.as_sockaddr_in().map(|address| address.ip().into()),
        AddressFamily::Inet6 => address.as_sockaddr_in6().map(|address| address.ip().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_the_addresses() {
        assert!(all().contains(&IpAddr::from([127, 0, 0, 1])));
    }
}

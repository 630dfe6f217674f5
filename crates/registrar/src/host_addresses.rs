//! This host's own addresses, as the kernel says them.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, SockaddrLike};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};

use crate::event::Event;

/// How often the kernel is asked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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

/// Tells the loop again and again, until it ends.
pub(crate) async fn watch(events: mpsc::Sender<Event>) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // A host with many containers has many interfaces.
        let Ok(present) = spawn_blocking(all).await else { return };
        if events.send(Event::Addresses(present)).await.is_err() {
            return;
        }
    }
}

/// Those of this host's addresses at which others may be told to reach it, the advertise address first: it must be
/// among the [`model::host_record::ADDRESSES_MAX`] that a host can announce. Every container has an interface with a
/// link-local address on the host; those, and loopback, mean something else on every host.
pub(crate) fn announceable(all: &BTreeSet<IpAddr>, advertise: IpAddr) -> Vec<IpAddr> {
    let means_this_host = |address: &&IpAddr| match address {
        IpAddr::V4(address) => !address.is_loopback() && !address.is_link_local(),
        IpAddr::V6(address) => !address.is_loopback() && !address.is_unicast_link_local(),
    };
    let others = all.iter().filter(means_this_host).copied().filter(|address| *address != advertise);
    std::iter::once(advertise).chain(others).collect()
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

    #[test]
    fn however_many_containers_run_the_hosts_own_addresses_are_announced() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut all: BTreeSet<_> = (1..=100).map(|number| address(&format!("fe80::{number}"))).collect();
        all.extend(["127.0.0.1", "::1", "169.254.1.1", "10.0.0.1", "192.0.2.7", "fd00::1"].map(address));
        let announced = announceable(&all, address("192.0.2.7"));
        assert_eq!(announced, ["192.0.2.7", "10.0.0.1", "fd00::1"].map(address));

        let bridges = (0..100).map(|number| address(&format!("172.{number}.0.1")));
        let many = announceable(&bridges.chain([address("192.0.2.7")]).collect(), address("192.0.2.7"));
        let mut record = model::HostRecord::default();
        record.set_addresses(many);
        assert!(record.addresses().contains(&address("192.0.2.7")), "the one that counts is there");
    }
}

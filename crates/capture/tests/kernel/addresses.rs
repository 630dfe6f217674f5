//! Service addresses on `lo`, in the real kernel; `ip` says what is there.

use crate::machines::ip;
use crate::namespace::{Namespace, run};
use capture::AssignedAddress;

const ADDRESSES: [&str; 2] = ["192.168.168.168", "fd00::a8"];

/// Whether the interface has exactly this address, without any network around it.
fn has(device: &str, address: &str) -> bool {
    let length = if address.contains(':') { 128 } else { 32 };
    run("ip", &format!("-o addr show dev {device}")).contains(&format!("{address}/{length} "))
}

#[test]
fn a_missing_address_is_added_and_taken_back() {
    Namespace::new().within(|| {
        let before = run("ip", "-o addr");
        for address in ADDRESSES {
            let assigned = AssignedAddress::assign(ip(address)).unwrap();
            assert!(assigned.is_ours() && has("lo", address), "{address}");
            std::net::TcpListener::bind((ip(address), 9500)).unwrap();
            assigned.take_back().unwrap();
            assert!(!has("lo", address), "{address}");
        }
        assert_eq!(run("ip", "-o addr"), before);
    });
}

#[test]
fn an_address_that_was_there_stays() {
    Namespace::new().within(|| {
        run("ip", "link add eth0 type veth peer name eth1");
        for (address, network) in [("10.77.0.1", "10.77.0.1/24"), ("fd77::1", "fd77::1/64")] {
            run("ip", &format!("addr add {network} dev eth0"));
            let assigned = AssignedAddress::assign(ip(address)).unwrap();
            assert!(!assigned.is_ours() && !has("lo", address), "{address}");
            assigned.take_back().unwrap();
            assert!(run("ip", "-o addr show dev eth0").contains(network));
        }
        run("ip", "addr add 192.168.168.168/32 dev lo");
        AssignedAddress::assign(ip("192.168.168.168")).unwrap().take_back().unwrap();
        assert!(has("lo", "192.168.168.168"), "who added it takes it away");
    });
}

#[test]
fn a_registrar_that_starts_again_knows_its_address() {
    Namespace::new().within(|| {
        for address in ADDRESSES {
            AssignedAddress::assign(ip(address)).unwrap();
            assert!(has("lo", address), "a restart changes nothing");
            let again = AssignedAddress::assign(ip(address)).unwrap();
            assert!(again.is_ours());
            again.take_back().unwrap();
            assert!(!has("lo", address));
        }
    });
}

#[test]
fn an_address_that_somebody_else_took_away_is_no_error() {
    Namespace::new().within(|| {
        let assigned = AssignedAddress::assign(ip("192.168.168.168")).unwrap();
        run("ip", "addr del 192.168.168.168/32 dev lo");
        assigned.take_back().unwrap();
    });
}

#[test]
fn an_ipv4_address_in_ipv6_clothes_is_an_ipv4_address() {
    Namespace::new().within(|| {
        AssignedAddress::assign(ip("::ffff:192.168.168.168")).unwrap();
        assert!(has("lo", "192.168.168.168"));
    });
}

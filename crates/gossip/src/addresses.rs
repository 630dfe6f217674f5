//! Which addresses of another host are believed.
//!
//! What a host announces goes into this host's Envoy as an endpoint. So a host may only name addresses that
//! can be its own: otherwise a fault on one host, or a container's label, would send this host's traffic to
//! itself, round in circles, or anywhere.

use std::net::{IpAddr, Ipv6Addr};

/// What this host knows that decides whether an address can be another host's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// The addresses at which service ports are served: they mean every host at once.
    pub service_addresses: Vec<IpAddr>,
    /// This host's own addresses.
    pub own_addresses: Vec<IpAddr>,
}

/// Why an address of another host is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Disbelief {
    /// It is loopback, unspecified, link-local, multicast or broadcast: it means something else on every host.
    #[error("it is not the address of any one host")]
    NotOneHost,
    /// It is a service address.
    #[error("it is a service address, which every host serves")]
    ServiceAddress,
    /// It is one of this host's own.
    #[error("it is an address of this host")]
    OwnAddress,
    /// Another host takes part in the cluster at this address.
    #[error("another host takes part in the cluster at this address")]
    OtherHosts,
    /// The host does not announce it as its own.
    #[error("its host does not announce it as its own")]
    NotAnnounced,
}

impl AddressRules {
    /// Whether `address` can be another host's at all.
    ///
    /// # Errors
    /// It can't, for this reason.
    pub fn check(&self, address: IpAddr) -> Result<(), Disbelief> {
        let address = address.to_canonical();
        let among = |addresses: &[IpAddr]| addresses.iter().any(|other| other.to_canonical() == address);
        if !means_one_host(address) {
            Err(Disbelief::NotOneHost)
        } else if among(&self.service_addresses) {
            Err(Disbelief::ServiceAddress)
        } else if among(&self.own_addresses) {
            Err(Disbelief::OwnAddress)
        } else {
            Ok(())
        }
    }
}

fn means_one_host(address: IpAddr) -> bool {
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() {
        return false;
    }
    match address {
        // 0.0.0.0/8 is "this network" (RFC 1122, 3.2.1.3).
        IpAddr::V4(address) => !address.is_link_local() && !address.is_broadcast() && address.octets()[0] != 0,
        IpAddr::V6(address) => !Ipv6Addr::is_unicast_link_local(&address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_can_be_another_hosts_address_is_believed() {
        let rules = AddressRules {
            service_addresses: vec!["192.168.168.168".parse().unwrap()],
            own_addresses: vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()],
        };
        let cases = [
            ("10.0.0.2", Ok(())),
            ("fd00::2", Ok(())),
            ("203.0.113.5", Ok(())),
            ("127.0.0.1", Err(Disbelief::NotOneHost)),
            ("127.8.8.8", Err(Disbelief::NotOneHost)),
            ("::1", Err(Disbelief::NotOneHost)),
            ("::ffff:127.0.0.1", Err(Disbelief::NotOneHost)),
            ("0.0.0.0", Err(Disbelief::NotOneHost)),
            ("0.1.2.3", Err(Disbelief::NotOneHost)),
            ("::", Err(Disbelief::NotOneHost)),
            ("169.254.169.254", Err(Disbelief::NotOneHost)),
            ("fe80::1", Err(Disbelief::NotOneHost)),
            ("224.0.0.1", Err(Disbelief::NotOneHost)),
            ("ff02::1", Err(Disbelief::NotOneHost)),
            ("255.255.255.255", Err(Disbelief::NotOneHost)),
            ("192.168.168.168", Err(Disbelief::ServiceAddress)),
            ("::ffff:192.168.168.168", Err(Disbelief::ServiceAddress)),
            ("10.0.0.1", Err(Disbelief::OwnAddress)),
            ("fd00::1", Err(Disbelief::OwnAddress)),
        ];
        for (address, expected) in cases {
            assert_eq!(rules.check(address.parse().unwrap()), expected, "{address}");
        }
    }
}

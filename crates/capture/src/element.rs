//! The sets, and how a published port or a service port becomes an element of one of them.

use std::ffi::CStr;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use model::{Protocol, PublishedPort};

/// The number of each type of nft's, so that `nft list` shows elements as what they are.
/// From nftables' `include/datatype.h`.
mod nft_type {
    pub(super) const IPV4_ADDRESS: u32 = 7;
    pub(super) const IPV6_ADDRESS: u32 = 8;
    pub(super) const INET_SERVICE: u32 = 13;
    /// How the numbers of a concatenation's parts are put together.
    pub(super) const PART_BITS: u32 = 6;
}

/// A set of published ports or of service ports. The `any` ones hold ports, the others addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Set {
    Any4,
    Any6,
    One4,
    One6,
    Service4,
    Service6,
}

impl Set {
    /// In the order of their rules. Service ports come first: at a service address they are meant, even where a port of
    /// the same number is published on any address.
    pub(crate) const ALL: [Self; 6] = [Self::Service4, Self::Service6, Self::Any4, Self::Any6, Self::One4, Self::One6];

    pub(crate) const fn name(self) -> &'static CStr {
        match self {
            Self::Any4 => c"any4",
            Self::Any6 => c"any6",
            Self::One4 => c"one4",
            Self::One6 => c"one6",
            Self::Service4 => c"service4",
            Self::Service6 => c"service6",
        }
    }

    pub(crate) const fn is_ipv4(self) -> bool {
        matches!(self, Self::Any4 | Self::One4 | Self::Service4)
    }

    /// Whether the address is part of the key.
    pub(crate) const fn has_address(self) -> bool {
        !matches!(self, Self::Any4 | Self::Any6)
    }

    /// Whether it holds service ports.
    pub(crate) const fn is_of_services(self) -> bool {
        matches!(self, Self::Service4 | Self::Service6)
    }

    pub(crate) const fn key_type(self) -> u32 {
        match self {
            Self::Any4 | Self::Any6 => nft_type::INET_SERVICE,
            Self::One4 | Self::Service4 => nft_type::IPV4_ADDRESS << nft_type::PART_BITS | nft_type::INET_SERVICE,
            Self::One6 | Self::Service6 => nft_type::IPV6_ADDRESS << nft_type::PART_BITS | nft_type::INET_SERVICE,
        }
    }

    /// In bytes; each part of a concatenation is padded to 4.
    pub(crate) const fn key_length(self) -> usize {
        match self {
            Self::Any4 | Self::Any6 => 2,
            Self::One4 | Self::Service4 => 4 + 4,
            Self::One6 | Self::Service6 => 16 + 4,
        }
    }
}

/// One published TCP port or one service port at one address, as the kernel is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Element {
    /// The unspecified address stands for any of its family.
    address: IpAddr,
    port: u16,
    is_service: bool,
}

impl Element {
    /// `None` where there is nothing to divert: only TCP is shared with Envoy.
    pub(crate) fn of(published: &PublishedPort) -> Option<Self> {
        let address = published.address.to_canonical();
        let element = Self { address, port: published.port, is_service: false };
        (published.protocol == Protocol::Tcp && published.port != 0).then_some(element)
    }

    /// A service port at one service address; `None` where no connection can be meant for it.
    pub(crate) fn of_service(address: IpAddr, port: u16) -> Option<Self> {
        let address = address.to_canonical();
        let is_one = !address.is_unspecified() && !address.is_multicast();
        (is_one && port != 0).then_some(Self { address, port, is_service: true })
    }

    pub(crate) const fn is_service(&self) -> bool {
        self.is_service
    }

    pub(crate) const fn set(&self) -> Set {
        match (self.address, self.address.is_unspecified()) {
            (IpAddr::V4(_), _) if self.is_service => Set::Service4,
            (IpAddr::V6(_), _) if self.is_service => Set::Service6,
            (IpAddr::V4(_), true) => Set::Any4,
            (IpAddr::V6(_), true) => Set::Any6,
            (IpAddr::V4(_), false) => Set::One4,
            (IpAddr::V6(_), false) => Set::One6,
        }
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// The key in the set: network byte order.
    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.set().key_length());
        if self.set().has_address() {
            match self.address {
                IpAddr::V4(address) => key.extend(address.octets()),
                IpAddr::V6(address) => key.extend(address.octets()),
            }
        }
        key.extend(self.port.to_be_bytes());
        key.resize(self.set().key_length(), 0);
        key
    }

    /// What [`Self::key`] was made of; `None` where the bytes are no key of this set.
    pub(crate) fn from_key(set: Set, key: &[u8]) -> Option<Self> {
        if key.len() != set.key_length() {
            return None;
        }
        let address_length = set.key_length().saturating_sub(4);
        let (address, port) = if set.has_address() { key.split_at(address_length) } else { (&[][..], key) };
        let address = match set {
            Set::Any4 => Ipv4Addr::UNSPECIFIED.into(),
            Set::Any6 => Ipv6Addr::UNSPECIFIED.into(),
            Set::One4 | Set::Service4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
            Set::One6 | Set::Service6 => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
        };
        let port = u16::from_be_bytes(*port.first_chunk()?);
        Some(Self { address, port, is_service: set.is_of_services() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(address: &str, protocol: Protocol) -> Option<Element> {
        Element::of(&PublishedPort { address: address.parse().unwrap(), port: 8080, protocol })
    }

    #[test]
    fn each_kind_of_address_has_its_set() {
        for (address, set) in
            [("0.0.0.0", Set::Any4), ("::", Set::Any6), ("127.0.0.1", Set::One4), ("fd00::1", Set::One6)]
        {
            assert_eq!(element(address, Protocol::Tcp).unwrap().set(), set, "{address}");
        }
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_an_ipv4_address() {
        assert_eq!(element("::ffff:10.0.0.1", Protocol::Tcp), element("10.0.0.1", Protocol::Tcp));
    }

    #[test]
    fn only_tcp_is_diverted() {
        assert_eq!(element("0.0.0.0", Protocol::Udp), None);
        assert_eq!(element("0.0.0.0", Protocol::Sctp), None);
    }

    #[test]
    fn every_key_reads_back_as_its_element() {
        for address in ["0.0.0.0", "::", "127.0.0.1", "fd00::1"] {
            let element = element(address, Protocol::Tcp).unwrap();
            assert_eq!(Element::from_key(element.set(), &element.key()), Some(element));
        }
    }

    #[test]
    fn a_service_port_is_another_element_than_a_published_port_of_its_number() {
        for (address, set) in [("10.0.0.1", Set::Service4), ("fd00::1", Set::Service6)] {
            let service = Element::of_service(address.parse().unwrap(), 8080).unwrap();
            assert_eq!(service.set(), set);
            assert_ne!(Some(service), element(address, Protocol::Tcp));
            assert_eq!(Element::from_key(set, &service.key()), Some(service));
        }
    }

    #[test]
    fn a_service_address_is_one_address() {
        for address in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "::ffff:0.0.0.0"] {
            assert_eq!(Element::of_service(address.parse().unwrap(), 8080), None, "{address}");
        }
        assert_eq!(Element::of_service([10, 0, 0, 1].into(), 0), None);
    }

    #[test]
    fn bytes_of_another_length_are_no_key() {
        for set in Set::ALL {
            for length in (0..64).filter(|length| *length != set.key_length()) {
                assert_eq!(Element::from_key(set, &vec![0; length]), None);
            }
        }
    }
}

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

/// A set of published ports or of service ports. The `any` ones hold ports, the others addresses and ports. Those of
/// unproxied ports hold published ports, too: those that are held by no shim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Set {
    Any4,
    Any6,
    One4,
    One6,
    Service4,
    Service6,
    UnproxiedAny4,
    UnproxiedAny6,
    UnproxiedOne4,
    UnproxiedOne6,
}

impl Set {
    /// In the order of their rules. Service ports come first: at a service address they are meant, even where a port of
    /// the same number is published on any address. Unproxied ports come last: a registered port beats them.
    pub(crate) const ALL: [Self; 10] = [
        Self::Service4,
        Self::Service6,
        Self::Any4,
        Self::Any6,
        Self::One4,
        Self::One6,
        Self::UnproxiedAny4,
        Self::UnproxiedAny6,
        Self::UnproxiedOne4,
        Self::UnproxiedOne6,
    ];

    pub(crate) const fn name(self) -> &'static CStr {
        match self {
            Self::Any4 => c"any4",
            Self::Any6 => c"any6",
            Self::One4 => c"one4",
            Self::One6 => c"one6",
            Self::Service4 => c"service4",
            Self::Service6 => c"service6",
            Self::UnproxiedAny4 => c"unproxied_any4",
            Self::UnproxiedAny6 => c"unproxied_any6",
            Self::UnproxiedOne4 => c"unproxied_one4",
            Self::UnproxiedOne6 => c"unproxied_one6",
        }
    }

    pub(crate) const fn is_ipv4(self) -> bool {
        matches!(self, Self::Any4 | Self::One4 | Self::Service4 | Self::UnproxiedAny4 | Self::UnproxiedOne4)
    }

    /// Whether the address is part of the key.
    pub(crate) const fn has_address(self) -> bool {
        !matches!(self, Self::Any4 | Self::Any6 | Self::UnproxiedAny4 | Self::UnproxiedAny6)
    }

    /// What kind of elements it holds.
    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::Any4 | Self::Any6 | Self::One4 | Self::One6 => Kind::Port,
            Self::Service4 | Self::Service6 => Kind::Service,
            Self::UnproxiedAny4 | Self::UnproxiedAny6 | Self::UnproxiedOne4 | Self::UnproxiedOne6 => Kind::Unproxied,
        }
    }

    pub(crate) const fn key_type(self) -> u32 {
        let address = if self.is_ipv4() { nft_type::IPV4_ADDRESS } else { nft_type::IPV6_ADDRESS };
        let address = if self.has_address() { address << nft_type::PART_BITS } else { 0 };
        address | nft_type::INET_SERVICE
    }

    /// In bytes; each part of a concatenation is padded to 4.
    pub(crate) const fn key_length(self) -> usize {
        match (self.has_address(), self.is_ipv4()) {
            (false, _) => 2,
            (true, true) => 4 + 4,
            (true, false) => 16 + 4,
        }
    }
}

/// What an element stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// A published port whose connections are brought to the sockets on the port itself.
    Port,
    /// A published port whose connections are brought to Envoy, which does not listen on it.
    Unproxied,
    /// A service port.
    Service,
}

/// One published TCP port or one service port at one address, as the kernel is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Element {
    /// The unspecified address stands for any of its family.
    address: IpAddr,
    port: u16,
    kind: Kind,
}

impl Element {
    /// `None` where there is nothing to divert: only TCP is shared with Envoy.
    pub(crate) fn of(published: &PublishedPort) -> Option<Self> {
        let address = published.address.to_canonical();
        let element = Self { address, port: published.port, kind: Kind::Port };
        (published.protocol == Protocol::Tcp && published.port != 0).then_some(element)
    }

    /// The same for a port that Envoy does not listen on.
    pub(crate) fn of_unproxied(published: &PublishedPort) -> Option<Self> {
        Self::of(published).map(|element| Self { kind: Kind::Unproxied, ..element })
    }

    /// A service port at one service address; `None` where no connection can be meant for it.
    pub(crate) fn of_service(address: IpAddr, port: u16) -> Option<Self> {
        let address = address.to_canonical();
        let is_one = !address.is_unspecified() && !address.is_multicast();
        (is_one && port != 0).then_some(Self { address, port, kind: Kind::Service })
    }

    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) const fn set(&self) -> Set {
        match (self.kind, self.address, self.address.is_unspecified()) {
            (Kind::Service, IpAddr::V4(_), _) => Set::Service4,
            (Kind::Service, IpAddr::V6(_), _) => Set::Service6,
            (Kind::Port, IpAddr::V4(_), true) => Set::Any4,
            (Kind::Port, IpAddr::V6(_), true) => Set::Any6,
            (Kind::Port, IpAddr::V4(_), false) => Set::One4,
            (Kind::Port, IpAddr::V6(_), false) => Set::One6,
            (Kind::Unproxied, IpAddr::V4(_), true) => Set::UnproxiedAny4,
            (Kind::Unproxied, IpAddr::V6(_), true) => Set::UnproxiedAny6,
            (Kind::Unproxied, IpAddr::V4(_), false) => Set::UnproxiedOne4,
            (Kind::Unproxied, IpAddr::V6(_), false) => Set::UnproxiedOne6,
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
        let address = match (set.has_address(), set.is_ipv4()) {
            (false, true) => Ipv4Addr::UNSPECIFIED.into(),
            (false, false) => Ipv6Addr::UNSPECIFIED.into(),
            (true, true) => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
            (true, false) => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
        };
        let port = u16::from_be_bytes(*port.first_chunk()?);
        Some(Self { address, port, kind: set.kind() })
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
            for element in [element, Element { kind: Kind::Unproxied, ..element }] {
                assert_eq!(Element::from_key(element.set(), &element.key()), Some(element));
            }
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

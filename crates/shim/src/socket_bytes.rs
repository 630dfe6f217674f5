//! Socket addresses and control messages as the kernel lays them out (`struct sockaddr_in`, `in6`, `cmsghdr`).
//!
//! Pure. The calls that use them are in `datagrams`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use nix::libc;

/// Room for an address of either family.
pub(crate) const ADDRESS_LENGTH: usize = 28;
/// Room for the control messages that are used: packet info of either family, and a segment's length, sent or received.
pub(crate) const CONTROL_LENGTH: usize = 64;

/// `struct cmsghdr`: a length of a machine word, and two ints; data follows, and all is padded to machine words.
const CONTROL_HEADER: usize = size_of::<usize>() + 8;
const WORD: usize = size_of::<usize>();

/// Writes an address; yields its length.
pub(crate) fn put_address(address: SocketAddr, out: &mut [u8; ADDRESS_LENGTH]) -> u32 {
    out[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(address) => {
            out[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
            out[4..8].copy_from_slice(&address.ip().octets());
            out[8..16].fill(0);
            16
        }
        SocketAddr::V6(address) => {
            out[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes());
            out[4..8].copy_from_slice(&address.flowinfo().to_be_bytes());
            out[8..24].copy_from_slice(&address.ip().octets());
            out[24..].copy_from_slice(&address.scope_id().to_ne_bytes());
            ADDRESS_LENGTH as u32
        }
    }
}

/// Reads an address.
pub(crate) fn address(bytes: &[u8; ADDRESS_LENGTH]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(array(bytes, 2)?);
    match i32::from(u16::from_ne_bytes(array(bytes, 0)?)) {
        libc::AF_INET => Some(SocketAddrV4::new(Ipv4Addr::from(array(bytes, 4)?), port).into()),
        libc::AF_INET6 => {
            let ip = Ipv6Addr::from(array::<16>(bytes, 8)?);
            Some(SocketAddrV6::new(ip, port, 0, u32::from_ne_bytes(array(bytes, 24)?)).into())
        }
        _ => None,
    }
}

/// Control messages in the making.
pub(crate) struct ControlWriter<'a> {
    out: &'a mut [u8; CONTROL_LENGTH],
    length: usize,
}

impl<'a> ControlWriter<'a> {
    pub(crate) fn new(out: &'a mut [u8; CONTROL_LENGTH]) -> Self {
        Self { out, length: 0 }
    }

    /// The datagram is to leave from this address.
    pub(crate) fn source(self, source: IpAddr) -> Self {
        match source {
            // ifindex 0, the address, and one that is of no meaning here.
            IpAddr::V4(source) => {
                let data = [[0; 4], source.octets(), [0; 4]].concat();
                self.message(libc::IPPROTO_IP, libc::IP_PKTINFO, &data)
            }
            IpAddr::V6(source) => {
                let mut data = [0; 20];
                data[..16].copy_from_slice(&source.octets());
                self.message(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data)
            }
        }
    }

    /// The data is to be cut into datagrams of this many bytes.
    pub(crate) fn segment(self, bytes: u16) -> Self {
        self.message(libc::SOL_UDP, libc::UDP_SEGMENT, &bytes.to_ne_bytes())
    }

    /// How long it has become, in bytes.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    fn message(mut self, level: i32, kind: i32, data: &[u8]) -> Self {
        let length = CONTROL_HEADER + data.len();
        let padded = length.next_multiple_of(WORD);
        // All that is ever written together has room.
        if let Some(out) = self.out.get_mut(self.length..self.length + padded) {
            out[..WORD].copy_from_slice(&length.to_ne_bytes());
            out[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
            out[WORD + 4..CONTROL_HEADER].copy_from_slice(&kind.to_ne_bytes());
            out[CONTROL_HEADER..length].copy_from_slice(data);
            out[length..].fill(0);
            self.length += padded;
        }
        self
    }
}

/// The address that a datagram was sent to, if it is one that can be answered from.
pub(crate) fn local_address(control: &[u8]) -> Option<IpAddr> {
    messages(control).find_map(|(level, kind, data)| match (level, kind) {
        // Not the address in the packet, which may be a broadcast address, but ours where it arrived.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => Some(Ipv4Addr::from(array::<4>(data, 4)?).into()),
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            let ip = Ipv6Addr::from(array::<16>(data, 0)?);
            (!ip.is_multicast()).then_some(ip.into())
        }
        _ => None,
    })
}

/// How many bytes each of the datagrams has (but the last, which may have fewer) that the kernel handed over as one.
pub(crate) fn merged_segment(control: &[u8]) -> Option<u16> {
    messages(control).find_map(|(level, kind, data)| match (level, kind) {
        (libc::SOL_UDP, libc::UDP_GRO) => {
            u16::try_from(i32::from_ne_bytes(array(data, 0)?)).ok().filter(|bytes| *bytes > 0)
        }
        _ => None,
    })
}

/// Level, type and data of each control message, up to one that makes no sense.
fn messages(control: &[u8]) -> impl Iterator<Item = (i32, i32, &[u8])> {
    let mut rest = control;
    std::iter::from_fn(move || {
        let length = usize::from_ne_bytes(array(rest, 0)?);
        let level = i32::from_ne_bytes(array(rest, WORD)?);
        let kind = i32::from_ne_bytes(array(rest, WORD + 4)?);
        let data = rest.get(CONTROL_HEADER..length)?;
        // The last one need not be padded.
        rest = length.checked_next_multiple_of(WORD).and_then(|padded| rest.get(padded..)).unwrap_or_default();
        Some((level, kind, data))
    })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_was_written() {
        for text in ["192.0.2.7:53", "[2001:db8::7]:53", "[fe80::1%3]:65535"] {
            let original: SocketAddr = text.parse().unwrap();
            let mut bytes = [0xff; ADDRESS_LENGTH];
            put_address(original, &mut bytes);
            assert_eq!(address(&bytes), Some(original));
        }
        assert_eq!(address(&[0xff; ADDRESS_LENGTH]), None);
    }

    #[test]
    fn the_source_is_found_behind_another_message() {
        for source in ["192.0.2.7", "2001:db8::7"] {
            let source = source.parse().unwrap();
            let mut bytes = [0xff; CONTROL_LENGTH];
            let length = ControlWriter::new(&mut bytes).segment(1200).source(source).length();
            assert_eq!(local_address(&bytes[..length]), Some(source));
        }
    }

    #[test]
    fn what_the_kernel_merged_is_told_beside_the_source() {
        for source in ["192.0.2.7", "2001:db8::7"] {
            let source = source.parse().unwrap();
            let mut bytes = [0xff; CONTROL_LENGTH];
            let merged = ControlWriter::new(&mut bytes).message(libc::SOL_UDP, libc::UDP_GRO, &1200_i32.to_ne_bytes());
            let length = merged.source(source).length();
            assert_eq!(length, if source.is_ipv4() { 56 } else { 64 }, "there is room for both");
            assert_eq!(merged_segment(&bytes[..length]), Some(1200));
            assert_eq!(local_address(&bytes[..length]), Some(source));
        }
        assert_eq!(merged_segment(&[]), None);
    }

    #[test]
    fn a_segment_of_no_length_is_none() {
        for bytes in [0, -1, 65536] {
            let mut control = [0; CONTROL_LENGTH];
            let writer = ControlWriter::new(&mut control);
            let length = writer.message(libc::SOL_UDP, libc::UDP_GRO, &i32::to_ne_bytes(bytes)).length();
            assert_eq!(merged_segment(&control[..length]), None);
        }
    }

    #[test]
    fn a_multicast_address_is_no_source() {
        let mut bytes = [0; CONTROL_LENGTH];
        let length = ControlWriter::new(&mut bytes).source("ff02::1".parse().unwrap()).length();
        assert_eq!(local_address(&bytes[..length]), None);
    }

    #[test]
    fn control_messages_that_make_no_sense_end_the_search() {
        for first in 0..=255 {
            let mut bytes = [0; CONTROL_LENGTH];
            let length = ControlWriter::new(&mut bytes).segment(1200).source([192, 0, 2, 7].into()).length();
            bytes[0] = first;
            let _ = (local_address(&bytes[..length]), merged_segment(&bytes[..length]));
        }
        assert_eq!(local_address(&[0xff; CONTROL_LENGTH]), None);
        assert_eq!(local_address(&[0; CONTROL_LENGTH]), None, "no endless search through messages without length");
    }
}

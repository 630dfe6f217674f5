//! Service addresses on `lo`: `--assign-service-address`.
//!
//! An address that is added carries a mark, so that a registrar that starts again knows it for its own, and takes it
//! back when it leaves. (Kernels before 5.18 keep no mark: there, an address outlives the registrar that added it.)

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_bindings::rt_addr::{Ifaddrmsg, OpDeladdrDo, OpGetaddrDump, OpNewaddrDo, PushAddrAttrs};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{MsgFlags, NetlinkAddr, SockFlag, SockProtocol, recv, sendto, setsockopt};
use nix::sys::time::TimeVal;

use crate::batch::{begin_message, finish_message};
use crate::socket::{Messages, open_netlink};

/// `IFA_PROTO` of the addresses that are added here: who an address comes from. Below 4 they are the kernel's; this one
/// is nobody's by agreement.
const MARK: u8 = 0xed;

/// `lo` has this index in every network namespace.
const LO: u32 = 1;

/// How long the kernel may take for an answer; it takes microseconds.
const TIMEOUT: TimeVal = TimeVal::new(2, 0);

/// The kernel fills at most this much at once.
const BUFFER_LENGTH: usize = 32 * 1024;

/// The most addresses of one host that are looked at.
const MAX_ADDRESSES: usize = 65_536;

/// A service address that the host has.
#[derive(Debug, PartialEq, Eq)]
pub struct AssignedAddress {
    address: IpAddr,
    is_ours: bool,
}

impl AssignedAddress {
    /// Gives the address to `lo`, unless the host has it already, on whichever interface. In the network namespace of
    /// the calling thread; dropping it takes nothing back.
    ///
    /// # Errors
    /// `PermissionDenied` without `CAP_NET_ADMIN`; otherwise the kernel's reason. Nothing has changed then.
    pub fn assign(address: IpAddr) -> io::Result<Self> {
        let address = address.to_canonical();
        let socket = RouteSocket::open()?;
        if let Some(found) = socket.addresses()?.into_iter().find(|found| found.address == address) {
            return Ok(Self { address, is_ours: found.mark == Some(MARK) });
        }
        let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
        match socket.ask(libc::RTM_NEWADDR, flags, |bytes| {
            let attributes = OpNewaddrDo::encode_request(bytes, &on_lo(address));
            drop(local(attributes, address).push_proto(MARK));
        }) {
            Ok(()) => Ok(Self { address, is_ours: true }),
            // Somebody else was quicker.
            Err(Errno::EEXIST) => Ok(Self { address, is_ours: false }),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether a registrar added it; otherwise the host had it before.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.is_ours
    }

    /// Takes the address from `lo` again, if a registrar added it.
    ///
    /// # Errors
    /// The kernel refused; the address stays. That somebody else has taken it away already is none.
    pub fn take_back(self) -> io::Result<()> {
        if !self.is_ours {
            return Ok(());
        }
        let result = RouteSocket::open()?.ask(libc::RTM_DELADDR, 0, |bytes| {
            drop(local(OpDeladdrDo::encode_request(bytes, &on_lo(self.address)), self.address));
        });
        match result {
            Ok(()) | Err(Errno::EADDRNOTAVAIL) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn on_lo(address: IpAddr) -> Ifaddrmsg {
    let (family, prefix_length) = if address.is_ipv4() { (libc::AF_INET, 32) } else { (libc::AF_INET6, 128) };
    Ifaddrmsg {
        ifa_family: family as u8,
        ifa_prefixlen: prefix_length,
        ifa_flags: libc::IFA_F_NODAD as u8,
        ifa_scope: libc::RT_SCOPE_UNIVERSE,
        ifa_index: LO,
    }
}

fn local(attributes: PushAddrAttrs<&mut Vec<u8>>, address: IpAddr) -> PushAddrAttrs<&mut Vec<u8>> {
    attributes.push_local(address).push_address(address)
}

struct Found {
    address: IpAddr,
    mark: Option<u8>,
}

struct RouteSocket(OwnedFd);

impl RouteSocket {
    fn open() -> Result<Self, Errno> {
        let fd = open_netlink(SockProtocol::NetlinkRoute, 0, SockFlag::SOCK_CLOEXEC)?;
        setsockopt(&fd, ReceiveTimeout, &TIMEOUT)?;
        Ok(Self(fd))
    }

    fn addresses(&self) -> Result<Vec<Found>, Errno> {
        let mut addresses = Vec::new();
        self.send(libc::RTM_GETADDR, libc::NLM_F_DUMP, |bytes| {
            OpGetaddrDump::encode_request(bytes, &Ifaddrmsg::default());
        })?;
        loop {
            let answer = self.receive()?;
            for message in Messages(&answer) {
                match message.error() {
                    _ if message.kind == libc::NLMSG_DONE as u16 => return Ok(addresses),
                    Some(errno) => return Err(Errno::from_raw(errno)),
                    None if addresses.len() < MAX_ADDRESSES => addresses.extend(found(message.body)),
                    None => {}
                }
            }
        }
    }

    /// A request that is answered with a word alone.
    fn ask(&self, kind: u16, flags: libc::c_int, body: impl FnOnce(&mut Vec<u8>)) -> Result<(), Errno> {
        self.send(kind, flags | libc::NLM_F_ACK, body)?;
        loop {
            let answer = self.receive()?;
            match Messages(&answer).find_map(|message| message.error()) {
                Some(0) => return Ok(()),
                Some(errno) => return Err(Errno::from_raw(errno)),
                None => {}
            }
        }
    }

    fn send(&self, kind: u16, flags: libc::c_int, body: impl FnOnce(&mut Vec<u8>)) -> Result<(), Errno> {
        let mut bytes = Vec::new();
        let start = begin_message(&mut bytes, kind, flags as u16, 1);
        body(&mut bytes);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        finish_message(&mut bytes, start);
        sendto(self.0.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty()).map(drop)
    }

    fn receive(&self) -> Result<Vec<u8>, Errno> {
        let mut buffer = vec![0; BUFFER_LENGTH];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
                Ok(length) if length > buffer.len() || length == 0 => return Err(Errno::EBADMSG),
                Ok(length) => {
                    buffer.truncate(length);
                    return Ok(buffer);
                }
                Err(errno) => return Err(errno),
            }
        }
    }
}

/// The address that a message of the kernel's tells of.
fn found(body: &[u8]) -> Option<Found> {
    let (_, attributes) = OpNewaddrDo::decode_request(body);
    // On links with two ends, `address` is the other one.
    let address = attributes.get_local().or_else(|_| attributes.get_address()).ok()?;
    Some(Found { address, mark: attributes.get_proto().ok() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_prefix_and_no_changed_byte_of_an_address_does_harm() {
        let mut good = Vec::new();
        let address = "192.168.168.168".parse().unwrap();
        drop(local(OpNewaddrDo::encode_request(&mut good, &on_lo(address)), address).push_proto(MARK));
        let read = found(&good).unwrap();
        assert_eq!((read.address, read.mark), (address, Some(MARK)));
        for length in 0..good.len() {
            found(&good[..length]);
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                found(&bad);
            }
        }
    }
}

//! One netlink socket to nf_tables: transactions and listings.
//!
//! The kernel carries out a transaction within `sendmsg`, so that its answer is there when the call returns.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::{ReceiveTimeout, SndBufForce};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname, recv, sendto,
    setsockopt, socket,
};
use nix::sys::time::TimeVal;

use crate::batch::{Batch, HEADER_LENGTH, begin_message, finish_message, message_type};

/// How long the kernel may take for the next part of a listing; it takes microseconds.
const TIMEOUT: TimeVal = TimeVal::new(2, 0);

/// The kernel fills at most this much at once.
const BUFFER_LENGTH: usize = 32 * 1024;

/// Times that a listing is started again because rules changed during it.
const DUMP_TRIES: u32 = 10;

/// What a transaction may be longer than, before the socket must be told that more is coming (the kernel's default
/// is 208 KiB).
const USUAL_SEND_BUFFER: usize = 128 * 1024;

/// Why the kernel did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetfilterError {
    /// It refused one part of a transaction, and so all of it.
    #[error("the kernel refused {what}: {errno}")]
    Refused {
        /// Which part, in words.
        what: String,
        /// Why.
        errno: Errno,
    },
    /// It could not be asked.
    #[error("netlink to nf_tables: {0}")]
    Socket(#[from] Errno),
}

impl NetfilterError {
    /// The kernel's reason.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        match self {
            Self::Refused { errno, .. } | Self::Socket(errno) => *errno,
        }
    }
}

#[derive(Debug)]
pub(crate) struct NetfilterSocket {
    fd: OwnedFd,
    port_id: u32,
}

impl NetfilterSocket {
    /// In the network namespace of the calling thread.
    pub(crate) fn open() -> Result<Self, NetfilterError> {
        let fd = open_netlink(SockProtocol::NetlinkNetFilter, 0, SockFlag::SOCK_CLOEXEC)?;
        setsockopt(&fd, ReceiveTimeout, &TIMEOUT)?;
        let port_id = getsockname::<NetlinkAddr>(fd.as_raw_fd())?.pid();
        Ok(Self { fd, port_id })
    }

    /// By which the kernel's notices name this socket as the origin of a change.
    pub(crate) const fn port_id(&self) -> u32 {
        self.port_id
    }

    /// All of it, or nothing.
    pub(crate) fn transact(&self, mut batch: Batch) -> Result<(), NetfilterError> {
        if batch.is_empty() {
            return Ok(());
        }
        let bytes = batch.finish();
        if bytes.len() > USUAL_SEND_BUFFER {
            setsockopt(&self.fd, SndBufForce, &(2 * bytes.len()))?;
        }
        self.discard_answers();
        self.send(bytes)?;
        let mut buffer = vec![0; BUFFER_LENGTH];
        loop {
            let length = self.receive(&mut buffer)?;
            for message in Messages(&buffer[..length]) {
                let Some(errno) = message.error() else { continue };
                if errno != 0 {
                    let what = batch.command(message.sequence).to_owned();
                    return Err(NetfilterError::Refused { what, errno: Errno::from_raw(errno) });
                }
                if message.sequence == batch.last_sequence() {
                    return Ok(());
                }
            }
        }
    }

    /// Whether the kernel would carry out a transaction whose last command, which has these words, must fail.
    pub(crate) fn rehearse(&self, (batch, curtain): (Batch, &str)) -> Result<(), NetfilterError> {
        match self.transact(batch) {
            Err(NetfilterError::Refused { what, errno: Errno::ENOENT }) if what == curtain => Ok(()),
            result => result,
        }
    }

    /// Hands over the body of every message of a listing; what is not there is an empty listing.
    ///
    /// `request` writes the request's body: family and what to filter by. A listing that changed while it was made
    /// is made again: `take` must forget what it took when it is told to (`None`).
    pub(crate) fn list(
        &self,
        message: libc::c_int,
        request: impl Fn(&mut Vec<u8>),
        mut take: impl FnMut(Option<&[u8]>),
    ) -> Result<(), NetfilterError> {
        for _ in 0..DUMP_TRIES {
            take(None);
            if !self.list_once(message, &request, &mut |body| take(Some(body)))? {
                return Ok(());
            }
        }
        Err(Errno::EINTR.into())
    }

    /// Whether rules changed during the listing.
    fn list_once(
        &self,
        message: libc::c_int,
        request: impl Fn(&mut Vec<u8>),
        take: &mut impl FnMut(&[u8]),
    ) -> Result<bool, NetfilterError> {
        let mut bytes = Vec::new();
        let start = begin_message(&mut bytes, message_type(message), libc::NLM_F_DUMP as u16, 1);
        request(&mut bytes);
        finish_message(&mut bytes, start);
        self.discard_answers();
        self.send(&bytes)?;
        let mut interrupted = false;
        let mut buffer = vec![0; BUFFER_LENGTH];
        loop {
            let length = self.receive(&mut buffer)?;
            for message in Messages(&buffer[..length]) {
                interrupted |= message.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                match message.error() {
                    _ if message.kind == libc::NLMSG_DONE as u16 => return Ok(interrupted),
                    Some(0 | libc::ENOENT) => return Ok(interrupted),
                    Some(errno) => return Err(Errno::from_raw(errno).into()),
                    None => take(message.body),
                }
            }
        }
    }

    /// What is left of an earlier conversation that failed.
    fn discard_answers(&self) {
        let mut buffer = [0; 4096];
        while matches!(recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT), Ok(_) | Err(Errno::ENOBUFS)) {}
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Errno> {
        sendto(self.fd.as_raw_fd(), bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty()).map(drop)
    }

    fn receive(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        loop {
            match recv(self.fd.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
                Ok(length) if length > buffer.len() || length == 0 => return Err(Errno::EBADMSG),
                result => return result,
            }
        }
    }
}

/// A netlink socket that hears the multicast groups of the mask.
pub(crate) fn open_netlink(protocol: SockProtocol, groups: u32, flags: SockFlag) -> Result<OwnedFd, Errno> {
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(fd)
}

/// One message from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) sequence: u32,
    /// The socket that asked for it, or whose doing it tells of.
    pub(crate) port_id: u32,
    pub(crate) body: &'a [u8],
}

impl Message<'_> {
    /// The errno of an answer; 0 says that it was carried out.
    pub(crate) fn error(&self) -> Option<i32> {
        let code = i32::from_ne_bytes(*self.body.first_chunk()?);
        (self.kind == libc::NLMSG_ERROR as u16).then_some(code.saturating_neg())
    }
}

/// The messages in some bytes; ends where no whole message is left.
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let header: &[u8; HEADER_LENGTH] = self.0.first_chunk()?;
        let u16_at = |at: usize| u16::from_ne_bytes([header[at], header[at + 1]]);
        let u32_at = |at: usize| u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = usize::try_from(u32_at(0)).ok()?;
        let body = self.0.get(HEADER_LENGTH..length)?;
        // Messages are padded to 4 bytes; the last one need not be.
        self.0 = self.0.get(length.checked_next_multiple_of(4)?..).unwrap_or_default();
        Some(Message { kind: u16_at(4), flags: u16_at(6), sequence: u32_at(8), port_id: u32_at(12), body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let start = begin_message(&mut bytes, kind, 0, sequence);
        bytes.extend(body);
        finish_message(&mut bytes, start);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn messages_follow_each_other() {
        let bytes = [message(1, 7, b"abcde"), message(2, 8, b"")].concat();
        let read: Vec<_> = Messages(&bytes).map(|message| (message.kind, message.sequence, message.body)).collect();
        assert_eq!(read, [(1, 7, &b"abcde"[..]), (2, 8, b"")]);
    }

    #[test]
    fn no_prefix_and_no_changed_byte_of_messages_does_harm() {
        let good = [message(libc::NLMSG_ERROR as u16, 7, &(-2_i32).to_ne_bytes()), message(2, 8, b"x")].concat();
        assert_eq!(Messages(&good).next().unwrap().error(), Some(2));
        for length in 0..good.len() {
            let _: Vec<_> = Messages(&good[..length]).map(|message| message.error()).collect();
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _: Vec<_> = Messages(&bad).map(|message| message.error()).collect();
            }
        }
    }
}

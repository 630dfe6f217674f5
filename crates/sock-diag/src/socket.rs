//! One netlink socket to the kernel: sends a request, gathers the answers.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
};
use nix::sys::time::TimeVal;

use crate::format::{self, Answer, Decoded, Request};

/// How long the kernel may take; it answers within microseconds, unless something is very wrong.
const TIMEOUT: TimeVal = TimeVal::new(2, 0);

/// The kernel fills at most this much at once where the reader has not shown that it can take more.
const BUFFER_LENGTH: usize = 16 * 1024;

/// Times that a dump is started again because sockets came and went during it.
const DUMP_TRIES: u32 = 10;

/// The only sequence number that is used: requests are never in flight at the same time.
const SEQUENCE: u32 = 1;

pub(crate) struct DiagSocket(OwnedFd);

impl DiagSocket {
    pub(crate) fn open() -> io::Result<Self> {
        let protocol = SockProtocol::NetlinkSockDiag;
        let fd = socket(AddressFamily::Netlink, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol)?;
        setsockopt(&fd, ReceiveTimeout, &TIMEOUT)?;
        Ok(Self(fd))
    }

    /// Those of the sockets that the request asks for which `pick` takes.
    pub(crate) fn dump<T>(&self, request: Request<'_>, pick: impl Fn(Answer) -> Option<T>) -> io::Result<Vec<T>> {
        for _ in 0..DUMP_TRIES {
            let mut picked = Vec::new();
            let mut interrupted = false;
            self.send(request)?;
            self.receive(|message| {
                interrupted |= message.interrupted;
                picked.extend(pick(message.answer));
            })?;
            if !interrupted {
                return Ok(picked);
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "sockets came and went while the kernel listed them"))
    }

    /// Has the kernel do something, and waits until it has.
    pub(crate) fn command(&self, request: Request<'_>) -> Result<(), Errno> {
        self.send(request)?;
        self.receive(|_| ())
    }

    fn send(&self, request: Request<'_>) -> Result<(), Errno> {
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.0.as_raw_fd(), &request.encode(SEQUENCE), &kernel, MsgFlags::empty()).map(drop)
    }

    /// Hands over every message until the last one.
    fn receive(&self, mut take: impl FnMut(&Decoded<'_>)) -> Result<(), Errno> {
        let mut buffer = vec![0; BUFFER_LENGTH];
        loop {
            let length = self.receive_some(&mut buffer)?;
            let mut rest = &buffer[..length];
            while let Some(message) = format::decode(rest, SEQUENCE) {
                take(&message);
                match message.answer {
                    Answer::Done | Answer::Error(0) => return Ok(()),
                    Answer::Error(errno) => return Err(Errno::from_raw(errno)),
                    Answer::Listener(_) | Answer::Connection(_) | Answer::Other => rest = message.rest,
                }
            }
        }
    }

    fn receive_some(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        loop {
            match recv(self.0.as_raw_fd(), buffer, MsgFlags::MSG_TRUNC) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
                // Longer than the buffer, or no longer a conversation.
                Ok(length) if length > buffer.len() || length == 0 => return Err(Errno::EBADMSG),
                result => return result,
            }
        }
    }
}

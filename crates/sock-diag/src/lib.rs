//! Asks the kernel who listens on a TCP port, and ends listeners, and connections to where nobody is any more:
//! `NETLINK_SOCK_DIAG`.
//!
//! What the kernel answers is true at that moment, in the network namespace of the calling process. Deliberately
//! absent: UDP, and any opinion on who ought to listen.
//!
//! The bytes are in [`mod@format`], the conversation with the kernel is in `socket`.

pub mod format;
mod socket;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};

use format::{Answer, Family, Request};
use nix::errno::Errno;
use socket::DiagSocket;

/// A TCP socket in the state LISTEN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens. An IPv6 address has neither flow nor scope; see [`Self::interface`] for the latter.
    pub address: SocketAddr,
    /// The index of the interface that it is bound to; 0 for none.
    pub interface: u32,
    /// Its inode in the kernel's socket file system: what `fstat` tells its owner.
    pub inode: u32,
    /// The owner of the socket, which is not always that of the process (`fchown`).
    pub uid: u32,
    /// Connections that wait to be accepted.
    pub accept_queue: u32,
    /// The kernel's own name for the socket; never used twice.
    pub cookie: [u32; 2],
}

/// A TCP connection that is open, being opened, or half closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// This end.
    pub local: SocketAddr,
    /// The other end.
    pub peer: SocketAddr,
    /// The index of the interface that it is bound to; 0 for none.
    pub interface: u32,
    /// The owner of the socket.
    pub uid: u32,
    /// The kernel's own name for the socket; never used twice.
    pub cookie: [u32; 2],
}

/// Tries of [`destroy`] per socket. The kernel picks one socket of a group by a hash over the request, so that a
/// member of a group of 64 is found within these with a probability of failure below 1 in 10^27.
const DESTROY_TRIES: u16 = 4096;

/// Who listens at exactly this address and port; listeners at "any address" are not among them unless asked for.
///
/// # Errors
/// The kernel can't be asked (no `CONFIG_INET_DIAG`, no file descriptors left), or did not answer within 2 s.
pub fn listeners_on(address: SocketAddr) -> io::Result<Vec<Listener>> {
    let family = match address.ip() {
        IpAddr::V4(_) => Family::V4,
        IpAddr::V6(_) => Family::V6,
    };
    let at_address = |answer| listener_of(answer).filter(|listener| listener.address.ip() == address.ip());
    DiagSocket::open()?.dump(Request::Listeners { family, port: address.port() }, at_address)
}

/// Every TCP listener of this network namespace, IPv4 first.
///
/// # Errors
/// As [`listeners_on`].
pub fn all_listeners() -> io::Result<Vec<Listener>> {
    let socket = DiagSocket::open()?;
    let mut listeners = socket.dump(Request::Listeners { family: Family::V4, port: 0 }, listener_of)?;
    listeners.extend(socket.dump(Request::Listeners { family: Family::V6, port: 0 }, listener_of)?);
    Ok(listeners)
}

const fn listener_of(answer: Answer) -> Option<Listener> {
    if let Answer::Listener(listener) = answer { Some(listener) } else { None }
}

/// Ends this user's connections to these peers from outside, as if each had been reset; its owner's next read or write
/// says `ECONNABORTED`. Yields how many there were. A connection that ends by itself meanwhile is no error.
///
/// # Errors
/// As [`all_listeners`] and [`destroy`]; then some may have been ended.
pub fn end_connections(peers: &HashSet<SocketAddr>, uid: u32) -> io::Result<usize> {
    let socket = DiagSocket::open()?;
    let wanted = |answer| match answer {
        Answer::Connection(found) if found.uid == uid && peers.contains(&found.peer) => Some(found),
        _ => None,
    };
    let mut ended = 0;
    for family in [Family::V4, Family::V6] {
        for connection in socket.dump(Request::Connections { family }, wanted)? {
            match socket.command(Request::End { connection: &connection }) {
                Ok(()) => ended += 1,
                Err(Errno::ENOENT | Errno::ESTALE) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
    Ok(ended)
}

/// Ends a listener from outside: its owner's next `accept` fails, and connections in its queue are reset.
/// Exactly this socket, or none.
///
/// # Errors
/// `NotFound` where the socket no longer exists, `PermissionDenied` without `CAP_NET_ADMIN`, `Unsupported` where
/// the kernel was built without `CONFIG_INET_DIAG_DESTROY`.
pub fn destroy(listener: &Listener) -> io::Result<()> {
    let socket = DiagSocket::open()?;
    for salt in 0..DESTROY_TRIES {
        match socket.command(Request::Destroy { listener, salt }) {
            // Another member of the group was looked up, and the cookie said so; or the socket is gone.
            Err(Errno::ENOENT | Errno::ESTALE) if salt == 0 && !exists(listener)? => break,
            Err(Errno::ENOENT | Errno::ESTALE) => {}
            result => return result.map_err(io::Error::from),
        }
    }
    Err(Errno::ENOENT.into())
}

fn exists(listener: &Listener) -> io::Result<bool> {
    Ok(listeners_on(listener.address)?.iter().any(|other| other.cookie == listener.cookie))
}

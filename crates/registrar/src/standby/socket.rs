//! A listening socket that stands by in Envoy's group: how it comes in, and what it is asked to do.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::sys::socket::sockopt::{IpFreebind, KeepAlive, ReusePort, TcpKeepIdle, TcpKeepInterval};
use nix::sys::socket::{Backlog, Shutdown, SockaddrStorage, bind, listen, setsockopt, shutdown};
use nix::unistd::{Uid, fchown};
use sock_diag::Listener;
use tokio::net::TcpListener;

use super::place::{Others, Place};
use crate::watchdog::Steering;

/// Connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// A peer that vanished is found out by the kernel: first asked after so long, then as often. The times of Go's
/// connections, and so docker-proxy's.
const KEEPALIVE_SECONDS: u32 = 15;

/// One socket, of Envoy's uid.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    address: SocketAddr,
    inode: u32,
    place: Place,
    named: Option<u32>,
}

impl Socket {
    /// Listens at `address`, which the host need not have yet, in one group with the Envoy of this uid.
    ///
    /// # Errors
    /// Another program has the port, or the socket can't be given to Envoy's user; in words. Nothing listens.
    pub(super) fn open(address: SocketAddr, envoy_uid: u32) -> Result<Self, String> {
        let (fd, place) = match open_first(address, envoy_uid) {
            Err(Failure::Taken) => open_behind(address, envoy_uid)?,
            first => (first.map_err(|failure| failure.text(address, envoy_uid))?, Place::First),
        };
        let inode = inode(&fd).map_err(|error| format!("the socket at {address} can't be used: {error}"))?;
        let mut socket = Self { fd, address, inode, place, named: None };
        socket.steer(Steering::Envoy)?;
        Ok(socket)
    }

    /// The same socket as the runtime has it.
    ///
    /// # Errors
    /// The system has no file descriptors left.
    pub(super) fn listener(&self) -> std::io::Result<TcpListener> {
        let listener = std::net::TcpListener::from(self.fd.try_clone()?);
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    }

    /// Leaves the group at once, whoever else may still hold the descriptor. Connections that wait are reset.
    pub(super) fn close(self) {
        let _ = shutdown(self.fd.as_raw_fd(), Shutdown::Both);
    }

    /// Which of the kernel's answers is about us.
    pub(super) const fn inode(&self) -> u32 {
        self.inode
    }

    /// Our place in the group.
    pub(super) const fn place(&mut self) -> &mut Place {
        &mut self.place
    }

    /// Has new connections given to whom they are to go, unless they are already.
    ///
    /// # Errors
    /// The kernel refused; in words. It goes on as before.
    pub(super) fn steer(&mut self, steering: Steering) -> Result<(), String> {
        let number = self.place.number(steering);
        if self.named == Some(number) {
            return Ok(());
        }
        socket_group::name(&self.fd, number)
            .map_err(|errno| format!("connections to {} can't be steered: {errno}", self.address))?;
        self.named = Some(number);
        Ok(())
    }
}

enum Failure {
    Taken,
    Owner(Errno),
    Other(Errno),
}

impl Failure {
    fn text(&self, address: SocketAddr, envoy_uid: u32) -> String {
        match self {
            Self::Taken => format!("another program listens at {address}: end it"),
            Self::Owner(errno) => format!(
                "the socket at {address} can't be given to Envoy's user (uid {envoy_uid}): {errno}. The registrar \
                 needs CAP_CHOWN"
            ),
            Self::Other(Errno::EACCES) => {
                format!("listening at {address} is not permitted: give the registrar CAP_NET_BIND_SERVICE")
            }
            Self::Other(errno) => format!("listening at {address} failed: {errno}"),
        }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        if errno == Errno::EADDRINUSE { Self::Taken } else { Self::Other(errno) }
    }
}

/// As long as nobody else is there.
fn open_first(address: SocketAddr, envoy_uid: u32) -> Result<OwnedFd, Failure> {
    // A group is founded while its socket is ours still. So where it could not be given away, that shows on one that
    // never listened: the port is kept from nobody, and no connection is taken to be reset.
    give(&unbound(address)?, envoy_uid)?;
    let fd = unbound(address)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    socket_group::found(&fd, address, Place::First.number(Steering::Envoy))?;
    give(&fd, envoy_uid)?;
    Ok(fd)
}

/// Joins the Envoy that is there, and nobody else.
fn open_behind(address: SocketAddr, envoy_uid: u32) -> Result<(OwnedFd, Place), String> {
    let listeners =
        sock_diag::listeners_on(address).map_err(|error| format!("who listens at {address} is not known: {error}"))?;
    if let Some(stranger) = listeners.iter().find(|listener| !is_envoys(listener, address, envoy_uid)) {
        return Err(format!(
            "another program (uid {}) listens at {address}: end it, or check that --envoy-user is the user that Envoy \
             runs as",
            stranger.uid
        ));
    }
    let join = || -> Result<OwnedFd, Failure> {
        let fd = unbound(address)?;
        give(&fd, envoy_uid)?;
        setsockopt(&fd, ReusePort, &true)?;
        bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
        listen(&fd, Backlog::new(BACKLOG)?)?;
        Ok(fd)
    };
    let fd = join().map_err(|failure| failure.text(address, envoy_uid))?;
    // Whoever came in between is seen at the next look.
    let others: Others = listeners.iter().map(|listener| listener.inode).collect();
    Ok((fd, if others.is_empty() { Place::First } else { Place::Behind(others) }))
}

fn unbound(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let fd = socket_group::open(address)?;
    // As Envoy's own sockets: the service address may come later.
    setsockopt(&fd, IpFreebind, &true)?;
    // Accepted connections inherit it.
    find_out_who_vanished(&fd)?;
    Ok(fd)
}

/// No idle timeout ends a connection whose peer vanished without a word; this does.
pub(super) fn find_out_who_vanished(socket: &impl AsFd) -> Result<(), Errno> {
    setsockopt(socket, KeepAlive, &true)?;
    setsockopt(socket, TcpKeepIdle, &KEEPALIVE_SECONDS)?;
    setsockopt(socket, TcpKeepInterval, &KEEPALIVE_SECONDS)
}

fn give(fd: &OwnedFd, uid: u32) -> Result<(), Failure> {
    fchown(fd, Some(Uid::from_raw(uid)), None).map_err(Failure::Owner)
}

/// Whether this is a socket of the group at `address`: Envoy's, or our own.
pub(super) fn is_envoys(listener: &Listener, address: SocketAddr, uid: u32) -> bool {
    listener.address == address && listener.uid == uid && listener.interface == 0
}

/// As the kernel's answers show it.
fn inode(fd: &OwnedFd) -> std::io::Result<u32> {
    // Of a duplicate, since a `File` closes what it holds.
    let inode = std::fs::File::from(fd.try_clone()?).metadata()?.ino();
    u32::try_from(inode).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests {
    use nix::unistd::setfsuid;

    use super::*;

    /// Ourselves: whom a test without privileges may give its sockets to.
    fn uid() -> u32 {
        nix::unistd::geteuid().as_raw()
    }

    fn free_address() -> SocketAddr {
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn the_first_at_a_port_is_the_first_of_its_group() {
        let mut socket = Socket::open(free_address(), uid()).unwrap();
        assert_eq!(*socket.place(), Place::First);
        socket.steer(Steering::Standby).unwrap();
        socket.steer(Steering::Envoy).unwrap();
    }

    #[test]
    fn who_comes_later_stands_behind_those_who_are_there_and_closing_leaves_at_once() {
        let first = Socket::open(free_address(), uid()).unwrap();
        let mut second = Socket::open(first.address, uid()).unwrap();
        assert_eq!(*second.place(), Place::Behind([first.inode].into()));
        let listeners = sock_diag::listeners_on(first.address).unwrap();
        assert_eq!(listeners.iter().filter(|listener| is_envoys(listener, first.address, uid())).count(), 2);
        let still_held = first.fd.try_clone().unwrap();
        let address = first.address;
        first.close();
        let listeners = sock_diag::listeners_on(address).unwrap();
        assert_eq!(listeners.iter().map(|listener| listener.inode).collect::<Vec<_>>(), [second.inode]);
        drop(still_held);
    }

    #[test]
    fn a_port_of_another_program_is_not_joined() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        let error = Socket::open(address, uid()).unwrap_err();
        assert_eq!(error, format!("another program listens at {address}: end it"));
    }

    #[test]
    fn a_socket_that_can_not_be_given_away_is_not_even_bound() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        // Of this thread alone: it may give nothing away, whoever runs the test.
        setfsuid(Uid::from_raw(65_533));
        let error = Socket::open(holder.local_addr().unwrap(), 65_534).unwrap_err();
        assert!(error.contains("CAP_CHOWN"), "binding would have found the port taken: {error}");
    }

    #[test]
    fn an_address_that_is_still_to_come_is_no_reason_to_fail() {
        for address in ["192.0.2.1:15001", "[2001:db8::1]:15001"] {
            Socket::open(address.parse().unwrap(), uid()).unwrap();
        }
    }
}

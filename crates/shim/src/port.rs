//! The socket of the published port: dockerd's, or our own; and who else listens on it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use model::{Protocol, PublishedPort};
use nix::errno::Errno;
use nix::sys::socket::sockopt::{AcceptConn, Ipv4PacketInfo, Ipv6RecvPacketInfo, Ipv6V6Only};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, bind, getsockname, getsockopt, listen,
    setsockopt, socket, sockopt,
};
use nix::unistd::{Uid, fchown};
use sock_diag::Listener;

use crate::{descriptor, log};

/// Connections that may wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// The socket that serves a published port, bound and, for TCP, listening.
#[derive(Debug)]
pub(crate) struct Port {
    /// Non-blocking.
    pub(crate) socket: OwnedFd,
    published: PublishedPort,
    /// Whom the socket was given to, once it was.
    owner: Option<u32>,
}

impl Port {
    /// Uses dockerd's socket.
    ///
    /// # Errors
    /// It is not a socket of this protocol, bound to this address; in words.
    pub(crate) fn adopt(socket: OwnedFd, published: PublishedPort) -> Result<Self, String> {
        let (kind, protocol) = kind_of(published.protocol);
        let found =
            getsockopt(&socket, sockopt::SockType).map_err(|errno| format!("fd 4 is no socket ({})", text(errno)))?;
        if found != kind {
            return Err(format!("fd 4 is no {protocol} socket"));
        }
        let address = bound_address(&socket);
        if address != Some(published.socket_address()) {
            let address = address.map_or_else(|| "elsewhere".to_owned(), |address| format!("to {address}"));
            return Err(format!("fd 4 is bound {address}, not to {}", published.socket_address()));
        }
        Self::ready(socket, published).map_err(|errno| format!("fd 4 can't be used: {}", text(errno)))
    }

    /// Binds a socket, and for TCP listens.
    ///
    /// Deliberately without `SO_REUSEPORT`, which would silently join whoever is there: a taken port is refused.
    ///
    /// # Errors
    /// The address can't be had; in docker-proxy's words.
    pub(crate) fn bind(published: PublishedPort) -> Result<Self, String> {
        open(published)
            .and_then(|socket| {
                bind(socket.as_raw_fd(), &SockaddrStorage::from(published.socket_address()))?;
                Self::ready(socket, published)
            })
            .map_err(|errno| format!("failed to listen on {}: {}", published.socket_address(), text(errno)))
    }

    fn ready(socket: OwnedFd, published: PublishedPort) -> Result<Self, Errno> {
        match published.protocol {
            Protocol::Tcp if getsockopt(&socket, AcceptConn)? => {}
            Protocol::Tcp => listen(&socket, Backlog::new(BACKLOG)?)?,
            // So that a reply can leave from the address that the client spoke to.
            Protocol::Udp if published.address.is_ipv4() => setsockopt(&socket, Ipv4PacketInfo, &true)?,
            Protocol::Udp => setsockopt(&socket, Ipv6RecvPacketInfo, &true)?,
            Protocol::Sctp => return Err(Errno::EPROTONOSUPPORT),
        }
        descriptor::set_nonblocking(&socket)?;
        Ok(Self { socket, published, owner: None })
    }

    /// Listens anew: somebody ended the socket from outside (`ss --kill`). It is still bound.
    pub(crate) fn listen_again(&self) {
        let outcome = Backlog::new(BACKLOG).and_then(|backlog| listen(&self.socket, backlog));
        let outcome = outcome
            .map_or_else(|errno| format!("it can't listen again: {}", text(errno)), |()| "it listens again".to_owned());
        log::warn(&format!("the socket of {} was ended from outside; {outcome}", self.published));
    }

    /// What this port is.
    #[must_use]
    pub(crate) const fn published(&self) -> PublishedPort {
        self.published
    }

    /// Makes `uid` the socket's owner, which Envoy's must be for its sockets to join ours.
    ///
    /// # Errors
    /// Not permitted (we are not root); in words. The owner stays who it was.
    pub(crate) fn give_to(&mut self, uid: u32) -> Result<(), String> {
        fchown(&self.socket, Some(Uid::from_raw(uid)), None)
            .map_err(|errno| format!("the socket can't be given to uid {uid}: {}", text(errno)))?;
        self.owner = Some(uid);
        Ok(())
    }

    /// Who else listens here, as a member of our group; nobody where the socket was never given away.
    ///
    /// # Errors
    /// The kernel can't be asked.
    pub(crate) fn others(&self) -> io::Result<Vec<Listener>> {
        let Some(owner) = self.owner else { return Ok(Vec::new()) };
        let own_inode = inode(&self.socket)?;
        let mut listeners = sock_diag::listeners_on(self.published.socket_address())?;
        listeners.retain(|listener| is_member(listener, owner, own_inode));
        Ok(listeners)
    }
}

/// Whether a listener on our address and port is in our group, and not ourselves.
fn is_member(listener: &Listener, owner: u32, own_inode: u64) -> bool {
    u64::from(listener.inode) != own_inode && listener.uid == owner && listener.interface == 0
}

/// The inode of the port's socket as the kernel's answers show it; 0 where it can't be had.
pub(crate) fn socket_inode(port: &Port) -> u32 {
    inode(&port.socket).ok().and_then(|inode| u32::try_from(inode).ok()).unwrap_or(0)
}

fn inode(socket: &OwnedFd) -> io::Result<u64> {
    // Of a duplicate, since a `File` closes what it holds.
    Ok(std::fs::File::from(socket.try_clone()?).metadata()?.ino())
}

/// A socket for this address, not bound yet.
///
/// # Errors
/// Those of `socket` and `setsockopt`.
fn open(published: PublishedPort) -> Result<OwnedFd, Errno> {
    if published.protocol == Protocol::Tcp {
        return socket_group::open(published.socket_address());
    }
    let family = if published.address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind_of(published.protocol).0, SockFlag::SOCK_CLOEXEC, None)?;
    if published.address.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    Ok(socket)
}

const fn kind_of(protocol: Protocol) -> (SockType, &'static str) {
    match protocol {
        Protocol::Tcp => (SockType::Stream, "TCP"),
        Protocol::Udp => (SockType::Datagram, "UDP"),
        Protocol::Sctp => (SockType::SeqPacket, "SCTP"),
    }
}

fn bound_address(socket: &OwnedFd) -> Option<SocketAddr> {
    let address: SockaddrStorage = getsockname(socket.as_raw_fd()).ok()?;
    match address.family()? {
        AddressFamily::Inet => address.as_sockaddr_in().map(|address| SocketAddr::from((address.ip(), address.port()))),
        AddressFamily::Inet6 => {
            address.as_sockaddr_in6().map(|address| SocketAddr::from((address.ip(), address.port())))
        }
        _ => None,
    }
}

/// An errno as Go's programs word it: in lower case.
#[must_use]
pub(crate) fn text(errno: Errno) -> String {
    let mut text = errno.desc().to_owned();
    text[..1].make_ascii_lowercase();
    text
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    fn published(address: SocketAddr, protocol: Protocol) -> PublishedPort {
        PublishedPort { address: address.ip(), port: address.port(), protocol }
    }

    fn free_port(protocol: Protocol) -> PublishedPort {
        published(TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap(), protocol)
    }

    #[test]
    fn a_taken_port_is_refused_in_docker_proxys_words() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        assert_eq!(
            Port::bind(published(address, Protocol::Tcp)).unwrap_err(),
            format!("failed to listen on {address}: address already in use")
        );
    }

    #[test]
    fn an_address_that_is_not_ours_is_refused() {
        let address = "192.0.2.1:8080".parse().unwrap();
        assert_eq!(
            Port::bind(published(address, Protocol::Tcp)).unwrap_err(),
            "failed to listen on 192.0.2.1:8080: cannot assign requested address"
        );
    }

    #[test]
    fn a_socket_from_dockerd_is_used_as_it_is() {
        let listener = TcpListener::bind("[::1]:0").unwrap();
        let address = listener.local_addr().unwrap();
        Port::adopt(listener.into(), published(address, Protocol::Tcp)).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        Port::adopt(socket.into(), published(address, Protocol::Udp)).unwrap();
    }

    #[test]
    fn whatever_else_is_on_fd_4_is_told_apart() {
        let port = free_port(Protocol::Tcp);
        let adopt = |fd: OwnedFd| Port::adopt(fd, port).unwrap_err();
        let file = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(adopt(file.into()), "fd 4 is no socket (socket operation on non-socket)");
        assert_eq!(adopt(UdpSocket::bind("127.0.0.1:0").unwrap().into()), "fd 4 is no TCP socket");
        let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = elsewhere.local_addr().unwrap();
        assert_eq!(adopt(elsewhere.into()), format!("fd 4 is bound to {address}, not to {}", port.socket_address()));
        let (pair, _other) = std::os::unix::net::UnixStream::pair().unwrap();
        assert_eq!(adopt(pair.into()), format!("fd 4 is bound elsewhere, not to {}", port.socket_address()));
    }

    #[test]
    fn only_strangers_of_our_group_count_as_others() {
        let listener = |inode, uid, interface| Listener {
            address: "127.0.0.1:80".parse().unwrap(),
            interface,
            inode,
            uid,
            accept_queue: 0,
            cookie: [0; 2],
        };
        assert!(is_member(&listener(7, 1000, 0), 1000, 8));
        assert!(!is_member(&listener(8, 1000, 0), 1000, 8), "ourselves");
        assert!(!is_member(&listener(7, 0, 0), 1000, 8), "another owner");
        assert!(!is_member(&listener(7, 1000, 2), 1000, 8), "bound to an interface");
    }
}

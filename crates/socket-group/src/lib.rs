//! Sockets of several processes that listen on one TCP address and port (`SO_REUSEPORT`), and the classic BPF program
//! by which the kernel picks the one that gets a connection.
//!
//! The kernel numbers the members of such a group from 0, in the order in which they came; where one leaves, the last
//! takes its place. The programs here name one number. A number that no member has makes the kernel pick by hash, and
//! of a single member that is this one.
//!
//! Members must belong to one uid: that of the socket (`fchown`), not of its process. Who is in a group, and who is to
//! be named, is not decided here.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::{AttachReusePortCbpf, IpFreebind, Ipv6V6Only, ReuseAddr, ReusePort};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket};

/// A TCP socket for an address of this family, not bound yet. One for IPv6 takes no IPv4.
///
/// # Errors
/// Those of `socket` and `setsockopt`.
pub fn open(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    if address.is_ipv6() {
        setsockopt(&socket, Ipv6V6Only, &true)?;
    }
    Ok(socket)
}

/// Makes a socket that listens at `address` the first member of a group, and has new connections given to the member
/// of that number. To be called on a socket that was bound **without** the option: a taken port is refused then, where
/// with it the socket would silently join whoever is there.
///
/// The kernel takes a program only where a group exists, and with the option set after `listen` there is none before
/// a second member joins: a dummy does, for about 150 µs. A connection that arrives at the dummy is reset, so this
/// comes before anybody is told of the port.
///
/// # Errors
/// The kernel refused. Nobody can join.
pub fn found(socket: &impl AsFd, address: SocketAddr, member: u32) -> Result<(), Errno> {
    let founded = setsockopt(socket, ReusePort, &true).and_then(|()| {
        let _dummy = second_member(address)?;
        name(socket, member)
    });
    if founded.is_err() {
        let _ = setsockopt(socket, ReusePort, &false);
    }
    founded
}

/// Has new connections given to the member of that number, from now on. Costs nothing under load.
///
/// # Errors
/// The kernel refused, for instance because there is no group. It goes on as before.
pub fn name(socket: &impl AsFd, member: u32) -> Result<(), Errno> {
    const RETURN_CONSTANT: u32 = libc::BPF_RET | libc::BPF_K;
    let mut program = [libc::sock_filter { code: RETURN_CONSTANT as u16, jt: 0, jf: 0, k: member }];
    let program = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    setsockopt(socket, AttachReusePortCbpf, &program)
}

fn second_member(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let dummy = open(address)?;
    setsockopt(&dummy, ReusePort, &true)?;
    // Where the address is to come yet, and the first member could bind it all the same.
    setsockopt(&dummy, IpFreebind, &true)?;
    bind(dummy.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&dummy, Backlog::new(1)?)?;
    Ok(dummy)
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn founder() -> (TcpListener, SocketAddr) {
        let founder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = founder.local_addr().unwrap();
        founder.set_nonblocking(true).unwrap();
        found(&founder, address, 1).unwrap();
        (founder, address)
    }

    fn joiner(address: SocketAddr) -> TcpListener {
        let socket = open(address).unwrap();
        setsockopt(&socket, ReusePort, &true).unwrap();
        bind(socket.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
        listen(&socket, Backlog::new(128).unwrap()).unwrap();
        let joiner = TcpListener::from(socket);
        joiner.set_nonblocking(true).unwrap();
        joiner
    }

    fn takes(listener: &TcpListener, address: SocketAddr) -> bool {
        let _client = TcpStream::connect(address).unwrap();
        match listener.accept() {
            Ok(_) => true,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn the_second_member_takes_all_while_it_is_there() {
        let (founder, address) = founder();
        assert!((0..20).all(|_| takes(&founder, address)), "the only one");
        let second = joiner(address);
        assert!((0..20).all(|_| takes(&second, address)), "the one that is named");
        drop(second);
        assert!((0..20).all(|_| takes(&founder, address)), "the only one again");
    }

    #[test]
    fn another_member_can_be_named_at_any_time() {
        let (founder, address) = founder();
        let second = joiner(address);
        name(&founder, 0).unwrap();
        assert!((0..20).all(|_| takes(&founder, address)));
        name(&founder, 1).unwrap();
        assert!((0..20).all(|_| takes(&second, address)));
    }

    #[test]
    fn a_port_without_the_option_is_nobodys_to_join() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        assert_eq!(second_member(address).unwrap_err(), Errno::EADDRINUSE);
    }
}

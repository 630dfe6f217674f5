//! Sockets of several processes that listen on one TCP address and port (`SO_REUSEPORT`), and the classic BPF program
//! by which the kernel picks the one that gets a connection.
//!
//! The kernel numbers the members of such a group from 0, in the order in which they came; where one leaves, the last
//! takes its place. A program here names one number, or another one for clients of certain addresses. A number that no
//! member has makes the kernel pick by hash; a single member then gets everything.
//!
//! Members must belong to one uid: that of the socket (`fchown`), not of its process. Who is in a group, and who is to
//! be named, is not decided here.

mod program;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::{AttachReusePortCbpf, IpFreebind, Ipv6V6Only, ReuseAddr, ReusePort};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrLike, SockaddrStorage, bind, getsockname, listen, setsockopt,
    socket,
};

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
    attach(socket, &mut [program::give_to(member)])
}

/// Has new connections of `clients` given to the member `theirs`, and all others to `member`, from now on. Clients of
/// the other address family have no part in it.
///
/// # Errors
/// The kernel refused, for instance because there is no group or the clients are more than some 400. It goes on as
/// before.
pub fn name_except(socket: &impl AsFd, member: u32, clients: &[IpAddr], theirs: u32) -> Result<(), Errno> {
    let address: SockaddrStorage = getsockname(socket.as_fd().as_raw_fd())?;
    let is_ipv4 = address.family() == Some(AddressFamily::Inet);
    let clients = clients.iter().filter(|client| client.is_ipv4() == is_ipv4);
    attach(socket, &mut program::except(clients.copied(), theirs, member))
}

fn attach(socket: &impl AsFd, program: &mut [libc::sock_filter]) -> Result<(), Errno> {
    let len = program.len().try_into().map_err(|_| Errno::EINVAL)?;
    setsockopt(socket, AttachReusePortCbpf, &libc::sock_fprog { len, filter: program.as_mut_ptr() })
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
        founder_at("127.0.0.1:0")
    }

    fn founder_at(address: &str) -> (TcpListener, SocketAddr) {
        let founder = TcpListener::bind(address).unwrap();
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

    /// Whether a connection from `client` comes to this member.
    fn takes_from(client: &str, listener: &TcpListener, address: SocketAddr) -> bool {
        let client: IpAddr = client.parse().unwrap();
        let socket = open(address).unwrap();
        bind(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(client, 0))).unwrap();
        nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
        listener.accept().is_ok_and(|(_, peer)| peer.ip() == client)
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn some_clients_can_have_a_member_of_their_own() {
        let (founder, address) = founder();
        let second = joiner(address);
        // Neighbours of 127.0.0.8 in every byte, as many as anybody will list, and one of the other family.
        let mut clients = addresses(&["127.0.0.7", "126.0.0.8", "127.1.0.8", "127.0.1.8", "8.0.0.127", "::1"]);
        clients.extend((0..60).map(|last| IpAddr::from([127, 0, 9, last])));
        name_except(&founder, 1, &clients, 0).unwrap();
        for _ in 0..10 {
            assert!(takes_from("127.0.0.7", &founder, address));
            assert!(takes_from("127.0.9.59", &founder, address), "the last of the list");
            assert!(takes_from("127.0.0.8", &second, address), "everybody else");
        }
        name_except(&founder, 1, &[], 0).unwrap();
        assert!((0..10).all(|_| takes_from("127.0.0.7", &second, address)), "the list is replaced");
        name_except(&founder, 1, &clients, 0).unwrap();
        drop(second);
        assert!(takes_from("127.0.0.7", &founder, address) && takes_from("127.0.0.8", &founder, address), "alone");
    }

    #[test]
    fn some_clients_can_have_a_member_of_their_own_over_ipv6() {
        let (founder, address) = founder_at("[::1]:0");
        let second = joiner(address);
        // Each differs in one word of its address.
        let others = addresses(&["1::1", "0:0:1::1", "::1:0:0:1", "::2", "127.0.0.1", "0.0.0.1"]);
        name_except(&founder, 1, &others, 0).unwrap();
        assert!((0..10).all(|_| takes_from("::1", &second, address)));
        name_except(&founder, 1, &[others, addresses(&["::1"])].concat(), 0).unwrap();
        assert!((0..10).all(|_| takes_from("::1", &founder, address)));
    }

    #[test]
    fn a_list_that_the_kernel_refuses_changes_nothing() {
        let (founder, address) = founder();
        let second = joiner(address);
        let clients: Vec<IpAddr> = (0..5000_u32).map(|number| IpAddr::from(number.to_be_bytes())).collect();
        assert_eq!(name_except(&founder, 0, &clients, 0), Err(Errno::EINVAL));
        assert!((0..10).all(|_| takes(&second, address)));
    }

    #[test]
    fn a_port_without_the_option_is_nobodys_to_join() {
        let holder = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = holder.local_addr().unwrap();
        assert_eq!(second_member(address).unwrap_err(), Errno::EADDRINUSE);
    }
}

//! Against the running kernel, with listeners on loopback.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::collections::HashSet;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::sys::socket::sockopt::ReusePort;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket};
use nix::unistd::{Uid, fchown};
use sock_diag::{Listener, all_listeners, destroy, end_connections, listeners_on};

fn inode(socket: &TcpListener) -> u32 {
    let path = format!("/proc/self/fd/{}", socket.as_raw_fd());
    std::fs::metadata(path).unwrap().ino().try_into().unwrap()
}

fn of(socket: &TcpListener, listeners: &[Listener]) -> Option<Listener> {
    listeners.iter().find(|listener| listener.inode == inode(socket)).copied()
}

/// A listener that shares its address.
fn group_member(address: SocketAddr) -> TcpListener {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd: OwnedFd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&fd, ReusePort, &true).unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
    listen(&fd, Backlog::new(16).unwrap()).unwrap();
    fd.into()
}

#[test]
fn a_listener_is_found_with_its_owner_and_its_queue() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let socket = TcpListener::bind(address).unwrap();
        let address = socket.local_addr().unwrap();
        fchown(&socket, Some(Uid::from_raw(65534)), None).expect("these tests run as root");
        let _waiting = TcpStream::connect(address).unwrap();

        let listeners = listeners_on(address).unwrap();
        assert_eq!(listeners.len(), 1);
        let found = of(&socket, &listeners).unwrap();
        assert_eq!((found.address, found.uid, found.accept_queue, found.interface), (address, 65534, 1, 0));
    }
}

#[test]
fn a_listener_at_any_address_is_not_at_a_specific_one() {
    let any = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = any.local_addr().unwrap().port();
    assert_eq!(listeners_on(SocketAddr::from(([127, 0, 0, 1], port))).unwrap(), []);
    assert_eq!(listeners_on(SocketAddr::from(([0, 0, 0, 0], port))).unwrap().len(), 1);
}

#[test]
fn hundreds_of_listeners_of_both_families_are_all_listed() {
    let sockets: Vec<TcpListener> =
        (0..300).map(|i| TcpListener::bind(if i % 2 == 0 { "127.0.0.1:0" } else { "[::1]:0" }).unwrap()).collect();
    let listeners = all_listeners().unwrap();
    for socket in &sockets {
        let found = of(socket, &listeners).expect("every listener is listed");
        assert_eq!(found.address, socket.local_addr().unwrap());
    }
}

#[test]
fn destroying_one_member_of_a_group_leaves_the_others() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let first = group_member(address.parse().unwrap());
        let address = first.local_addr().unwrap();
        let others: Vec<TcpListener> = (0..7).map(|_| group_member(address)).collect();
        let victim = &others[3];

        let listeners = listeners_on(address).unwrap();
        assert_eq!(listeners.len(), 8);
        destroy(&of(victim, &listeners).unwrap()).expect("these tests run as root");

        let left = listeners_on(address).unwrap();
        assert_eq!(left.len(), 7);
        assert_eq!(of(victim, &left), None);
        assert_eq!(victim.accept().unwrap_err().raw_os_error(), Some(nix::libc::EINVAL));
    }
}

#[test]
fn destroying_what_is_gone_says_so() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let gone = listeners_on(address).unwrap()[0];
    drop(socket);
    let _successor = TcpListener::bind(address).unwrap();
    assert_eq!(destroy(&gone).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(listeners_on(address).unwrap().len(), 1, "the successor lives");
}

#[test]
fn connections_to_a_peer_are_ended_and_no_others() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let [gone, there] = [(); 2].map(|()| TcpListener::bind(address).unwrap());
        let connect = |to: &TcpListener| TcpStream::connect(to.local_addr().unwrap()).unwrap();
        let (mut lost, of_another, kept) = (connect(&gone), connect(&gone), connect(&there));
        fchown(&of_another, Some(Uid::from_raw(65534)), None).unwrap();
        let peers = HashSet::from([gone.local_addr().unwrap()]);

        assert_eq!(end_connections(&peers, 0).unwrap(), 1, "of this user, to this peer");
        assert_eq!(lost.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        for other in [&of_another, &kept] {
            other.set_nonblocking(true).unwrap();
            assert_eq!((&mut &*other).read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        assert_eq!(end_connections(&peers, 0).unwrap(), 0);
    }
}

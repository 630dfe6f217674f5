//! The shim as a forwarder of datagrams.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{Ipv6RecvPacketInfo, UdpGsoSegment};

use common::registrar::Registrar;
use common::{Folder, PATIENCE, Shim, Start, eventually, own_address};

/// A container that answers each datagram with the port that it came from and the datagram itself.
fn echo_container() -> SocketAddr {
    let socket = UdpSocket::bind((own_address(), 53)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || echo(&socket));
    address
}

fn echo(socket: &UdpSocket) {
    let mut buffer = vec![0; 65536];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(&buffer[..length], peer);
    }
}

fn start(container: SocketAddr) -> Start {
    let mut start = Start::new(container);
    start.protocol = "udp";
    start
}

/// A client that hears only what comes from `address`.
fn client(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn ask(socket: &UdpSocket, question: &[u8]) -> Vec<u8> {
    socket.send(question).unwrap();
    let mut answer = vec![0; 65536];
    let length = socket.recv(&mut answer).unwrap();
    answer.truncate(length);
    answer
}

#[test]
fn datagrams_of_every_size_come_back_as_they_went() {
    let shim = start(echo_container()).serve();
    let socket = client(shim.address);
    for length in [1, 0, 512, 1472, 9000, 65507] {
        let question = vec![length as u8; length];
        assert!(ask(&socket, &question) == question, "{length} bytes");
    }
}

#[test]
fn the_answer_leaves_from_the_address_that_was_asked() {
    for (any, asked) in [("0.0.0.0", ["127.0.0.1", "127.0.0.7", "127.9.9.9"]), ("::", ["::1", "::1", "::1"])] {
        for dockerds in [false, true] {
            let any = UdpSocket::bind((any, 0)).unwrap();
            let mut start = start(echo_container());
            start.host = any.local_addr().unwrap();
            if start.host.is_ipv6() {
                // As dockerd's is; otherwise "::" would take IPv4 as well.
                setsockopt(&any, Ipv6RecvPacketInfo, &true).unwrap();
            }
            let port = start.host.port();
            if dockerds {
                start.socket = Some(any.into());
            } else {
                drop(any);
            }
            let _shim = start.serve();
            for asked in asked {
                let socket = client(SocketAddr::new(asked.parse().unwrap(), port));
                assert_eq!(ask(&socket, b"question"), b"question", "{asked}");
            }
        }
    }
}

#[test]
fn each_client_has_its_own_socket_towards_the_container_and_keeps_it() {
    let container = UdpSocket::bind((own_address(), 53)).unwrap();
    container.set_read_timeout(Some(PATIENCE)).unwrap();
    let shim = start(container.local_addr().unwrap()).serve();
    let clients: Vec<UdpSocket> = (0..50).map(|_| client(shim.address)).collect();
    let round = || -> Vec<SocketAddr> {
        clients
            .iter()
            .enumerate()
            .map(|(i, client)| {
                client.send(&[i as u8]).unwrap();
                let mut question = [0; 1];
                let (_, session) = container.recv_from(&mut question).unwrap();
                assert_eq!(question, [i as u8]);
                session
            })
            .collect()
    };
    let first = round();
    assert_eq!(round(), first, "a client keeps its session");
    // Answers, all at once and in another order, reach the one who asked.
    for (i, session) in first.iter().enumerate().rev() {
        container.send_to(&[i as u8], session).unwrap();
    }
    for (i, client) in clients.iter().enumerate() {
        let mut answer = [0; 1];
        client.recv(&mut answer).unwrap();
        assert_eq!(answer, [i as u8]);
    }
}

#[test]
fn a_stream_of_datagrams_arrives_in_order_and_each_by_itself() {
    for length in [100, 1400, 20_000] {
        let container = UdpSocket::bind((own_address(), 53)).unwrap();
        container.set_read_timeout(Some(PATIENCE)).unwrap();
        let shim = start(container.local_addr().unwrap()).serve();
        let socket = client(shim.address);
        let mut buffer = vec![0; 65536];
        for burst in 0..20_u8 {
            // As many as any buffer on the way holds, the last one shorter.
            let sizes = [length, length, length, length, length, length / 2];
            for (i, size) in sizes.iter().enumerate() {
                socket.send(&vec![burst * 10 + i as u8; *size]).unwrap();
            }
            for (i, size) in sizes.iter().enumerate() {
                let (received, session) = container.recv_from(&mut buffer).unwrap();
                assert_eq!((received, buffer[0]), (*size, burst * 10 + i as u8));
                container.send_to(&buffer[..received], session).unwrap();
            }
            for (i, size) in sizes.iter().enumerate() {
                let received = socket.recv(&mut buffer).unwrap();
                assert_eq!((received, buffer[0]), (*size, burst * 10 + i as u8));
            }
        }
    }
}

#[test]
fn datagrams_that_were_sent_in_one_call_arrive_in_order_and_each_by_itself() {
    for (any, asked, length) in [("127.0.0.1", "127.0.0.1", 100), ("0.0.0.0", "127.0.0.7", 9000), ("::", "::1", 1400)] {
        let container = UdpSocket::bind((own_address(), 53)).unwrap();
        container.set_read_timeout(Some(PATIENCE)).unwrap();
        setsockopt(&container, UdpGsoSegment, &length).unwrap();
        let mut start = start(container.local_addr().unwrap());
        start.host = UdpSocket::bind((any, 0)).unwrap().local_addr().unwrap();
        let port = start.host.port();
        let _shim = start.serve();
        let socket = client(SocketAddr::new(asked.parse().unwrap(), port));
        setsockopt(&socket, UdpGsoSegment, &length).unwrap();
        let datagrams = |burst: u8| -> Vec<Vec<u8>> {
            let one =
                |number: u8| vec![burst.wrapping_mul(10) + number; length as usize / (1 + usize::from(number == 5))];
            (0..6).map(one).collect()
        };
        let mut buffer = vec![0; 65536];
        for burst in 0..20 {
            socket.send(&datagrams(burst).concat()).unwrap();
            let mut session = None;
            for datagram in datagrams(burst) {
                let (received, peer) = container.recv_from(&mut buffer).unwrap();
                assert!(buffer[..received] == datagram, "{length} bytes, burst {burst}: {received}, {}", buffer[0]);
                session = Some(peer);
            }
            container.send_to(&datagrams(burst).concat(), session.unwrap()).unwrap();
            for datagram in datagrams(burst) {
                let received = socket.recv(&mut buffer).unwrap();
                assert!(buffer[..received] == datagram, "{length} bytes, burst {burst}: {received}, {}", buffer[0]);
            }
        }
    }
}

#[test]
fn a_container_that_does_not_listen_yet_does_not_end_the_session() {
    let address = SocketAddr::new(own_address(), 53);
    let shim = start(address).serve();
    let socket = client(shim.address);
    for _ in 0..5 {
        socket.send(b"nobody hears this").unwrap();
    }
    let container = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || echo(&container));
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    eventually("the session answers", || {
        socket.send(b"question").unwrap();
        socket.recv(&mut [0; 64]).ok()
    });
}

#[test]
fn a_refusing_container_costs_no_datagram_after_it_listens() {
    let address = SocketAddr::new(own_address(), 53);
    let shim = start(address).serve();
    let socket = client(shim.address);
    socket.send(b"nobody hears this").unwrap();
    std::thread::sleep(Duration::from_millis(20)); // the "port unreachable" is back at the shim
    let container = UdpSocket::bind(address).unwrap();
    std::thread::spawn(move || echo(&container));
    assert_eq!(ask(&socket, b"question"), b"question");
}

/// In kB. Only what is of no file: pages of a program that was just built are dirty too, and nobody's.
fn own_memory(shim: &Shim) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", shim.child.id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_shim_without_datagrams_gives_their_memory_back_and_keeps_its_sessions() {
    let container = UdpSocket::bind((own_address(), 53)).unwrap();
    container.set_read_timeout(Some(PATIENCE)).unwrap();
    let shim = start(container.local_addr().unwrap()).serve();
    let socket = client(shim.address);
    let mut buffer = vec![0; 65536];
    socket.send(b"first").unwrap();
    let (_, session) = container.recv_from(&mut buffer).unwrap();
    let before = own_memory(&shim);
    eventually("the buffers of a burst are seen", || {
        for _ in 0..6 {
            socket.send(&[7; 30_000]).unwrap();
        }
        (own_memory(&shim) > before + 100).then_some(())
    });
    eventually("the memory is given back", || (own_memory(&shim) < before + 50).then_some(()));
    container.set_nonblocking(true).unwrap();
    while container.recv_from(&mut buffer).is_ok() {}
    container.set_nonblocking(false).unwrap();
    socket.send(b"question").unwrap();
    let (length, same) = container.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..length], same), (&b"question"[..], session));
}

#[test]
fn a_taken_udp_port_is_named() {
    let holder = UdpSocket::bind((own_address(), 53)).unwrap();
    let mut start = start(echo_container());
    start.host = holder.local_addr().unwrap();
    let shim = start.spawn();
    assert_eq!(shim.word, format!("1\nfailed to listen on {}: address already in use", shim.address));
}

#[test]
fn a_udp_port_registers_as_one_that_is_not_envoys() {
    let folder = Folder::new();
    let registrar = Registrar::listen(&folder.join("registrar.sock"));
    let mut start = start(echo_container());
    start.registrar = folder.join("registrar.sock");
    let shim: Shim = start.serve();
    let (_connection, register) = registrar.accept_and_register(65534);
    assert_eq!(register.published.to_string(), format!("{}/udp", shim.address));
    assert!(!register.shareable);
    assert_eq!(register.problem, "");
}

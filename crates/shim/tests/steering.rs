//! Who gets a connection: the kernel decides, between the shim and whoever joined its port.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use common::registrar::Registrar;
use common::{Folder, Shim, Start, container_named, echo_container, eventually};
use nix::errno::Errno;
use nix::sys::socket::sockopt::{Ipv6V6Only, ReuseAddr, ReusePort};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen, setsockopt, socket,
};
use nix::unistd::{Uid, fchown};
use shim_wire::FromRegistrar;

const ENVOY_UID: u32 = 65534;

/// A listener that shares its address, as Envoy's do.
fn join(address: SocketAddr, uid: u32) -> Result<TcpListener, Errno> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let fd: OwnedFd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        setsockopt(&fd, Ipv6V6Only, &true)?;
    }
    setsockopt(&fd, ReuseAddr, &true)?; // as Envoy does
    setsockopt(&fd, ReusePort, &true)?;
    fchown(&fd, Some(Uid::from_raw(uid)), None)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&fd, Backlog::new(128)?)?;
    Ok(fd.into())
}

/// Takes `count` connections and answers as Envoy.
fn answer(envoy: &TcpListener, count: usize) {
    for _ in 0..count {
        let (mut stream, _) = envoy.accept().expect("a connection waits");
        stream.write_all(b"envoy").expect("the client reads");
    }
}

fn envoy_takes_over_and_leaves(shim: &Shim) {
    let address = shim.address;
    assert_eq!(shim.ask(), "container");
    assert_eq!(join(address, 1234).map(drop), Err(Errno::EADDRINUSE), "another uid can't join");
    for _ in 0..3 {
        let envoy = join(address, ENVOY_UID).expect("Envoy's uid can join");
        std::thread::scope(|scope| {
            scope.spawn(|| answer(&envoy, 100));
            for i in 0..100 {
                assert_eq!(shim.ask(), "envoy", "connection {i}");
            }
        });
        drop(envoy);
        for _ in 0..20 {
            assert_eq!(shim.ask(), "container");
        }
    }
}

fn registered(adjust: impl FnOnce(&mut Start)) -> Shim {
    registered_with(container_named("container"), adjust)
}

fn registered_with(container: SocketAddr, adjust: impl FnOnce(&mut Start)) -> Shim {
    let folder = Folder::new();
    let registrar = Registrar::listen(&folder.join("registrar.sock"));
    let mut start = Start::new(container);
    start.registrar = folder.join("registrar.sock");
    adjust(&mut start);
    let shim = start.serve();
    let (_, register) = registrar.accept_and_register(ENVOY_UID);
    assert!(register.shareable, "{}", register.problem);
    shim
}

#[test]
fn envoy_gets_every_new_connection_while_it_lives() {
    envoy_takes_over_and_leaves(&registered(|_| {}));
}

#[test]
fn envoy_gets_every_new_connection_on_dockerds_socket() {
    envoy_takes_over_and_leaves(&registered(|start| {
        start.socket = Some(TcpListener::bind(start.host).expect("the address is free").into());
    }));
}

#[test]
fn envoy_gets_every_new_connection_over_ipv6() {
    let free = TcpListener::bind("[::1]:0").and_then(|listener| listener.local_addr()).expect("IPv6 on loopback");
    envoy_takes_over_and_leaves(&registered(|start| start.host = free));
}

#[test]
fn connections_of_the_shims_own_keep_nobody_out_and_live_on() {
    let shim = registered_with(echo_container(), |_| {});
    let mut before = shim.connect();
    before.write_all(b"a").expect("the shim serves");
    before.read_exact(&mut [0; 1]).expect("the container answers");
    let envoy = join(shim.address, ENVOY_UID).expect("Envoy's uid can join");
    before.write_all(b"b").expect("the shim serves on");
    before.read_exact(&mut [0; 1]).expect("the container answers");
    drop(envoy);
}

#[test]
fn several_sockets_of_envoys_leave_nothing_to_the_shim() {
    let shim = registered(|_| {});
    let envoy: Vec<TcpListener> = (0..4).map(|_| join(shim.address, ENVOY_UID).expect("can join")).collect();
    for socket in &envoy {
        socket.set_nonblocking(true).expect("a socket");
    }
    for _ in 0..50 {
        let client = shim.connect();
        let (mut stream, _) = eventually("Envoy gets it", || envoy.iter().find_map(|socket| socket.accept().ok()));
        stream.write_all(b"envoy").expect("the client reads");
        drop(client);
    }
}

#[test]
fn the_registrar_can_have_the_shim_take_new_connections_and_a_new_one_begins_with_envoy() {
    let folder = Folder::new();
    let registrar = Registrar::listen(&folder.join("registrar.sock"));
    let mut start = Start::new(container_named("container"));
    start.registrar = folder.join("registrar.sock");
    let shim = start.serve();
    let (mut connection, register) = registrar.accept_and_register(ENVOY_UID);
    assert!(register.socket_inode != 0);
    let envoy = join(shim.address, ENVOY_UID).expect("Envoy's uid can join");
    envoy.set_nonblocking(true).expect("a listener can be told not to block");

    connection.say(&FromRegistrar::Steer { to_envoy: false });
    eventually("the shim answers", || (ask_within(shim.address) == "container").then_some(()));
    assert_eq!(ask_within(shim.address), "container");

    connection.say(&FromRegistrar::Steer { to_envoy: true });
    eventually("Envoy is given a connection", || reaches(&envoy, shim.address));
    connection.say(&FromRegistrar::Steer { to_envoy: false });
    eventually("the shim answers again", || (ask_within(shim.address) == "container").then_some(()));

    drop(connection);
    registrar.accept_and_register(ENVOY_UID);
    eventually("Envoy is given a connection again", || reaches(&envoy, shim.address));
}

#[test]
fn the_registrar_can_have_the_shim_take_the_connections_of_some_clients() {
    let folder = Folder::new();
    let registrar = Registrar::listen(&folder.join("registrar.sock"));
    let mut start = Start::new(container_named("container"));
    start.registrar = folder.join("registrar.sock");
    let shim = start.serve();
    let (mut connection, _) = registrar.accept_and_register(ENVOY_UID);
    let envoy = join(shim.address, ENVOY_UID).expect("Envoy's uid can join");
    envoy.set_nonblocking(true).expect("a listener can be told not to block");
    let bypasses = |client| ask_from(client, shim.address) == "container";

    connection.say(&FromRegistrar::Bypass { clients: vec![[127, 0, 0, 7].into(), [127, 0, 0, 9].into()] });
    eventually("the client is given to the shim", || bypasses(7).then_some(()));
    for _ in 0..10 {
        assert!(bypasses(7) && bypasses(9) && !bypasses(8));
    }
    connection.say(&FromRegistrar::Steer { to_envoy: false });
    eventually("the shim answers everybody", || bypasses(8).then_some(()));
    assert!(bypasses(7));
    connection.say(&FromRegistrar::Bypass { clients: vec![[127, 0, 0, 9].into()] });
    connection.say(&FromRegistrar::Steer { to_envoy: true });
    eventually("Envoy is given most again", || (!bypasses(8)).then_some(()));
    assert!(bypasses(9) && !bypasses(7), "the list is replaced, and outlives being steered");

    drop(connection);
    registrar.accept_and_register(ENVOY_UID);
    eventually("a new registrar begins with Envoy for everybody", || (!bypasses(9)).then_some(()));
}

/// What the client of this number is answered, or nothing where nobody does in time.
fn ask_from(client: u8, address: SocketAddr) -> String {
    let socket = socket_group::open(address).expect("a socket");
    let client = SocketAddr::from(([127, 0, 0, client], 0));
    bind(socket.as_raw_fd(), &SockaddrStorage::from(client)).expect("an address of the loopback");
    connect(socket.as_raw_fd(), &SockaddrStorage::from(address)).expect("the port is open");
    answer_within(socket.into())
}

/// What answers, or nothing where nobody does in time.
fn ask_within(address: SocketAddr) -> String {
    answer_within(TcpStream::connect(address).expect("the port is open"))
}

fn answer_within(mut stream: TcpStream) -> String {
    stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout can be set");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// Whether a new connection comes to Envoy.
fn reaches(envoy: &TcpListener, address: SocketAddr) -> Option<()> {
    while envoy.accept().is_ok() {}
    let _client = TcpStream::connect(address).expect("the port is open");
    std::thread::sleep(Duration::from_millis(5));
    envoy.accept().ok().map(drop)
}

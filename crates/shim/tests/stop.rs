//! The end of a shim: when it has exited, the port is free.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use common::registrar::{Connection, Registrar};
use common::{Folder, Shim, Start, container_named, eventually};
use nix::sys::signal::Signal;
use nix::sys::socket::sockopt::{ReuseAddr, ReusePort};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket};
use nix::unistd::{Uid, fchown};
use shim_wire::{FromRegistrar, FromShim, RELEASE_ANSWER, RELEASE_LIMIT};

const ENVOY_UID: u32 = 65534;

fn join_as_envoy(address: SocketAddr) -> TcpListener {
    let fd: OwnedFd = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    setsockopt(&fd, ReuseAddr, &true).unwrap(); // as Envoy does
    setsockopt(&fd, ReusePort, &true).unwrap();
    fchown(&fd, Some(Uid::from_raw(ENVOY_UID)), None).unwrap();
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
    listen(&fd, Backlog::new(128).unwrap()).unwrap();
    fd.into()
}

fn registered() -> (Shim, Registrar, Connection) {
    let folder = Folder::new();
    let registrar = Registrar::listen(&folder.join("registrar.sock"));
    let mut start = Start::new(container_named("container"));
    start.registrar = folder.join("registrar.sock");
    let shim = start.serve();
    let (connection, _) = registrar.accept_and_register(ENVOY_UID);
    (shim, registrar, connection)
}

fn assert_free(address: SocketAddr) {
    TcpListener::bind(address).expect("the port is free");
}

#[test]
fn both_signals_end_it_at_once_without_a_registrar() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut shim = Start::new(container_named("container")).serve();
        let start = Instant::now();
        shim.signal(signal);
        assert_eq!(shim.exit().code(), Some(0));
        assert!(start.elapsed() < RELEASE_ANSWER);
        assert_free(shim.address);
    }
}

#[test]
fn it_serves_until_envoy_has_let_go_and_exits_then() {
    let (mut shim, _registrar, mut connection) = registered();
    let envoy = join_as_envoy(shim.address);
    shim.signal(Signal::SIGINT);
    assert_eq!(connection.hear(), Some(FromShim::Release));
    drop(envoy);
    assert_eq!(shim.ask(), "container");
    let start = Instant::now();
    connection.say(&FromRegistrar::Released);
    assert_eq!(shim.exit().code(), Some(0));
    assert!(start.elapsed() < RELEASE_ANSWER);
    assert_eq!(shim.log(), "");
    assert_free(shim.address);
}

#[test]
fn envoys_workers_may_close_a_moment_after_the_word() {
    let (mut shim, _registrar, mut connection) = registered();
    let envoy = join_as_envoy(shim.address);
    shim.signal(Signal::SIGINT);
    assert_eq!(connection.hear(), Some(FromShim::Release));
    connection.say(&FromRegistrar::Released);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(shim.child.try_wait().unwrap(), None, "Envoy still listens");
    drop(envoy);
    assert_eq!(shim.exit().code(), Some(0));
    assert_eq!(shim.log(), "");
}

#[test]
fn a_silent_registrar_is_waited_for_a_moment() {
    let (mut shim, _registrar, mut connection) = registered();
    let envoy = [join_as_envoy(shim.address), join_as_envoy(shim.address)];
    let start = Instant::now();
    shim.signal(Signal::SIGINT);
    assert_eq!(connection.hear(), Some(FromShim::Release));
    assert_eq!(shim.exit().code(), Some(0));
    assert!(start.elapsed() >= RELEASE_ANSWER);
    assert_eq!(shim.log().matches("did not let go").count(), 2, "{}", shim.log());
    assert_free(shim.address);
    drop(envoy);
}

#[test]
fn a_registrar_that_waits_for_envoy_is_waited_for() {
    let (mut shim, _registrar, mut connection) = registered();
    shim.signal(Signal::SIGINT);
    assert_eq!(connection.hear(), Some(FromShim::Release));
    connection.say(&FromRegistrar::Releasing);
    std::thread::sleep(2 * RELEASE_ANSWER);
    assert_eq!(shim.child.try_wait().unwrap(), None, "Envoy may be about to listen");
    let envoy = join_as_envoy(shim.address);
    drop(envoy);
    connection.say(&FromRegistrar::Released);
    assert_eq!(shim.exit().code(), Some(0));
    assert_free(shim.address);
}

#[test]
fn a_registrar_that_waits_for_envoy_and_hangs_then_is_waited_for_within_a_bound() {
    let (mut shim, _registrar, mut connection) = registered();
    let _envoy = join_as_envoy(shim.address);
    shim.signal(Signal::SIGINT);
    assert_eq!(connection.hear(), Some(FromShim::Release));
    let start = Instant::now();
    connection.say(&FromRegistrar::Releasing);
    assert_eq!(shim.exit().code(), Some(0));
    assert!(start.elapsed() > RELEASE_LIMIT, "{:?}", start.elapsed());
    assert_free(shim.address);
}

#[test]
fn without_a_registrar_envoys_sockets_are_ended_at_once_and_others_are_not() {
    let (mut shim, registrar, connection) = registered();
    let _envoy = join_as_envoy(shim.address);
    let mut neighbour = shim.address;
    neighbour.set_port(8081);
    let _neighbour = join_as_envoy(neighbour);
    drop((registrar, connection));
    let start = Instant::now();
    shim.signal(Signal::SIGTERM);
    assert_eq!(shim.exit().code(), Some(0));
    assert!(start.elapsed() < RELEASE_ANSWER);
    assert!(shim.log().contains("its socket was ended"), "{}", shim.log());
    assert_free(shim.address);
    assert_eq!(sock_diag::listeners_on(neighbour).unwrap().len(), 1);
}

#[test]
fn a_registrar_that_dies_during_the_release_is_not_waited_for() {
    let (mut shim, registrar, mut connection) = registered();
    shim.signal(Signal::SIGINT);
    assert_eq!(connection.hear(), Some(FromShim::Release));
    let start = Instant::now();
    drop((registrar, connection));
    assert_eq!(shim.exit().code(), Some(0));
    assert!(start.elapsed() < RELEASE_ANSWER);
}

#[test]
fn a_socket_that_somebody_ended_from_outside_listens_again() {
    let shim = Start::new(container_named("container")).serve();
    let listener = sock_diag::listeners_on(shim.address).unwrap()[0];
    sock_diag::destroy(&listener).expect("these tests run as root");
    eventually("the port is served again", || {
        TcpStream::connect(shim.address).ok().and_then(|mut stream| {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).ok()
        })
    });
    assert!(shim.log().contains("it listens again"), "{}", shim.log());
}

#[test]
fn a_second_signal_ends_the_wait() {
    let (mut shim, _registrar, mut connection) = registered();
    shim.signal(Signal::SIGINT);
    assert_eq!(connection.hear(), Some(FromShim::Release));
    let start = Instant::now();
    shim.signal(Signal::SIGTERM);
    assert_eq!(shim.exit().code(), Some(0));
    assert!(start.elapsed() < RELEASE_ANSWER);
}

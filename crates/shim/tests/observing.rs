//! What the shim learns from the bytes that it forwards, and that they are forwarded as if nobody looked.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use common::registrar::{Connection, Registrar};
use common::{Folder, PATIENCE, Shim, Start, container, eventually};
use evidence::{Finding, Reason};
use nix::sys::signal::Signal;
use nix::sys::socket::{setsockopt, sockopt};
use shim_wire::{FromRegistrar, FromShim};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const BAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";

/// A shim and its registrar, who has it look at connections.
struct Observed {
    shim: Shim,
    connection: Connection,
    registrar: Registrar,
    _folder: Folder,
}

impl Observed {
    fn start(container: SocketAddr) -> Self {
        let folder = Folder::new();
        let registrar = Registrar::listen(&folder.join("registrar.sock"));
        let mut start = Start::new(container);
        start.registrar = folder.join("registrar.sock");
        let shim = start.serve();
        let (connection, register) = registrar.accept_and_register(0);
        assert!(register.observes);
        let mut observed = Self { shim, connection, registrar, _folder: folder };
        observed.observe();
        observed
    }

    /// Switches it on, and waits until it is.
    fn observe(&mut self) {
        self.connection.say(&FromRegistrar::Observe { observes: true });
        self.hear_nothing();
    }

    /// The connection to the registrar ends, and the shim finds the next one, who has not said anything yet.
    fn next_registrar(&mut self) {
        let _ = self.connection.stream.shutdown(Shutdown::Both);
        self.connection = self.registrar.accept_and_register(0).0;
    }

    /// Everything is done that was asked for before, and nothing was seen.
    fn hear_nothing(&mut self) {
        // A message wakes the shim before its sender goes on, so a shim that sleeps has read all of them.
        eventually("the shim has nothing to do", || is_asleep(&self.shim).then_some(()));
        self.shim.signal(Signal::SIGHUP);
        let heard = self.connection.hear();
        assert!(matches!(heard, Some(FromShim::Register(_))), "{heard:?}");
    }

    fn hear(&mut self) -> Finding {
        match self.connection.hear() {
            Some(FromShim::Seen { finding }) => Finding::from_code(finding).unwrap(),
            other => panic!("expected a finding, got {other:?}"),
        }
    }

    /// Says something, and hears what comes back until the container ends the connection.
    fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        let mut client = self.shim.connect();
        client.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        answer
    }
}

/// Whether it waits for the kernel.
fn is_asleep(shim: &Shim) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{}/stat", shim.child.id())).unwrap();
    text.rsplit(") ").next().unwrap().starts_with('S')
}

/// A container that answers what begins with one of these by what belongs to it, and hangs up.
fn answering(answers: &'static [(&[u8], &[u8])]) -> SocketAddr {
    container(|mut stream| {
        let mut heard = [0; 4096];
        let length = stream.read(&mut heard).unwrap_or(0);
        let answer = answers.iter().find(|(question, _)| heard[..length].starts_with(question));
        let _ = stream.write_all(answer.map_or(BAD, |(_, answer)| answer));
    })
}

/// A container whose connections the test holds itself.
fn held_container() -> (SocketAddr, mpsc::Receiver<TcpStream>) {
    let (sender, receiver) = mpsc::channel();
    (container(move |stream| sender.send(stream).unwrap()), receiver)
}

#[test]
fn http_is_told_once_and_then_only_what_speaks_against_it() {
    let mut observed = Observed::start(answering(&[(b"GET", OK), (b"PING", b"+PONG\r\n")]));
    assert_eq!(observed.ask(b"\x16\x03\x01\0\x05garbage"), BAD);
    observed.hear_nothing();
    assert_eq!(observed.ask(GET), OK);
    assert_eq!(observed.hear(), Finding::Http);
    assert_eq!(observed.ask(GET), OK);
    observed.hear_nothing();
    assert_eq!(observed.ask(b"PING\r\n"), b"+PONG\r\n");
    assert_eq!(observed.hear(), Finding::Tcp(Reason::NotHttp));
    // Enough is known now, until the registrar wants to know again.
    assert_eq!(observed.ask(b"PING\r\n"), b"+PONG\r\n");
    observed.hear_nothing();
    observed.observe();
    assert_eq!(observed.ask(b"PING\r\n"), b"+PONG\r\n");
    assert_eq!(observed.hear(), Finding::Tcp(Reason::NotHttp));
}

#[test]
fn a_server_that_speaks_first_is_noticed() {
    let mut observed = Observed::start(container(|mut stream| stream.write_all(b"220 mail ESMTP\r\n").unwrap()));
    assert_eq!(observed.ask(b""), b"220 mail ESMTP\r\n");
    assert_eq!(observed.hear(), Finding::Tcp(Reason::ServerSpeaksFirst));
}

#[test]
fn nothing_is_looked_at_unless_the_registrar_says_so() {
    let mut observed = Observed::start(answering(&[(b"GET", OK)]));
    observed.connection.say(&FromRegistrar::Observe { observes: false });
    observed.hear_nothing();
    assert_eq!(observed.ask(GET), OK);
    observed.hear_nothing();
    observed.next_registrar();
    observed.hear_nothing();
    assert_eq!(observed.ask(GET), OK);
    observed.observe();
    assert_eq!(observed.ask(GET), OK);
    assert_eq!(observed.hear(), Finding::Http);
}

#[test]
fn what_was_seen_without_a_registrar_is_told_to_the_next() {
    let (address, connections) = held_container();
    let mut observed = Observed::start(address);
    let mut client = observed.shim.connect();
    client.write_all(GET).unwrap();
    let mut server = connections.recv_timeout(PATIENCE).unwrap();
    server.read_exact(&mut [0; GET.len()]).unwrap();
    observed.connection.stream.shutdown(Shutdown::Both).unwrap();
    eventually("the shim looks for another registrar", || observed.registrar.is_asked().then_some(()));
    server.write_all(OK).unwrap();
    client.read_exact(&mut [0; OK.len()]).unwrap();

    observed.next_registrar();
    observed.hear_nothing();
    observed.connection.say(&FromRegistrar::Observe { observes: true });
    assert_eq!(observed.hear(), Finding::Http);
}

/// Numbers that look random and are the same each time.
fn numbers(mut seed: u64) -> impl Iterator<Item = usize> {
    std::iter::repeat_with(move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    })
}

/// Writes in pieces of many lengths, now and then with a pause between them.
fn write_in_pieces(stream: &mut TcpStream, mut rest: &[u8], seed: u64) {
    for number in numbers(seed) {
        let most = [1, 2, 100, 5000, 100_000][number % 5];
        let (piece, further) = rest.split_at((number / 5 % most + 1).min(rest.len()));
        stream.write_all(piece).unwrap();
        rest = further;
        if rest.is_empty() {
            return;
        }
        if number.is_multiple_of(7) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// A head of some 20 kB, in lines that all differ.
fn long_head(first: &str, seed: u64) -> Vec<u8> {
    let lines = numbers(seed).take(1000).map(|number| format!("X-{number}: {number}\r\n"));
    (first.to_owned() + &lines.collect::<String>() + "Host: a\r\nContent-Length: 500000\r\n\r\n").into_bytes()
}

fn body(seed: u64) -> Vec<u8> {
    numbers(seed).take(500_000).map(|number| number as u8).collect()
}

#[test]
fn bytes_that_are_looked_at_arrive_unchanged_in_whatever_pieces_they_come() {
    let (address, connections) = held_container();
    let mut observed = Observed::start(address);
    for seed in 0..8 {
        let question = [long_head("POST / HTTP/1.1\r\n", seed), body(seed)].concat();
        let answer = [long_head("HTTP/1.1 200 OK\r\n", seed + 100), body(seed + 100)].concat();
        let mut client = observed.shim.connect();
        let mut server = connections.recv_timeout(PATIENCE).unwrap();
        let exchange = |from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]| {
            std::thread::scope(|scope| {
                scope.spawn(|| write_in_pieces(from, bytes, seed));
                let mut arrived = vec![0; bytes.len()];
                to.read_exact(&mut arrived).unwrap();
                assert!(arrived == bytes, "seed {seed}");
            });
        };
        exchange(&mut client, &mut server, &question);
        exchange(&mut server, &mut client, &answer);
        // Both ways at once, after the heads.
        let (mut client_too, mut server_too) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| exchange(&mut client, &mut server, &body(1)));
            exchange(&mut server_too, &mut client_too, &body(2));
        });
    }
    assert_eq!(observed.hear(), Finding::Http);
}

#[test]
fn a_client_that_ends_its_side_first_is_answered_and_shows_nothing() {
    let mut observed = Observed::start(container(|mut stream| {
        let mut question = Vec::new();
        stream.read_to_end(&mut question).unwrap();
        assert_eq!(question, GET);
        stream.write_all(OK).unwrap();
    }));
    let mut client = observed.shim.connect();
    client.write_all(GET).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, OK);
    observed.hear_nothing();
}

#[test]
fn resets_and_silence_are_passed_on_and_show_nothing() {
    let (address, connections) = held_container();
    let mut observed = Observed::start(address);
    for from_client in [true, false] {
        let mut client = observed.shim.connect();
        let mut server = connections.recv_timeout(PATIENCE).unwrap();
        client.write_all(b"GET / HT").unwrap();
        server.read_exact(&mut [0; 8]).unwrap();
        let (source, mut other) = if from_client { (client, server) } else { (server, client) };
        setsockopt(&source, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
        drop(source);
        assert_eq!(other.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset, "{from_client}");
    }
    let idle = observed.shim.descriptors();
    let silent: Vec<_> =
        (0..50).map(|_| (observed.shim.connect(), connections.recv_timeout(PATIENCE).unwrap())).collect();
    drop(silent);
    eventually("they are gone", || (observed.shim.descriptors() <= idle).then_some(()));
    observed.hear_nothing();
}

#[test]
fn looking_takes_no_wake_ups_of_its_own() {
    let (address, connections) = held_container();
    let observed = Observed::start(address);
    let mut client = observed.shim.connect();
    client.write_all(b"GET /").unwrap();
    let mut server = connections.recv_timeout(PATIENCE).unwrap();
    server.read_exact(&mut [0; 5]).unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let before = switches(&observed.shim);
    std::thread::sleep(Duration::from_millis(500));
    assert!(switches(&observed.shim) <= before + 1, "it waits for the kernel");
}

/// How often it was given the processor.
fn switches(shim: &Shim) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", shim.child.id())).unwrap();
    let numbers = status.lines().filter(|line| line.contains("ctxt_switches"));
    numbers.map(|line| line.rsplit('\t').next().unwrap().parse::<u64>().unwrap()).sum()
}

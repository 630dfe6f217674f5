//! The shim as a forwarder: what docker-proxy passes, it passes.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use common::{PATIENCE, Start, container, echo_container, eventually, own_address};
use nix::sys::socket::{setsockopt, sockopt};

/// Bytes that are not the same everywhere, so that a lost or doubled part shows.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn reset(stream: TcpStream) {
    setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
    drop(stream);
}

/// A container whose connections the test holds itself.
fn held_container() -> (SocketAddr, mpsc::Receiver<TcpStream>) {
    let (sender, receiver) = mpsc::channel();
    let address = container(move |stream| sender.send(stream).unwrap());
    (address, receiver)
}

#[test]
fn large_data_goes_both_ways_at_once_unharmed() {
    let shim = Start::new(echo_container()).serve();
    let sent = pattern(20_000_000);
    let mut stream = shim.connect();
    let mut writer = stream.try_clone().unwrap();
    let copy = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&copy).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    writing.join().unwrap();
    assert!(received == sent, "{} bytes came back of {}", received.len(), sent.len());
}

#[test]
fn each_side_may_end_its_stream_first() {
    // The client: the answer comes after its end.
    let address = container(|mut stream| {
        let mut question = String::new();
        stream.read_to_string(&mut question).unwrap();
        stream.write_all(question.to_uppercase().as_bytes()).unwrap();
    });
    let shim = Start::new(address).serve();
    let mut stream = shim.connect();
    stream.write_all(b"question").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "QUESTION");

    // The container: what the client says afterwards still arrives.
    let (address, connections) = held_container();
    let shim = Start::new(address).serve();
    let mut client = shim.connect();
    let mut server = connections.recv_timeout(PATIENCE).unwrap();
    server.write_all(b"greeting").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    let mut greeting = String::new();
    client.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "greeting");
    client.write_all(b"late").unwrap();
    drop(client);
    let mut late = String::new();
    server.read_to_string(&mut late).unwrap();
    assert_eq!(late, "late");
}

#[test]
fn a_reset_is_passed_on_both_ways() {
    let (address, connections) = held_container();
    let shim = Start::new(address).serve();
    for from_client in [true, false] {
        let client = shim.connect();
        let server = connections.recv_timeout(PATIENCE).unwrap();
        let (source, mut other) = if from_client { (client, server) } else { (server, client) };
        reset(source);
        assert_eq!(other.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset, "{from_client}");
    }
}

#[test]
fn a_reset_after_the_streams_end_is_passed_on() {
    let (address, connections) = held_container();
    let shim = Start::new(address).serve();
    let client = shim.connect();
    let mut server = connections.recv_timeout(PATIENCE).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
    reset(client);
    server.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    eventually("the server's writes fail", || {
        server.write_all(b"x").err().filter(|e| e.kind() != ErrorKind::WouldBlock)
    });
}

#[test]
fn what_was_sent_before_a_reset_arrives() {
    let (address, connections) = held_container();
    let shim = Start::new(address).serve();
    let mut client = shim.connect();
    let mut server = connections.recv_timeout(PATIENCE).unwrap();
    // More than the client's end holds, so that part of it is still with the shim's socket at the reset.
    let sent = pattern(300_000);
    server.write_all(&sent).unwrap();
    eventually("the container's end is empty", || (unsent(&server) == 0).then_some(()));
    std::thread::sleep(Duration::from_millis(20));
    reset(server);
    let mut received = Vec::new();
    let end = client.read_to_end(&mut received);
    assert!(received == sent, "{} of {} bytes arrived", received.len(), sent.len());
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn a_slow_client_gets_everything_that_the_container_sent_before_it_reset() {
    const STEP: usize = 40_000;
    let (address, connections) = held_container();
    let shim = Start::new(address).serve();
    let mut client = shim.connect();
    setsockopt(&client, sockopt::RcvBuf, &STEP).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut container = connections.recv_timeout(PATIENCE).unwrap();
    // What the container does not read makes its end a reset.
    client.write_all(b"unread").unwrap();
    let sent = pattern(1_000_000);
    container.write_all(&sent).unwrap();
    eventually("the container has what it will not read", || {
        container.peek(&mut [0; 6]).is_ok_and(|length| length == 6).then_some(())
    });
    // Its kernel forgets what it has not sent yet.
    eventually("everything has left the container", || (unsent(&container) == 0).then_some(()));
    drop(container);
    let mut received: Vec<u8> = Vec::new();
    // For longer than the 5 seconds that once were all that a client had.
    while received.len() < sent.len() {
        let mut step = vec![0; STEP];
        let length = client.read(&mut step).unwrap();
        assert!(length > 0, "the end after {} bytes", received.len());
        received.extend(&step[..length]);
        std::thread::sleep(Duration::from_millis(300).mul_f64(length as f64 / STEP as f64));
    }
    assert!(received == sent);
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn an_answer_to_an_upload_that_the_container_refuses_arrives() {
    // As web servers answer "413": an answer, and a reset for what was not read.
    let address = container(|mut stream| {
        stream.read_exact(&mut [0; 10]).unwrap();
        stream.write_all(b"too large").unwrap();
        stream.peek(&mut [0; 1]).unwrap(); // there is more, which closing turns into a reset
    });
    let shim = Start::new(address).serve();
    for _ in 0..20 {
        let mut client = shim.connect();
        let mut upload = client.try_clone().unwrap();
        let uploading = std::thread::spawn(move || upload.write_all(&pattern(5_000_000)));
        let mut answer = Vec::new();
        // Whether reading or writing is the one to fail is a matter of chance, and so is that either does.
        let _ = client.read_to_end(&mut answer);
        assert_eq!(answer, b"too large");
        let _ = uploading.join().unwrap();
    }
}

/// Bytes that the peer has not acknowledged, from the kernel's table.
fn unsent(stream: &TcpStream) -> u64 {
    let (local, peer) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    let text = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let wanted = [hex(local), hex(peer)].join(" ");
    let line = text.lines().find(|line| line.contains(&wanted)).unwrap();
    let queues = line.split_whitespace().nth(4).unwrap();
    u64::from_str_radix(queues.split(':').next().unwrap(), 16).unwrap()
}

fn hex(address: SocketAddr) -> String {
    let std::net::IpAddr::V4(ip) = address.ip() else { panic!("IPv4 only") };
    format!("{:08X}:{:04X}", u32::from_ne_bytes(ip.octets()), address.port())
}

#[test]
fn a_slow_reader_slows_the_sender_down_and_nobody_else() {
    let (address, connections) = held_container();
    let shim = Start::new(address).serve();
    let mut client = shim.connect();
    let server = connections.recv_timeout(PATIENCE).unwrap();
    server.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut writer = server.try_clone().unwrap();
    let chunk = pattern(100_000);
    let mut sent = 0;
    // Buffers between here and there are a few megabytes; the shim adds 64 kB.
    while let Ok(length) = writer.write(&chunk) {
        sent += length;
        assert!(sent < 100_000_000, "the shim swallows what nobody reads");
    }
    let mut second = shim.connect();
    let mut other = connections.recv_timeout(PATIENCE).unwrap();
    other.write_all(b"quick").unwrap();
    second.read_exact(&mut [0; 5]).unwrap();

    writer.shutdown(Shutdown::Write).unwrap();
    let mut received = 0;
    let mut buffer = vec![0; 65536];
    loop {
        match client.read(&mut buffer).unwrap() {
            0 => break,
            length => received += length,
        }
    }
    assert_eq!(received, sent);
}

#[test]
fn a_refusing_container_ends_the_clients_connection_and_nothing_else() {
    let address = SocketAddr::new(own_address(), 80);
    let shim = Start::new(address).serve();
    for _ in 0..10 {
        assert_eq!(shim.connect().read(&mut [0; 1]).unwrap(), 0);
    }
    // The container comes up.
    let listener = TcpListener::bind(address).unwrap();
    common::serve_on(listener, |mut stream| stream.write_all(b"up").unwrap());
    assert_eq!(shim.ask(), "up");
}

#[test]
fn thousands_of_connections_live_side_by_side() {
    const CONNECTIONS: usize = 2000;
    raise_limit();
    let listener = TcpListener::bind((own_address(), 80)).unwrap();
    let shim = Start::new(listener.local_addr().unwrap()).serve();
    let idle = shim.descriptors();
    let mut pairs: Vec<(TcpStream, TcpStream)> = (0..CONNECTIONS)
        .map(|_| {
            let client = shim.connect();
            (client, listener.accept().unwrap().0)
        })
        .collect();
    for (client, server) in &mut pairs {
        client.write_all(b"ping").unwrap();
        let mut question = [0; 4];
        server.read_exact(&mut question).unwrap();
        server.write_all(&question).unwrap();
    }
    for (client, _) in &mut pairs {
        client.read_exact(&mut [0; 4]).unwrap();
    }
    assert!(shim.descriptors() <= idle + 2 * CONNECTIONS + 8, "an idle connection holds no pipe");
    drop(pairs);
    eventually("every connection is gone", || (shim.descriptors() <= idle + 8).then_some(()));
}

fn raise_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
}

#[test]
fn without_descriptors_left_connections_wait_without_spinning() {
    let listener = TcpListener::bind((own_address(), 80)).unwrap();
    // 50 open files: 3 connections at a time.
    let mut start = Start::new(listener.local_addr().unwrap());
    start.open_files = Some(50);
    let shim = start.serve();
    let clients: Vec<TcpStream> = (0..10).map(|_| shim.connect()).collect();
    let mut served = Vec::new();
    listener.set_nonblocking(true).unwrap();
    eventually("three are served", || {
        served.extend(listener.accept().ok());
        (served.len() == 3).then_some(())
    });
    let before = cpu_ticks(shim.child.id());
    std::thread::sleep(Duration::from_millis(300));
    assert!(cpu_ticks(shim.child.id()) - before <= 3, "it spins");
    assert!(listener.accept().is_err(), "a fourth is served");

    drop((clients, served));
    let mut others = 0;
    eventually("the others come to their turn", || {
        others += usize::from(listener.accept().is_ok());
        (others == 7).then_some(())
    });
}

/// Hundredths of a second that the process has used.
fn cpu_ticks(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap().split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

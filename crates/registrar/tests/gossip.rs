//! Registrars that look for each other, as processes on loopback: what each is told of the seeds that do not answer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::Write;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use admin_api::gossip::{Gossip, Seed, SeedOutcome, Standing};
use common::{Registrar, wait_until};

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER_KEY: &str = "HxAREhMUFRYXGBkaGxwdHh8AAQIDBAUGBwgJCgsMDQ4=";

/// A port of loopback that is free for UDP and TCP now.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn key_file(folder: &Path, key: &str) -> String {
    let path = folder.join(format!("{}.key", key.len() + usize::from(key.as_bytes()[0])));
    std::fs::write(&path, format!("{key}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    path.into_os_string().into_string().unwrap()
}

/// A registrar that gossips at this port of loopback.
fn start(name: &str, port: u16, key: &str, seeds: &[String]) -> Registrar {
    let folder = tempfile::tempdir().unwrap();
    let (key, listen) = (key_file(folder.path(), key), format!("127.0.0.1:{port}"));
    let mut options = vec!["--host-name", name, "--gossip-listen", &listen, "--gossip-key-file", &key];
    // Nobody is reached there: what is tested are the first words.
    options.extend(["--advertise-address", "192.0.2.1"]);
    seeds.iter().for_each(|seed| options.extend(["--seed", seed]));
    Registrar::start_in(folder, &options)
}

fn gossip(registrar: &Registrar) -> Gossip {
    let (status, body) = registrar.get("/api/v1/gossip", "localhost");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn seed(registrar: &Registrar, seed: &str) -> Seed {
    gossip(registrar).seeds.into_iter().find(|one| one.seed == seed).unwrap()
}

#[test]
fn of_each_seed_it_is_said_whether_and_how_it_failed() {
    let (own, hanging) = (free_port(), TcpListener::bind("127.0.0.1:0").unwrap());
    let talking = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = |port: u16| format!("127.0.0.1:{port}");
    let talks = at(talking.local_addr().unwrap().port());
    let hangs = at(hanging.local_addr().unwrap().port());
    thread::spawn(move || {
        for client in talking.incoming().map_while(Result::ok) {
            let _ = (&client).write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
            thread::sleep(Duration::from_secs(1));
        }
    });
    let (stranger_port, nobody) = (free_port(), at(free_port()));
    let stranger = start("stranger", stranger_port, OTHER_KEY, &[at(own)]);
    let unnamed = "no-such-host.invalid:7946".to_owned();
    let seeds = [unnamed.clone(), nobody.clone(), hangs.clone(), talks.clone(), at(stranger_port), at(own)];
    let registrar = start("a", own, KEY, &seeds);

    let expected = [
        (unnamed, SeedOutcome::NoSuchName),
        (nobody, SeedOutcome::Refused),
        (hangs, SeedOutcome::Silent),
        (talks, SeedOutcome::NotGossip),
        (at(stranger_port), SeedOutcome::WrongKey),
        (at(own), SeedOutcome::Itself),
    ];
    for (name, outcome) in expected {
        wait_until(&format!("{name} is {outcome:?}"), || seed(&registrar, &name).outcome == outcome);
        let said = seed(&registrar, &name);
        assert_eq!(said.problem.is_some(), outcome != SeedOutcome::Itself, "{said:?}");
        assert_eq!(said.addresses.is_empty(), outcome == SeedOutcome::NoSuchName, "{said:?}");
    }
    let told = gossip(&registrar);
    assert_eq!((told.standing, told.port), (Standing::Outside, Some(own)));
    assert!(told.refused["unknown_key"] > 0, "{:?}", told.refused);
    let keys = (told.key_fingerprints, gossip(&stranger).key_fingerprints);
    assert!(keys.0.len() == 1 && keys.0 != keys.1 && !KEY.contains(&keys.0[0]), "{keys:?}");
}

#[test]
fn a_seed_that_lets_this_host_in_is_said_to_be_reached_and_by_which_name() {
    let (one, two) = (free_port(), free_port());
    let first = start("first", one, KEY, &[]);
    let second = start("second", two, KEY, &[format!("127.0.0.1:{one}")]);
    let name = format!("127.0.0.1:{one}");
    wait_until("the seed is reached", || seed(&second, &name).outcome == SeedOutcome::Reached);
    let said = seed(&second, &name);
    assert_eq!((said.problem, said.addresses[0].host.as_deref()), (None, Some("first")));
    assert!(said.addresses[0].reached_ms.is_some());
    assert_eq!((gossip(&first).seeds, gossip(&first).cluster_name), (vec![], "default".to_owned()));
}

/// An address of this host that is not loopback's: others are told no other. What is sent there stays here.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip()
}

#[test]
fn an_order_to_leave_is_answered_when_the_others_were_told_and_all_is_done() {
    let (address, key) = (own_address().to_string(), tempfile::tempdir().unwrap());
    let key = key_file(key.path(), KEY);
    let (one, two) = (format!("{address}:{}", free_port()), format!("{address}:{}", free_port()));
    let member = |name: &str, listen: &str, seed: &str| {
        let options = ["--host-name", name, "--gossip-listen", listen, "--gossip-key-file", &key];
        Registrar::start(&[&options[..], &["--advertise-address", &address, "--seed", seed]].concat())
    };
    let (first, mut second) = (member("first", &one, &two), member("second", &two, &one));
    wait_until("they know each other", || {
        let (_, hosts) = first.get("/api/v1/hosts", "localhost");
        hosts.contains("second")
    });
    assert_eq!(second.order("POST", "/api/v1/leave").0, 204);
    let answered = Instant::now();
    assert!(second.process.wait().unwrap().success());
    assert!(answered.elapsed() < Duration::from_millis(900), "{:?} later", answered.elapsed());
}

#[test]
fn without_a_key_gossip_is_said_to_be_off() {
    let told = gossip(&Registrar::start(&[]));
    assert_eq!((told.standing, told.port, told.key_fingerprints), (Standing::Off, None, vec![]));
}

/// Connections from another address of loopback than the hosts' that say nothing, each opened anew when it is closed.
fn silent_connections(to: u16, count: usize) -> std::sync::Arc<std::sync::atomic::AtomicBool> {
    use std::sync::atomic::{AtomicBool, Ordering};
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    for _ in 0..count {
        let stop = std::sync::Arc::clone(&stop);
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Some(mut stream) = connect_from([127, 0, 0, 66], to) else { continue };
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                while !stop.load(Ordering::Relaxed) {
                    match std::io::Read::read(&mut stream, &mut [0]) {
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        _ => break,
                    }
                }
            }
        });
    }
    stop
}

fn connect_from(source: [u8; 4], port: u16) -> Option<std::net::TcpStream> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
    let [a, b, c, d] = source;
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).ok()?;
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&socket);
    bind(descriptor, &SockaddrIn::new(a, b, c, d, 0)).ok()?;
    connect(descriptor, &SockaddrIn::new(127, 0, 0, 1, port)).ok()?;
    Some(socket.into())
}

/// With a bound for all streams alone, 34 kept a new host out for as long as they lasted.
#[test]
fn silent_connections_without_the_key_keep_no_new_host_out() {
    let (one, two) = (free_port(), free_port());
    let _first = start("first", one, KEY, &[]);
    let stop = silent_connections(one, 34);
    thread::sleep(Duration::from_millis(500));
    let second = start("second", two, KEY, &[format!("127.0.0.1:{one}")]);
    let name = format!("127.0.0.1:{one}");
    wait_until("the new host is let in", || seed(&second, &name).outcome == SeedOutcome::Reached);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
}

//! The shim and a registrar that behaves as no real one would.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod common;

use std::io::Write;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use common::registrar::Registrar;
use common::{Folder, Shim, Start, container_named, eventually};
use nix::sys::signal::Signal;
use shim_wire::{FromRegistrar, FromShim, VERSION};

/// A shim, and a registrar that listens already.
fn shim_with_registrar(folder: &Folder, adjust: impl FnOnce(&mut Start)) -> (Shim, Registrar) {
    let registrar = Registrar::listen(&folder.join("registrar.sock"));
    let mut start = Start::new(container_named("container"));
    start.registrar = folder.join("registrar.sock");
    adjust(&mut start);
    (start.serve(), registrar)
}

/// The owner of the port's socket, as the kernel sees it.
fn owner(shim: &Shim) -> u32 {
    sock_diag::listeners_on(shim.address).unwrap()[0].uid
}

#[test]
fn the_registration_says_what_the_shim_knows() {
    let folder = Folder::new();
    let (shim, registrar) = shim_with_registrar(&folder, |start| start.extra = vec!["-shape=round".to_owned()]);
    let (_connection, register) = registrar.accept_and_register(65534);
    assert_eq!(register.version, VERSION);
    assert_eq!(register.published.to_string(), format!("{}/tcp", shim.address));
    assert!(register.container.to_string().ends_with(":80"));
    assert_eq!(register.problem, "flag -shape \"round\" is not known and was ignored");
    assert!(register.shareable);
}

#[test]
fn the_socket_belongs_to_envoys_uid_when_the_port_is_registered() {
    let folder = Folder::new();
    let (shim, registrar) = shim_with_registrar(&folder, |_| {});
    let mut connection = registrar.accept();
    assert_eq!(owner(&shim), 0);
    connection.greet(65534);
    assert_eq!(owner(&shim), 65534);
    // Another registrar, another Envoy.
    drop(connection);
    registrar.accept_and_register(1234);
    assert_eq!(owner(&shim), 1234);
}

#[test]
fn dockerds_socket_is_given_away_as_well() {
    let folder = Folder::new();
    let (shim, registrar) = shim_with_registrar(&folder, |start| {
        start.socket = Some(TcpListener::bind(start.host).unwrap().into());
    });
    registrar.accept_and_register(65534);
    assert_eq!(owner(&shim), 65534);
}

#[test]
fn hangup_and_rejection_and_garbage_do_not_touch_the_port() {
    let folder = Folder::new();
    let (shim, registrar) = shim_with_registrar(&folder, |_| {});

    let mut connection = registrar.accept();
    connection.stream.write_all(&[0xff; 64]).unwrap();
    assert_eq!(connection.hear(), None, "a frame of 65535 bytes ends the connection");
    assert_eq!(shim.ask(), "container");
    assert!(shim.log().contains("what the registrar says can't be understood: a frame of 65535 bytes"));

    // A message of a kind that is not known yet, and one out of turn: passed over.
    let mut connection = registrar.accept();
    connection.stream.write_all(&[0, 3, 201, 1, 2]).unwrap();
    connection.say(&FromRegistrar::Released);
    connection.greet(0);
    connection.say(&FromRegistrar::Rejected { reason: "not today".to_owned() });
    assert_eq!(connection.hear(), None);
    eventually("the reason is logged", || shim.log().contains("not today").then_some(()));
    assert_eq!(shim.ask(), "container");
    assert!(!registrar.is_asked(), "a refusal is not answered by asking again at once");
}

#[test]
fn a_registrar_that_comes_back_hears_the_same_again() {
    let folder = Folder::new();
    let (_shim, registrar) = shim_with_registrar(&folder, |_| {});
    let (connection, first) = registrar.accept_and_register(0);
    // Killed: the socket file stays, and nobody is behind it.
    drop((registrar, connection));
    std::thread::sleep(Duration::from_millis(50));
    std::fs::remove_file(folder.join("registrar.sock")).unwrap();
    let registrar = Registrar::listen(&folder.join("registrar.sock"));
    let start = Instant::now();
    let (_connection, second) = registrar.accept_and_register(0);
    assert_eq!(second, first);
    assert!(start.elapsed() < Duration::from_secs(1), "took {:?}", start.elapsed());
}

/// A message as a later version may send it: the released bytes, and a field that is new at the end.
fn of_later_version(golden: &str) -> Vec<u8> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shim-wire/tests/golden/");
    let text = std::fs::read_to_string(format!("{path}{golden}.hex")).unwrap();
    let digits = text.trim();
    let bytes = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
    let mut bytes: Vec<u8> = bytes.chain([0xaa, 0xbb, 0xcc]).collect();
    let length = u16::try_from(bytes.len() - 2).unwrap();
    bytes[..2].copy_from_slice(&length.to_be_bytes());
    bytes
}

#[test]
fn a_registrar_that_was_upgraded_to_a_later_version_is_understood_to_the_end() {
    let folder = Folder::new();
    let (mut shim, registrar) = shim_with_registrar(&folder, |_| {});
    let (connection, first) = registrar.accept_and_register(0);
    drop((registrar, connection));
    std::fs::remove_file(folder.join("registrar.sock")).unwrap();

    let upgraded = Registrar::listen(&folder.join("registrar.sock"));
    let mut connection = upgraded.accept();
    let mut hello = of_later_version("v1_hello");
    hello[3..5].copy_from_slice(&(VERSION + 1).to_be_bytes());
    connection.stream.write_all(&hello).unwrap();
    assert_eq!(connection.hear(), Some(FromShim::Register(first)), "the shim says its own version");
    assert_eq!(owner(&shim), 101, "the uid of the golden file");
    // A kind of message that this shim has never heard of, among those that it knows.
    connection.stream.write_all(&of_later_version("v1_registered")).unwrap();
    connection.stream.write_all(&[0, 3, 201, 1, 2]).unwrap();
    connection.stream.write_all(&of_later_version("v1_steer")).unwrap();
    assert_eq!(shim.ask(), "container");
    shim.signal(Signal::SIGINT);
    assert_eq!(connection.hear(), Some(FromShim::Release));
    let begun = Instant::now();
    connection.stream.write_all(&of_later_version("v1_released")).unwrap();
    assert_eq!(shim.exit().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_millis(200), "it did not wait for anything else");
    assert_eq!(shim.log(), "");
}

#[test]
fn a_registrar_that_was_never_there_is_found_when_it_comes() {
    let folder = Folder::new();
    let mut start = Start::new(container_named("container"));
    start.registrar = folder.join("run/shim/registrar.sock");
    let shim = start.serve();
    assert_eq!(shim.ask(), "container");
    eventually("it looks for it once a second", || {
        let before = switches(&shim);
        std::thread::sleep(Duration::from_secs(1));
        (switches(&shim) <= before + 2).then_some(())
    });

    std::fs::create_dir_all(folder.join("run/shim")).unwrap();
    let registrar = Registrar::listen(&folder.join("run/shim/registrar.sock"));
    registrar.accept_and_register(0);
}

/// How often it was given the processor.
fn switches(shim: &Shim) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", shim.child.id())).unwrap();
    let numbers = status.lines().filter(|line| line.contains("ctxt_switches"));
    numbers.map(|line| line.rsplit('\t').next().unwrap().parse::<u64>().unwrap()).sum()
}

#[test]
fn sighup_announces_again() {
    let folder = Folder::new();
    let (shim, registrar) = shim_with_registrar(&folder, |_| {});
    let (mut connection, first) = registrar.accept_and_register(0);
    shim.signal(Signal::SIGHUP);
    assert_eq!(connection.hear(), Some(FromShim::Register(first)));
}

#[test]
fn a_stranger_on_the_socket_is_not_trusted() {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    let folder = Folder::new();
    std::os::unix::fs::chown(&folder.0, Some(65534), None).unwrap();
    let path = folder.join("registrar.sock");
    let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.bind(sys.argv[1])\ns.listen()\nprint()\n\
                  sys.stdout.flush()\nc=s.accept()[0]\nprint(c.recv(1))\ns.accept()";
    let mut stranger =
        Command::new("python3").args(["-c", script]).arg(&path).uid(65534).stdout(Stdio::piped()).spawn().unwrap();
    eventually("the stranger listens", || path.exists().then_some(()));
    let mut start = Start::new(container_named("container"));
    start.registrar = path;
    let shim = start.serve();
    eventually("it is reported", || shim.log().contains("belongs to uid 65534: not trusted").then_some(()));
    assert_eq!(shim.ask(), "container");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

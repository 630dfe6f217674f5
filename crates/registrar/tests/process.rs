//! The registrar as a process, on a host without Docker: what it says to shims, to HTTP clients, and to
//! whoever misuses it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};

use common::{PATIENCE, Registrar, command, wait_until};
use model::{Protocol, PublishedPort};
use shim_wire::{Decoder, FromRegistrar, FromShim, Message, Register};

/// What is said to the registrar by hand.
struct Shim {
    stream: UnixStream,
    decoder: Decoder<FromRegistrar>,
}

impl Shim {
    fn of(registrar: &Registrar) -> Self {
        Self::on(UnixStream::connect(registrar.socket()).unwrap())
    }

    fn on(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, decoder: Decoder::default() }
    }

    fn say(&mut self, message: &FromShim) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next message, or `None` when the registrar has hung up.
    fn hear(&mut self) -> Option<FromRegistrar> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return Some(message);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => self.decoder.push(&buffer[..length]),
                Err(error) => panic!("nothing heard: {error}"),
            }
        }
    }
}

fn ports(registrar: &Registrar) -> Vec<admin_api::Port> {
    let (status, body) = registrar.get("/api/v1/ports", "localhost");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

fn register(port: u16) -> FromShim {
    FromShim::Register(Register {
        version: shim_wire::VERSION,
        published: PublishedPort { address: [127, 45, 67, 89].into(), port, protocol: Protocol::Tcp },
        container: "172.17.0.2:80".parse().unwrap(),
        problem: String::new(),
        shareable: true,
        socket_inode: 0,
        observes: false,
    })
}

#[test]
fn a_shim_is_greeted_with_envoys_uid_registered_and_forgotten_when_it_goes() {
    let registrar = Registrar::start(&["--envoy-user", "4711"]);
    let mut shim = Shim::of(&registrar);
    assert_eq!(shim.hear(), Some(FromRegistrar::Hello { version: shim_wire::VERSION, envoy_uid: 4711 }));
    shim.say(&register(18_080));
    assert_eq!(shim.hear(), Some(FromRegistrar::Registered));

    let listed = ports(&registrar);
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].host_port, listed[0].served_by), (18_080, admin_api::ServedBy::Pending));
    assert_eq!(listed[0].shim_pid, Some(std::process::id()));

    drop(shim);
    wait_until("the registration is gone", || ports(&registrar).is_empty());
}

#[test]
fn a_release_is_answered_at_once_where_no_envoy_has_the_port() {
    let registrar = Registrar::start(&[]);
    let mut shim = Shim::of(&registrar);
    shim.hear();
    shim.say(&register(18_081));
    assert_eq!(shim.hear(), Some(FromRegistrar::Registered));
    shim.say(&FromShim::Release);
    assert_eq!(shim.hear(), Some(FromRegistrar::Released));
}

#[test]
fn a_connection_that_breaks_the_protocol_is_told_why_and_others_go_on() {
    let registrar = Registrar::start(&[]);
    let mut good = Shim::of(&registrar);
    good.hear();
    for garbage in [&[0, 0][..], &[0xff, 0xff, 1], &[0, 3, 2, 0, 1]] {
        let mut bad = Shim::of(&registrar);
        bad.hear();
        bad.stream.write_all(garbage).unwrap();
        let Some(FromRegistrar::Rejected { reason }) = bad.hear() else { panic!("not rejected: {garbage:?}") };
        assert!(reason.contains("not the protocol of shims"), "{reason}");
        assert_eq!(bad.hear(), None, "the connection must end");
    }
    good.say(&register(18_082));
    assert_eq!(good.hear(), Some(FromRegistrar::Registered));
}

#[test]
fn a_shim_of_a_newer_protocol_is_told_to_have_the_registrar_upgraded() {
    let registrar = Registrar::start(&[]);
    let mut shim = Shim::of(&registrar);
    shim.hear();
    let FromShim::Register(register) = register(18_083) else { unreachable!() };
    shim.say(&FromShim::Register(Register { version: shim_wire::VERSION + 1, ..register }));
    let Some(FromRegistrar::Rejected { reason }) = shim.hear() else { panic!("not rejected") };
    assert!(reason.contains("upgrade the registrar"), "{reason}");
}

/// Shims outlive upgrades of the registrar: those of the first release say these bytes.
#[test]
fn a_shim_of_the_first_release_registers_and_is_released() {
    let registrar = Registrar::start(&[]);
    let mut shim = Shim::of(&registrar);
    assert!(matches!(shim.hear(), Some(FromRegistrar::Hello { .. })));
    for (said, answer) in [("register_tcp4", FromRegistrar::Registered), ("release", FromRegistrar::Released)] {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shim-wire/tests/golden/v1_");
        let text = std::fs::read_to_string(format!("{path}{said}.hex")).unwrap();
        let digits = text.trim();
        let bytes = (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
        shim.stream.write_all(&bytes.collect::<Vec<_>>()).unwrap();
        assert_eq!(shim.hear(), Some(answer), "{said}");
    }
}

#[test]
fn another_user_is_kept_out_by_the_sockets_mode_and_by_its_credentials() {
    let registrar = Registrar::start(&[]);
    let socket = registrar.socket();
    assert_eq!(std::fs::metadata(&socket).unwrap().mode() & 0o777, 0o600);

    // Even if somebody opens the socket up, the peer's user counts.
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(registrar.folder.path(), everybody).unwrap();
    std::fs::set_permissions(&socket, std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let script = "import socket,sys\ns=socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\nsys.stdout.buffer.write(s.recv(4096))";
    let mut as_nobody = Command::new("python3");
    std::os::unix::process::CommandExt::uid(&mut as_nobody, 65_534);
    let heard = as_nobody.args(["-c", script]).arg(&socket).current_dir("/").output().unwrap();
    assert!(heard.status.success(), "{heard:?}");
    let mut decoder = Decoder::<FromRegistrar>::default();
    decoder.push(&heard.stdout);
    let Some(FromRegistrar::Rejected { reason }) = decoder.next_message().unwrap() else { panic!("{heard:?}") };
    assert!(reason.contains("uid 65534 may not register"), "{reason}");
}

#[test]
fn a_second_registrar_leaves_the_first_alone_and_says_so() {
    let registrar = Registrar::start(&[]);
    let second = command(&registrar.folder).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("another registrar is running"), "{}", stderr(&second));
    Shim::of(&registrar).hear().unwrap();
}

#[test]
fn the_read_api_answers_health_readiness_and_envoy_and_checks_the_host_header() {
    let registrar = Registrar::start(&[]);
    assert_eq!(registrar.get("/healthz", "localhost"), (200, "ok\n".to_owned()));
    wait_until("ready", || registrar.get("/readyz", "127.0.0.1").0 == 200);
    let (_, envoy) = registrar.get("/api/v1/envoy", "localhost");
    let envoy: admin_api::Envoy = serde_json::from_str(&envoy).unwrap();
    assert!(!envoy.connected && !envoy.in_sync);
    assert_eq!(registrar.get("/nothing", "localhost").0, 404);
    assert_eq!(registrar.get("/api/v1/ports", "evil.example").0, 403);
}

#[test]
fn prometheus_is_told_how_many_shims_envoys_instances_and_hosts_there_are() {
    let registrar = Registrar::start(&[]);
    let mut shim = Shim::of(&registrar);
    shim.hear();
    shim.say(&register(18_084));
    assert_eq!(shim.hear(), Some(FromRegistrar::Registered));
    wait_until("ready", || registrar.get("/readyz", "localhost").0 == 200);
    let (status, text) = registrar.get("/metrics", "localhost");
    assert_eq!(status, 200, "{text}");
    for line in [
        "envoy_docker_shim_registrations 1",
        "envoy_docker_shim_ready 1",
        "envoy_docker_shim_envoy_streams 0",
        "envoy_docker_shim_xds_nacks_total 0",
        "envoy_docker_shim_instances{status=\"alive\"} 0",
        "envoy_docker_shim_hosts{status=\"alive\"} 1",
    ] {
        assert!(text.lines().any(|own| own == line), "{line}: {text}");
    }
    assert_eq!(registrar.get("/metrics", "evil.example").0, 403);
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let refused = command(&folder).args(["--default-proxy-mode", "shiny", "--check-config"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(64));
    assert!(stderr(&refused).contains("--default-proxy-mode \"shiny\""), "{}", stderr(&refused));

    let file = folder.path().join("registrar.yaml");
    std::fs::write(&file, "log-levle: debug\n").unwrap();
    let refused = command(&folder).arg("--config").arg(&file).output().unwrap();
    assert_eq!(refused.status.code(), Some(64));
    assert!(stderr(&refused).contains("log-levle"), "{}", stderr(&refused));

    std::fs::write(&file, "log-level: debug\n").unwrap();
    let good = command(&folder).arg("--config").arg(&file).arg("--check-config").output().unwrap();
    assert!(good.status.success() && std::fs::read_dir(folder.path()).unwrap().count() == 1, "nothing is opened");
}

#[test]
fn static_services_are_looked_into_when_the_configuration_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("static.yaml");
    let check = || {
        let mut check = command(&folder);
        check.arg("--check-config").arg("--static-services").arg(&file).output().unwrap()
    };
    assert_eq!(check().status.code(), Some(64), "there is no file");
    assert!(stderr(&check()).contains("--static-services"), "{}", stderr(&check()));
    std::fs::write(&file, "- {name: db, ports: [{port: 5432}]}\n- {name: web, ports: [{port: 70000}]}\n").unwrap();
    assert_eq!(check().status.code(), Some(64));
    assert!(stderr(&check()).contains("entry 2 (web)"), "{}", stderr(&check()));
    std::fs::write(&file, "- {name: db, version: 16, ports: [{port: 5432}]}\n").unwrap();
    assert!(check().status.success(), "{}", stderr(&check()));
}

#[test]
fn the_service_manager_is_told_when_the_registrar_is_ready_and_then_that_it_lives() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify.sock");
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let hear = || {
        let mut said = [0; 64];
        let length = manager.recv(&mut said).unwrap();
        String::from_utf8_lossy(&said[..length]).trim().to_owned()
    };
    let mut process = command(&folder).env("NOTIFY_SOCKET", &path).stderr(Stdio::null()).spawn().unwrap();
    let heard: Vec<_> = (0..3).map(|_| hear()).collect();
    process.kill().unwrap();
    process.wait().unwrap();
    assert!(heard.iter().any(|said| said == "READY=1"), "{heard:?}");
    assert!(heard.iter().filter(|said| *said == "WATCHDOG=1").count() >= 2, "{heard:?}");

    let wrong = command(&folder).args(["--log-level", "loud"]).env("NOTIFY_SOCKET", &path).output().unwrap();
    assert!(!wrong.status.success());
    manager.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    assert!(manager.recv(&mut [0; 64]).is_err(), "it was never ready");
}

#[test]
fn a_hangup_changes_nothing() {
    let mut registrar = Registrar::start(&[]);
    let process = nix::unistd::Pid::from_raw(registrar.process.id().try_into().unwrap());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGHUP).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(registrar.process.try_wait().unwrap().is_none());
    assert_eq!(registrar.get("/healthz", "localhost").0, 200);
}

#[test]
fn a_stopped_registrar_can_be_started_again_on_the_same_sockets() {
    let mut registrar = Registrar::start(&[]);
    registrar.process.kill().unwrap();
    registrar.process.wait().unwrap();
    let again = command(&registrar.folder).stderr(Stdio::piped()).spawn().unwrap();
    registrar.process = again;
    let socket = registrar.socket();
    wait_until("greeted again", || UnixStream::connect(&socket).is_ok_and(|stream| Shim::on(stream).hear().is_some()));
}

#[test]
fn an_order_to_leave_ends_the_registrar_with_success() {
    let mut registrar = Registrar::start(&[]);
    let socket = registrar.folder.path().join("admin.sock");
    assert_eq!(std::fs::metadata(&socket).unwrap().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&socket).unwrap();
    stream.write_all(b"POST /api/v1/leave HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 204"), "{answer}");
    assert!(registrar.process.wait().unwrap().success());
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

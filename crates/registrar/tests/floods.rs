//! The registrar as a process while clients by the hundred read, or hold connections and say nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{PATIENCE, Registrar, wait_until};
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use tokio_stream::StreamExt;

/// How many there are of each that may not disturb the others.
const SILENT: usize = 500;
const READERS: usize = 64;
const SERVICES: usize = 500;

/// A registrar of so many services that are checked by nobody.
fn of_many_services() -> (Registrar, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let mut list = String::new();
    for number in 1..=SERVICES {
        let check = "{kind: AlwaysSuccessful}";
        writeln!(list, "- {{name: s{number}, ports: [{{port: {number}, service-port: {number}}}], check: {check}}}")
            .unwrap();
    }
    let file = folder.path().join("static.yaml");
    fs::write(&file, list).unwrap();
    let registrar =
        Registrar::start(&["--static-services", file.to_str().unwrap(), "--advertise-address", "192.0.2.1"]);
    wait_until("the services are known", || {
        let (_, text) = registrar.get("/metrics", "localhost");
        text.contains(&format!("envoy_docker_shim_instances{{status=\"alive\"}} {SERVICES}"))
    });
    (registrar, folder)
}

/// How long an order waits for the loop's word, the longest of so many.
fn slowest_order(registrar: &Registrar, times: usize) -> Duration {
    let greet = |_| {
        let began = Instant::now();
        let (status, body) = registrar.order("DELETE", "/api/v1/instances/nobody/000000000000/drain");
        assert!(status == 404 || status == 502, "{status} {body}");
        began.elapsed()
    };
    (0..times).map(greet).max().unwrap()
}

#[test]
fn readers_of_metrics_do_not_keep_the_loop_from_others_nor_from_its_end() {
    let (mut registrar, _services) = of_many_services();
    let stop = Arc::new(AtomicBool::new(false));
    let read = Arc::new(AtomicUsize::new(0));
    let reader = |_| {
        let (address, stop, read) = (registrar.http.clone(), Arc::clone(&stop), Arc::clone(&read));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok(mut stream) = TcpStream::connect(&address) else { return };
                let _ = stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
                if stream.read_to_end(&mut Vec::new()).is_ok() {
                    read.fetch_add(1, Ordering::Relaxed);
                }
            }
        })
    };
    let readers: Vec<_> = (0..READERS).map(reader).collect();
    wait_until("they read", || read.load(Ordering::Relaxed) > 10 * READERS);
    let slowest = slowest_order(&registrar, 50);
    assert!(slowest < Duration::from_secs(1), "an order took {slowest:?}");

    kill(Pid::from_raw(registrar.process.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    let ended = Instant::now();
    let status = registrar.process.wait().unwrap();
    assert!(status.success() && ended.elapsed() < Duration::from_secs(2), "{status} after {:?}", ended.elapsed());
    stop.store(true, Ordering::Relaxed);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

#[test]
fn silent_connections_to_one_listener_leave_room_at_it_and_at_all_others() {
    let registrar = Registrar::start_with_descriptors(256, &[]);
    let silent: Vec<_> = (0..SILENT).filter_map(|_| TcpStream::connect(&registrar.http).ok()).collect();
    assert_eq!(silent.len(), SILENT);
    wait_until("a reader is answered", || answered(&registrar));
    let mut shim = UnixStream::connect(registrar.socket()).unwrap();
    shim.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(shim.read(&mut [0; 64]).unwrap() > 0, "a shim is greeted");
    let began = Instant::now();
    assert_eq!(registrar.order("POST", "/nothing").0, 404);
    assert!(began.elapsed() < Duration::from_secs(1), "the admin socket answers");
}

/// Whether a reader is answered: its connection may be ended instead while others come.
fn answered(registrar: &Registrar) -> bool {
    let Ok(mut stream) = TcpStream::connect(&registrar.http) else { return false };
    let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
    let mut answer = String::new();
    let asked = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && answer.starts_with("HTTP/1.1 200")
}

#[test]
fn a_client_that_says_half_a_request_is_ended_after_a_while() {
    let registrar = Registrar::start(&[]);
    let mut half = TcpStream::connect(&registrar.http).unwrap();
    half.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    half.set_read_timeout(Some(2 * PATIENCE)).unwrap();
    match half.read(&mut [0; 64]) {
        Ok(length) => assert_eq!(length, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

/// The registrar's resident memory, in MB.
fn memory(registrar: &Registrar) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", registrar.process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
}

/// Asks for that many endpoints that nobody knows, on a stream of its own. Yields how the registrar ends it, if it does.
async fn ask_for_unknown_names(socket: String, stranger: usize, count: usize) -> Option<tonic::Code> {
    let channel = tonic::transport::Endpoint::try_from(format!("unix://{socket}")).unwrap().connect().await.unwrap();
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let request = DeltaDiscoveryRequest {
        type_url: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment".to_owned(),
        resource_names_subscribe: (0..count).map(|number| format!("unknown/{stranger}/{number}")).collect(),
        ..DeltaDiscoveryRequest::default()
    };
    let requests = tokio_stream::once(request).chain(tokio_stream::pending());
    let mut responses = match client.delta_aggregated_resources(requests).await {
        Ok(responses) => responses.into_inner(),
        Err(status) => return Some(status.code()),
    };
    match tokio::time::timeout(Duration::from_secs(60), responses.message()).await {
        Ok(Err(status)) => Some(status.code()),
        _ => None,
    }
}

#[test]
fn streams_that_ask_for_names_without_end_are_refused_and_leave_little_behind() {
    let registrar = Registrar::start(&[]);
    let before = memory(&registrar);
    let socket = registrar.folder.path().join("xds.sock").display().to_string();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let codes: Vec<_> = runtime.block_on(async {
        let ask = |stranger| tokio::spawn(ask_for_unknown_names(socket.clone(), stranger, 99_000));
        let asked: Vec<_> = (0..20).map(ask).collect();
        let mut codes = Vec::new();
        for one in asked {
            codes.push(one.await.unwrap());
        }
        codes
    });
    assert!(codes.iter().all(|code| *code == Some(tonic::Code::ResourceExhausted)), "{codes:?}");
    let after = memory(&registrar);
    assert!(after < before + 300, "{before} MB before, {after} MB after");
    assert_eq!(registrar.get("/healthz", "localhost").0, 200);
}

/// The task id of the registrar's thread of that name.
fn thread_of(registrar: &Registrar, name: &str) -> Option<Pid> {
    let tasks = fs::read_dir(format!("/proc/{}/task", registrar.process.id())).unwrap();
    let named = |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default().trim() == name;
    let task = tasks.map(Result::unwrap).find(named)?;
    Some(Pid::from_raw(task.file_name().to_str()?.parse().ok()?))
}

/// Has one thread stand still for as long as this one lives.
fn stop_thread(registrar: &Registrar, name: &str) -> Pid {
    // A thread names itself.
    wait_until("the thread runs", || thread_of(registrar, name).is_some());
    let thread = thread_of(registrar, name).unwrap();
    ptrace::seize(thread, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(thread).unwrap();
    thread
}

/// Waits for the registrar's end, one of whose threads was stopped: that one's end has to be taken note of as well.
fn await_end(registrar: &mut Registrar, stopped: Pid, patience: Duration) -> ExitStatus {
    let deadline = Instant::now() + patience;
    loop {
        let _ = waitpid(stopped, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL));
        if let Some(status) = registrar.process.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "it goes on");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_loop_that_stands_still_ends_the_registrar_so_that_another_is_started() {
    let mut registrar = Registrar::start(&[]);
    let stopped = stop_thread(&registrar, "loop");
    assert_eq!(await_end(&mut registrar, stopped, Duration::from_secs(30)).code(), Some(1));
}

#[test]
fn a_loop_that_stands_still_does_not_keep_the_registrar_from_its_end() {
    let mut registrar = Registrar::start(&[]);
    let stopped = stop_thread(&registrar, "loop");
    kill(Pid::from_raw(registrar.process.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
    assert!(await_end(&mut registrar, stopped, Duration::from_secs(5)).success());
}

#[test]
fn a_registrar_that_was_stopped_for_long_goes_on() {
    let registrar = Registrar::start(&[]);
    let process = Pid::from_raw(registrar.process.id().try_into().unwrap());
    kill(process, Signal::SIGSTOP).unwrap();
    thread::sleep(Duration::from_secs(12));
    kill(process, Signal::SIGCONT).unwrap();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(registrar.get("/healthz", "localhost").0, 200);
}

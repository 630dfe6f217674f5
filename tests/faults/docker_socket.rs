//! The registrar's way to Docker fails while Docker itself works: its socket is absent, refuses, or is slow.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use lab::http::Request;
use lab::load::Load;
use lab::{Host, Lab, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::SECOND;
use crate::registrar::changes_in_envoy;

/// Where the registrar of these tests looks for Docker.
const SOCKET: &str = "/run/lab/docker-of-the-registrar.sock";

/// Stands between the registrar and Docker. It ends with its file and its connections, when it is dropped.
struct Between {
    path: PathBuf,
    delay: Arc<AtomicU64>,
    streams: Arc<Mutex<Vec<UnixStream>>>,
    loses_events: Arc<AtomicBool>,
}

impl Between {
    fn start(host: &Host) -> Self {
        let (path, docker) = (host.path(SOCKET), host.path("/run/docker.sock"));
        let listener = UnixListener::bind(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let delay = Arc::new(AtomicU64::new(0));
        let this = Self { path, delay, streams: Arc::default(), loses_events: Arc::default() };
        let (of_each, streams, loses_events) =
            (Arc::clone(&this.delay), Arc::clone(&this.streams), Arc::clone(&this.loses_events));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = UnixStream::connect(&docker) else { return };
                streams.lock().unwrap_or_else(PoisonError::into_inner).extend(client.try_clone());
                join(client, server, &of_each, &loses_events);
            }
        });
        this
    }

    /// Ends all connections there are.
    fn cut(&self) {
        for stream in self.streams.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// From now on Docker's events are lost, and nothing else.
    fn lose_events(&self) {
        self.loses_events.store(true, Ordering::Relaxed);
    }

    /// How long each piece of an answer takes from now on.
    fn set_delay(&self, delay: Duration) {
        self.delay.store(delay.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn join(client: UnixStream, server: UnixStream, delay: &Arc<AtomicU64>, loses_events: &Arc<AtomicBool>) {
    let (Ok(asks), Ok(asked)) = (client.try_clone(), server.try_clone()) else { return };
    let has_events = Arc::new(AtomicBool::new(false));
    let (delay, loses_events, asked_for_events) =
        (Arc::clone(delay), Arc::clone(loses_events), Arc::clone(&has_events));
    thread::spawn(move || {
        let is_event = |bytes: &[u8]| bytes.windows(8).any(|window| window == b"/events?");
        pass(asks, asked, |bytes| {
            asked_for_events.fetch_or(is_event(bytes), Ordering::Relaxed);
            true
        })
    });
    thread::spawn(move || {
        pass(server, client, |_| {
            sleep(Duration::from_millis(delay.load(Ordering::Relaxed)));
            !(has_events.load(Ordering::Relaxed) && loses_events.load(Ordering::Relaxed))
        })
    });
}

/// Passes on what `keeps` says is to be kept.
fn pass(mut from: UnixStream, mut to: UnixStream, mut keeps: impl FnMut(&[u8]) -> bool) -> io::Result<()> {
    use io::{Read, Write};
    let mut buffer = [0; 65536];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return to.shutdown(std::net::Shutdown::Write);
        }
        if keeps(&buffer[..length]) {
            to.write_all(&buffer[..length])?;
        }
    }
}

fn host(lab: &Lab) -> Host {
    lab.host("a")
        .registrar_arguments(&["--docker-host", &format!("unix://{SOCKET}")])
        .without_registrar()
        .without_envoy()
        .start()
}

/// The same where all is well, with port 8080 served by Envoy.
fn serving(lab: &Lab) -> (Host, Between) {
    let host = host(lab);
    let between = Between::start(&host);
    host.start_registrar();
    host.start_envoy();
    host.run_web(&["-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    (host, between)
}

/// Waits until the registrar lists exactly those containers that run: their ports at their own addresses, and them as
/// instances.
#[track_caller]
fn await_docker_ps(host: &Host, limit: Duration) {
    let format = "{{.Id}} {{.Name}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let ids = host.docker(&["ps", "-q"]);
    let arguments: Vec<_> = ["inspect", "--format", format].into_iter().chain(ids.lines()).collect();
    let running: BTreeSet<_> = host.docker(&arguments).lines().map(str::to_owned).collect();
    let running_ids: BTreeSet<_> = running.iter().map(|line| line[..64].to_owned()).collect();
    eventually("what is listed is what runs", limit, || {
        let [ports, services] = ["ports", "services"].map(|what| host.api(what));
        let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let port = |row: &Value| {
            let [id, name, address] =
                ["container_id", "container_name", "container_address"].map(|field| text(row, field));
            format!("{id} /{name} {address}")
        };
        let ports: BTreeSet<_> = ports.as_array().into_iter().flatten().map(port).collect();
        let rows = services.as_array().into_iter().flatten();
        let instances: BTreeSet<_> = rows
            .flat_map(|row| row["instances"].as_array().into_iter().flatten())
            .map(|instance| text(instance, "container_id"))
            .collect();
        let is_so = ports == running && instances == running_ids;
        if is_so { Ok(()) } else { Err(format!("{ports:?} and {instances:?} are listed, there run {running:?}")) }
    });
}

#[test]
fn what_is_listed_is_what_runs_though_the_way_to_docker_is_cut_a_hundred_times() {
    let lab = Lab::of_this_test();
    let (host, between) = serving(&lab);
    host.run_web(&["--name", "web", "-p", "8081:80"]);
    host.docker(&["network", "create", "other"]);
    for round in 0..100 {
        between.cut();
        match round % 4 {
            0 => drop(host.docker(&["restart", "-t", "0", "web"])),
            1 => drop(host.docker(&["network", "connect", "other", "web"])),
            2 => drop(host.docker(&["network", "disconnect", "bridge", "web"])),
            _ => {
                host.docker(&["network", "connect", "bridge", "web"]);
                host.docker(&["network", "disconnect", "other", "web"]);
            }
        }
        between.cut();
        if round % 4 != 1 {
            await_docker_ps(&host, 10 * SECOND);
        }
    }
    answers(&host, 8080);
    answers(&host, 8081);
}

#[test]
#[ignore = "takes more than a minute"]
fn what_events_did_not_tell_is_found_all_the_same() {
    let lab = Lab::of_this_test();
    let (host, between) = serving(&lab);
    host.run_web(&["--name", "gone", "-p", "8081:80"]);
    await_docker_ps(&host, 10 * SECOND);
    between.lose_events();
    host.docker(&["rm", "-f", "gone"]);
    host.docker(&["rename", &host.docker(&["ps", "-q"]), "renamed"]);
    let begun = Instant::now();
    await_docker_ps(&host, 70 * SECOND);
    println!("found {:.0?} after events were lost", begun.elapsed());
}

fn answers(host: &Host, port: u16) {
    assert_eq!(host.get(&format!("http://127.0.0.1:{port}/")).expect("the port answers").status, 200);
}

#[test]
fn without_dockers_socket_ports_answer_and_say_what_is_missing_until_it_comes() {
    let lab = Lab::of_this_test();
    let host = host(&lab);
    host.spawn_registrar();
    host.spawn_envoy();
    host.run_web(&["-p", "8080:80"]);
    answers(&host, 8080);
    let row = eventually("the registration is listed", 5 * SECOND, || {
        host.shimctl_json(&["ports"]).get(0).cloned().ok_or("not yet")
    });
    let problem = row["problem"].as_str().unwrap_or_default();
    assert!(problem.contains("its container is not known") && problem.contains(SOCKET), "{row}");
    assert_eq!(row["served_by"], "pending", "{row}");
    // Somebody is there and refuses: a socket file without a listener.
    drop(UnixListener::bind(host.path(SOCKET)).expect("the path is free"));
    eventually("the refusal is shown", 5 * SECOND, || {
        let row = host.ports(8080).remove(0);
        if row["problem"].as_str().is_some_and(|text| text.contains("refused")) { Ok(()) } else { Err(row) }
    });
    answers(&host, 8080);
    std::fs::remove_file(host.path(SOCKET)).expect("it is there");

    let begun = Instant::now();
    let _between = Between::start(&host);
    host.await_served_by_envoy(8080);
    println!("served by Envoy {:.1?} after Docker's socket came", begun.elapsed());
    host.await_registrar();
}

#[test]
#[ignore = "takes half a minute"]
fn a_slow_docker_delays_envoy_but_no_container_and_no_answer() {
    let lab = Lab::of_this_test();
    let (host, between) = serving(&lab);
    between.set_delay(2 * SECOND);
    let begun = Instant::now();
    host.run_web(&["--name", "slow", "-p", "8081:80"]);
    let ran = begun.elapsed();
    answers(&host, 8081);
    // One question for networks, one for the network, one for the container, each with its delay, and a busy machine.
    eventually("Envoy has the port in the end", 30 * SECOND, || {
        let ports = host.ports(8081);
        let done = ports.len() == 2 && ports.iter().all(|row| row["served_by"] == "envoy");
        if done { Ok(()) } else { Err(format!("{ports:?}")) }
    });
    println!("Docker answers after 2 s: docker run {ran:.1?}, served by Envoy after {:.1?}", begun.elapsed());
    assert!(ran < 3 * SECOND, "docker run does not wait for the registrar: {ran:?}");
    // A registrar that is restarted now knows the listing late, and the containers of shims later still.
    host.end_registrar(Signal::SIGKILL);
    host.spawn_registrar();
    let load = Load::start(host.namespace(), &Request::get("http://127.0.0.1:8080/"), 50);
    sleep(12 * SECOND);
    let outcomes = load.stop();
    println!("the registrar restarted while Docker answers after 2 s: {outcomes:?}");
    assert_eq!(outcomes.failed(), 0, "{outcomes:?}");
    let begun = Instant::now();
    host.docker(&["rm", "-f", "slow"]);
    println!("Docker answers after 2 s: docker rm {:.1?}", begun.elapsed());
    between.set_delay(Duration::ZERO);
    host.await_served_by_envoy(8080);
}

#[test]
fn dockers_socket_lost_for_a_while_changes_nothing_in_envoy() {
    let lab = Lab::of_this_test();
    let (host, between) = serving(&lab);
    let before = changes_in_envoy(&host);
    drop(between);
    host.end_registrar(Signal::SIGKILL);
    host.spawn_registrar();
    // Longer than the gate's deadline: Envoy keeps what it has although the registrar knows no container.
    let load = Load::start(host.namespace(), &Request::get("http://127.0.0.1:8080/"), 50);
    sleep(5 * SECOND);
    let waits = host.get("http://127.0.0.1:7777/readyz").expect("the registrar answers");
    assert!(waits.status == 503 && waits.text().contains("Docker's first listing"), "{waits:?}");
    let _between = Between::start(&host);
    host.await_registrar();
    host.await_served_by_envoy(8080);
    host.await_envoy_in_sync();
    let outcomes = load.stop();
    assert_eq!(outcomes.failed(), 0, "{outcomes:?}");
    assert_eq!(changes_in_envoy(&host), before, "Envoy was told nothing new");
}

//! Checks on real sockets of loopback and with real processes.

use std::fs;
use std::net::SocketAddr;
use std::time::Instant;

use health::{Checker, HttpGet, Peer, StatusChange};
use model::Status;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

const LIMIT: Duration = Duration::from_secs(5);
const SHORT: Duration = Duration::from_millis(300);

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn get(address: SocketAddr, path: &str) -> Probe {
    let peer = Peer::Address(address);
    Probe::HttpGet(HttpGet { peer, authority: "web.example:80".to_owned(), path_and_query: path.to_owned() })
}

fn sh(script: &str) -> Probe {
    Probe::External(["sh", "-c", script].map(str::to_owned).to_vec())
}

/// Serves one connection: reads the head of a request, answers, and gives both back.
async fn serve_one(listener: TcpListener, response: Vec<u8>) -> (String, TcpStream) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request ended early");
    }
    stream.write_all(&response).await.unwrap();
    (String::from_utf8(request).unwrap(), stream)
}

/// What a check sees of a server that answers so.
async fn seen_of(response: impl Into<Vec<u8>>, limit: Duration) -> (bool, String) {
    let (listener, address) = listen().await;
    let server = tokio::spawn(serve_one(listener, response.into()));
    let outcome = run(&get(address, "/health?token=secret"), limit).await;
    server.await.unwrap();
    let reason = outcome.reason.as_str();
    let seen = reason.strip_prefix(&format!("GET http://{address}/health: ")).expect(reason);
    (outcome.healthy, seen.to_owned())
}

#[tokio::test]
async fn a_get_asks_for_what_it_was_told_and_reads_the_status() {
    let (listener, address) = listen().await;
    let server = tokio::spawn(serve_one(listener, b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()));
    let outcome = run(&get(address, "/health?deep=1"), LIMIT).await;
    assert_eq!((outcome.healthy, outcome.reason.as_str()), (true, &*format!("GET http://{address}/health: 204")));
    let (request, mut stream) = server.await.unwrap();
    assert!(request.starts_with("GET /health?deep=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("host: web.example:80\r\n") && request.contains("connection: close\r\n"), "{request}");
    assert_eq!(stream.read(&mut [0; 1]).await.unwrap_or(0), 0, "the connection is closed");
}

#[tokio::test]
async fn only_200_to_299_is_healthy_and_redirects_are_not_followed() {
    let (other, elsewhere) = listen().await;
    let redirect = format!("HTTP/1.1 302 Found\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(seen_of(redirect, LIMIT).await, (false, "302, and redirects are not followed".to_owned()));
    assert!(timeout(SHORT, other.accept()).await.is_err(), "nobody came");
    for (status, healthy) in [(200, true), (299, true), (199, false), (304, false), (404, false), (503, false)] {
        let response = format!("HTTP/1.1 {status} X\r\nconnection: close\r\n\r\n");
        // A status below 200 only announces another one.
        let limit = if status < 200 { SHORT } else { LIMIT };
        assert_eq!(seen_of(response, limit).await.0, healthy, "{status}");
    }
}

#[tokio::test]
async fn a_body_without_end_or_of_any_length_does_not_matter() {
    let begun = Instant::now();
    let endless = "HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nonly this much";
    assert_eq!(seen_of(endless, LIMIT).await, (true, "200".to_owned()));
    let long = format!("HTTP/1.0 200 OK\r\n\r\n{}", "x".repeat(BIG));
    assert_eq!(seen_of(long, LIMIT).await, (true, "200".to_owned()));
    assert!(begun.elapsed() < LIMIT);
}

/// Fits into the kernel's buffers, so that the test's server never waits.
const BIG: usize = 64 * 1024;

#[tokio::test]
async fn what_is_not_http_or_too_much_of_it_is_unhealthy() {
    let (healthy, seen) = seen_of("SSH-2.0-OpenSSH_9.2\r\n\r\n", LIMIT).await;
    assert!(!healthy, "{seen}");
    let (healthy, seen) = seen_of(format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "x".repeat(BIG)), LIMIT).await;
    assert!(!healthy && seen.contains("too large"), "{seen}");
}

#[tokio::test]
async fn silence_ends_with_the_time_limit() {
    let begun = Instant::now();
    assert_eq!(seen_of("", SHORT).await, (false, "no answer within 300ms".to_owned()));
    let (full, address) = listen().await;
    let outcome = run(&get(address, "/"), SHORT).await;
    assert!(!outcome.healthy && outcome.reason.as_str().ends_with("no answer within 300ms"));
    assert!(begun.elapsed() < LIMIT);
    drop(full);
}

#[tokio::test]
async fn a_dropped_get_closes_its_connection() {
    let (listener, address) = listen().await;
    let check: JoinHandle<_> = tokio::spawn(async move { run(&get(address, "/"), LIMIT).await });
    let (_, mut stream) = serve_one(listener, Vec::new()).await;
    check.abort();
    let closed = timeout(LIMIT, stream.read(&mut [0; 1])).await.expect("it is closed at once");
    assert!(matches!(closed, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_tcp_check_is_accepted_or_refused_and_the_application_never_hears_of_it() {
    let (listener, address) = listen().await;
    let probe = Probe::Tcp(Peer::Address(address));
    for _ in 0..20 {
        let outcome = run(&probe, LIMIT).await;
        assert_eq!((outcome.healthy, outcome.reason.as_str()), (true, &*format!("connect to {address}: accepted")));
    }
    assert!(timeout(SHORT, listener.accept()).await.is_err(), "the application heard of it");
    // One that is really made is heard of, so the above means something.
    let _client = TcpStream::connect(address).await.unwrap();
    timeout(LIMIT, listener.accept()).await.unwrap().unwrap();

    drop(listener);
    let outcome = run(&probe, LIMIT).await;
    assert!(!outcome.healthy && outcome.reason.as_str().contains("refused"), "{outcome:?}");
}

#[tokio::test]
async fn a_name_is_looked_up() {
    let (_listener, address) = listen().await;
    let outcome = run(&Probe::Tcp(Peer::Name("localhost".to_owned(), address.port())), LIMIT).await;
    assert!(outcome.healthy, "{outcome:?}");
}

#[tokio::test]
async fn a_command_is_healthy_if_it_exits_with_0_and_its_last_line_is_the_reason() {
    let outcome = run(&sh("echo first; echo all is well >&2; echo"), LIMIT).await;
    assert_eq!((outcome.healthy, outcome.reason.as_str()), (true, "run sh: exited with 0: all is well"));
    let outcome = run(&sh("echo no route to host; exit 3"), LIMIT).await;
    assert_eq!((outcome.healthy, outcome.reason.as_str()), (false, "run sh: exited with 3: no route to host"));
    let outcome = run(&sh("kill -SEGV $$"), LIMIT).await;
    assert_eq!((outcome.healthy, outcome.reason.as_str()), (false, "run sh: killed by signal 11"));
    let outcome = run(&Probe::External(vec!["/no/such/command".to_owned()]), LIMIT).await;
    assert!(!outcome.healthy && outcome.reason.as_str().contains("no such command"), "{outcome:?}");
    assert!(outcome.reason.as_str().ends_with("its own files"), "{outcome:?}");
    let outcome = run(&Probe::External(vec!["/etc/passwd".to_owned()]), LIMIT).await;
    assert!(!outcome.healthy && outcome.reason.as_str().contains("it may not be run"), "{outcome:?}");
    let outcome = run(&Probe::External(vec!["true".to_owned(), "a\0b".to_owned()]), LIMIT).await;
    assert!(!outcome.healthy, "{outcome:?}");
}

#[tokio::test]
async fn a_command_has_no_shell_no_environment_and_no_file_of_ours() {
    let (_listener, _) = listen().await;
    let outcome = run(&Probe::External(["echo", "$HOME", ";", "exit"].map(str::to_owned).to_vec()), LIMIT).await;
    assert_eq!(outcome.reason.as_str(), "run echo: exited with 0: $HOME ; exit");
    let outcome = run(&sh("exec env | grep -v -e ^PATH= -e ^PWD= -e ^SHLVL= -e ^_= | wc -l"), LIMIT).await;
    assert_eq!(outcome.reason.as_str(), "run sh: exited with 0: 0");
    let outcome = run(&sh("pwd; read input && echo there is input"), LIMIT).await;
    assert_eq!(outcome.reason.as_str(), "run sh: exited with 1: /", "its input is empty");
    let outcome = run(&sh("ls -l /proc/self/fd | grep -c socket:"), LIMIT).await;
    assert_eq!(outcome.reason.as_str(), "run sh: exited with 1: 0", "our sockets are not handed on");
}

/// Whether there is such a process, other than as an entry that nobody has read yet.
fn lives(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| state != 'Z' && state != 'X')
}

async fn is_dead_soon(pid: &str) -> bool {
    for _ in 0..100 {
        if !lives(pid) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

fn last_word(outcome: &Outcome) -> String {
    outcome.reason.as_str().rsplit(' ').next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn what_a_command_leaves_behind_is_killed_with_its_end() {
    let begun = Instant::now();
    let outcome = run(&sh("sleep 300 & echo $!"), LIMIT).await;
    assert!(outcome.healthy, "{outcome:?}");
    assert!(begun.elapsed() < LIMIT, "nobody waits for what is left behind");
    let grandchild = last_word(&outcome);
    assert!(grandchild.parse::<u32>().is_ok(), "{outcome:?}");
    assert!(is_dead_soon(&grandchild).await);
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_all_it_began() {
    let begun = Instant::now();
    let outcome = run(&sh("trap '' TERM INT HUP; sleep 300 & echo $!; wait"), SHORT).await;
    assert!(!outcome.healthy && outcome.reason.as_str().starts_with("run sh: no answer within 300ms: "), "{outcome:?}");
    assert!(begun.elapsed() < LIMIT);
    assert!(is_dead_soon(&last_word(&outcome)).await);
}

#[tokio::test]
async fn a_dropped_command_is_killed_and_leaves_no_entry_behind() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let script = format!("sleep 300 & echo $$ $! > {0}.new; mv {0}.new {0}; wait", file.display());
    let check: JoinHandle<_> = tokio::spawn(async move { run(&sh(&script), LIMIT).await });
    let pids = loop {
        match fs::read_to_string(&file) {
            Ok(pids) => break pids,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let (leader, grandchild) = pids.trim().split_once(' ').unwrap();
    assert!(lives(leader) && lives(grandchild));
    check.abort();
    assert!(is_dead_soon(leader).await && is_dead_soon(grandchild).await);
    for _ in 0..100 {
        if !fs::exists(format!("/proc/{leader}")).unwrap() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the leader was never reaped");
}

#[tokio::test]
async fn output_without_end_neither_blocks_nor_grows() {
    let outcome = run(&sh("yes babble"), SHORT).await;
    let last_line = outcome.reason.as_str().strip_prefix("run sh: no answer within 300ms: ");
    // Killed in the middle of a line, maybe.
    assert!(last_line.is_some_and(|line| "babble".starts_with(line)), "{outcome:?}");
    let outcome = run(&sh("head -c 1000000 /dev/zero; echo; echo done"), LIMIT).await;
    assert_eq!((outcome.healthy, outcome.reason.as_str()), (true, "run sh: exited with 0: done"));
    let outcome = run(&sh("exec >&- 2>&-; sleep 0.2; exit 4"), LIMIT).await;
    assert_eq!(outcome.reason.as_str(), "run sh: exited with 4", "a closed output is not the end");
}

/// Makes the checks of `checker` until an instance's status changes.
async fn next_change(checker: &mut Checker) -> StatusChange {
    let (outcomes, mut results) = tokio::sync::mpsc::unbounded_channel();
    loop {
        for started in checker.start(Instant::now()) {
            let outcomes = outcomes.clone();
            tokio::spawn(async move { outcomes.send((started.id, run(&started.probe, started.timeout).await)) });
        }
        let due = checker.next_due().unwrap_or_else(|| Instant::now() + LIMIT);
        tokio::select! {
            Some((id, outcome)) = results.recv() => {
                if let Some(change) = checker.finished(id, outcome, Instant::now()) {
                    return change;
                }
            }
            () = tokio::time::sleep_until(due.into()) => {}
        }
    }
}

#[tokio::test]
async fn from_labels_to_a_status_by_real_checks() {
    // The container's own address is this one; what listens at the published port is somebody else's proxy.
    let container = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let (_proxy, published) = listen().await;
    let direct = container.local_addr().unwrap();
    let labels = [
        ("ServicePort_80", "9500"),
        ("HealthCheck", "Tcp"),
        ("HealthCheckArgs", "{{ host }}:{{ tcp 9500 }}"),
        ("HealthCheckInterval", "100ms"),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let facts = model::labels::ContainerFacts { labels, ..Default::default() };
    let announced = facts.announcement(None);
    let port = health::CheckedPort {
        protocol: model::Protocol::Tcp,
        service_port: announced.service_ports.get(&80).copied(),
        published,
        direct: Some(direct),
    };
    let subject = health::Subject {
        host_name: "host-1",
        host_address: published.ip(),
        host_addresses: &[published.ip()].into(),
        ports: &[port],
        docker_health: None,
    };
    let plan = health::plan(&announced.check, &subject, health::Policy::default());
    assert_eq!((plan.check.to_string(), plan.problem), (format!("connect to {direct}"), None));

    let key = model::InstanceKey::from_bytes([1; 6]);
    let mut checker = Checker::new(health::Limits::default(), 0);
    assert_eq!(checker.set(key, plan.check, Instant::now()), None);
    assert_eq!(timeout(LIMIT, next_change(&mut checker)).await.unwrap().status, Status::Alive);
    drop(container);
    let change = timeout(LIMIT, next_change(&mut checker)).await.unwrap();
    assert_eq!((change.key, change.status), (key, Status::Unhealthy), "the proxy that still listens is not asked");
    assert!(change.reason.as_str().starts_with(&format!("connect to {direct}: ")), "{change:?}");
    let _container = TcpListener::bind(direct).await.unwrap();
    assert_eq!(timeout(LIMIT, next_change(&mut checker)).await.unwrap().status, Status::Alive);
}

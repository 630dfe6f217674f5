//! The real `shimctl` against servers that answer well, badly, or not at all.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Instant;

/// A server that lets `answer` do what it likes with each connection, once its request is read.
fn server(answer: impl Fn(TcpStream) + Send + 'static) -> SocketAddr {
    serve(move |connection, _| answer(connection))
}

/// A server that answers by the path that is asked for.
fn routed(answer: impl Fn(&str) -> (&'static str, &'static str) + Send + 'static) -> SocketAddr {
    serve(move |mut connection, path| {
        let (status, body) = answer(path);
        let length = body.len();
        let _ = write!(connection, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    })
}

fn serve(answer: impl Fn(TcpStream, &str) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let connection = connection.unwrap();
            let request = BufReader::new(connection.try_clone().unwrap());
            let request: Vec<_> = request.lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let path = request.first().and_then(|line| line.strip_prefix("GET ")?.split(' ').next());
            assert!(request.is_empty() || path.is_some(), "{request:?}");
            answer(connection, path.unwrap_or_default());
        }
    });
    address
}

fn answering(status: &'static str, body: &'static str) -> SocketAddr {
    routed(move |_| (status, body))
}

fn shimctl(address: SocketAddr, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shimctl"));
    // A proxy in the environment must not come between.
    command.env("http_proxy", "http://127.0.0.1:1").env("HTTP_PROXY", "http://127.0.0.1:1");
    command.args(["--address", &address.to_string()]).args(arguments).output().unwrap()
}

/// What `shimctl ports` complains of; it must fail, and print nothing else.
fn complaint(address: SocketAddr) -> String {
    let output = shimctl(address, &["ports"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("shimctl: "), "{text}");
    text
}

const PORTS: &str = r#"[{"host_address":"::","host_port":8080,"protocol":"tcp","container_address":null,
"container_port":80,"container_id":null,"container_name":null,"service_name":"web","environment_name":"test",
"proxy_mode":"http","served_by":"envoy","shim_pid":7,"announced_at_ms":1,"problem":null,"a_later_field":[1]}]"#;

#[test]
fn ports_are_a_table_or_the_answer_as_it_came() {
    let address = answering("200 OK", PORTS);
    let table = shimctl(address, &["ports"]);
    assert!(table.status.success() && table.stderr.is_empty(), "{table:?}");
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.lines().nth(1).unwrap().starts_with("[::]:8080/tcp  ?:80"), "{table}");
    assert!(!table.contains('\u{1b}'), "{table}");

    let json = shimctl(address, &["--output", "json", "ports"]);
    assert_eq!(String::from_utf8(json.stdout).unwrap(), format!("{PORTS}\n"));
}

#[test]
fn nobody_there_is_told_with_the_address_and_the_fix() {
    // Bound and dropped, so nobody listens there.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = complaint(address);
    assert!(text.contains(&address.to_string()) && text.contains("refused"), "{text}");
    assert!(text.contains("systemctl status envoy-docker-registrar") && text.contains("--address"), "{text}");
}

#[test]
fn an_error_of_the_registrars_is_passed_on() {
    let text = complaint(answering("503 Service Unavailable", r#"{"error":"Docker was not listed yet"}"#));
    assert!(text.contains("503") && text.contains("/api/v1/ports: Docker was not listed yet"), "{text}");
}

#[test]
fn another_servers_pages_are_not_taken_for_answers() {
    let text = complaint(answering("404 Not Found", "<h1>\u{1b}[31mNot here</h1>"));
    assert!(text.contains("404") && text.contains("<h1>\\u{1b}[31mNot here"), "{text}");
    let text = complaint(answering("200 OK", "<h1>Welcome</h1>"));
    assert!(text.contains("can't be understood") && text.contains("Is it a registrar"), "{text}");
    let text = complaint(answering("200 OK", r#"{"ports":[]}"#));
    assert!(text.contains("can't be understood"), "{text}");
    let text = complaint(answering("302 Found\r\nlocation: http://127.0.0.1:1/", ""));
    assert!(text.contains("302"), "{text}");
}

#[test]
fn broken_answers_are_told_apart_from_none() {
    for bytes in ["", "HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n[", "SSH-2.0-OpenSSH_9.2\r\n", "\u{0}\u{1}\u{2}"] {
        let text = complaint(server(move |mut connection| {
            let _ = connection.write_all(bytes.as_bytes());
        }));
        assert!(text.contains("no answer from the registrar at 127.0.0.1:"), "{bytes:?}: {text}");
    }
}

#[test]
fn an_endless_answer_ends() {
    let text = complaint(server(|mut connection| {
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
        while connection.write_all(&[b' '; 65536]).is_ok() {}
    }));
    assert!(text.contains("no answer"), "{text}");
}

#[test]
fn a_silent_server_is_given_up() {
    let started = Instant::now();
    let text = complaint(server(|connection| {
        thread::spawn(move || {
            let mut rest = Vec::new();
            let _ = (&connection).read_to_end(&mut rest);
        });
    }));
    assert!(text.contains("within 5.0 s"), "{text}");
    assert!((5..10).contains(&started.elapsed().as_secs()), "{:?}", started.elapsed());
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    // More than a pipe holds, so that the write meets the closed end.
    let address = server(|mut connection| {
        let body = format!("[{}]", " ".repeat(1 << 20));
        let _ = write!(connection, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    });
    let mut command = Command::new(env!("CARGO_BIN_EXE_shimctl"));
    command.args(["--address", &address.to_string(), "--output", "json", "ports"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_wrong_command_line_exits_with_2_and_names_the_word() {
    let address = "127.0.0.1:1".parse().unwrap();
    for (arguments, word) in [
        (&["prots"][..], "prots"),
        (&["--output", "yaml", "ports"], "yaml"),
        (&["resync", "--timeout", "soon"], "soon"),
        (&["--address", "nowhere", "ports"], "nowhere"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shimctl"));
        let output = command.args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(word), "{output:?}");
    }
    let help = shimctl(address, &["--help"]);
    assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains("Examples:"), "{help:?}");
}

#[test]
fn services_instances_and_hosts_are_tables_or_the_answer_as_it_came() {
    const SERVICES: &str = r#"[{"service_name":"web","environment_name":"test","service_port":9500,
"proxy_mode":"http","problem":null,"instances":[{"id":"a/0123456789ab","host":"a","address":"10.0.0.1","port":8000,
"status":"alive","container_id":null,"image":"web","version":"","since":1,"a_later_field":[1]}]}]"#;
    let address = answering("200 OK", SERVICES);
    let printed = |arguments: &[&str]| String::from_utf8(shimctl(address, arguments).stdout).unwrap();
    assert!(
        printed(&["services"]).contains("web      test         9500  http  1/1 alive"),
        "{}",
        printed(&["services"])
    );
    assert!(printed(&["services", "--instances"]).contains("a/0123456789ab  alive   10.0.0.1:8000"));
    assert_eq!(printed(&["--output", "json", "services"]), format!("{SERVICES}\n"));

    const HOSTS: &str = r#"[{"name":"a","address":"10.0.0.1","status":"suspect","instances":3,"since":1}]"#;
    let address = answering("200 OK", HOSTS);
    let table = String::from_utf8(shimctl(address, &["hosts"]).stdout).unwrap();
    assert!(table.lines().nth(1).unwrap().starts_with("a     10.0.0.1  suspect  3 "), "{table}");
}

#[test]
fn an_instance_is_drained_by_its_id_and_a_wrong_one_is_a_wrong_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let registrar = thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in ["204 No Content\r\n\r\n", "404 Not Found\r\n\r\n{\"error\":\"this host has no instance\"}"] {
            let (mut connection, _) = listener.accept().unwrap();
            let mut request = String::new();
            BufReader::new(connection.try_clone().unwrap()).read_line(&mut request).unwrap();
            write!(connection, "HTTP/1.1 {answer}").unwrap();
            asked.push(request);
        }
        asked
    });
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shimctl"));
        command.args(arguments).arg("--admin-socket").arg(&socket).output().unwrap()
    };
    let drained = run(&["drain", "web1.example/0123456789ab"]);
    assert!(drained.status.success() && drained.stdout.is_empty(), "{drained:?}");
    assert!(String::from_utf8_lossy(&drained.stderr).contains("shimctl undrain web1.example/0123456789ab"));
    let unknown = run(&["undrain", "web1.example/ffffffffffff"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("404: this host has no instance"), "{unknown:?}");
    let asked = registrar.join().unwrap();
    assert!(asked[0].starts_with("POST /api/v1/instances/web1.example/0123456789ab/drain HTTP/1.1"), "{asked:?}");
    assert!(asked[1].starts_with("DELETE /api/v1/instances/web1.example/ffffffffffff/drain HTTP/1.1"), "{asked:?}");

    for wrong in ["a b", "a/12", "a b/0123456789ab", "a/0123456789ab\r\nX: y"] {
        let output = run(&["drain", wrong]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("as listed by `shimctl services"), "{output:?}");
    }
}

#[test]
fn a_key_is_the_only_word_on_standard_output() {
    let output = Command::new(env!("CARGO_BIN_EXE_shimctl")).arg("keygen").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let key = String::from_utf8(output.stdout).unwrap();
    assert_eq!((key.len(), key.lines().count()), (45, 1), "32 bytes in base64 and a newline");
    let hint = String::from_utf8(output.stderr).unwrap();
    assert!(hint.contains("0600") && !hint.contains(key.trim()), "{hint}");
}

const ENVOY: &str = r#"{"connected":true,"node_id":null,"version":"1.40.0","in_sync":true,"capture":"divert",
"capture_reason":"Docker's firewall is on","capture_problem":null,"resources":{},"nacks":0,"last_nack":null}"#;

/// A registrar with one port, no service, and an Envoy.
fn registrar() -> SocketAddr {
    routed(|path| match path {
        "/api/v1/ports" => ("200 OK", PORTS),
        "/api/v1/envoy" => ("200 OK", ENVOY),
        "/readyz" => ("503 Service Unavailable", r#"{"ready":false,"waiting_for":["Docker's first listing"]}"#),
        _ => ("200 OK", "[]"),
    })
}

#[test]
fn a_port_is_explained_and_what_nobody_knows_is_not() {
    let address = registrar();
    let text = String::from_utf8(shimctl(address, &["explain", "8080"]).stdout).unwrap();
    assert!(text.starts_with("[::]:8080/tcp\n") && text.contains("the shim (process 7) at once"), "{text}");
    assert_eq!(String::from_utf8(shimctl(address, &["explain", "web"]).stdout).unwrap(), text);
    let json = shimctl(address, &["--output", "json", "explain", "8080"]).stdout;
    assert!(json.starts_with(br#"[{"subject":"[::]:8080/tcp","sentences":["#));
    for unknown in ["81", "db"] {
        let output = shimctl(address, &["explain", unknown]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("shimctl services"), "{output:?}");
    }
    assert_eq!(shimctl(address, &["explain", "70000"]).status.code(), Some(2));
}

#[test]
fn check_asks_a_registrar_that_is_not_ready_for_what_it_waits_and_fails() {
    let output = shimctl(registrar(), &["--output", "json", "check"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let json = String::from_utf8(output.stdout).unwrap();
    assert!(json.contains("waits for Docker's first listing") && json.contains(r#""hints":["#), "{json}");
}

#[test]
fn ports_can_be_filtered_in_words_and_as_json_and_a_registrar_that_starts_is_named() {
    let address = registrar();
    let output = shimctl(address, &["ports", "8080", "--json"]);
    assert!(output.status.success() && output.stdout.starts_with(br#"[{"host_address":"::""#), "{output:?}");
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("still starting") && complaint.contains("Docker's first listing"), "{complaint}");
    let output = shimctl(answering("200 OK", PORTS), &["ports", "[::1]:8080/tcp"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("[::]:8080/tcp"));
    let output = shimctl(answering("200 OK", PORTS), &["ports", "8080/udp"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn an_instance_is_not_drained_by_a_name_that_nobody_has() {
    let output = shimctl(registrar(), &["drain", "shop-web-1"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("no instance is called shop-web-1"), "{output:?}");
}

#[test]
fn shells_are_told_how_to_complete_command_lines() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_shimctl")).args(["completion", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("shimctl") && script.contains("explain"), "{script}");
    }
    let version = Command::new(env!("CARGO_BIN_EXE_shimctl")).arg("version").output().unwrap();
    assert!(version.stdout.starts_with(b"shimctl "), "{version:?}");
}

//! Ports without a label: bytes until the application's answers show what it speaks, and back to bytes for whom Envoy
//! refuses anything.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use lab::http::Request;
use lab::{Docker, Host, Lab, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{on_both_dockers, request_header};

on_both_dockers!(
    a_web_program_is_envoys_after_its_first_answer_and_gets_no_header_that_it_did_not_get_before,
    what_was_learned_is_remembered_for_the_image_and_over_a_restart,
);

const URL: &str = "http://127.0.0.1:8080/";

/// Waits until every listing of the port says that it is treated so.
#[track_caller]
fn await_treatment(host: &Host, port: u16, treatment: &str) -> Vec<Value> {
    eventually(&format!("port {port} is treated as {treatment}"), Duration::from_secs(10), || {
        let ports = host.ports(port);
        let is_so = !ports.is_empty() && ports.iter().all(|port| port["treatment"] == treatment);
        if is_so { Ok(ports) } else { Err(format!("{ports:?}")) }
    })
}

/// Sends this, ends the sending side, and reads what comes.
fn say(host: &Host, port: u16, words: &[u8]) -> String {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stream = host.namespace().in_network(|| TcpStream::connect(address)).expect("the port answers");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket has a time limit");
    stream.write_all(words).expect("the words are sent");
    stream.shutdown(Shutdown::Write).expect("half of a connection can be closed");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

fn a_web_program_is_envoys_after_its_first_answer_and_gets_no_header_that_it_did_not_get_before(version: Docker) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").docker(version).start();
    host.run_web_unlabelled(&["-p", "8080:80"]);
    for port in await_treatment(&host, 8080, "learning") {
        assert_eq!((&port["served_by"], &port["proxy_mode"]), (&"shim".into(), &"auto".into()), "{port}");
        assert!(port["problem"].is_null() && port["treatment_reason"].is_string(), "{port}");
    }
    let first = host.get(URL).expect("the shim forwards");
    await_treatment(&host, 8080, "http");
    host.await_served_by_envoy(8080);
    let through_envoy = host.get(URL).expect("Envoy answers");
    // `Connection` is between neighbours, and ends at a proxy.
    let headers = |answer: &lab::http::Response| {
        let headers = answer.json()["headers"].as_array().cloned().unwrap_or_default();
        headers.into_iter().filter(|header| header[0] != "Connection").collect::<Vec<_>>()
    };
    assert_eq!(headers(&first), headers(&through_envoy));
    let behind_tls = Request::get(URL).header("X-Forwarded-Proto", "https").header("x-shim-forwarded-proto", "forged");
    let behind_tls = host.send(&behind_tls).expect("Envoy answers");
    assert_eq!(request_header(&behind_tls, "x-forwarded-proto").as_deref(), Some("https"), "the client's own stays");
    assert_eq!(request_header(&behind_tls, "x-shim-forwarded-proto"), None);
    let counted = host.envoy_stat(r"^http\.local/web//0\.0\.0\.0/8080\.downstream_rq_total$");
    assert_eq!(counted, 2, "all but the first request passed Envoy");
}

fn what_was_learned_is_remembered_for_the_image_and_over_a_restart(version: Docker) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").docker(version).start();
    host.run_web_unlabelled(&["-p", "8080:80"]);
    host.get(URL).expect("the shim forwards");
    await_treatment(&host, 8080, "http");
    host.run_web_unlabelled(&["-p", "8081:80"]);
    await_treatment(&host, 8081, "http");
    // Time to be written down.
    std::thread::sleep(Duration::from_secs(2));
    host.end_registrar(Signal::SIGKILL);
    host.start_registrar();
    host.run_web_unlabelled(&["-p", "8082:80"]);
    for port in [8080, 8081, 8082] {
        await_treatment(&host, port, "http");
        host.await_served_by_envoy(port);
    }
}

#[test]
fn lines_of_clients_that_close_at_once_all_arrive() {
    const CLIENTS: usize = 500;
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    let id = host.run_program(&["-p", "8081:81"], &["lines:81"]);
    let address = SocketAddr::from(([127, 0, 0, 1], 8081));
    for _ in 0..CLIENTS {
        let mut stream = host.namespace().in_network(|| TcpStream::connect(address)).expect("the port answers");
        stream.write_all(b"x 1\n").expect("the line is sent");
    }
    let arrived = || host.docker(&["logs", &id]).lines().filter(|line| *line == "x 1").count();
    eventually("every line arrives", Duration::from_secs(10), || {
        if arrived() == CLIENTS { Ok(()) } else { Err(format!("{} of {CLIENTS}", arrived())) }
    });
    await_treatment(&host, 8081, "learning");
}

#[test]
fn a_server_that_answers_anything_but_http_is_for_bytes_after_its_first_answer() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_program(&["-p", "8081:81"], &["banner:81"]);
    await_treatment(&host, 8081, "learning");
    let whole = "hello, I speak first\r\nis it you?\r\ngoodbye\r\n";
    assert_eq!(say(&host, 8081, b"is it you?\r\n"), whole);
    let ports = await_treatment(&host, 8081, "tcp");
    let reason = ports[0]["treatment_reason"].as_str().unwrap_or_default();
    assert!(reason.contains("server") && reason.contains("ProxyMode=http"), "{reason}");
    host.await_served_by_envoy(8081);
    assert_eq!(say(&host, 8081, b"is it you?\r\n"), whole);
}

#[test]
fn a_client_that_envoy_refuses_goes_past_it_from_then_on_and_nobody_else_does() {
    let lab = Lab::of_this_test();
    let (host, client) = (lab.host("a").start(), lab.client("client"));
    host.run_web_unlabelled(&["-p", "8080:80"]);
    host.get(URL).expect("the shim forwards");
    host.await_served_by_envoy(8080);
    let odd = || Request::get(URL).header("Connection", "Upgrade").header("Upgrade", "foo");
    let refused = host.send(&odd()).expect("Envoy answers");
    assert_eq!(refused.status, 403, "Envoy does not know this protocol");
    eventually("the client goes past Envoy", Duration::from_secs(5), || {
        let ports = host.ports(8080);
        let v4 = ports.iter().find(|port| port["host_address"] == "0.0.0.0").cloned().unwrap_or_default();
        if v4["bypassed_clients"] == serde_json::json!(["127.0.0.1"]) { Ok(()) } else { Err(v4.to_string()) }
    });
    let mut stream = host.namespace().in_network(|| odd().open()).expect("the port answers");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket has a time limit");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).expect("the program answers");
    assert_eq!(&answer, b"HTTP/1.1 101", "the program itself takes the upgrade");
    // It took an upgrade that Envoy does not pass: that is the server's own way, and the port is for bytes.
    await_treatment(&host, 8080, "tcp");
    let other = client.get(&format!("http://{}:8080/", host.address())).expect("others are answered");
    assert_eq!(other.status, 200);
}

#[test]
fn garbage_from_strangers_teaches_nothing() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_web_unlabelled(&["-p", "8080:80"]);
    await_treatment(&host, 8080, "learning");
    for words in [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"\0\0\0\0", b"x 1\n", b"", b"GET /\r\n\r\n"] {
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        let mut stream = host.namespace().in_network(|| TcpStream::connect(address)).expect("the port answers");
        stream.write_all(words).expect("the words are sent");
        std::thread::sleep(Duration::from_millis(50));
    }
    await_treatment(&host, 8080, "learning");
    host.get(URL).expect("the shim forwards");
    await_treatment(&host, 8080, "http");
}

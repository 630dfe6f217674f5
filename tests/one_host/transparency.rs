//! What works behind docker-proxy works behind Envoy in `http` mode.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use lab::http::Request;
use lab::{Host, Lab, grpc};

use crate::{passed_envoy, request_header};

const URL: &str = "http://127.0.0.1:8080";

fn host_with_web(lab: &Lab) -> Host {
    let host = lab.host("a").start();
    host.run_web(&["-p", "8080:80", "-l", "ProxyMode=http"]);
    host.await_served_by_envoy(8080);
    host
}

#[test]
fn http_passes_as_it_was_sent() {
    let lab = Lab::of_this_test();
    let host = host_with_web(&lab);
    let send = |request: &Request| {
        let answer = host.send(request).expect("the request is answered");
        assert!(passed_envoy(&answer), "{}", answer.text());
        answer
    };
    let answer = send(&Request::get(&format!("{URL}/a//b/../c%2Fd?x=%20")).header("X-MiXeD-Case", "kept"));
    assert_eq!(answer.json()["path"], "/a//b/../c%2Fd?x=%20", "paths are not normalized");
    assert!(answer.text().contains(r#"["X-MiXeD-Case","kept"]"#), "names keep their case: {}", answer.text());
    assert!(answer.headers.iter().any(|(name, _)| name == "X-Echo-App"), "in answers too: {:?}", answer.headers);
    assert_eq!(request_header(&answer, "host").as_deref(), Some("127.0.0.1:8080"));

    assert_eq!(send(&Request::get(URL).http10().header("Host", "old")).status, 200, "HTTP/1.0 is served");
    let long = "x".repeat(200 << 10);
    let answer = send(&Request::get(URL).header("X-Long", &long));
    assert_eq!(request_header(&answer, "x-long").map(|value| value.len()), Some(long.len()), "long headers pass");
    let answer = send(&Request::get(URL).method("PURGE"));
    assert_eq!(answer.json()["method"], "PURGE", "any method passes");
    let answer = send(&Request::get(URL).method("POST").body(vec![b'x'; 8 << 20]));
    assert_eq!(answer.json()["body_length"], 8 << 20, "long bodies pass");
    let answer = host.get(&format!("{URL}/bytes/20000000")).expect("a long answer comes");
    assert_eq!(answer.body.len(), 20_000_000);
    let answer = send(&Request::get(&format!("{URL}/status/418")));
    assert_eq!(answer.status, 418, "errors are the application's own");
}

#[test]
fn an_upgraded_connection_passes_bytes_both_ways() {
    let lab = Lab::of_this_test();
    let host = host_with_web(&lab);
    let request = Request::get(&format!("{URL}/socket")).header("Connection", "Upgrade").header("Upgrade", "websocket");
    let mut stream = host.namespace().in_network(|| request.open()).expect("the port answers");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the upgrade is answered");
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    for message in ["one", "two, after a pause"] {
        stream.write_all(message.as_bytes()).expect("the connection stays open");
        let mut echo = vec![0; message.len()];
        stream.read_exact(&mut echo).expect("the echo comes");
        assert_eq!(echo, message.as_bytes());
        std::thread::sleep(Duration::from_millis(300));
    }
}

#[test]
fn an_answer_may_take_longer_than_envoys_default_limit() {
    let lab = Lab::of_this_test();
    let host = host_with_web(&lab);
    let slow = Request::get(&format!("{URL}/sleep/16000")).limit(Duration::from_secs(30));
    assert_eq!(host.send(&slow).expect("a route's default limit of 15 s is off").status, 200);
}

#[test]
fn grpc_passes_end_to_end_as_http_without_any_label() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_program(&["-p", "8080:50051"], &["grpc:50051"]);
    let converse = |messages: &[(&str, Duration)]| {
        let said = host.namespace().in_network(|| {
            let target = SocketAddr::from(([127, 0, 0, 1], 8080));
            grpc::converse(target, messages).map_err(|error| error.to_string())
        });
        said.expect("the port speaks gRPC")
    };
    assert_eq!(converse(&[("first", Duration::ZERO)]).answers, ["first"], "the shim passes it");
    host.await_served_by_envoy(8080);
    let long = "x".repeat(3 << 20);
    // Longer than Envoy lets a connection to a container be without a request.
    let pause = Duration::from_secs(7);
    let messages = [("one", Duration::ZERO), (&long, Duration::ZERO), ("after a pause", pause), (grpc::FAIL, pause)];
    let said = converse(&messages);
    assert_eq!(said.answers, ["one", &long, "after a pause"], "messages pass both ways while the stream is open");
    let end = said.end.expect("the error of the application comes in the trailers");
    assert_eq!((end.code(), end.message()), (tonic::Code::ResourceExhausted, grpc::FAILURE));
    assert_eq!(said.forwarded_for, None, "no header is added");
    let counted = host.envoy_stat(r"^http\.local/web//0\.0\.0\.0/8080\.downstream_rq_total$");
    assert_eq!(counted, 1, "Envoy took it for HTTP");
}

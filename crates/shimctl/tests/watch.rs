//! `shimctl watch` against a server that comes and goes.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail the test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Answers one connection after the other, each with the next of these bodies; those that are not the last end after it.
fn server(answers: Vec<String>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let last = answers.len() - 1;
        let mut open: Option<TcpStream> = None;
        for (number, answer) in answers.into_iter().enumerate() {
            let (mut connection, _) = listener.accept().unwrap();
            let lines = BufReader::new(connection.try_clone().unwrap()).lines();
            let request: Vec<_> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            assert!(request[0].starts_with("GET /api/v1/watch "), "{request:?}");
            connection.write_all(answer.as_bytes()).unwrap();
            if number == last {
                open = Some(connection);
            }
        }
        // Until shimctl hangs up.
        if let Some(mut connection) = open {
            let _ = connection.read_to_end(&mut Vec::new());
        }
    });
    address
}

fn stream(events: &[(&str, &str)]) -> String {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n:\n\n".to_owned();
    events.iter().fold(head, |text, (name, data)| format!("{text}event: {name}\ndata: {data}\n\n"))
}

fn start(address: SocketAddr, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shimctl"));
    command.args(["--address", &address.to_string(), "watch"]).args(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn interrupt(child: &Child) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGINT).unwrap();
}

const NOTHING: &str = r#"{"services":[],"hosts":[]}"#;

fn host(status: &str) -> String {
    format!(r#"{{"name":"a","address":null,"status":"{status}","instances":0,"since":0,"a_later_field":1}}"#)
}

#[test]
fn changes_are_printed_over_a_break_of_the_stream_until_ctrl_c_which_is_a_success() {
    let later = format!(r#"{{"services":[],"hosts":[{}]}}"#, host("down"));
    let address = server(vec![
        stream(&[("state", NOTHING), ("weather", "7"), ("host", &host("alive"))]),
        stream(&[("state", &later)]),
    ]);
    let mut child = start(address, &[]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let expected =
        ["known now: hosts: 0, services: 0, instances: 0", "host a: new: alive", "host a: down now, and was alive"];
    for expected in expected {
        let line = lines.next().unwrap();
        assert_eq!(line[8..], format!("Z  {expected}"), "{line}");
    }
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("broke off: the registrar has ended it; trying again"), "{said}");
    assert!(said.contains("the registrar answers again"), "{said}");
}

#[test]
fn as_json_each_event_is_a_line_and_an_event_that_is_none_breaks_the_stream() {
    let address =
        server(vec![stream(&[("state", NOTHING), ("host", "{")]), stream(&[("weather", r#"{"later": [1]}"#)])]);
    let mut child = start(address, &["--output", "json"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut next = || serde_json::from_str::<serde_json::Value>(&lines.next().unwrap()).unwrap();
    assert_eq!(next(), serde_json::json!({"event": "state", "data": {"services": [], "hosts": []}}));
    assert_eq!(next(), serde_json::json!({"event": "weather", "data": {"later": [1]}}));
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("the event \"host\" can't be understood"), "{output:?}");
}

#[test]
fn without_a_registrar_to_begin_with_it_fails_at_once() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let full = "HTTP/1.1 503 X\r\ncontent-length: 21\r\n\r\n{\"error\":\"64 of you\"}".to_owned();
    for (address, words) in
        [(nobody, "no answer from the registrar"), (server(vec![full]), "503 to /api/v1/watch: 64 of you")]
    {
        let output = start(address, &[]).wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains(words), "{output:?}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_ends_it_well() {
    let address = server(vec![stream(&[("state", NOTHING), ("host", &host("alive"))])]);
    let mut child = start(address, &[]);
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

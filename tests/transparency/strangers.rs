//! Port scanners and strangers: thousands of connections that are no conversation teach nothing wrong and leave nothing.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use lab::http::request_header;
use lab::{Client, Host, Lab, eventually, measure};

/// Nobody has asked this port anything before the strangers come.
const UNKNOWN: u16 = 8080;
/// This port has answered plain requests before.
const LEARNED: u16 = 8081;
/// So many strangers in all, half of them at each port.
const STRANGERS: usize = 10_000;
/// So many at a time.
const BATCH: usize = 250;
const LIMIT: Duration = Duration::from_secs(20);
/// What may be left of them: pages that were touched once, in a process of this kind.
const SHIM_GROWTH_KB: u64 = 256;
const REGISTRAR_GROWTH_KB: u64 = 8 << 10;

/// What a stranger does.
#[derive(Clone, Copy, Debug)]
enum Stranger {
    /// Begins to speak TLS.
    TlsHello,
    /// Sends what nobody understands.
    Garbage,
    /// Says nothing.
    Silence,
    /// Sends an HTTP request that never ends, a byte now and then.
    SlowBytes,
    /// Ends its half at once.
    HalfClosed,
    /// Asks for what HTTP treatment would refuse.
    OddRequest,
}

const ALL: [Stranger; 6] = [
    Stranger::TlsHello,
    Stranger::Garbage,
    Stranger::Silence,
    Stranger::SlowBytes,
    Stranger::HalfClosed,
    Stranger::OddRequest,
];

#[test]
fn ten_thousand_strangers_teach_nothing_and_leave_nothing() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").registrar_arguments(&["--trace-collector", "127.0.0.1:4317"]).start();
    // A refused stranger may lose its traces, so those who ask plainly come from another address.
    let client = lab.client("client");
    let is_traced = |port| is_traced(&client, &host, port);
    let learns = |port| {
        eventually(&format!("port {port} learns from plain requests that it speaks HTTP"), LIMIT, || {
            if is_traced(port) { Ok(()) } else { Err(format!("{:?}", host.ports(port))) }
        });
    };
    // Ports of a kind of their own, should what is learned of one be remembered for the other.
    host.run_program(&["-p", &format!("{UNKNOWN}:80")], &["http:80"]);
    host.run_program(&["-p", &format!("{LEARNED}:81")], &["http:81"]);
    learns(LEARNED);
    let before = memory(&host);
    host.namespace().in_network(|| {
        for number in 0..STRANGERS / BATCH {
            let port = if number % 2 == 0 { UNKNOWN } else { LEARNED };
            come(port, number).unwrap_or_else(|error| panic!("strangers at port {port}: {error}"));
        }
    });
    assert!(is_traced(LEARNED), "the port is HTTP as before, in its very next request");
    learns(UNKNOWN);
    eventually("memory is as it was", LIMIT, || {
        let after = memory(&host);
        let grown = [after[0].saturating_sub(before[0]), after[1].saturating_sub(before[1])];
        let report =
            format!("shims {} kB, then {}; registrar {} kB, then {}", before[0], after[0], before[1], after[1]);
        if grown[0] <= SHIM_GROWTH_KB && grown[1] <= REGISTRAR_GROWTH_KB {
            println!("{report}");
            return Ok(());
        }
        Err(report)
    });
}

/// Whether Envoy made a span of a plain request.
fn is_traced(client: &Client, host: &Host, port: u16) -> bool {
    let answer = client.get(&format!("http://{}:{port}/", host.address())).expect("a plain request is answered");
    assert_eq!(answer.status, 200, "{}", answer.text());
    request_header(&answer, "traceparent").is_some()
}

/// Mean of the shims and the registrar, in kB.
fn memory(host: &Host) -> [u64; 2] {
    let registrar = host.processes_of("envoy-docker-registrar");
    [measure::mean_pss_kb(&host.shims()), measure::mean_pss_kb(&registrar)]
}

/// One batch: all connect, say what they say in turns, and leave.
fn come(port: u16, number: usize) -> io::Result<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let kind = |index: usize| ALL[(index + number) % ALL.len()];
    let mut streams = (0..BATCH).map(|_| TcpStream::connect(address)).collect::<io::Result<Vec<_>>>()?;
    for turn in 0..4 {
        for (index, stream) in streams.iter_mut().enumerate() {
            // Some are shown the door.
            let _ = speak(stream, kind(index), turn);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn speak(stream: &mut TcpStream, kind: Stranger, turn: usize) -> io::Result<()> {
    match (kind, turn) {
        (Stranger::TlsHello, 0) => stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (Stranger::Garbage, 0) => stream.write_all(b"\x00\xffGARBAGE \xf0\x0d\r\n\r\n"),
        (Stranger::SlowBytes, turn) => stream.write_all(&b"GET "[turn..=turn]),
        (Stranger::HalfClosed, 0) => stream.shutdown(Shutdown::Write),
        (Stranger::OddRequest, 0) => stream.write_all(b"GET http://other.example/ HTTP/1.0\r\nUpgrade: foo\r\n\r\n"),
        _ => Ok(()),
    }
}

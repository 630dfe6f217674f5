//! Whole connections, and what each of them shows: in one piece, byte by byte, and in random pieces.

#![allow(unreachable_pub, clippy::unwrap_used, reason = "modules of one test; a test fails by panicking")]

mod cases;

use cases::{Case, Step, all};
use evidence::{Finding, OBSERVED_MAX, Observer};
use proptest::prelude::*;

/// Plays a connection; `cut` says how long the next piece is, given how many bytes are left.
fn play(case: &Case, mut cut: impl FnMut(usize) -> usize) -> Vec<Finding> {
    let mut observer = Observer::new();
    let mut findings = Vec::new();
    for step in &case.steps {
        let mut rest = match step {
            Step::Client(bytes) | Step::Server(bytes) => &bytes[..],
            Step::ClientEnds => {
                observer.client_ended();
                continue;
            }
            Step::ServerEnds => {
                observer.server_ended();
                continue;
            }
        };
        while !rest.is_empty() {
            let (piece, further) = rest.split_at(cut(rest.len()).clamp(1, rest.len()));
            rest = further;
            findings.extend(match step {
                Step::Client(_) => observer.client(piece),
                _ => observer.server(piece),
            });
        }
    }
    if !findings.is_empty() {
        assert!(observer.is_done(), "{}: a finding is the end", case.name);
    }
    findings
}

fn check(case: &Case, how: &str, cut: impl FnMut(usize) -> usize) {
    let expected: Vec<Finding> = case.expected.into_iter().collect();
    assert_eq!(play(case, cut), expected, "{} ({how})", case.name);
}

#[test]
fn every_connection_shows_what_it_should() {
    let cases = all();
    assert!(cases.len() >= 80, "{} cases", cases.len());
    for case in &cases {
        check(case, "in whole", |left| left);
        check(case, "byte by byte", |_| 1);
    }
}

#[test]
fn names_of_cases_are_unique() {
    let mut names: Vec<_> = all().iter().map(|case| case.name).collect();
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count);
}

/// Bytes as they come on networks: text that is nearly HTTP, and anything else.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        proptest::sample::select(vec![
            &b"GET / HTTP/1.1\r\n"[..],
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 101 S\r\n",
            b"Host: a\r\n",
            b"Content-Length: 1\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"Upgrade: websocket\r\n",
            b"Connection: upgrade\r\n",
            b"\r\n",
            b"\n",
            b"<html>",
            b"\0\0\0\x04\0\0\0\0\0",
        ])
        .prop_map(<[u8]>::to_vec),
    ]
}

proptest! {
    #[test]
    fn pieces_make_no_difference(lengths in proptest::collection::vec(1usize..30, 1..50)) {
        for case in &all() {
            let mut lengths = lengths.iter().cycle();
            check(case, "in random pieces", |_| *lengths.next().unwrap());
        }
    }

    #[test]
    fn no_bytes_do_harm(steps in proptest::collection::vec((0u8..10, piece()), 0..40)) {
        let mut observer = Observer::new();
        let mut findings = 0;
        for (what, bytes) in steps {
            findings += match what {
                0 if bytes.len() > 35 => {
                    observer.client_ended();
                    0
                }
                1 if bytes.len() > 35 => {
                    observer.server_ended();
                    0
                }
                0..5 => usize::from(observer.client(&bytes).is_some()),
                _ => usize::from(observer.server(&bytes).is_some()),
            };
        }
        prop_assert!(findings <= 1);
        let _ = observer.client(&vec![b'\n'; OBSERVED_MAX]);
        let _ = observer.server(&vec![b'\n'; OBSERVED_MAX]);
        prop_assert!(!observer.wants_client() && !observer.wants_server(), "it ends, whatever comes");
    }

    #[test]
    fn clients_alone_decide_nothing(pieces in proptest::collection::vec(piece(), 0..40)) {
        let mut observer = Observer::new();
        for bytes in pieces {
            prop_assert_eq!(observer.client(&bytes), None);
        }
        observer.client_ended();
        prop_assert_eq!(observer.server(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"), None);
    }
}

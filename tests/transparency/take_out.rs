//! Takes one kind of difference out of what was seen, so that all else can be compared.

use crate::player::find;
use crate::rules::{chunks, without_header};
use crate::seen::{End, Half, Seen};

fn each(seen: &mut Seen, change: impl Fn(&[u8]) -> Vec<u8>) {
    all(seen).for_each(|half| half.bytes = change(&half.bytes));
}

fn all(seen: &mut Seen) -> impl Iterator<Item = &mut Half> {
    seen.client.iter_mut().chain(&mut seen.server)
}

fn without(seen: &mut Seen, names: &[&str]) {
    for name in names {
        each(seen, |bytes| without_header(bytes, name));
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split_inclusive(|byte| *byte == b'\n')
}

fn per_line(seen: &mut Seen, change: impl Fn(&[u8]) -> Vec<u8>) {
    each(seen, |bytes| lines(bytes).map(&change).collect::<Vec<_>>().concat());
}

/// Whether this is an answer with this status.
pub(crate) fn status_is(bytes: &[u8], status: u16) -> bool {
    let status = status.to_string();
    bytes.starts_with(b"HTTP/1.") && bytes.get(8..13) == Some(format!(" {status} ").as_bytes())
}

/// Versions, and the Host that HTTP/1.0 need not have.
pub(crate) fn version(seen: &mut Seen) {
    without(seen, &["host"]);
    for version in ["HTTP/1.0", "HTTP/1.2", "HTTP/2.0"] {
        each(seen, |bytes| replaced(bytes, version.as_bytes(), b"HTTP/1.1"));
    }
}

fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    match find(bytes, old) {
        None => bytes.to_vec(),
        Some(start) => [&bytes[..start], new, &replaced(&bytes[start + old.len()..], old, new)].concat(),
    }
}

/// `Content-Length: 0` of requests.
pub(crate) fn empty_length(seen: &mut Seen) {
    seen.server.iter_mut().for_each(|half| {
        let kept = lines(&half.bytes).filter(|line| !line.eq_ignore_ascii_case(b"content-length: 0\r\n"));
        half.bytes = kept.collect::<Vec<_>>().concat();
    });
}

/// What `Connection` names in the cases.
pub(crate) fn hop_by_hop(seen: &mut Seen) {
    without(seen, &["x-named", "te", "upgrade", "http2-settings"]);
}

/// Request lines and Host.
pub(crate) fn target(seen: &mut Seen) {
    without(seen, &["host"]);
    per_line(seen, |line| if line.starts_with(b"GET ") { Vec::new() } else { line.to_vec() });
}

/// The fragment of the case.
pub(crate) fn fragment(seen: &mut Seen) {
    each(seen, |bytes| replaced(bytes, b"#part", b""));
}

/// Line ends before spaces and tabs.
pub(crate) fn folding(seen: &mut Seen) {
    each(seen, |bytes| replaced(bytes, b"\r\n ", b" "));
    each(seen, |bytes| replaced(bytes, b"\r\n\t", b"\t"));
}

/// All CR.
pub(crate) fn carriage_returns(seen: &mut Seen) {
    each(seen, |bytes| bytes.iter().copied().filter(|byte| *byte != b'\r').collect());
}

/// An empty line at the beginning, and one after the body of the case.
pub(crate) fn extra_lines(seen: &mut Seen) {
    each(seen, |bytes| replaced(bytes.strip_prefix(b"\r\n").unwrap_or(bytes), b"hello\r\n\r\n", b"hello"));
}

/// Capitals.
pub(crate) fn case(seen: &mut Seen) {
    each(seen, <[u8]>::to_ascii_lowercase);
}

/// Repeated headers: all values stand with the first.
pub(crate) fn repeated_names(seen: &mut Seen) {
    each(seen, |bytes| {
        let mut joined: Vec<Vec<u8>> = Vec::new();
        for line in lines(bytes) {
            let name = line.split_inclusive(|byte| *byte == b':').next().unwrap_or_default();
            match joined.iter_mut().find(|other| name.ends_with(b":") && other.starts_with(name)) {
                Some(other) => {
                    other.truncate(other.len() - 2);
                    other.extend([b",", line[name.len()..].trim_ascii_start()].concat());
                }
                None => joined.push(line.to_vec()),
            }
        }
        joined.concat()
    });
}

/// The order of lines.
pub(crate) fn order(seen: &mut Seen) {
    each(seen, |bytes| {
        let mut lines: Vec<_> = lines(bytes).collect();
        lines.sort_unstable();
        lines.concat()
    });
}

/// What follows a semicolon in lines that begin with a digit.
pub(crate) fn chunk_extensions(seen: &mut Seen) {
    per_line(seen, |line| match line.iter().position(|byte| *byte == b';') {
        Some(end) if line[0].is_ascii_digit() => [&line[..end], b"\r\n"].concat(),
        _ => line.to_vec(),
    });
}

/// The trace's headers.
pub(crate) fn trace(seen: &mut Seen) {
    without(seen, &["traceparent", "tracestate"]);
}

/// Headers in Envoy's name.
pub(crate) fn envoy_headers(seen: &mut Seen) {
    per_line(seen, |line| {
        let is_envoys = line.to_ascii_lowercase().starts_with(b"x-envoy-");
        if is_envoys { Vec::new() } else { line.to_vec() }
    });
}

/// `X-Forwarded-For`.
pub(crate) fn forwarded_for(seen: &mut Seen) {
    without(seen, &["x-forwarded-for"]);
}

/// Reason phrases of 200.
pub(crate) fn reason(seen: &mut Seen) {
    per_line(seen, |line| if status_is(line, 200) || line == b"HTTP/1.1 200\r\n" { Vec::new() } else { line.to_vec() });
}

/// How a client's connection ends, or not.
pub(crate) fn clients_end(seen: &mut Seen) {
    seen.client.iter_mut().for_each(|half| half.end = End::Open);
}

/// How an answer's body is framed, what it says of that, and the end of its connection.
pub(crate) fn framing(seen: &mut Seen) {
    version(seen);
    clients_end(seen);
    for half in &mut seen.client {
        let is_chunked = find(&half.bytes.to_ascii_lowercase(), b"\r\ntransfer-encoding: chunked\r\n").is_some();
        if let (true, Some(end)) = (is_chunked, find(&half.bytes, b"\r\n\r\n")) {
            let (head, body) = half.bytes.split_at(end + 4);
            half.bytes = [without_header(head, "transfer-encoding"), chunks(body).0].concat();
        }
    }
}

/// All words about lengths.
pub(crate) fn lengths(seen: &mut Seen) {
    without(seen, &["content-length", "transfer-encoding"]);
}

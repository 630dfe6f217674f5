//! The differences that are allowed, each with a name and a reason. Nothing else may differ.

use crate::player::find;
use crate::seen::{End, Half, Seen};

/// A difference that is allowed in every conversation of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rule {
    /// A reset shows as an ordinary end.
    ResetAsEnd,
    /// Requests get the headers of tracing.
    TraceHeaders,
    /// Answers without a date get one.
    Date,
    /// Chunked bodies are cut into other chunks.
    ChunkSizes,
    /// The container's connection stays open after the client's has ended.
    KeptConnection,
    /// `Connection`, `Keep-Alive` and `Proxy-Connection` are each side's own.
    ConnectionHeaders,
    /// Values of headers stand behind the colon and one space.
    Spaces,
    /// Requests get `x-forwarded-for` and `x-forwarded-proto`.
    ForwardedHeaders,
}

/// What docker-proxy changes, and so what may change where a shim passes bytes on.
pub(crate) const BYTES: &[Rule] = &[Rule::ResetAsEnd];
/// What may change besides where an unlabelled port has been learned to be HTTP.
pub(crate) const LEARNED_HTTP: &[Rule] = &[
    Rule::ResetAsEnd,
    Rule::TraceHeaders,
    Rule::Date,
    Rule::ChunkSizes,
    Rule::KeptConnection,
    Rule::ConnectionHeaders,
    Rule::Spaces,
];
/// What may change besides with `ProxyMode=http`.
pub(crate) const LABELLED_HTTP: &[Rule] = &[
    Rule::ResetAsEnd,
    Rule::TraceHeaders,
    Rule::Date,
    Rule::ChunkSizes,
    Rule::KeptConnection,
    Rule::ConnectionHeaders,
    Rule::Spaces,
    Rule::ForwardedHeaders,
];

const TRACE_HEADERS: [&str; 9] = [
    "traceparent",
    "tracestate",
    "x-request-id",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
];

impl Rule {
    /// What it is, for the documentation.
    pub(crate) fn what(self) -> &'static str {
        match self {
            Self::ResetAsEnd => "a reset shows as an ordinary end",
            Self::TraceHeaders => "requests get the headers of tracing",
            Self::Date => "answers without `Date` get one",
            Self::ChunkSizes => "chunked bodies are cut into other chunks",
            Self::KeptConnection => "the container's connection stays open when the client has left",
            Self::ConnectionHeaders => "`Connection`, `Keep-Alive` and `Proxy-Connection` are each side's own",
            Self::Spaces => "values of headers stand behind the colon and one space",
            Self::ForwardedHeaders => "requests get `x-forwarded-for` and `x-forwarded-proto`",
        }
    }

    /// Why it is allowed, for the documentation.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::ResetAsEnd => "docker-proxy does the same: it passes on only that a side has ended, not how",
            Self::TraceHeaders => {
                "`traceparent`, `tracestate`, `x-request-id`, `b3`, `x-b3-*`: what traces are made of"
            }
            Self::Date => "RFC 9110, 6.6.1, asks it of whoever passes on an answer without one",
            Self::ChunkSizes => "RFC 9112, 7.1: they are each connection's own, and say nothing",
            Self::KeptConnection => "Envoy keeps it for 5 s, as for a next request",
            Self::ConnectionHeaders => "RFC 9110, 7.6.1: they are meant for the next hop alone",
            Self::Spaces => "RFC 9110, 5.5: spaces around a value are no part of it",
            Self::ForwardedHeaders => "the container sees Envoy as its peer, and would not learn the client's address",
        }
    }

    /// Takes the difference out of `ours`, and out of `plain` (what was seen without us) where both have something of it.
    pub(crate) fn apply(self, plain: &mut Seen, ours: &mut Seen) {
        match self {
            Self::ResetAsEnd => {
                for half in all(plain).chain(all(ours)).filter(|half| half.end == End::Reset) {
                    half.end = End::Finished;
                }
            }
            Self::TraceHeaders => drop_headers(&plain.server, &mut ours.server, &TRACE_HEADERS),
            Self::ForwardedHeaders => {
                drop_headers(&plain.server, &mut ours.server, &["x-forwarded-for", "x-forwarded-proto"]);
            }
            Self::Date => drop_headers(&plain.client, &mut ours.client, &["date"]),
            Self::ConnectionHeaders => {
                for name in ["connection", "keep-alive", "proxy-connection"] {
                    all(plain).chain(all(ours)).for_each(|half| half.bytes = without_header(&half.bytes, name));
                }
            }
            Self::Spaces => all(plain).chain(all(ours)).for_each(|half| half.bytes = trimmed(&half.bytes)),
            Self::ChunkSizes => all(plain).chain(all(ours)).for_each(|half| half.bytes = joined(&half.bytes)),
            Self::KeptConnection => {
                for (plain, ours) in plain.server.iter_mut().zip(&mut ours.server) {
                    if ours.end == End::Open {
                        plain.end = End::Open;
                    }
                }
            }
        }
    }
}

fn all(seen: &mut Seen) -> impl Iterator<Item = &mut Half> {
    seen.client.iter_mut().chain(&mut seen.server)
}

/// Drops these headers wherever nobody sent them without us.
fn drop_headers(plain: &[Half], ours: &mut [Half], names: &[&str]) {
    for name in names {
        if !plain.iter().any(|half| has_header(&half.bytes, name)) {
            ours.iter_mut().for_each(|half| half.bytes = without_header(&half.bytes, name));
        }
    }
}

fn has_header(bytes: &[u8], name: &str) -> bool {
    bytes.split_inclusive(|byte| *byte == b'\n').any(|line| is_header(line, name))
}

/// The same without the lines of this header.
pub(crate) fn without_header(bytes: &[u8], name: &str) -> Vec<u8> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.filter(|line| !is_header(line, name)).collect::<Vec<_>>().concat()
}

fn is_header(line: &[u8], name: &str) -> bool {
    line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name.as_bytes()) && line[name.len()] == b':'
}

/// The same with one space between each header's name and its value, and none behind it.
fn trimmed(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split_inclusive(|byte| *byte == b'\n');
    lines.map(trimmed_line).collect::<Vec<_>>().concat()
}

fn trimmed_line(line: &[u8]) -> Vec<u8> {
    let colon = line.iter().position(|byte| *byte == b':');
    let (Some(colon), Some(content)) = (colon, line.strip_suffix(b"\r\n")) else { return line.to_vec() };
    let value = content[colon + 1..].trim_ascii();
    [&line[..=colon], b" ", value, b"\r\n"].concat()
}

/// The same with each chunked body as one chunk. What is no whole chunk stays as it is.
fn joined(bytes: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), bytes);
    while let Some(end) = find(rest, b"\r\n\r\n") {
        let (head, after) = rest.split_at(end + 4);
        out.extend(head);
        rest = after;
        if find(&head.to_ascii_lowercase(), b"\r\ntransfer-encoding: chunked\r\n").is_some() {
            let (content, after) = chunks(rest);
            if !content.is_empty() {
                out.extend(format!("{:x}\r\n", content.len()).bytes().chain(content).chain(*b"\r\n"));
            }
            rest = after;
        }
    }
    out.extend(rest);
    out
}

/// The content of all chunks but the last, empty one, and what follows them.
pub(crate) fn chunks(mut rest: &[u8]) -> (Vec<u8>, &[u8]) {
    let mut content = Vec::new();
    while let Some((chunk, after)) = chunk(rest).filter(|(chunk, _)| !chunk.is_empty()) {
        content.extend(chunk);
        rest = after;
    }
    (content, rest)
}

fn chunk(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = find(bytes, b"\r\n")?;
    let length = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).ok()?, 16).ok()?;
    let whole = bytes[line + 2..].get(..length + 2)?;
    Some((whole.strip_suffix(b"\r\n")?, &bytes[line + 2 + length + 2..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_and_everything_around_them_stays() {
        let chunked =
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\nX: y\r\n\r\nnext";
        let one = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: y\r\n\r\nnext";
        assert_eq!(joined(chunked).escape_ascii().to_string(), one.escape_ascii().to_string());
        assert_eq!(joined(b"no HTTP"), b"no HTTP");
        let cut = b"A: b\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc";
        assert_eq!(joined(cut), cut);
    }

    #[test]
    fn a_header_that_the_application_sent_itself_has_to_be_there() {
        let half = |text: &str| Half { bytes: text.as_bytes().to_vec(), end: End::Open };
        let seen = |text: &str| Seen { client: vec![half(text)], server: Vec::new() };
        let (mut plain, mut ours) =
            (seen("HTTP/1.1 200 OK\r\nDate: x\r\n\r\n"), seen("HTTP/1.1 200 OK\r\nDate: y\r\n\r\n"));
        Rule::Date.apply(&mut plain, &mut ours);
        assert_ne!(plain, ours);
        let (mut plain, mut ours) = (seen("HTTP/1.1 200 OK\r\n\r\n"), seen("HTTP/1.1 200 OK\r\ndate: y\r\n\r\n"));
        Rule::Date.apply(&mut plain, &mut ours);
        assert_eq!(plain, ours);
    }
}

//! Headers of requests.

use crate::case::{Case, asks};

pub(super) fn cases() -> Vec<Case> {
    [names_and_values(), sizes(), hosts(), hop_by_hop(), known_by_proxies(), malformed()].concat()
}

/// A request with these lines after its Host.
fn with(name: &'static str, lines: impl AsRef<[u8]>) -> Case {
    asks(name, [b"GET / HTTP/1.1\r\nHost: a\r\n", lines.as_ref(), b"\r\n\r\n"].concat())
}

fn names_and_values() -> Vec<Case> {
    vec![
        with("names in mixed case", "X-MiXeD: a\r\nx-lower: b\r\nX-UPPER: c\r\naCCept: */*\r\nUSER-AGENT: me"),
        with("names that differ in case alone", "X-One: a\r\nx-one: b\r\nX-ONE: c"),
        with("a header twice, others between", "X-Two: a\r\nX-Other: b\r\nX-Two: c"),
        with("a well-known header twice", "Accept: a\r\nX-Other: b\r\nAccept: c"),
        with("many cookies in one line", "Cookie: a=1; b=\"x y\"; c=%20; d; =e"),
        with("cookies in several lines", "Cookie: a=1\r\nCookie: b=2\r\ncookie: c=3"),
        with("an empty value", "X-Empty:\r\nX-Other: b\r\nAccept:"),
        with("a value of spaces", "X-Spaces:    \r\nX-Other: b"),
        with("spaces and tabs around values", "X-A: \t a \t\r\nX-B:b  "),
        with("no space after the colon", "X-A:a\r\nX-B:b"),
        with("Latin-1 in a value", b"X-A: caf\xe9 \xff\x80"),
        with("UTF-8 in a value", "X-A: café 東京 🐳"),
        with("odd but valid names", "X_under_score: a\r\n!#$%&'*+-.^_`|~: b\r\n1: c"),
        with("quotes, commas and semicolons", "X-A: \"a, \\\"b\\\"; c\", d;e=f"),
        with("conditions", "If-None-Match: \"x\", W/\"y\"\r\nIf-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"),
        with("a range", "Range: bytes=0-0,-1\r\nIf-Range: \"x\""),
        with("authorization", "Authorization: Basic dXNlcjpwYXNz\r\nProxy-Authorization: Basic eDp5"),
        with(
            "what browsers send",
            "Upgrade-Insecure-Requests: 1\r\nSec-Fetch-Mode: navigate\r\nDNT: 1\r\nPriority: u=0, i",
        ),
    ]
}

fn sizes() -> Vec<Case> {
    let many: String = (0..5000).map(|number| format!("X-{number}: {number}\r\n")).collect();
    vec![
        with("a header of 200,000 bytes", format!("X-Long: {}", "x".repeat(200_000))),
        with("5,000 headers", many.trim_end()),
        with("a name of 5,000 characters", format!("{}: a", "x".repeat(5000))),
    ]
}

fn hosts() -> Vec<Case> {
    let request = |name, lines: &str| asks(name, format!("GET / HTTP/1.1\r\n{lines}\r\n\r\n"));
    vec![
        request("Host after other headers", "X-A: a\r\nAccept: b\r\nHost: a"),
        request("Host in capitals and with a port", "HOST: EXAMPLE.com:8080"),
        request("an IPv6 Host", "Host: [::1]:80"),
        request("a Host of odd characters", "Host: a_b.c-d.e."),
        request("an empty Host", "Host:"),
        request("no Host", "X-A: a"),
        request("Host twice, the same", "Host: a\r\nHost: a"),
        request("Host twice, different", "Host: a\r\nHost: b"),
        request("a Host of user and path", "Host: user@a/b"),
    ]
}

fn hop_by_hop() -> Vec<Case> {
    vec![
        with("Connection: close", "Connection: close"),
        with("Connection: keep-alive", "Connection: keep-alive"),
        with("Connection: Keep-Alive and Keep-Alive", "Connection: Keep-Alive\r\nKeep-Alive: timeout=5, max=100"),
        with("Keep-Alive alone", "Keep-Alive: 300"),
        with("Proxy-Connection", "Proxy-Connection: keep-alive"),
        with("a header that Connection names", "Connection: X-Named\r\nX-Named: a\r\nX-Other: b"),
        with("TE: trailers", "TE: trailers"),
        with("TE: trailers that Connection names", "Connection: TE\r\nTE: trailers"),
        with("TE of other codings", "Connection: TE\r\nTE: gzip, deflate;q=0.5"),
        with("Trailer", "Trailer: X-A"),
    ]
}

fn known_by_proxies() -> Vec<Case> {
    vec![
        with("X-Forwarded-For from a proxy in front", "X-Forwarded-For: 203.0.113.7, 198.51.100.1"),
        with("X-Forwarded-Proto from a proxy in front", "X-Forwarded-Proto: https\r\nX-Forwarded-Host: b"),
        with("Forwarded and Via", "Forwarded: for=203.0.113.7;proto=https\r\nVia: 1.1 proxy"),
        with("X-Real-IP and True-Client-IP", "X-Real-IP: 203.0.113.7\r\nTrue-Client-IP: 203.0.113.7"),
        with("a request id of the client's", "X-Request-Id: 12345"),
        with("a trace of the client's", "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        with("a trace in Zipkin's form", "b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"),
        with("headers in Envoy's own name", "X-Envoy-Retry-On: 5xx\r\nX-Envoy-Original-Path: /a"),
        with("an inner header of Envoy's", "x-envoy-internal: true\r\nX-Shim-Failure: a"),
        with("a client certificate's header", "X-Forwarded-Client-Cert: By=a;Hash=b"),
        with("Max-Forwards", "Max-Forwards: 0"),
    ]
}

fn malformed() -> Vec<Case> {
    vec![
        with("a line that is folded", "X-A: one\r\n two\r\n\tthree"),
        with("a space before the colon", "X-A : a"),
        with("a line without a colon", "nonsense"),
        with("a space within a name", "X A: a"),
        with("a name of invalid characters", "X(A): a\r\nX@B: b"),
        with("a NUL in a value", b"X-A: a\x00b"),
        with("a control character in a value", b"X-A: a\x01b\x7f"),
        with("a CR in a value", b"X-A: a\rb"),
        with("a line that begins with a colon", ": a"),
    ]
}

//! Answers: status lines, headers, bodies.

use crate::case::{Case, answers, answers_and_closes};

pub(super) fn cases() -> Vec<Case> {
    [status_lines(), headers(), bodies(), malformed()].concat()
}

/// An answer that begins with this line.
fn line(name: &'static str, line: &str) -> Case {
    answers(name, format!("{line}\r\nContent-Length: 4\r\n\r\ndone"))
}

/// An answer with these headers.
fn with(name: &'static str, lines: impl AsRef<[u8]>) -> Case {
    answers(name, [b"HTTP/1.1 200 OK\r\n", lines.as_ref(), b"\r\nContent-Length: 4\r\n\r\ndone"].concat())
}

fn status_lines() -> Vec<Case> {
    vec![
        line("a reason of its own", "HTTP/1.1 200 All is well, thanks for asking"),
        line("an empty reason", "HTTP/1.1 200 "),
        line("no reason and no space", "HTTP/1.1 200"),
        line("a reason in UTF-8", "HTTP/1.1 200 Schön"),
        line("a reason of 5,000 characters", &format!("HTTP/1.1 200 {}", "x".repeat(5000))),
        line("418", "HTTP/1.1 418 I'm a teapot"),
        line("a status of 299", "HTTP/1.1 299 Odd"),
        line("a status of 599", "HTTP/1.1 599 Odd"),
        line("a status of 999", "HTTP/1.1 999 Request denied"),
        line("a status of two digits", "HTTP/1.1 20 OK"),
        line("an application's own 502", "HTTP/1.1 502 Bad Gateway"),
        line("an application's own 503", "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5"),
        line(
            "401 with two challenges",
            "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"a\"\r\nWWW-Authenticate: NTLM",
        ),
        line("a redirection", "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:80/a b?c#d"),
        line("HTTP/1.0 in the answer", "HTTP/1.0 200 OK"),
        line("HTTP/1.2 in the answer", "HTTP/1.2 200 OK"),
        line("HTTP/2.0 in the answer", "HTTP/2.0 200 OK"),
        answers_and_closes("ICY", "ICY 200 OK\r\nicy-name: radio\r\n\r\naudio"),
    ]
}

fn headers() -> Vec<Case> {
    let many: String = (0..5000).map(|number| format!("X-{number}: {number}\r\n")).collect();
    vec![
        with("an answer's names in mixed case", "X-MiXeD: a\r\nx-lower: b\r\nX-UPPER: c\r\nCONTENT-type: text/plain"),
        with("several cookies", "Set-Cookie: a=1; Path=/\r\nset-cookie: b=2; HttpOnly\r\nSet-Cookie: c=3"),
        with("an answer's header twice, others between", "X-Two: a\r\nX-Other: b\r\nX-Two: c"),
        with("an answer's empty value", "X-Empty:\r\nX-Other: b"),
        with("an answer's Latin-1", b"X-A: caf\xe9 \xff\x80"),
        with("Server and Via of its own", "Server: mine/1.0\r\nVia: 1.1 x\r\nX-Powered-By: y"),
        with("Date of its own", "Date: Thu, 01 Jan 1970 00:00:00 GMT"),
        with("Date in lower case", "date: Thu, 01 Jan 1970 00:00:00 GMT"),
        with("an answer in Envoy's own name", "x-envoy-upstream-service-time: 5\r\nX-Request-Id: 12"),
        with("an answer with Connection: keep-alive", "Connection: keep-alive\r\nKeep-Alive: timeout=5"),
        with("an answer's header that Connection names", "Connection: X-Named\r\nX-Named: a\r\nX-Other: b"),
        with("an answer with Proxy-Connection", "Proxy-Connection: keep-alive"),
        with("an offer of HTTP/2, as Apache makes it", "Upgrade: h2,h2c\r\nConnection: Upgrade"),
        with("alternative services", "Alt-Svc: h3=\":443\"; ma=60\r\nStrict-Transport-Security: max-age=1"),
        with("an answer of 5,000 headers", many.trim_end()),
        with("an answer's header of 200,000 bytes", format!("X-Long: {}", "x".repeat(200_000))),
        with("an answer's spaces around values", "X-A: \t a \t\r\nX-B:b"),
        answers(
            "an answer that closes the connection",
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndone",
        ),
        line("426 with what it wants", "HTTP/1.1 426 Upgrade Required\r\nUpgrade: foo\r\nConnection: Upgrade"),
    ]
}

fn bodies() -> Vec<Case> {
    let large = [&b"HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n"[..], &vec![b'x'; (1 << 20) - 4], b"done"];
    vec![
        answers("an empty body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        answers("an answer of 1 MB", large.concat()),
        with("a body that is compressed", b"Content-Encoding: gzip\r\nVary: Accept-Encoding"),
        with("a part of a body", "Content-Range: bytes 0-3/100\r\nAccept-Ranges: bytes"),
        answers_and_closes("a body without a length", "HTTP/1.1 200 OK\r\n\r\nall of it"),
        answers_and_closes(
            "a body without a length, Connection: close",
            "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nall of it",
        ),
        answers_and_closes("a body without a length from HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nall of it"),
        answers_and_closes("a body shorter than it says", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nnot all"),
        answers_and_closes("a body longer than it says", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone and more"),
    ]
}

fn malformed() -> Vec<Case> {
    vec![
        with("an answer's folded line", "X-A: one\r\n two"),
        with("an answer's space before the colon", "X-Bad : 1"),
        with("an answer's line without a colon", "nonsense"),
        with("an answer's odd name", "X(A): a"),
        answers("an answer whose lines end without CR", "HTTP/1.1 200 OK\nContent-Length: 4\n\ndone"),
        answers_and_closes("an answer that is no HTTP", "this is no HTTP\r\n\r\n"),
        answers_and_closes("an answer that is binary", b"\x00\x01\x02\xff\xfe"),
    ]
}

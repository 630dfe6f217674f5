//! Requests and answers of HTTP/1, plain and odd.

use evidence::Reason;

use super::{Case, HTTP, Step, c, case, head, s, tcp};

const GET: &str = "GET / HTTP/1.1|Host: a";
const OK: &str = "HTTP/1.1 200 OK|Content-Length: 2";

/// One request and the head of its answer.
fn exchange(name: &'static str, request: &str, answer: &str, expected: Option<evidence::Finding>) -> Case {
    case(name, [c(head(request)), s(head(answer)), s("ok")], expected)
}

/// Answers to plain requests.
pub fn plain_requests() -> Vec<Case> {
    let status = |name, line: &str, expected| exchange(name, GET, &format!("{line}|Content-Length: 2"), expected);
    let headers = |name, lines: &str, expected| exchange(name, GET, &format!("HTTP/1.1 200 OK|{lines}"), expected);
    let websocket = "GET /chat HTTP/1.1|Host: a|Upgrade: websocket|Connection: Upgrade|Sec-WebSocket-Version: 13";
    vec![
        exchange("a length", GET, OK, HTTP),
        headers("chunked", "Transfer-Encoding: chunked", HTTP),
        exchange("HEAD without a length", "HEAD / HTTP/1.1|Host: a", "HTTP/1.1 200 OK|Server: x", HTTP),
        exchange("HEAD with a length", "HEAD / HTTP/1.1|Host: a", "HTTP/1.1 200 OK|Content-Length: 1000", HTTP),
        exchange("204", GET, "HTTP/1.1 204 No Content", HTTP),
        exchange("204 of length 0", GET, "HTTP/1.1 204 No Content|Content-Length: 0", HTTP),
        exchange("204 with a body", GET, "HTTP/1.1 204 No Content|Content-Length: 2", tcp(Reason::ForbiddenBody)),
        exchange("204 chunked", GET, "HTTP/1.1 204 No Content|Transfer-Encoding: chunked", tcp(Reason::ForbiddenBody)),
        exchange("304", GET, "HTTP/1.1 304 Not Modified|ETag: \"x\"", HTTP),
        exchange("304 with the page's length", GET, "HTTP/1.1 304 Not Modified|Content-Length: 1000", HTTP),
        status("a redirect", "HTTP/1.1 302 Found", HTTP),
        status("not found", "HTTP/1.1 404 Not Found", HTTP),
        status("not authorized", "HTTP/1.1 401 Unauthorized", HTTP),
        status("too many requests", "HTTP/1.1 429 Too Many Requests", HTTP),
        status("a status without reason", "HTTP/1.1 200 ", HTTP),
        status("a status without reason and space", "HTTP/1.1 200", None),
        status("bad request", "HTTP/1.1 400 Bad Request", None),
        status("timeout", "HTTP/1.1 408 Request Timeout", None),
        status("header fields too large", "HTTP/1.1 431 Request Header Fields Too Large", None),
        status("internal error", "HTTP/1.1 500 Internal Server Error", None),
        status("bad gateway", "HTTP/1.1 502 Bad Gateway", None),
        status("HAProxy without a server", "HTTP/1.0 503 Service Unavailable", None),
        status("a status of no class", "HTTP/1.1 999 What", None),
        status("HTTP/1.0", "HTTP/1.0 200 OK", tcp(Reason::OldVersion)),
        status("HTTP/1.0, not found", "HTTP/1.0 404 Not Found", tcp(Reason::OldVersion)),
        status("HTTP/2 as text", "HTTP/2.0 200 OK", tcp(Reason::MalformedAnswer)),
        status("a short status", "HTTP/1.1 20 OK", tcp(Reason::MalformedAnswer)),
        status("a long status", "HTTP/1.1 2000 OK", tcp(Reason::MalformedAnswer)),
        status("a control character in the reason", "HTTP/1.1 200 O\u{1}K", tcp(Reason::MalformedAnswer)),
        headers("no length", "Server: x", tcp(Reason::NoLength)),
        headers("a length and chunked", "Content-Length: 2|Transfer-Encoding: chunked", tcp(Reason::BothLengths)),
        headers("one length twice", "Content-Length: 2|Content-Length: 2", tcp(Reason::BadLength)),
        headers("a length with a sign", "Content-Length: +2", tcp(Reason::BadLength)),
        headers("a list of lengths", "Content-Length: 2, 2", tcp(Reason::BadLength)),
        headers("compressed, then chunked", "Transfer-Encoding: gzip, chunked", tcp(Reason::TransferCoding)),
        headers("chunked twice", "Transfer-Encoding: chunked|Transfer-Encoding: chunked", tcp(Reason::TransferCoding)),
        headers("identity", "Transfer-Encoding: identity", tcp(Reason::TransferCoding)),
        headers("a space before the colon", "Server : x|Content-Length: 2", tcp(Reason::MalformedAnswer)),
        headers("a folded line", "X-A: 1| 2|Content-Length: 2", tcp(Reason::MalformedAnswer)),
        headers("a line without a colon", "nonsense|Content-Length: 2", tcp(Reason::MalformedAnswer)),
        headers("a null byte", "X-A: \0|Content-Length: 2", tcp(Reason::MalformedAnswer)),
        headers("an offer to upgrade, as Apache makes", "Upgrade: h2,h2c|Connection: Upgrade|Content-Length: 2", HTTP),
        case(
            "bare line feeds",
            [c(head(GET)), s("HTTP/1.1 200 OK\nContent-Length: 2\n\nok")],
            tcp(Reason::MalformedAnswer),
        ),
        case(
            "100, then the answer",
            [
                c(head("PUT /a HTTP/1.1|Host: a|Content-Length: 2|Expect: 100-continue")),
                s(head("HTTP/1.1 100 Continue")),
                c("hi"),
                s(head("HTTP/1.1 201 Created|Content-Length: 0")),
            ],
            HTTP,
        ),
        case(
            "103 and 102, then the answer",
            [
                c(head(GET)),
                s([head("HTTP/1.1 103 Early Hints|Link: </a.css>"), head("HTTP/1.1 102 P"), head(OK)].concat()),
            ],
            HTTP,
        ),
        case("100, and nothing more", [c(head(GET)), s(head("HTTP/1.1 100 Continue")), Step::ServerEnds], None),
        exchange("100 with a body", GET, "HTTP/1.1 100 Continue|Content-Length: 2", tcp(Reason::ForbiddenBody)),
        exchange(
            "a websocket",
            websocket,
            "HTTP/1.1 101 Switching Protocols|Upgrade: WebSocket|Connection: Upgrade|Sec-WebSocket-Accept: x",
            HTTP,
        ),
        exchange("a websocket that is refused", websocket, "HTTP/1.1 403 Forbidden|Content-Length: 0", HTTP),
        exchange(
            "a websocket, upgraded to something else",
            websocket,
            "HTTP/1.1 101 S|Upgrade: x",
            tcp(Reason::Upgrade),
        ),
        exchange("an upgrade that was not asked for", GET, "HTTP/1.1 101 S|Upgrade: websocket", tcp(Reason::Upgrade)),
        case("two requests at once", [c([head(GET), head(GET)].concat()), s(head(OK))], HTTP),
        case(
            "an upload that is answered early",
            [
                c(head("POST / HTTP/1.1|Host: a|Content-Length: 1000000")),
                s(head("HTTP/1.1 413 Too Large|Content-Length: 0")),
            ],
            HTTP,
        ),
        case(
            "a large upload",
            [c(head("POST / HTTP/1.1|Host: a|Content-Length: 200000")), c(vec![0; 200_000]), s(head(OK))],
            HTTP,
        ),
        case("an answer before the whole head", [c("GET / HTTP/1.1\r\nHost: a\r\n"), s(head(OK)), c("\r\n")], None),
        case("a client that ends its side first", [c(head(GET)), Step::ClientEnds, s(head(OK))], None),
        case(
            "a client that ends its side first, and a server of HTTP/1.0",
            [c(head(GET)), Step::ClientEnds, s(head("HTTP/1.0 200 OK"))],
            tcp(Reason::OldVersion),
        ),
        case(
            "a client that ends its side in the answer's head",
            [c(head(GET)), s("HTTP/1.1 2"), Step::ClientEnds, s("00 OK\r\nContent-Length: 0\r\n\r\n")],
            None,
        ),
        case("no answer", [c(head(GET)), Step::ServerEnds], None),
        case("half an answer", [c(head(GET)), s("HTTP/1.1 200 OK\r\nContent-Le"), Step::ServerEnds], None),
    ]
}

/// Requests that HTTP treatment would refuse or change.
pub fn odd_requests() -> Vec<Case> {
    let ok = "HTTP/1.1 200 OK|Content-Length: 2";
    let refused = "HTTP/1.1 405 Method Not Allowed|Content-Length: 2";
    let other_upgrade = "GET / HTTP/1.1|Host: a|Upgrade: foo|Connection: upgrade";
    vec![
        exchange("a whole URL", "GET http://b/ HTTP/1.1|Host: b", ok, tcp(Reason::AbsoluteTarget)),
        exchange(
            "a whole URL, redirected",
            "GET http://b/ HTTP/1.1|Host: b",
            "HTTP/1.1 302 Found",
            tcp(Reason::AbsoluteTarget),
        ),
        exchange("a whole URL, refused", "GET http://b/ HTTP/1.1|Host: b", refused, None),
        exchange("CONNECT", "CONNECT b:443 HTTP/1.1|Host: b:443", "HTTP/1.1 200 OK", tcp(Reason::Connect)),
        exchange("CONNECT, refused", "CONNECT b:443 HTTP/1.1|Host: b:443", refused, None),
        exchange("an unusual method", "PROPFIND / HTTP/1.1|Host: a", "HTTP/1.1 207 Multi-Status", tcp(Reason::Method)),
        exchange("an unusual method, refused", "TRACK / HTTP/1.1|Host: a", refused, None),
        exchange("OPTIONS *", "OPTIONS * HTTP/1.1|Host: a", ok, tcp(Reason::Asterisk)),
        exchange("OPTIONS *, refused", "OPTIONS * HTTP/1.1|Host: a", refused, None),
        exchange(
            "two lengths",
            "POST / HTTP/1.1|Host: a|Content-Length: 0|Content-Length: 0",
            ok,
            tcp(Reason::RequestLength),
        ),
        exchange(
            "two lengths, refused",
            "POST / HTTP/1.1|Host: a|Content-Length: 0|Content-Length: 1",
            "HTTP/1.1 400 Bad Request",
            None,
        ),
        exchange("an upgrade that is passed over", other_upgrade, ok, None),
        exchange(
            "an upgrade that is accepted",
            other_upgrade,
            "HTTP/1.1 101 S|Upgrade: foo|Connection: upgrade",
            tcp(Reason::Upgrade),
        ),
        exchange(
            "HTTP/2 by upgrade",
            "GET / HTTP/1.1|Host: a|Upgrade: h2c|Connection: Upgrade, HTTP2-Settings|HTTP2-Settings: AA",
            "HTTP/1.1 101 S|Upgrade: h2c|Connection: Upgrade",
            tcp(Reason::Upgrade),
        ),
        exchange("a request of HTTP/1.0", "GET / HTTP/1.0|Host: a", ok, None),
        exchange("a request of HTTP/1.0, answered alike", "GET / HTTP/1.0", "HTTP/1.0 200 OK", None),
        exchange("no Host", "GET / HTTP/1.1", ok, None),
        exchange("a header that Connection names", "GET / HTTP/1.1|Host: a|Connection: x-a|X-A: 1", ok, None),
        exchange("an expectation", "GET / HTTP/1.1|Host: a|Expect: cookies", ok, None),
        exchange("a fragment", "GET /#a HTTP/1.1|Host: a", ok, None),
        exchange("an odd request and an odd answer", "GET / HTTP/1.1", "HTTP/1.1 200 OK|no colon", None),
        case("by hand, with bare line feeds", [c("GET / HTTP/1.1\nHost: a\n\n"), s(head(ok))], None),
        case(
            "SOURCE with 100 first",
            [
                c(head("SOURCE /m HTTP/1.1|Host: a|Expect: 100-continue")),
                s([head("HTTP/1.1 100 Continue"), head(ok)].concat()),
            ],
            tcp(Reason::Method),
        ),
    ]
}

/// Clients that don't speak HTTP to servers that do, and the other way round.
pub fn others() -> Vec<Case> {
    vec![
        case("HTTP/0.9", [c("GET /\r\n"), s("hello\n"), Step::ServerEnds], None),
        case("half a request line", [c("GET / HTT"), s("what?\n")], None),
        case("garbage, and a bare page", [c("\x01\x02\x03\r\n"), s("\r\n<!DOCTYPE HTML PUBLIC \"-//W3C\">")], None),
        case("a request, and a bare page", [c(head(GET)), s("<Html><Head><Title>")], None),
        case("garbage, and an error", [c("\x01\x02\x03\r\n\r\n"), s(head("HTTP/1.1 400 Bad Request"))], None),
        case("garbage, and a success", [c("hello\r\n\r\n"), s(head(OK))], None),
        case("garbage, and no answer", [c("\x01\x02\x03"), Step::ServerEnds], None),
        case("silence of both", [Step::ClientEnds, Step::ServerEnds], None),
        case("nothing at all", [], None),
        case("an answer to silence", [s(head("HTTP/1.1 408 Request Timeout|Content-Length: 0"))], None),
        case("an end, and an answer to silence", [Step::ClientEnds, s(head("HTTP/1.0 408 Request Timeout"))], None),
        case("half an answer to silence", [s("HTT"), Step::ServerEnds], None),
        case("an empty line, and an error", [c("\r"), s(head("HTTP/1.1 400 Bad Request"))], None),
        case("an echo", [c("x"), s("x")], tcp(Reason::NotHttp)),
        case("a request, echoed", [c(head(GET)), s(head(GET))], tcp(Reason::NotHttp)),
        case("an answer after the client's end", [c("hello"), Step::ClientEnds, s("HELLO")], tcp(Reason::NotHttp)),
        case(
            "a server that waits for the client's end to speak",
            [Step::ClientEnds, s("12:00\r\n")],
            tcp(Reason::ServerSpeaksFirst),
        ),
    ]
}

//! Request lines: methods, targets, versions.

use crate::case::{Case, OK, asks, http};
use crate::script::{HEAD, client, server};

pub(super) fn cases() -> Vec<Case> {
    [methods(), targets(), paths(), versions()].concat()
}

/// A request for this target.
fn path(name: &'static str, target: &str) -> Case {
    asks(name, format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n"))
}

/// A request with this method and no body.
fn method(name: &'static str, method: &str) -> Case {
    asks(name, format!("{method} /x HTTP/1.1\r\nHost: a\r\n\r\n"))
}

fn methods() -> Vec<Case> {
    vec![
        method("a plain GET", "GET"),
        method("DELETE without a body", "DELETE"),
        method("OPTIONS of a path", "OPTIONS"),
        method("TRACE", "TRACE"),
        method("PURGE", "PURGE"),
        method("a method in lower case", "get"),
        method("a method of odd but valid characters", "M-SEARCH.!#$%&'*+^_`|~1"),
        method("an unknown method", "FOOBAR"),
        method("MKCOL without a body", "MKCOL"),
        method("POST without a body or a length", "POST"),
        method("PATCH without a body or a length", "PATCH"),
        method("LOCK without a body", "LOCK"),
        asks("POST of nothing", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
        asks(
            "PROPFIND with a body",
            "PROPFIND /dav/ HTTP/1.1\r\nHost: a\r\nDepth: 1\r\nContent-Length: 11\r\n\r\n<propfind/>",
        ),
        asks("MOVE", "MOVE /a HTTP/1.1\r\nHost: a\r\nDestination: http://a/b\r\nOverwrite: F\r\n\r\n"),
        asks("GET with a body", "GET /_search HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n{\"q\":1}"),
        asks("DELETE with a body", "DELETE /x HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n{\"q\":1}"),
        asks("OPTIONS with a body", "OPTIONS /x HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n{\"q\":1}"),
        asks(
            "QUERY with a body",
            "QUERY /x HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{\"q\":1}",
        ),
    ]
}

fn targets() -> Vec<Case> {
    vec![
        path("OPTIONS-like asterisk with GET", "*"),
        asks("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"),
        path("an absolute target", "http://a/x?y"),
        path("an absolute target without a path", "http://a"),
        path("an absolute target of another host than Host says", "http://other.example/x"),
        path("an absolute target with https", "https://a/x"),
        path("an absolute target with ftp", "ftp://a/x"),
        path("a target without a slash", "x/y"),
    ]
}

fn paths() -> Vec<Case> {
    vec![
        path("slashes in a row", "//a///b//"),
        path("an escaped slash", "/a%2Fb%2fc"),
        path("dots", "/a/./b/../c/../../d"),
        path("escaped dots", "/a/%2e%2e/b"),
        path("a query of odd characters", "/?a=b&c=%20+%&d==?/?#".trim_end_matches('#')),
        path("a question mark and nothing", "/x?"),
        path("a fragment", "/x#part"),
        path("a bad escape", "/%zz%"),
        path("UTF-8 in a path", "/café/東京"),
        path("escaped UTF-8", "/caf%C3%A9"),
        path("a backslash", "/a\\b\\..\\c"),
        path("brackets, pipes and quotes", "/a[0]{b}|c^d`e\"f<g>h"),
        path("parameters", "/a;b=1;c/d"),
        path("an escaped NUL", "/a%00b"),
        path("a space within", "/a b"),
        path("a tilde, colons and an at", "/~user/a:b@c"),
        asks("a path of 60,000 characters", format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(60_000))),
        asks("a query of 200,000 characters", format!("GET /?{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(200_000))),
    ]
}

fn versions() -> Vec<Case> {
    let closing = "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\ndone";
    let old = |name, request: &str| {
        http(
            name,
            client().send(request).end(),
            server().until(&request[request.len() - 4..]).send(closing).half_close(),
        )
    };
    vec![
        asks("HTTP/1.0 with Host", "GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
        asks("HTTP/1.0 without Host", "GET / HTTP/1.0\r\n\r\n"),
        old("HTTP/1.0 on both sides", "GET / HTTP/1.0\r\nUser-Agent: x\r\n\r\n"),
        old("HTTP/1.1 to an HTTP/1.0 server", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        http(
            "HTTP/1.0 that keeps its connection",
            client()
                .send("GET /1 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
                .until("done")
                .send("GET /2 HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
                .until("done"),
            server()
                .until("\r\n\r\n")
                .send("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\ndone")
                .until("\r\n\r\n")
                .send("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\ndone"),
        ),
        http("HTTP/0.9", client().send("GET /\r\n").end(), server().until("\r\n").send("<p>done").half_close()),
        asks("a version that does not exist", "GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
        asks("a version in lower case", "GET / http/1.1\r\nHost: a\r\n\r\n"),
        http(
            "an empty line before the request",
            client().send("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").until("done"),
            server().until(HEAD).send(OK),
        ),
        http(
            "lines that end without CR",
            client().send("GET / HTTP/1.1\nHost: a\nX: y\n\n").until("done"),
            server().until("y").count(2).send(OK),
        ),
    ]
}

//! How connections begin, are kept and end.

use crate::case::{Case, GET, OK, http};
use crate::script::{HEAD, client, server};

pub(super) fn cases() -> Vec<Case> {
    [kept(), half_closed(), cut()].concat()
}

fn kept() -> Vec<Case> {
    let three: String = ["1", "2", "3"].map(|path| format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")).concat();
    let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndone";
    vec![
        http(
            "two requests on one connection",
            client().send(GET).until("done").send(GET).until("done"),
            server().until(HEAD).send(OK).until(HEAD).send(OK),
        ),
        http(
            "two requests on one connection, a pause between",
            client().send(GET).until("done").pause(300).send(GET).until("done"),
            server().until(HEAD).send(OK).until(HEAD).send(OK),
        ),
        http(
            "three requests at once",
            client().send(&three).until("done").until("done").until("done"),
            server().until(HEAD).send(OK).until(HEAD).send(OK).until(HEAD).send(OK),
        ),
        http(
            "three requests at once, answered at once",
            client().send(&three).until("done").until("done").until("done"),
            server().until("/3 HTTP/1.1\r\nHost: a\r\n\r\n").send(OK.repeat(3)),
        ),
        http(
            "a server that closes after its answer",
            client().send(GET).until("done").end(),
            server().until(HEAD).send(closing).half_close(),
        ),
        http(
            "a server that closes after its answer without a word",
            client().send(GET).until("done").end(),
            server().until(HEAD).send(OK).half_close(),
        ),
        http(
            "a client that wants the connection closed",
            client().send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").end(),
            server().until(HEAD).send(closing).half_close(),
        ),
        http(
            "a connection that says nothing, then a request",
            client().pause(250).send(GET).until("done"),
            server().until(HEAD).send(OK),
        ),
        http("a connection that says nothing, then ends", client().pause(50).half_close().end(), server().end()),
    ]
}

fn half_closed() -> Vec<Case> {
    let ended = |name, request: &str| {
        http(
            name,
            client().send(request).half_close().until("done").end(),
            server().until(HEAD).send("HTTP/1.0 200 OK\r\nConnection: close\r\n\r\ndone").half_close(),
        )
    };
    vec![
        ended("printf 'GET / HTTP/1.0' | nc", "GET / HTTP/1.0\r\n\r\n"),
        ended("HTTP/1.1 with half-close", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        ended("HTTP/1.1 with half-close, Connection: close", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        http(
            "a half-close while a slow answer is on its way",
            client().send(GET).pause(50).half_close().until("done").end(),
            server().until(HEAD).pause(150).send(OK).half_close(),
        ),
        http(
            "a half-close in the middle of an answer",
            client().send(GET).until(HEAD).half_close().until("done").end(),
            server()
                .until(HEAD)
                .send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
                .pause(100)
                .send("x-done")
                .half_close(),
        ),
        http(
            "a body and a half-close",
            client()
                .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
                .half_close()
                .until("done")
                .end(),
            server().until("hello").send(OK).half_close(),
        ),
    ]
}

fn cut() -> Vec<Case> {
    vec![
        http("a server that closes without an answer", client().send(GET).end(), server().until(HEAD).half_close()),
        http("a server that resets without an answer", client().send(GET).end(), server().until(HEAD).reset()),
        http(
            "a server that closes within the head",
            client().send(GET).end(),
            server().until(HEAD).send("HTTP/1.1 200 OK\r\nConte").half_close(),
        ),
        http(
            "a server that resets within the body",
            client().send(GET).until("part").end(),
            server().until(HEAD).send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart").pause(100).reset(),
        ),
        http(
            "a client that resets within its body",
            client().send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\npart").pause(100).reset(),
            server().until("part").end(),
        ),
        http(
            "a client that closes within its head",
            client().send("GET / HTTP/1.1\r\nHost: a\r\nX-A: ").pause(100),
            server().end(),
        ),
        http(
            "a client that closes within its body",
            client().send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\npart").pause(100),
            server().until("part").end(),
        ),
        http("a client that leaves while it waits", client().send(GET).pause(100), server().until(HEAD).end()),
    ]
}

//! Answers that come before the answer, late, or in pieces.

use crate::case::{Case, GET, OK, http};
use crate::script::{HEAD, client, server};

pub(super) fn cases() -> Vec<Case> {
    let before = |name, interim: &str| {
        http(name, client().send(GET).until("done"), server().until(HEAD).send(interim).pause(20).send(OK))
    };
    vec![
        before("100 that nobody asked for", "HTTP/1.1 100 Continue\r\n\r\n"),
        before("102", "HTTP/1.1 102 Processing\r\n\r\n"),
        before("103 with links", "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"),
        before("103 three times", &"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n".repeat(3)),
        before("an interim answer of an unknown kind", "HTTP/1.1 199 Miscellaneous\r\nX-A: b\r\n\r\n"),
        http("an answer after a long poll", client().send(GET).until("done"), server().until(HEAD).pause(400).send(OK)),
        http("an answer byte by byte", client().send(GET).until("done"), server().until(HEAD).send_slowly(OK)),
        http(
            "an answer in two pieces, a pause within a name",
            client().send(GET).until("done"),
            server().until(HEAD).send("HTTP/1.1 200 OK\r\nConte").pause(50).send("nt-Length: 4\r\n\r\ndone"),
        ),
        http("both byte by byte", client().send_slowly(GET).until("done"), server().until(HEAD).send_slowly(OK)),
        http(
            "events without a length",
            client().send(GET).until("data: 2").end(),
            server()
                .until(HEAD)
                .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
                .send("data: 1\n\n")
                .pause(60)
                .send("data: 2\n\n")
                .half_close(),
        ),
        http(
            "an answer that comes before its request",
            client().until("done").send(GET),
            server().send(OK).until(HEAD),
        ),
    ]
}

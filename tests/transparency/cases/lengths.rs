//! How long an answer is: every way to say it, rightly and wrongly.

use crate::case::{Case, GET, answers, answers_and_closes, http};
use crate::script::{HEAD, client, server};

pub(super) fn cases() -> Vec<Case> {
    [chunked(), doubtful(), without_bodies()].concat()
}

fn with(name: &'static str, lines: &str, body: &str) -> Case {
    answers(name, format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n{body}"))
}

fn chunked() -> Vec<Case> {
    let chunked = "Transfer-Encoding: chunked";
    vec![
        with("a chunked answer", chunked, "5\r\nhello\r\n0\r\n\r\n"),
        with("an answer of many chunks", chunked, "1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n"),
        with("an answer's chunks with extensions", chunked, "5;a=b\r\nhello\r\n0\r\n\r\n"),
        http(
            "an answer's trailer",
            client().send(GET).until(HEAD).until("42\r\n\r\n"),
            server()
                .until(HEAD)
                .send("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n")
                .send("5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n"),
        ),
        with(
            "an answer's Transfer-Encoding before other headers",
            "Transfer-Encoding: chunked\r\nX-A: b",
            "5\r\nhello\r\n0\r\n\r\n",
        ),
        http(
            "chunks with pauses, as events come",
            client().send("GET /events HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\n\r\n").until("0\r\n\r\n"),
            server()
                .until(HEAD)
                .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                .send("9\r\ndata: 1\n\n\r\n")
                .pause(60)
                .send("9\r\ndata: 2\n\n\r\n")
                .pause(60)
                .send("0\r\n\r\n"),
        ),
        answers_and_closes(
            "a chunked answer that is cut off",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        ),
        answers(
            "chunks in an HTTP/1.0 answer",
            "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
    ]
}

fn doubtful() -> Vec<Case> {
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    vec![
        with("an answer with a length and chunked", "Content-Length: 15\r\nTransfer-Encoding: chunked", chunks),
        with("an answer that is chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", chunks),
        with("an answer that is chunked, chunked", "Transfer-Encoding: chunked, chunked", chunks),
        with("an answer that is gzip, chunked", "Transfer-Encoding: gzip, chunked", chunks),
        with("an answer with identity and a length", "Transfer-Encoding: identity\r\nContent-Length: 4", "done"),
        with("an answer's length twice, the same", "Content-Length: 4\r\nContent-Length: 4", "done"),
        with("an answer's length twice, different", "Content-Length: 4\r\nContent-Length: 5", "done!"),
        with("an answer's two lengths in one line", "Content-Length: 4, 4", "done"),
        with("an answer's length with a plus", "Content-Length: +4", "done"),
        with("an answer's length with a minus", "Content-Length: -1", "done"),
        with("an answer's length that is no number", "Content-Length: four", "done"),
        with("an answer's empty length", "Content-Length:", "done"),
        with("an answer's length with a space before the colon", "Content-Length : 4", "done"),
        with("an answer's length of 30 digits", "Content-Length: 100000000000000000000000000000", "done"),
    ]
}

fn without_bodies() -> Vec<Case> {
    let head = |name, answer: &str| {
        http(name, client().send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n").until(HEAD), server().until(HEAD).send(answer))
    };
    vec![
        head("HEAD with a length", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        head("HEAD with a length of zero", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        head("HEAD and chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
        head("HEAD without a length", "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n"),
        head("HEAD of what was not modified", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
        answers("204", "HTTP/1.1 204 No Content\r\n\r\n"),
        answers("204 with a length of zero", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"),
        answers("204 with a length", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n"),
        answers("204 and chunked", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"),
        answers(
            "204 and chunked, with the last chunk",
            "HTTP/1.1 204 None\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        answers("205 with a length of zero", "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n"),
        answers("304", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n"),
        answers("304 with a length", "HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"),
        answers("304 and chunked", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ]
}

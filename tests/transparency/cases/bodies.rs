//! Bodies of requests.

use crate::case::{Case, GET, OK, asks, http};
use crate::script::{HEAD, client, server};

pub(super) fn cases() -> Vec<Case> {
    [chunked(), lengths(), expectations(), in_pieces(), without_length()].concat()
}

/// A POST with these header lines and all that follows.
fn post(name: &'static str, lines: &str, body: impl AsRef<[u8]>) -> Case {
    asks(name, [format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").as_bytes(), body.as_ref()].concat())
}

fn chunked() -> Vec<Case> {
    let chunked = "Transfer-Encoding: chunked";
    vec![
        post("a chunked body", chunked, "5\r\nhello\r\n0\r\n\r\n"),
        post("a body of many chunks", chunked, "1\r\na\r\n2\r\nbc\r\n3\r\ndef\r\n0\r\n\r\n"),
        post("a chunked body of nothing", chunked, "0\r\n\r\n"),
        post("a chunk's length in capitals", chunked, "A\r\n0123456789\r\n0\r\n\r\n"),
        post("a chunk's length with zeros before it", chunked, "0005\r\nhello\r\n0\r\n\r\n"),
        post("chunks with extensions", chunked, "5;a=b;c=\"d\"\r\nhello\r\n0\r\n\r\n"),
        http(
            "chunks and a trailer",
            client()
                .send("POST / HTTP/1.1\r\nHost: a\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n")
                .send("5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n")
                .until("done"),
            server().until(HEAD).until("42\r\n\r\n").send(OK),
        ),
        http(
            "chunks and a trailer in lower case",
            client()
                .send("POST / HTTP/1.1\r\nHost: a\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n")
                .send("5\r\nhello\r\n0\r\nx-sum: 42\r\n\r\n")
                .until("done"),
            server().until(HEAD).until("42\r\n\r\n").send(OK),
        ),
        post("Chunked with a capital", "Transfer-Encoding: Chunked", "5\r\nhello\r\n0\r\n\r\n"),
        post("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
        post("gzip, chunked", "Transfer-Encoding: gzip, chunked", "5\r\nhello\r\n0\r\n\r\n"),
        post("chunks that end without CR", chunked, "5\nhello\n0\n\n"),
        asks(
            "chunks from an HTTP/1.0 client",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        ),
    ]
}

fn lengths() -> Vec<Case> {
    vec![
        post("a body with its length", "Content-Length: 5", "hello"),
        post("a length twice, the same", "Content-Length: 5\r\nContent-Length: 5", "hello"),
        post("a length twice, different", "Content-Length: 5\r\nContent-Length: 4", "hello"),
        post("two lengths in one line", "Content-Length: 5, 5", "hello"),
        post("a length and chunked", "Content-Length: 15\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"),
        post("a length with a plus", "Content-Length: +5", "hello"),
        post("a length with zeros before it", "Content-Length: 0005", "hello"),
        post(
            "a form in several parts",
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 7",
            "--x--\r\n",
        ),
        post("identity", "Transfer-Encoding: identity\r\nContent-Length: 5", "hello"),
        post("more CRLF after a body than there should be", "Content-Length: 5", "hello\r\n\r\n"),
    ]
}

fn expectations() -> Vec<Case> {
    let expecting = "PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    let refusal = "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 4\r\n\r\ndone";
    vec![
        http(
            "Expect: 100-continue, accepted",
            client().send(expecting).until("100 Continue\r\n\r\n").send("hello").until("done"),
            server().until(HEAD).send("HTTP/1.1 100 Continue\r\n\r\n").until("hello").send(OK),
        ),
        http(
            "Expect: 100-continue, refused",
            client().send(expecting).until("done"),
            server().until(HEAD).send(refusal),
        ),
        http(
            "Expect: 100-continue, refused, then another request",
            client().send(expecting).until("done").send(GET).until("done"),
            server().until(HEAD).send(refusal).until(HEAD).send(OK),
        ),
        http(
            "Expect: 100-continue that nobody waits for",
            client().send(expecting).send("hello").until("done"),
            server().until("hello").send(OK),
        ),
        asks("an unknown expectation", "GET / HTTP/1.1\r\nHost: a\r\nExpect: the-unexpected\r\n\r\n"),
    ]
}

fn in_pieces() -> Vec<Case> {
    let large = vec![b'x'; 1 << 20];
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n";
    vec![
        http("a request byte by byte", client().send_slowly(GET).until("done"), server().until(HEAD).send(OK)),
        http(
            "a request in two pieces, a pause within a name",
            client().send("GET / HTTP/1.1\r\nHost: a\r\nX-Na").pause(50).send("me: a\r\n\r\n").until("done"),
            server().until(HEAD).send(OK),
        ),
        http(
            "a body after a pause",
            client()
                .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
                .pause(150)
                .send("hello")
                .until("done"),
            server().until("hello").send(OK),
        ),
        http(
            "a body of 1 MB",
            client().send(head).send(&large).until("done"),
            server().until(HEAD).count(1 << 20).send(OK),
        ),
        http(
            "a refusal before the body has ended",
            client().send(head).send("part").until("done").end(),
            server()
                .until("part")
                .send("HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndone")
                .half_close(),
        ),
        http(
            "an answer before the body has ended, then the rest of it",
            client().send(head).send("part").until("done").send("rest").pause(50),
            server().until("part").send(OK).until("rest"),
        ),
    ]
}

fn without_length() -> Vec<Case> {
    vec![
        http(
            "Icecast's SOURCE, then audio",
            client().send("SOURCE /m HTTP/1.0\r\nAuthorization: Basic x\r\n\r\n").until(HEAD).send("audio-audio"),
            server().until(HEAD).send("HTTP/1.0 200 OK\r\n\r\n").until("audio-audio"),
        ),
        http(
            "Icecast's PUT without a length, then audio",
            client()
                .send("PUT /m HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n")
                .until(HEAD)
                .send("audio-audio")
                .until(HEAD),
            server()
                .until(HEAD)
                .send("HTTP/1.1 100 Continue\r\n\r\n")
                .until("audio-audio")
                .send("HTTP/1.0 200 OK\r\n\r\n"),
        ),
        http(
            "a body that ends with the client's half of the connection",
            client().send("POST / HTTP/1.0\r\n\r\nhello").half_close().end(),
            server().end().send(OK).half_close(),
        ),
    ]
}

//! Everything that is not HTTP, or is not meant as such.

use crate::case::{Case, GET, OK, bytes, http};
use crate::script::{HEAD, client, server};

pub(super) fn cases() -> Vec<Case> {
    [server_first(), client_first(), looking_like_http(), binary(), endings()].concat()
}

/// The first bytes of a TLS client: a record of a handshake with nothing in it that matters here.
const TLS_HELLO: &[u8] =
    b"\x16\x03\x01\x00\x2e\x01\x00\x00\x2a\x03\x03RANDOMRANDOMRANDOMRANDOMRANDOM12\x00\x00\x02\x13\x01\x01\x00";
const TLS_ANSWER: &[u8] = b"\x16\x03\x03\x00\x04\x02\x00\x00\x00\x14\x03\x03\x00\x01\x01";
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const EMPTY_SETTINGS: &[u8] = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00";
const SETTINGS_ACK: &[u8] = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00";

/// The server greets, the client asks, the server answers.
fn greets(name: &'static str, greeting: impl AsRef<[u8]>, question: &str, answer: &str) -> Case {
    bytes(
        name,
        client().until(last(greeting.as_ref())).send(question).until(answer),
        server().send(greeting).until(question).send(answer),
    )
}

/// The client asks, the server answers.
fn asks(name: &'static str, question: impl AsRef<[u8]>, answer: impl AsRef<[u8]>) -> Case {
    let (question, answer) = (question.as_ref(), answer.as_ref());
    bytes(name, client().send(question).until(last(answer)), server().until(last(question)).send(answer))
}

fn last(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.len().saturating_sub(4)..]
}

fn server_first() -> Vec<Case> {
    vec![
        greets("SMTP", "220 mail ESMTP\r\n", "EHLO a\r\n", "250 mail\r\n"),
        greets("FTP", "220 (vsFTPd 3.0.3)\r\n", "USER x\r\n", "331 Password.\r\n"),
        greets("POP3", "+OK ready\r\n", "STAT\r\n", "+OK 0 0\r\n"),
        greets("IMAP", "* OK ready\r\n", "a LOGIN x y\r\n", "a OK\r\n"),
        greets("NNTP", "200 ready\r\n", "LIST\r\n", "215 list\r\n"),
        greets("SSH", "SSH-2.0-OpenSSH_9.2\r\n", "SSH-2.0-client\r\n", "\x00\x00\x01\x0ckex"),
        greets(
            "MySQL",
            b"\x4a\x00\x00\x00\x0a8.0.36\x00\x01\x00\x00\x00",
            "\x20\x00\x00\x01login",
            "\x07\x00\x00\x02\x00\x00\x00",
        ),
        greets("VNC", "RFB 003.008\n", "RFB 003.008\n", "\x01\x02"),
        bytes(
            "a server that greets late",
            client().until("ready\r\n").send("hello\r\n").until("bye"),
            server().pause(300).send("220 ready\r\n").until("hello\r\n").send("bye"),
        ),
        bytes(
            "a client that speaks late",
            client().until("ready\r\n").pause(300).send("hello\r\n").until("bye"),
            server().send("220 ready\r\n").until("hello\r\n").send("bye"),
        ),
        bytes(
            "a server that says one thing and closes",
            client().end(),
            server().send("the time is now\r\n").half_close(),
        ),
        bytes("both silent for a while", client().pause(300).send("x").until("y"), server().until("x").send("y")),
    ]
}

fn client_first() -> Vec<Case> {
    vec![
        asks("Redis inline", "PING\r\n", "+PONG\r\n"),
        asks("Redis RESP", "*2\r\n$3\r\nGET\r\n$1\r\na\r\n", "$1\r\nb\r\n"),
        asks("memcached", "get a\r\n", "VALUE a 0 1\r\nb\r\nEND\r\n"),
        asks("STOMP", "CONNECT\naccept-version:1.2\nhost:a\n\n\0", "CONNECTED\nversion:1.2\n\n\0"),
        asks("IRC", "NICK me\r\nUSER me 0 * :me\r\n", ":a 001 me :Welcome\r\n"),
        asks("finger", "root\r\n", "Login: root\r\n"),
        asks("beanstalkd", "put 0 0 1 1\r\nx\r\n", "INSERTED 1\r\n"),
        asks("ZooKeeper's words", "ruok", "imok"),
        asks("JSON lines", "{\"id\":1,\"method\":\"get\"}\n", "{\"id\":1,\"result\":{}}\n"),
        asks("statsd's admin", "health\n", "health: up\n"),
        bytes(
            "lines of syslog, then the end",
            client().send("<14>x 1\n").half_close().end(),
            server().end().half_close(),
        ),
        bytes("syslog from 500 clients", client().send("<14>x 1\n"), server().until("\n")).clients(500),
    ]
}

fn looking_like_http() -> Vec<Case> {
    vec![
        asks("RTSP", "OPTIONS rtsp://a/s RTSP/1.0\r\nCSeq: 1\r\n\r\n", "RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"),
        asks(
            "SIP",
            "REGISTER sip:a SIP/2.0\r\nVia: SIP/2.0/TCP b\r\n\r\n",
            "SIP/2.0 200 OK\r\nVia: SIP/2.0/TCP b\r\n\r\n",
        ),
        asks("GET of something that is no HTTP", "GET a\n", "a=b\n"),
        asks("a language server", "Content-Length: 2\r\n\r\n{}", "Content-Length: 2\r\n\r\n[]"),
        asks("ICAP", "OPTIONS icap://a/s ICAP/1.0\r\nHost: a\r\n\r\n", "ICAP/1.0 200 OK\r\nISTag: x\r\n\r\n"),
        asks(
            "the PROXY protocol, version 1",
            "PROXY TCP4 203.0.113.7 127.0.0.1 5000 80\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            OK,
        ),
        asks(
            "the PROXY protocol, version 2",
            [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x07\x7f\x00\x00\x01\x13\x88\x00\x50", GET.as_bytes()]
                .concat(),
            OK,
        ),
        http(
            "a TLS hello to a server of HTTP",
            client().send(TLS_HELLO).end(),
            server()
                .until(last(TLS_HELLO))
                .send("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndone")
                .half_close(),
        ),
        http(
            "garbage to a server of HTTP",
            client().send("\x01\x02garbage\r\n\r\n").end(),
            server()
                .until(HEAD)
                .send("HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 4\r\n\r\ndone")
                .half_close(),
        ),
    ]
}

fn binary() -> Vec<Case> {
    let (many, more) = (vec![b'x'; 1 << 20], vec![b'y'; 1 << 20]);
    vec![
        asks("TLS", TLS_HELLO, TLS_ANSWER),
        bytes(
            "TLS, the hello in two pieces",
            client().send(&TLS_HELLO[..3]).pause(50).send(&TLS_HELLO[3..]).until(last(TLS_ANSWER)),
            server().until(last(TLS_HELLO)).send(TLS_ANSWER),
        ),
        asks("MQTT", b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04me-1", b"\x20\x02\x00\x00"),
        asks("AMQP", b"AMQP\x00\x00\x09\x01", b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x0a\xce"),
        asks("PostgreSQL's wish for TLS", b"\x00\x00\x00\x08\x04\xd2\x16\x2f", b"N"),
        asks(
            "LDAP",
            b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\x00\x80\x00",
            b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\x00\x04\x00\x04\x00",
        ),
        asks(
            "Kafka",
            b"\x00\x00\x00\x0e\x00\x12\x00\x00\x00\x00\x00\x01\x00\x04test",
            b"\x00\x00\x00\x06\x00\x00\x00\x01\x00\x00",
        ),
        asks(
            "MongoDB",
            b"\x10\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00",
            b"\x10\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\xdd\x07\x00\x00",
        ),
        asks("Cassandra", b"\x04\x00\x00\x00\x05\x00\x00\x00\x00", b"\x84\x00\x00\x00\x06\x00\x00\x00\x00"),
        asks("SOCKS", b"\x05\x01\x00", b"\x05\x00"),
        asks(
            "RDP",
            b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03\x00\x00\x00",
            b"\x03\x00\x00\x0b\x06\xd0\x00\x00\x12\x34\x00",
        ),
        asks("zeros", [0; 2000], [0; 2000]),
        bytes(
            "1 MB each way at once",
            client().send_meanwhile(&many).count(1 << 20),
            server().send_meanwhile(&more).count(1 << 20),
        ),
        bytes(
            "binary byte by byte",
            client().send_slowly(TLS_HELLO).until(last(TLS_ANSWER)),
            server().until(last(TLS_HELLO)).send_slowly(TLS_ANSWER),
        ),
        http(
            "HTTP/2 from its first byte",
            client().send([PREFACE, EMPTY_SETTINGS].concat()).until(SETTINGS_ACK),
            server().until(EMPTY_SETTINGS).send([EMPTY_SETTINGS, SETTINGS_ACK].concat()),
        ),
    ]
}

fn endings() -> Vec<Case> {
    vec![
        bytes("a server that closes at once", client().end(), server().half_close()),
        bytes("a server that resets at once", client().end(), server().reset()),
        bytes("a client that connects and leaves", client(), server()),
        bytes("a client that connects, waits and leaves", client().pause(200), server()),
        bytes("a client that resets at once", client().send("x 1\n").pause(50).reset(), server().until("\n").end()),
        bytes(
            "a question, a half-close, an answer",
            client().send("all of it").half_close().until("answer").end(),
            server().end().send("the answer").half_close(),
        ),
        bytes(
            "a server that ends its half first",
            client().end().send("the rest"),
            server().send("all of it").half_close().until("the rest"),
        ),
        bytes(
            "an answer long after a half-close",
            client().send("all of it").half_close().until("answer").end(),
            server().end().pause(700).send("the answer").half_close(),
        ),
    ]
}

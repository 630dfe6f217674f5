//! Connections that become something else: upgrades, CONNECT, Docker's hijacking.

use crate::case::{Case, OK, http};
use crate::script::{HEAD, Script, client, server};

/// The first bytes of an HTTP/2 client.
const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) fn cases() -> Vec<Case> {
    [accepted(), refused(), half_closed(), tunnels()].concat()
}

fn request(protocol: &str) -> String {
    format!("GET /s HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n")
}

fn switching(protocol: &str) -> String {
    format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n")
}

/// A client that asks for a protocol and then speaks it.
fn asking(protocol: &str) -> Script {
    client().send(request(protocol)).until(HEAD)
}

fn granting(protocol: &str) -> Script {
    server().until(HEAD).send(switching(protocol))
}

fn accepts(name: &'static str, protocol: &str) -> Case {
    http(name, asking(protocol).send("ping").until("pong"), granting(protocol).until("ping").send("pong"))
}

fn accepted() -> Vec<Case> {
    let key = "GET /s HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: \
               dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let accept = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nSec-WebSocket-Accept: \
                  s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    vec![
        http(
            "a WebSocket, as browsers open it",
            client().send(key).until(HEAD).send(b"\x81\x84\x00\x00\x00\x00ping").until(b"\x81\x04pong"),
            server().until(HEAD).send(accept).until("ping").send(b"\x81\x04pong"),
        ),
        http(
            "a WebSocket whose server speaks in the same packet",
            asking("websocket").until("hello").send("ping").until("pong"),
            server().until(HEAD).send(switching("websocket") + "hello").until("ping").send("pong"),
        ),
        http(
            "a WebSocket whose client does not wait",
            client().send(request("websocket") + "ping").until(HEAD).until("pong"),
            server().until("ping").send(switching("websocket") + "pong"),
        ),
        accepts("an upgrade to foo", "foo"),
        accepts("an upgrade to tcp", "tcp"),
        accepts("an upgrade to TLS/1.0", "TLS/1.0"),
        accepts("an upgrade to SPDY/3.1", "SPDY/3.1"),
        accepts("an upgrade to h2c", "h2c"),
        accepts("an upgrade to WebSocket in capitals", "WebSocket"),
        http(
            "Docker's attach",
            client()
                .send("POST /containers/x/attach?stream=1 HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\n")
                .send("Content-Length: 0\r\nContent-Type: text/plain\r\nUpgrade: tcp\r\n\r\n")
                .until(HEAD)
                .send("ls\n")
                .until("bin"),
            server()
                .until(HEAD)
                .send("HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\n")
                .send("Upgrade: tcp\r\n\r\n")
                .until("ls\n")
                .send("bin"),
        ),
        http(
            "Docker's attach of old, without an upgrade",
            client()
                .send("POST /containers/x/attach HTTP/1.1\r\nHost: docker\r\nContent-Length: 0\r\n\r\n")
                .until(HEAD)
                .send("ls\n")
                .until("bin"),
            server()
                .until(HEAD)
                .send("HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\n\r\n")
                .until("ls\n")
                .send("bin"),
        ),
        http(
            "an upgrade that HTTP/1.0 asks for",
            client()
                .send("GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
                .until(HEAD)
                .send("ping")
                .until("pong"),
            granting("websocket").until("ping").send("pong"),
        ),
    ]
}

fn refused() -> Vec<Case> {
    let ignored = |name, protocol: &str| {
        http(name, client().send(request(protocol)).until("done"), server().until(HEAD).send(OK))
    };
    vec![
        ignored("an offer of foo that is passed over", "foo"),
        ignored("an offer of h2c that is passed over", "h2c"),
        ignored("an offer of TLS that is passed over", "TLS/1.2"),
        ignored("an offer of a WebSocket that is passed over", "websocket"),
        ignored("an offer of two protocols that is passed over", "foo, websocket"),
        http(
            "h2c as curl offers it, with settings",
            client()
                .send("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n")
                .send("HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n")
                .until("done"),
            server().until(HEAD).send(OK),
        ),
        http(
            "Upgrade without Connection",
            client().send("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: foo\r\n\r\n").until("done"),
            server().until(HEAD).send(OK),
        ),
        http(
            "a WebSocket refused, then another request",
            client().send(request("websocket")).until("done").send("GET /2 HTTP/1.1\r\nHost: a\r\n\r\n").until("done"),
            server().until(HEAD).send("HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\ndone").until(HEAD).send(OK),
        ),
    ]
}

fn half_closed() -> Vec<Case> {
    let client_ends = |name, protocol| {
        http(
            name,
            asking(protocol).send("last words").half_close().end(),
            granting(protocol).end().send("the answer").half_close(),
        )
    };
    let server_ends = |name, protocol| {
        http(
            name,
            asking(protocol).end().send("last words"),
            granting(protocol).send("I have said all").half_close().until("last words"),
        )
    };
    vec![
        client_ends("a WebSocket whose client ends its half first", "websocket"),
        client_ends("Docker's tcp whose client ends its half first", "tcp"),
        server_ends("a WebSocket whose server ends its half first", "websocket"),
        server_ends("Docker's tcp whose server ends its half first", "tcp"),
    ]
}

fn tunnels() -> Vec<Case> {
    let connect = "CONNECT b:443 HTTP/1.1\r\nHost: b:443\r\n\r\n";
    vec![
        http(
            "CONNECT, accepted",
            client().send(connect).until(HEAD).send("ping").until("pong"),
            server().until(HEAD).send("HTTP/1.1 200 Connection established\r\n\r\n").until("ping").send("pong"),
        ),
        http(
            "CONNECT, refused",
            client().send(connect).until("done"),
            server().until(HEAD).send("HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\ndone"),
        ),
        http(
            "CONNECT in HTTP/1.0",
            client().send("CONNECT b:443 HTTP/1.0\r\n\r\n").until(HEAD).send("ping").until("pong"),
            server().until(HEAD).send("HTTP/1.0 200 OK\r\n\r\n").until("ping").send("pong"),
        ),
        http(
            "HTTP/2 after h2c was accepted",
            asking("h2c").send(PREFACE).until("settings"),
            granting("h2c").until(PREFACE).send("settings"),
        ),
    ]
}

//! Real programs, as they were heard.

use evidence::Reason;

use super::{Case, HTTP, Step, c, case, head, s, tcp};

const PREFACE: &str = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// curl's and grpc-go's SETTINGS, and a window update.
const CLIENT_SETTINGS: &[u8] =
    b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\0\x04\0\xa0\0\0\0\x02\0\0\0\0\0\0\x04\x08\0\0\0\0\0\x01\xf7\0\x01";
const SERVER_SETTINGS: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0";
const SETTINGS_ACK: &[u8] = b"\0\0\0\x04\x01\0\0\0\0";
const GOAWAY: &[u8] = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x01";
/// The first bytes of a TLS 1.3 hello.
const TLS_HELLO: &[u8] = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\x0a\r\n\x0a\x8e\x91HTTP/1.1";
const NGINX_400: &str = "HTTP/1.1 400 Bad Request\r\nServer: nginx/1.27.3\r\nDate: Mon, 02 Dec 2024 10:00:00 GMT\r\n\
     Content-Type: text/html\r\nContent-Length: 157\r\nConnection: close\r\n\r\n<html>\r\n<head><title>400 Bad Request";
const CURL: &str = "GET / HTTP/1.1|Host: localhost:8080|User-Agent: curl/7.88.1|Accept: */*";

pub fn all() -> Vec<Case> {
    web_servers().into_iter().chain(http2()).chain(proxies_and_streams()).chain(other_protocols()).collect()
}

fn web_servers() -> Vec<Case> {
    let nginx = "HTTP/1.1 200 OK|Server: nginx/1.27.3|Date: Mon, 02 Dec 2024 10:00:00 GMT|Content-Type: text/html|\
                 Content-Length: 615|Connection: keep-alive|ETag: \"67470ad9-267\"|Accept-Ranges: bytes";
    let python = "HTTP/1.0 200 OK|Server: SimpleHTTP/0.6 Python/3.11.2|Content-type: text/html|Content-Length: 336";
    let node = "HTTP/1.1 200 OK|Date: Mon, 02 Dec 2024 10:00:00 GMT|Connection: keep-alive|Keep-Alive: timeout=5|\
                Transfer-Encoding: chunked";
    vec![
        case("nginx", [c(head(CURL)), s(head(nginx))], HTTP),
        case("Node", [c(head(CURL)), s(head(node))], HTTP),
        case("Python's http.server", [c(head(CURL)), s(head(python))], tcp(Reason::OldVersion)),
        case("nginx, spoken to in TLS", [c(TLS_HELLO), s(NGINX_400), Step::ServerEnds], None),
        case("nginx's TLS port, spoken to without TLS", [c(head(CURL)), s(NGINX_400)], None),
        case(
            "Go's TLS server, spoken to without TLS",
            [
                c(head(CURL)),
                s("HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"),
                Step::ServerEnds,
            ],
            None,
        ),
        case(
            "a TLS server, spoken to without TLS",
            [c(head(CURL)), s(b"\x15\x03\x01\0\x02\x02\x46")],
            tcp(Reason::NotHttp),
        ),
        case("TLS", [c(TLS_HELLO), s(b"\x16\x03\x03\0\x7a\x02\0\0\x76\x03\x03")], tcp(Reason::NotHttp)),
        case(
            "Docker's attach",
            [
                c(head(
                    "POST /v1.47/containers/a/attach?stream=1 HTTP/1.1|Host: docker|User-Agent: Docker-Client/28.5.1 (linux)|\
                        Content-Length: 0|Connection: Upgrade|Content-Type: text/plain|Upgrade: tcp",
                )),
                s(head(
                    "HTTP/1.1 101 UPGRADED|Content-Type: application/vnd.docker.multiplexed-stream|Connection: Upgrade|Upgrade: tcp",
                )),
            ],
            tcp(Reason::Upgrade),
        ),
        case(
            "Docker's attach of old clients",
            [
                c(head("POST /v1.12/containers/a/attach?stream=1 HTTP/1.1|Host: docker|Content-Type: text/plain")),
                s(head("HTTP/1.1 200 OK|Content-Type: application/vnd.docker.raw-stream")),
            ],
            tcp(Reason::NoLength),
        ),
        case(
            "Docker's ping",
            [
                c(head("HEAD /_ping HTTP/1.1|Host: api.moby.localhost|User-Agent: Docker-Client/28.5.1 (linux)")),
                s(head(
                    "HTTP/1.1 200 OK|Api-Version: 1.51|Builder-Version: 2|Content-Length: 0|Content-Type: text/plain; charset=utf-8",
                )),
            ],
            HTTP,
        ),
        case(
            "a browser's websocket",
            [
                c(head(
                    "GET /chat HTTP/1.1|Host: localhost:8080|Connection: keep-alive, Upgrade|Upgrade: websocket|\
                        Origin: http://localhost:8080|Sec-WebSocket-Version: 13|Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
                )),
                s(head(
                    "HTTP/1.1 101 Switching Protocols|Upgrade: websocket|Connection: Upgrade|\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
                )),
            ],
            HTTP,
        ),
    ]
}

fn http2() -> Vec<Case> {
    let preface = [PREFACE.as_bytes(), CLIENT_SETTINGS].concat();
    vec![
        case("gRPC", [c(&preface), s([SERVER_SETTINGS, SETTINGS_ACK].concat())], HTTP),
        case("gRPC, where the server is faster", [s(SERVER_SETTINGS), c(&preface), s(SETTINGS_ACK)], HTTP),
        case(
            "gRPC, where the server answers half of the preface",
            [c(&preface[..10]), s(SERVER_SETTINGS), c(&preface[10..])],
            HTTP,
        ),
        case("gRPC with empty SETTINGS", [s(b"\0\0\0\x04\0\0\0\0\0"), c(&preface)], HTTP),
        case("gRPC, spoken to in HTTP/1", [s(SERVER_SETTINGS), c(head(CURL)), s(GOAWAY), Step::ServerEnds], None),
        case("gRPC, spoken to in HTTP/1, that waits", [c(head(CURL)), s(SERVER_SETTINGS), s(GOAWAY)], None),
        case("gRPC, spoken to in TLS", [c(TLS_HELLO), s([SERVER_SETTINGS, GOAWAY].concat())], None),
        case("gRPC, and silence", [s(SERVER_SETTINGS), Step::ClientEnds, Step::ServerEnds], None),
        case("HTTP/2 that is sent away", [c(&preface), s(GOAWAY)], None),
        case("HTTP/2 that begins with an acknowledgement", [c(&preface), s(SETTINGS_ACK)], None),
        case("HTTP/2 to nginx without it", [c(&preface), s(NGINX_400)], None),
        case("HTTP/2 to Redis", [c(&preface), s("-ERR unknown command 'PRI'\r\n")], tcp(Reason::NotHttp)),
        case("HTTP/2 whose client has ended its side", [c(&preface), Step::ClientEnds, s(SERVER_SETTINGS)], None),
    ]
}

fn proxies_and_streams() -> Vec<Case> {
    vec![
        case(
            "Squid",
            [
                c(head(
                    "GET http://example.com/ HTTP/1.1|Host: example.com|User-Agent: curl/7.88.1|Accept: */*|Proxy-Connection: Keep-Alive",
                )),
                s(head(
                    "HTTP/1.1 200 OK|Content-Type: text/html|Content-Length: 1256|X-Cache: MISS from proxy|Via: 1.1 proxy (squid/5.7)|Connection: keep-alive",
                )),
            ],
            tcp(Reason::AbsoluteTarget),
        ),
        case(
            "Squid's CONNECT",
            [
                c(head(
                    "CONNECT example.com:443 HTTP/1.1|Host: example.com:443|User-Agent: curl/7.88.1|Proxy-Connection: Keep-Alive",
                )),
                s("HTTP/1.1 200 Connection established\r\n\r\n"),
            ],
            tcp(Reason::Connect),
        ),
        case(
            "Squid, spoken to as a web server",
            [c(head(CURL)), s(head("HTTP/1.1 400 Bad Request|Server: squid/5.7|Content-Length: 3500"))],
            None,
        ),
        case(
            "Icecast's source",
            [
                c(head(
                    "SOURCE /stream HTTP/1.0|Authorization: Basic c291cmNlOmhhY2ttZQ==|User-Agent: libshout/2.4.6|Content-Type: audio/mpeg",
                )),
                s("HTTP/1.0 200 OK\r\n\r\n"),
            ],
            tcp(Reason::Method),
        ),
        case(
            "Icecast's listener",
            [
                c(head(CURL)),
                s(head("HTTP/1.0 200 OK|Server: Icecast 2.4.4|Connection: Close|Content-Type: audio/mpeg|icy-name:x")),
            ],
            tcp(Reason::OldVersion),
        ),
        case(
            "SHOUTcast",
            [c(head("GET / HTTP/1.0|Icy-MetaData: 1")), s("ICY 200 OK\r\nicy-notice1:<BR>\r\n\r\n")],
            tcp(Reason::Icy),
        ),
        case(
            "RTSP",
            [c(head("OPTIONS rtsp://a/s RTSP/1.0|CSeq: 1")), s(head("RTSP/1.0 200 OK|CSeq: 1|Public: DESCRIBE"))],
            tcp(Reason::NotHttp),
        ),
    ]
}

fn other_protocols() -> Vec<Case> {
    let mysql = b"\x4a\0\0\0\x0a8.0.36\0\x0b\0\0\0\x1e\x11\x5b\x2a\x40\x01\x6f\x30\0\xff\xff";
    vec![
        case("Redis", [c("*1\r\n$4\r\nPING\r\n"), s("+PONG\r\n")], tcp(Reason::NotHttp)),
        case("Redis, by hand", [c("PING\r\n"), s("+PONG\r\n")], tcp(Reason::NotHttp)),
        case(
            "Redis, spoken to in HTTP",
            [c("POST / HTTP/1.1\r\n"), s("-ERR unknown command 'POST'\r\n")],
            tcp(Reason::NotHttp),
        ),
        case(
            "SSH",
            [s("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), c("SSH-2.0-OpenSSH_9.2p1\r\n")],
            tcp(Reason::ServerSpeaksFirst),
        ),
        case(
            "SSH, where the client is faster",
            [c("SSH-2.0-OpenSSH_9.2p1\r\n"), s("SSH-2.0-OpenSSH_9.2p1\r\n")],
            tcp(Reason::NotHttp),
        ),
        case("SMTP", [s("220 mail.example.com ESMTP Postfix\r\n"), c("EHLO a\r\n")], tcp(Reason::ServerSpeaksFirst)),
        case(
            "SMTP, where the client is faster",
            [c("EHLO a\r\n"), s("220 mail.example.com ESMTP\r\n")],
            tcp(Reason::NotHttp),
        ),
        case("FTP", [s("220 (vsFTPd 3.0.3)\r\n")], tcp(Reason::ServerSpeaksFirst)),
        case("MySQL", [s(mysql)], tcp(Reason::ServerSpeaksFirst)),
        case("PostgreSQL with TLS", [c(b"\0\0\0\x08\x04\xd2\x16\x2f"), s("S"), c(TLS_HELLO)], tcp(Reason::NotHttp)),
        case("PostgreSQL without TLS", [c(b"\0\0\0\x08\x04\xd2\x16\x2f"), s("N")], tcp(Reason::NotHttp)),
        case("MQTT", [c(b"\x10\x11\0\x04MQTT\x04\x02\0\x3c\0\x05probe"), s(b"\x20\x02\0\0")], tcp(Reason::NotHttp)),
        case(
            "LDAP",
            [
                c(b"\x30\x0c\x02\x01\x01\x60\x07\x02\x01\x03\x04\0\x80\0"),
                s(b"\x30\x0c\x02\x01\x01\x61\x07\x0a\x01\0\x04\0\x04\0"),
            ],
            tcp(Reason::NotHttp),
        ),
        case("memcached", [c("version\r\n"), s("VERSION 1.6.18\r\n")], tcp(Reason::NotHttp)),
        case("SOCKS", [c(b"\x05\x01\0"), s(b"\x05\0")], tcp(Reason::NotHttp)),
        case(
            "syslog, which never answers",
            [c("<13>Dec  2 10:00:00 a b: c\n"), Step::ClientEnds, Step::ServerEnds],
            None,
        ),
    ]
}

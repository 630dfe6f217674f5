//! The client's side: the head of its first request, and whether HTTP treatment passes that on unchanged.
//!
//! A *plain* request has a usual method, a path, the version HTTP/1.1, strictly formed lines, one `Host`, at most one
//! clear length, and asks for no upgrade but WebSocket. Every other one is *odd*.

use crate::fields::{self, Lengths, Name};
use crate::finding::Reason;
use crate::line::Line;

/// By which HTTP/2 begins.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// In place of how many bytes of it came: what came is something else.
const NO_PREFACE: usize = PREFACE.len() + 1;
/// Methods that HTTP treatment passes on.
const METHODS: [&[u8]; 7] = [b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS"];

/// What the client has said so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Nothing.
    Nothing,
    /// Part of a line, or of a head.
    Part,
    /// A request that HTTP treatment passes on unchanged.
    Plain {
        /// `HEAD`: its answer has no body.
        is_head: bool,
        /// It asks for an upgrade to WebSocket.
        websocket: bool,
    },
    /// Another HTTP request, and what to say if the server accepts it: nothing where only this client does such.
    Odd(Option<Reason>),
    /// A line like those of HTTP/0.9, whole or in part.
    Old,
    /// HTTP/2's preface.
    Preface,
    /// Nothing that any HTTP has.
    Garbage,
}

/// Reads the first request's head, byte by byte.
#[derive(Debug)]
pub(crate) struct RequestReader {
    line: Line,
    stage: Stage,
    /// How many bytes of [`PREFACE`] came so far, or [`NO_PREFACE`].
    preface: usize,
    head: Head,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    RequestLine,
    Fields,
    Preface,
    Over(Asked),
}

#[derive(Debug, Default)]
struct Head {
    is_head: bool,
    /// What makes it odd, if the server's accepting it is to count.
    named: Option<Reason>,
    /// It is odd, which nobody is to be blamed for but this client.
    is_odd: bool,
    hosts: u8,
    lengths: Lengths,
    upgrade: Upgrade,
    /// `Connection` names `upgrade`.
    connection_upgrade: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Upgrade {
    #[default]
    None,
    Websocket,
    Other,
}

impl RequestReader {
    pub(crate) fn new() -> Self {
        Self { line: Line::new(), stage: Stage::RequestLine, preface: 0, head: Head::default() }
    }

    /// Whether further bytes can change [`Self::asked`].
    pub(crate) const fn wants_more(&self) -> bool {
        !matches!(self.stage, Stage::Over(_))
    }

    /// Whether it is HTTP/2's preface, or may become it.
    pub(crate) fn may_be_preface(&self) -> bool {
        self.preface != NO_PREFACE || self.stage == Stage::Over(Asked::Preface)
    }

    /// What the client has said so far.
    pub(crate) fn asked(&self) -> Asked {
        match self.stage {
            Stage::RequestLine if self.line.is_untouched() => Asked::Nothing,
            Stage::RequestLine if is_old(&self.line) => Asked::Old,
            Stage::RequestLine | Stage::Fields | Stage::Preface => Asked::Part,
            Stage::Over(asked) => asked,
        }
    }

    /// Takes a byte.
    pub(crate) fn push(&mut self, byte: u8) {
        self.preface = match PREFACE.get(self.preface) {
            Some(expected) if *expected == byte => self.preface + 1,
            _ => NO_PREFACE,
        };
        match self.stage {
            Stage::Preface if self.preface == PREFACE.len() => self.stage = Stage::Over(Asked::Preface),
            Stage::Preface if self.preface == NO_PREFACE => self.stage = Stage::Over(Asked::Garbage),
            Stage::Preface | Stage::Over(_) => {}
            Stage::RequestLine | Stage::Fields => self.push_to_line(byte),
        }
    }

    fn push_to_line(&mut self, byte: u8) {
        let ended = self.line.push(byte);
        if self.stage == Stage::RequestLine && self.line.has_control() {
            self.stage = Stage::Over(Asked::Garbage);
        } else if ended {
            let line = std::mem::replace(&mut self.line, Line::new());
            self.stage = match self.stage {
                Stage::RequestLine if self.preface != NO_PREFACE => Stage::Preface,
                Stage::RequestLine => self.head.begin(&line),
                _ if line.is_empty() => Stage::Over(self.head.end(&line)),
                _ => self.head.take(&line),
            };
        }
    }
}

/// Whether a line, ended or not, looks like a request of HTTP/0.9.
fn is_old(line: &Line) -> bool {
    line.kept().starts_with(b"GET /")
}

impl Head {
    fn begin(&mut self, line: &Line) -> Stage {
        let kept = line.kept();
        let version = line.third_word().filter(|version| is_version(version));
        let method = kept.split(|byte| *byte == b' ').next().filter(|method| fields::is_token(method));
        let (Some(version), Some(method)) = (version, method) else {
            return Stage::Over(if is_old(line) { Asked::Old } else { Asked::Garbage });
        };
        self.is_head = method == b"HEAD";
        self.is_odd = version != b"HTTP/1.1" || !line.has_three_visible_words();
        let target = &kept[(method.len() + 1).min(kept.len())..];
        self.named = match target {
            _ if method == b"CONNECT" => Some(Reason::Connect),
            _ if !METHODS.contains(&method) => Some(Reason::Method),
            [b'/', ..] => None,
            [b'*', b' ', ..] if method == b"OPTIONS" => Some(Reason::Asterisk),
            _ if is_absolute(target) => Some(Reason::AbsoluteTarget),
            _ => {
                self.is_odd = true;
                None
            }
        };
        Stage::Fields
    }

    fn take(&mut self, line: &Line) -> Stage {
        match fields::read(line) {
            None => self.is_odd = true,
            Some((name, value)) => {
                self.lengths.take(name, value);
                match name {
                    Name::Host => {
                        self.hosts = self.hosts.saturating_add(1);
                        self.is_odd |= !is_host(value);
                    }
                    Name::Upgrade => self.take_upgrade(value),
                    Name::Expect => self.is_odd |= !value.eq_ignore_ascii_case(b"100-continue"),
                    Name::Connection => self.take_connection(value),
                    Name::ContentLength | Name::TransferEncoding | Name::Other => {}
                }
            }
        }
        Stage::Fields
    }

    fn take_upgrade(&mut self, value: &[u8]) {
        let is_first = self.upgrade == Upgrade::None;
        let is_websocket = is_first && value.eq_ignore_ascii_case(b"websocket");
        self.upgrade = if is_websocket { Upgrade::Websocket } else { Upgrade::Other };
    }

    /// Headers that `Connection` names are dropped on the way, so only well-known names are plain.
    fn take_connection(&mut self, value: &[u8]) {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let is = |name: &[u8]| option.eq_ignore_ascii_case(name);
            self.connection_upgrade |= is(b"upgrade");
            self.is_odd |= !(is(b"close") || is(b"keep-alive") || is(b"upgrade") || is(b"te") || option.is_empty());
        }
    }

    fn end(&self, empty: &Line) -> Asked {
        let doubtful_length = self.lengths.length().is_err().then_some(Reason::RequestLength);
        let named = self.named.or(doubtful_length);
        let upgrade_is_plain = match self.upgrade {
            Upgrade::None => true,
            Upgrade::Websocket => self.connection_upgrade,
            Upgrade::Other => false,
        };
        let is_odd = self.is_odd || !empty.is_strict() || self.hosts != 1 || !upgrade_is_plain;
        if named.is_some() || is_odd {
            return Asked::Odd(named);
        }
        Asked::Plain { is_head: self.is_head, websocket: self.upgrade == Upgrade::Websocket }
    }
}

/// Whether it looks like a version of HTTP or one of its relatives (`ICE/1.0`, `RTSP/1.0`): capitals and a number.
fn is_version(word: &[u8]) -> bool {
    let Some(slash) = word.iter().position(|byte| *byte == b'/') else { return false };
    let (name, number) = (&word[..slash], &word[slash + 1..]);
    let is_number = !number.is_empty() && number.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    !name.is_empty() && name.iter().all(u8::is_ascii_uppercase) && is_number
}

/// Whether a target is a URL: a scheme, and `://`.
fn is_absolute(target: &[u8]) -> bool {
    let scheme = target.iter().take_while(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(byte)).count();
    scheme > 0 && target[scheme..].starts_with(b"://")
}

/// Whether a `Host` is one that nobody refuses.
fn is_host(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:[]%!$&'()*+,;=".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Asked = Asked::Plain { is_head: false, websocket: false };

    fn asked(text: &str) -> Asked {
        let mut reader = RequestReader::new();
        for byte in text.bytes() {
            reader.push(byte);
        }
        reader.asked()
    }

    /// A request with these lines, each ended here.
    fn head(lines: &str) -> Asked {
        asked(&(lines.replace('|', "\r\n") + "\r\n\r\n"))
    }

    #[test]
    fn plain_requests_are_recognized() {
        for plain in [
            "GET / HTTP/1.1|Host: a",
            "POST /a?b=c%20d HTTP/1.1|host:a:80|content-length: 0",
            "PUT /a HTTP/1.1|Host: [::1]:8080|Transfer-Encoding: chunked|Expect: 100-continue",
            "OPTIONS / HTTP/1.1|Host: a|Connection: keep-alive, TE|TE: trailers",
            "DELETE /a HTTP/1.1|Host: a|Connection: close|Cookie: caf\u{e9}\t=1",
            "PATCH /a HTTP/1.1|Host: a|X-Empty:",
        ] {
            assert_eq!(head(plain), PLAIN, "{plain}");
        }
        assert_eq!(head("HEAD / HTTP/1.1|Host: a"), Asked::Plain { is_head: true, websocket: false });
        let websocket = head("GET / HTTP/1.1|Host: a|Upgrade: WebSocket|Connection: keep-alive, Upgrade");
        assert_eq!(websocket, Asked::Plain { is_head: false, websocket: true });
        let long = "x".repeat(10_000);
        assert_eq!(head(&format!("GET /{long} HTTP/1.1|Host: a|Cookie: {long}")), PLAIN);
    }

    #[test]
    fn odd_requests_are_named_where_the_server_could_be_meant() {
        for (odd, reason) in [
            ("GET http://a/ HTTP/1.1|Host: a", Reason::AbsoluteTarget),
            ("CONNECT a:443 HTTP/1.1|Host: a", Reason::Connect),
            ("PROPFIND / HTTP/1.1|Host: a", Reason::Method),
            ("get / HTTP/1.1|Host: a", Reason::Method),
            ("SOURCE /m HTTP/1.0|Authorization: Basic eA==", Reason::Method),
            ("SOURCE /m ICE/1.0", Reason::Method),
            ("OPTIONS * HTTP/1.1|Host: a", Reason::Asterisk),
            ("POST / HTTP/1.1|Host: a|Content-Length: 1|Content-Length: 1", Reason::RequestLength),
            ("POST / HTTP/1.1|Host: a|Content-Length: 1|Transfer-Encoding: chunked", Reason::RequestLength),
            ("POST / HTTP/1.1|Host: a|Transfer-Encoding: gzip, chunked", Reason::RequestLength),
        ] {
            assert_eq!(head(odd), Asked::Odd(Some(reason)), "{odd}");
        }
    }

    #[test]
    fn other_odd_requests_are_this_clients_own() {
        for odd in [
            "GET / HTTP/1.0|Host: a",
            "GET / HTTP/1.1",
            "GET / HTTP/1.1|Host: a|Host: a",
            "GET / HTTP/1.1|Host:",
            "GET / HTTP/1.1|Host: a b",
            "GET /a b HTTP/1.1|Host: a",
            "GET /caf\u{e9} HTTP/1.1|Host: a",
            "GET /#fragment HTTP/1.1|Host: a",
            "GET a HTTP/1.1|Host: a",
            "GET * HTTP/1.1|Host: a",
            "GET  / HTTP/1.1|Host: a",
            "GET / HTTP/1.1|Host: a|Upgrade: h2c|Connection: upgrade",
            "GET / HTTP/1.1|Host: a|Upgrade: websocket",
            "GET / HTTP/1.1|Host: a|Upgrade: websocket|Upgrade: websocket|Connection: upgrade",
            "GET / HTTP/1.1|Host: a|Expect: the-unexpected",
            "GET / HTTP/1.1|Host: a|Connection: x-mine|X-Mine: 1",
            "GET / HTTP/1.1|Host: a|X-Folded: 1| 2",
            "GET / HTTP/1.1|Host : a|Host: a",
            "GET / HTTP/1.1|Host: a|X-Control: \u{1}",
        ] {
            assert_eq!(head(odd), Asked::Odd(None), "{odd}");
        }
        assert_eq!(asked("GET / HTTP/1.1\nHost: a\n\n"), Asked::Odd(None), "bare line feeds");
        assert_eq!(asked("GET / HTTP/1.1\r\nHost: a\r\n\n"), Asked::Odd(None), "a bare line feed at the end");
    }

    #[test]
    fn what_is_no_request_is_told_apart() {
        for garbage in
            ["\u{16}\u{3}\u{1}", "EHLO a\r\n", "\r\n\r\n", "* * *\r\n", "PRI * HTTP/2.0\r\n\r\nXX", "A B C\r\n"]
        {
            assert_eq!(asked(garbage), Asked::Garbage, "{garbage:?}");
        }
        for old in ["GET /", "GET /index.html", "GET /\r\n", "GET /HTTP/1.1\r\n", "GET /a b\r\n"] {
            assert_eq!(asked(old), Asked::Old, "{old:?}");
        }
        for part in ["G", "POST / HTTP/1.1", "POST / HTTP/1.1\r\nHost: a\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            assert_eq!(asked(part), Asked::Part, "{part:?}");
        }
        assert_eq!(asked(""), Asked::Nothing);
        assert_eq!(asked("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n and more"), Asked::Preface);
    }
}

//! One connection: both directions together, and what the server's bytes say of the client's.

use crate::answer::{AnswerReader, Question, Verdict};
use crate::finding::{Finding, Reason};
use crate::request::{Asked, RequestReader};
use crate::start::{Kind, Start};

/// How many bytes of each direction are looked at. After that there is no finding. Heads that are longer are refused
/// by Envoy's own limit of 60 KiB.
pub const OBSERVED_MAX: usize = 64 * 1024;

/// Looks at one connection. Takes less than 1 KiB and never grows.
///
/// The bytes of each direction must be given in order, and a client's bytes before the server's that answer them. In
/// which pieces they come makes no difference.
#[derive(Debug)]
pub struct Observer {
    client: RequestReader,
    server: Server,
    client_ended: bool,
    /// How many bytes were looked at, client's and server's.
    observed: [usize; 2],
    done: bool,
}

/// How far the server's side is known.
#[derive(Debug)]
enum Server {
    /// Nothing has come.
    Silent,
    /// First bytes, and what the client had said when the first of them came.
    Starting(Start, Asked),
    /// An HTTP/1 answer.
    Answering(Box<AnswerReader>),
    /// HTTP/2's SETTINGS. Whether the client speaks HTTP/2 is not known yet.
    Settings,
}

impl Default for Observer {
    fn default() -> Self {
        Self::new()
    }
}

impl Observer {
    /// An observer of a connection that has carried nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            client: RequestReader::new(),
            server: Server::Silent,
            client_ended: false,
            observed: [0; 2],
            done: false,
        }
    }

    /// Whether there is nothing more to see here: the observer can be dropped.
    #[must_use]
    pub const fn is_done(&self) -> bool {
        self.done
    }

    /// Whether the client's next bytes matter. If not, they need not be given: its request's head is complete, and
    /// the answer is what is awaited.
    #[must_use]
    pub const fn wants_client(&self) -> bool {
        !self.done && self.client.wants_more()
    }

    /// Whether the server's next bytes matter.
    #[must_use]
    pub const fn wants_server(&self) -> bool {
        !self.done && !matches!(self.server, Server::Settings)
    }

    /// Takes in bytes that were forwarded from the client to the server.
    #[must_use]
    pub fn client(&mut self, bytes: &[u8]) -> Option<Finding> {
        for byte in bytes {
            if !self.wants_client() {
                return None;
            }
            self.client.push(*byte);
            let verdict = match self.server {
                Server::Settings => self.judge_settings(),
                _ => Verdict::Wait,
            };
            if let Some(finding) = self.settle(verdict, 0) {
                return Some(finding);
            }
        }
        None
    }

    /// Takes in bytes that were forwarded from the server to the client.
    #[must_use]
    pub fn server(&mut self, bytes: &[u8]) -> Option<Finding> {
        for byte in bytes {
            if !self.wants_server() {
                return None;
            }
            let verdict = self.push_server(*byte);
            if let Some(finding) = self.settle(verdict, 1) {
                return Some(finding);
            }
        }
        None
    }

    /// The client has ended its stream; the server may still answer.
    pub const fn client_ended(&mut self) {
        self.client_ended = true;
        // Half of a preface will not become a whole one.
        self.done |= matches!(self.server, Server::Settings);
    }

    /// The server has ended its stream.
    pub const fn server_ended(&mut self) {
        self.done = true;
    }

    fn settle(&mut self, verdict: Verdict, direction: usize) -> Option<Finding> {
        self.observed[direction] += 1;
        match verdict {
            Verdict::Wait => {
                self.done |= self.observed[direction] >= OBSERVED_MAX;
                None
            }
            Verdict::Nothing => {
                self.done = true;
                None
            }
            Verdict::Found(finding) => {
                self.done = true;
                // HTTP treatment ends a connection whose client has ended its side: not shown to be safe.
                (finding != Finding::Http || !self.client_ended).then_some(finding)
            }
        }
    }

    fn push_server(&mut self, byte: u8) -> Verdict {
        if matches!(self.server, Server::Silent) {
            self.server = Server::Starting(Start::default(), self.client.asked());
        }
        match &mut self.server {
            Server::Starting(start, asked) => match start.push(byte) {
                None => Verdict::Wait,
                Some(kind) => {
                    let (seen, asked) = (std::mem::take(start), *asked);
                    self.judge_start(kind, asked, seen.seen())
                }
            },
            Server::Answering(answer) => answer.push(byte),
            Server::Silent | Server::Settings => Verdict::Wait,
        }
    }

    fn judge_start(&mut self, kind: Kind, asked: Asked, seen: &[u8]) -> Verdict {
        match (kind, asked) {
            (Kind::Settings, _) => {
                self.server = Server::Settings;
                self.judge_settings()
            }
            // A server that was kept waiting: 408, and the like.
            (Kind::Http1, Asked::Nothing) => Verdict::Nothing,
            (_, Asked::Nothing) => Verdict::tcp(Reason::ServerSpeaksFirst),
            (Kind::Icy, _) => Verdict::tcp(Reason::Icy),
            (Kind::Http1, Asked::Plain { is_head, websocket }) => {
                self.answer(Question::Plain { is_head, websocket }, seen)
            }
            (Kind::Http1, Asked::Odd(reason)) => self.answer(Question::Odd(reason), seen),
            // An error for what is no request, or not a whole one.
            (Kind::Http1, Asked::Part | Asked::Old | Asked::Preface | Asked::Garbage) => Verdict::Nothing,
            (Kind::Frame | Kind::Page, _) | (Kind::Other, Asked::Old) => Verdict::Nothing,
            (Kind::Other, _) => Verdict::tcp(Reason::NotHttp),
        }
    }

    fn answer(&mut self, question: Question, seen: &[u8]) -> Verdict {
        let mut answer = Box::new(AnswerReader::new(question));
        // The first bytes end no line, so nothing is decided here.
        let verdict = seen.iter().map(|byte| answer.push(*byte)).last().unwrap_or(Verdict::Wait);
        self.server = Server::Answering(answer);
        verdict
    }

    fn judge_settings(&self) -> Verdict {
        match self.client.asked() {
            Asked::Preface => Verdict::Found(Finding::Http),
            _ if self.client.may_be_preface() && !self.client_ended => Verdict::Wait,
            _ => Verdict::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observer_is_small() {
        let all = size_of::<Observer>() + size_of::<AnswerReader>();
        assert!(all <= 1024, "{all} bytes");
    }

    #[test]
    fn a_clients_body_is_not_asked_for() {
        let mut observer = Observer::new();
        assert_eq!(observer.client(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nbody"), None);
        assert!(!observer.wants_client() && observer.wants_server() && !observer.is_done());
        assert_eq!(observer.client(&[0; 2 * OBSERVED_MAX]), None);
        assert_eq!(observer.server(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Some(Finding::Http));
        assert!(observer.is_done() && !observer.wants_server());
    }

    #[test]
    fn nobody_is_observed_without_end() {
        let mut observer = Observer::new();
        assert_eq!(observer.client(b"GET /"), None);
        assert_eq!(observer.client(&[b'x'; OBSERVED_MAX - 6]), None);
        assert!(!observer.is_done());
        assert_eq!(observer.client(b"x"), None);
        assert!(observer.is_done());

        let mut observer = Observer::new();
        assert_eq!(observer.client(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), None);
        assert_eq!(observer.server(b"HTTP/1.1 200 OK\r\n"), None);
        while !observer.is_done() {
            assert_eq!(observer.server(b"Set-Cookie: crumb\r\n"), None);
        }
        assert!((OBSERVED_MAX..OBSERVED_MAX + 20).contains(&observer.observed[1]));
    }

    #[test]
    fn a_whole_preface_needs_no_more_of_the_client() {
        let mut observer = Observer::new();
        assert_eq!(observer.server(&[0, 0, 0, 4, 0, 0, 0, 0, 0]), None);
        assert!(!observer.wants_server() && observer.wants_client());
        assert_eq!(observer.client(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), Some(Finding::Http));
    }
}

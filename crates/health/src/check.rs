//! What is checked, every target resolved, and what came of one check.

use std::fmt;
use std::net::SocketAddr;

use model::instance::Text;
use model::{Status, Timing};

use crate::DockerHealth;

/// The longest reason that is kept of a check, in bytes: one line for the operator.
pub const REASON_MAX_LENGTH: usize = 240;

/// How an instance's status is found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// By probing it again and again.
    Probed(Probe, Timing),
    /// Docker runs the image's own HEALTHCHECK; this is its last word.
    Docker(DockerHealth),
    /// It is healthy as long as it runs, since nothing says how to find out more.
    Running,
    /// It is healthy as long as it runs, because its labels say so.
    AlwaysSuccessful,
}

impl Check {
    /// The status that follows without a probe, and its reason.
    pub(crate) fn word(&self) -> Option<(Status, &'static str)> {
        match self {
            Self::Probed(..) => None,
            Self::Docker(health) => Some((health.status(), health.reason())),
            Self::Running => Some((Status::Alive, "it runs, and has no health check")),
            Self::AlwaysSuccessful => Some((Status::Alive, "it runs, and its health check is AlwaysSuccessful")),
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Probed(probe, _) => probe.fmt(f),
            Self::Docker(_) => f.write_str("Docker's HEALTHCHECK"),
            Self::Running => f.write_str("the running state"),
            Self::AlwaysSuccessful => f.write_str("AlwaysSuccessful"),
        }
    }
}

/// What is done once to find out.
///
/// Its text is for the operator, and leaves out what may be secret: a URL's query, a command's arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// An HTTP/1.1 GET, plain; healthy if it is answered by 200 to 299. Redirects are not followed.
    HttpGet(HttpGet),
    /// A TCP connection; healthy if it is accepted.
    Tcp(Peer),
    /// A program and its arguments, run without a shell; healthy if it exits with 0. Never empty.
    External(Vec<String>),
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HttpGet(get) => {
                let path = get.path_and_query.split('?').next().unwrap_or_default();
                write!(f, "GET http://{}{path}", get.peer)
            }
            Self::Tcp(peer) => write!(f, "connect to {peer}"),
            Self::External(words) => write!(f, "run {}", words.first().map_or("", String::as_str)),
        }
    }
}

/// An HTTP GET.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGet {
    /// Who is connected to.
    pub peer: Peer,
    /// What the `Host` header says.
    pub authority: String,
    /// What is asked for; begins with a slash.
    pub path_and_query: String,
}

/// Who is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// An address and port.
    Address(SocketAddr),
    /// A name, to be looked up for every check, and a port.
    Name(String, u16),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// What came of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether the instance is fit for traffic.
    pub healthy: bool,
    /// What was seen, in words for the operator.
    pub reason: Text<REASON_MAX_LENGTH>,
}

impl Outcome {
    /// What was seen of `probe`: `GET http://172.17.0.2:80/: 503`.
    #[must_use]
    pub fn of(probe: &Probe, healthy: bool, seen: impl fmt::Display) -> Self {
        Self { healthy, reason: Text::cut(&format!("{probe}: {seen}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_names_what_was_done_and_no_secrets() {
        let get = HttpGet {
            peer: Peer::Address("[fd00::2]:80".parse().unwrap()),
            authority: "web".to_owned(),
            path_and_query: "/health?token=secret".to_owned(),
        };
        let outcome = Outcome::of(&Probe::HttpGet(get), false, 503);
        assert_eq!(outcome.reason.as_str(), "GET http://[fd00::2]:80/health: 503");
        let run = Probe::External(vec!["check".to_owned(), "--password=secret".to_owned()]);
        assert_eq!(run.to_string(), "run check");
    }

    #[test]
    fn a_reason_is_cut_to_one_line_for_the_operator() {
        let peer = Peer::Name("db".to_owned(), 5432);
        let outcome = Outcome::of(&Probe::Tcp(peer), false, "x".repeat(1000));
        assert_eq!(outcome.reason.as_str().len(), REASON_MAX_LENGTH);
        assert!(outcome.reason.as_str().starts_with("connect to db:5432: xxx"));
    }
}

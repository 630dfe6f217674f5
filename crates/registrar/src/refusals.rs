//! What Envoy's refusal of a request on a learned port means: who needs a path without HTTP. Decisions only; the reports
//! come in by `refusal_log`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A client that ended its side this soon after its request may have meant to wait for the answer: `printf … | nc` does.
/// One that left later has given up.
const ENDED_WITH_REQUEST: Duration = Duration::from_millis(50);

/// One report of Envoy's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Where the client connected to.
    pub(crate) asked: SocketAddr,
    /// The address that the client's connection came from.
    pub(crate) client: IpAddr,
    /// Why, as far as Envoy tells.
    pub(crate) cause: Cause,
    /// From the request's first byte to its end.
    pub(crate) duration: Duration,
    /// Envoy's word for it, for the log.
    pub(crate) details: String,
}

/// What Envoy's response flags say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Envoy refused the request itself; the application never saw it.
    Request,
    /// Envoy refused the application's answer.
    Answer,
    /// The client ended its side before it had an answer.
    ClientEnded,
    /// The application could not be reached, or something else that says nothing of HTTP.
    Other,
}

/// Who needs a path without HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// This client alone.
    Client,
    /// Every client: it is the application that does what Envoy does not pass.
    Everyone,
}

impl Refusal {
    /// Who needs a path without HTTP after this.
    pub(crate) fn needs(&self) -> Option<Needs> {
        match self.cause {
            Cause::Request => Some(Needs::Client),
            Cause::Answer => Some(Needs::Everyone),
            Cause::ClientEnded => (self.duration <= ENDED_WITH_REQUEST).then_some(Needs::Client),
            Cause::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(cause: Cause, milliseconds: u64) -> Refusal {
        Refusal {
            asked: ([10, 0, 0, 1], 8080).into(),
            client: [10, 0, 0, 2].into(),
            cause,
            duration: Duration::from_millis(milliseconds),
            details: String::new(),
        }
    }

    #[test]
    fn a_refused_request_concerns_its_client_and_a_refused_answer_everyone() {
        assert_eq!(refusal(Cause::Request, 0).needs(), Some(Needs::Client));
        assert_eq!(refusal(Cause::Answer, 0).needs(), Some(Needs::Everyone));
        assert_eq!(refusal(Cause::Other, 0).needs(), None);
    }

    #[test]
    fn a_client_that_ends_its_side_with_the_request_may_be_waiting_and_one_that_gives_up_later_is_not() {
        assert_eq!(refusal(Cause::ClientEnded, 3).needs(), Some(Needs::Client));
        assert_eq!(refusal(Cause::ClientEnded, 500).needs(), None);
    }
}

//! The end: when dockerd says stop, Envoy has to let go of the port before we exit. Decisions only.
//!
//! dockerd waits for every shim in turn, so this is quick; and when `docker stop` returns the port must be free. The
//! registrar answers within milliseconds. Where it does not, Envoy's sockets are ended from outside.

use std::time::{Duration, Instant};

/// How long Envoy may take to let go of the port. The registrar answers within 50 ms, also for an Envoy that hangs.
pub(crate) const RELEASE_TIMEOUT: Duration = Duration::from_millis(200);

/// The wait between two looks at the kernel: Envoy has acknowledged, its workers are about to close.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What the registrar has to say about the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing yet.
    Pending,
    /// Envoy has acknowledged that it no longer listens.
    Released,
    /// It will not answer: not there, or gone, or we are in a hurry.
    None,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing before this time, unless the answer changes.
    Wait(Instant),
    /// End the sockets that still listen here, then exit.
    Destroy,
    /// Exit.
    Exit,
}

/// A release under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Release {
    deadline: Instant,
    /// What is known of the registrar's answer.
    pub(crate) answer: Answer,
}

impl Release {
    /// A release that began `now`.
    #[must_use]
    pub(crate) fn begin(now: Instant, answer: Answer) -> Self {
        Self { deadline: now + RELEASE_TIMEOUT, answer }
    }

    /// Decides; `others` asks the kernel how many sockets of Envoy's listen on the port, and is asked only when it
    /// matters.
    pub(crate) fn next(&self, now: Instant, others: impl FnOnce() -> usize) -> Next {
        let in_time = now < self.deadline;
        if in_time && self.answer == Answer::Pending {
            Next::Wait(self.deadline)
        } else if others() == 0 {
            Next::Exit
        } else if in_time && self.answer == Answer::Released {
            Next::Wait((now + LOOK_AGAIN).min(self.deadline))
        } else {
            Next::Destroy
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: fn() -> usize = || 0;
    const ENVOY: fn() -> usize = || 2;

    #[test]
    fn an_answer_that_is_awaited_costs_no_look_at_the_kernel() {
        let now = Instant::now();
        let release = Release::begin(now, Answer::Pending);
        assert_eq!(release.next(now, || panic!("looked")), Next::Wait(now + RELEASE_TIMEOUT));
    }

    #[test]
    fn a_port_that_envoy_has_left_ends_us_at_once() {
        let now = Instant::now();
        for answer in [Answer::Released, Answer::None] {
            assert_eq!(Release::begin(now, answer).next(now, NOBODY), Next::Exit);
        }
        assert_eq!(Release::begin(now, Answer::Pending).next(now + RELEASE_TIMEOUT, NOBODY), Next::Exit);
    }

    #[test]
    fn workers_that_are_about_to_close_are_given_their_time() {
        let now = Instant::now();
        let release = Release::begin(now, Answer::Released);
        assert_eq!(release.next(now, ENVOY), Next::Wait(now + LOOK_AGAIN));
        assert_eq!(release.next(now + RELEASE_TIMEOUT, ENVOY), Next::Destroy);
    }

    #[test]
    fn without_a_registrar_envoys_sockets_are_ended_at_once() {
        let now = Instant::now();
        assert_eq!(Release::begin(now, Answer::None).next(now, ENVOY), Next::Destroy);
        assert_eq!(Release::begin(now, Answer::Pending).next(now + RELEASE_TIMEOUT, ENVOY), Next::Destroy);
    }
}

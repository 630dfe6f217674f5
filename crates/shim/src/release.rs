//! The end: when dockerd says stop, Envoy has to let go of the port before we exit. Decisions only.
//!
//! dockerd waits for every shim in turn, so this is quick; and when `docker stop` returns the port must be free. The
//! registrar answers within milliseconds. Where it does not, Envoy's sockets are ended from outside. Where it says that
//! it waits for Envoy, it is given its time: to leave earlier would leave the port to Envoy.

use std::time::{Duration, Instant};

use shim_wire::{RELEASE_ANSWER, RELEASE_LIMIT};

/// How long Envoy's workers may take to close their sockets once Envoy has acknowledged: a few milliseconds.
const CLOSING_LIMIT: Duration = Duration::from_millis(200);

/// The wait between two looks at the kernel: Envoy has acknowledged, its workers are about to close.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What the registrar has to say about the release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing yet.
    Pending,
    /// It waits for Envoy, and will say when that has let go.
    Heard,
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
    /// How long the present answer counts.
    deadline: Instant,
    answer: Answer,
}

impl Release {
    /// A release that began `now`.
    #[must_use]
    pub(crate) fn begin(now: Instant, answer: Answer) -> Self {
        Self { deadline: now + time_for(answer), answer }
    }

    /// The registrar's answer is this now. One that will not come, comes no more.
    pub(crate) fn answered(&mut self, answer: Answer, now: Instant) {
        if answer != self.answer && self.answer != Answer::None {
            *self = Self::begin(now, answer);
        }
    }

    /// Decides; `others` asks the kernel how many sockets of Envoy's listen on the port, and is asked only when it
    /// matters.
    pub(crate) fn next(&self, now: Instant, others: impl FnOnce() -> usize) -> Next {
        let in_time = now < self.deadline;
        if in_time && matches!(self.answer, Answer::Pending | Answer::Heard) {
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

const fn time_for(answer: Answer) -> Duration {
    match answer {
        Answer::Pending => RELEASE_ANSWER,
        Answer::Heard => RELEASE_LIMIT.saturating_add(RELEASE_ANSWER),
        Answer::Released => CLOSING_LIMIT,
        Answer::None => Duration::ZERO,
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
        assert_eq!(release.next(now, || panic!("looked")), Next::Wait(now + RELEASE_ANSWER));
    }

    #[test]
    fn a_registrar_that_waits_for_envoy_is_given_more_time_than_it_takes() {
        let now = Instant::now();
        let mut release = Release::begin(now, Answer::Pending);
        release.answered(Answer::Heard, now);
        let limit = now + RELEASE_LIMIT;
        assert!(matches!(release.next(limit, || panic!("looked")), Next::Wait(until) if until > limit));
        assert_eq!(release.next(limit + RELEASE_ANSWER, ENVOY), Next::Destroy);
    }

    #[test]
    fn a_registrar_that_is_gone_or_no_longer_waited_for_stays_so() {
        let now = Instant::now();
        let mut release = Release::begin(now, Answer::Heard);
        release.answered(Answer::None, now);
        release.answered(Answer::Heard, now);
        assert_eq!(release.next(now, ENVOY), Next::Destroy);
    }

    #[test]
    fn a_port_that_envoy_has_left_ends_us_at_once() {
        let now = Instant::now();
        for answer in [Answer::Released, Answer::None] {
            assert_eq!(Release::begin(now, answer).next(now, NOBODY), Next::Exit);
        }
        assert_eq!(Release::begin(now, Answer::Pending).next(now + RELEASE_ANSWER, NOBODY), Next::Exit);
    }

    #[test]
    fn workers_that_are_about_to_close_are_given_their_time() {
        let now = Instant::now();
        let release = Release::begin(now, Answer::Released);
        assert_eq!(release.next(now, ENVOY), Next::Wait(now + LOOK_AGAIN));
        assert_eq!(release.next(now + CLOSING_LIMIT, ENVOY), Next::Destroy);
    }

    #[test]
    fn without_a_registrar_envoys_sockets_are_ended_at_once() {
        let now = Instant::now();
        assert_eq!(Release::begin(now, Answer::None).next(now, ENVOY), Next::Destroy);
        assert_eq!(Release::begin(now, Answer::Pending).next(now + RELEASE_ANSWER, ENVOY), Next::Destroy);
    }
}

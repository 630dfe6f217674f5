//! From results to a status: some successes in a row make an instance alive, some failures unhealthy.

use model::{Status, Timing};

/// The status of an instance, and how long what contradicts it has been going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RiseFall {
    status: Status,
    /// Results in a row that were not as `status` says, all of them `last`.
    streak: u32,
    last: bool,
}

impl RiseFall {
    pub(crate) const fn new(status: Status) -> Self {
        Self { status, streak: 0, last: false }
    }

    pub(crate) const fn status(&self) -> Status {
        self.status
    }

    /// Forgets what contradicted the status so far.
    pub(crate) const fn forget_streak(&mut self) {
        self.streak = 0;
    }

    /// Takes in a result; the new status, if it is another one now.
    pub(crate) fn observe(&mut self, healthy: bool, timing: &Timing) -> Option<Status> {
        let (says, needed) = if healthy { (Status::Alive, timing.rise) } else { (Status::Unhealthy, timing.fall) };
        let goes_on = self.streak > 0 && self.last == healthy;
        self.streak = if self.status == says {
            0
        } else if goes_on {
            self.streak + 1
        } else {
            1
        };
        self.last = healthy;
        if self.status == says || self.streak < needed {
            return None;
        }
        *self = Self::new(says);
        Some(says)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn timing(rise: u32, fall: u32) -> Timing {
        Timing { rise, fall, ..Timing::default() }
    }

    fn changes(results: &[bool], timing: &Timing) -> Vec<Option<Status>> {
        let mut health = RiseFall::new(Status::Unknown);
        results.iter().map(|healthy| health.observe(*healthy, timing)).collect()
    }

    #[test]
    fn by_default_one_success_raises_and_two_failures_fell() {
        let results = [true, false, true, false, false, false, true];
        let (alive, unhealthy) = (Some(Status::Alive), Some(Status::Unhealthy));
        assert_eq!(changes(&results, &Timing::default()), [alive, None, None, None, unhealthy, None, alive]);
    }

    #[test]
    fn what_was_never_healthy_is_unknown_until_it_failed_often_enough() {
        assert_eq!(changes(&[false, false], &timing(1, 2)), [None, Some(Status::Unhealthy)]);
        assert_eq!(changes(&[false, true, false, false], &timing(2, 2)), [None, None, None, Some(Status::Unhealthy)]);
    }

    proptest! {
        /// The status is that of the last run of equal results that was long enough.
        #[test]
        fn the_last_run_that_was_long_enough_decides(
            results in prop::collection::vec(any::<bool>(), 0..60), rise in 1u32..5, fall in 1u32..5,
        ) {
            let timing = timing(rise, fall);
            let mut health = RiseFall::new(Status::Unknown);
            for healthy in &results {
                health.observe(*healthy, &timing);
            }
            let mut runs = results.chunk_by(|a, b| a == b);
            let decides = |run: &&[bool]| run.len() >= if run[0] { rise } else { fall } as usize;
            let expected = runs.rfind(decides).map_or(Status::Unknown, |run| {
                if run[0] { Status::Alive } else { Status::Unhealthy }
            });
            prop_assert_eq!(health.status(), expected);
        }
    }
}

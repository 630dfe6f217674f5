//! Delays between tries that double up to a limit.

use std::time::Duration;

/// Says how long to wait before the next try. Without jitter: each user here is the only one of its kind on
/// its host.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    limit: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(first: Duration, limit: Duration) -> Self {
        Self { first, limit, next: first }
    }

    /// The delay before the next try.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = (delay * 2).min(self.limit);
        delay
    }

    /// To be called after a success.
    pub(crate) fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit_and_begin_anew_after_a_success() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(2), ms(7));
        assert_eq!([backoff.next_delay(), backoff.next_delay(), backoff.next_delay()], [ms(2), ms(4), ms(7)]);
        backoff.reset();
        assert_eq!(backoff.next_delay(), ms(2));
    }
}

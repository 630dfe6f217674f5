//! Times as people say them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds of Unix time; 0 on a clock that stands before 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// How long before `now_ms` it was `then_ms`; a time still to come, on a clock that went back, is now.
pub(crate) fn ago(now_ms: u64, then_ms: u64) -> String {
    let seconds = now_ms.saturating_sub(then_ms) / 1000;
    match seconds {
        0..120 => format!("{seconds} s ago"),
        120..7200 => format!("{} min ago", seconds / 60),
        7200..172_800 => format!("{} h ago", seconds / 3600),
        172_800.. => format!("{} days ago", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_said_in_the_unit_that_fits() {
        let cases =
            [(0, "0 s ago"), (119, "119 s ago"), (180, "3 min ago"), (7200, "2 h ago"), (864_000, "10 days ago")];
        for (seconds, words) in cases {
            assert_eq!(ago(seconds * 1000, 0), words);
        }
    }

    #[test]
    fn a_clock_that_went_back_is_no_failure() {
        assert_eq!(ago(0, 5_000), "0 s ago");
    }
}

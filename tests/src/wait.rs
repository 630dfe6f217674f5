//! Waiting for something to become true.

use std::time::{Duration, Instant};

/// How long to sleep between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// The first `Ok` of `look`, which is asked again and again for at most `limit`.
///
/// # Panics
/// `look` yielded only errors: with `what` was waited for and the last error.
#[track_caller]
pub fn eventually<T, E: std::fmt::Display>(what: &str, limit: Duration, mut look: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(error) if start.elapsed() > limit => panic!("{what}: not within {limit:?}: {error}"),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

//! Notices when the loop stands still, and ends the process: the service manager then starts another.
//!
//! A thread of its own looks, so that it goes on when the runtime does not. It counts its own looks instead of reading
//! a clock: while the whole process is stopped (SIGSTOP, a suspended machine), nobody looks and nothing is counted.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::{error, warn};

/// How often the thread looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// After so many looks in a row without a turn the loop stands still: 10 s. The longest turn that was ever seen took
/// less than a tenth of that.
const STILL_LOOKS: u32 = 20;

/// The service manager is told every so many looks that the loop turns: every 5 s. Its own limit (`WatchdogSec`) is for
/// a process whose threads all stand still.
const LOOKS_PER_WORD: u32 = 10;

/// The longest time between two turns of a loop with nothing to do.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(1);

/// Counts the loop's turns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// The loop has turned.
    pub(crate) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn turns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Tells the service manager how the registrar fares, where there is one that wants to know.
pub(crate) fn tell_service_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!(%error, "the service manager could not be told how the registrar fares");
    }
}

/// What was seen of the loop so far.
#[derive(Debug, Default)]
struct Guard {
    turns: u64,
    still_looks: u32,
}

impl Guard {
    /// Takes in one look. Says whether the loop stands still.
    fn look(&mut self, turns: u64) -> bool {
        self.still_looks = if turns == self.turns { self.still_looks + 1 } else { 0 };
        self.turns = turns;
        self.still_looks >= STILL_LOOKS
    }
}

/// Looks until the process ends, and ends it when the loop stands still.
///
/// # Errors
/// The thread can't be started.
pub(crate) fn guard(pulse: Pulse) -> io::Result<()> {
    let mut guard = Guard::default();
    let look = move || {
        for look in 0_u32.. {
            if guard.look(pulse.turns()) {
                break;
            }
            if look % LOOKS_PER_WORD == 0 && guard.still_looks == 0 {
                tell_service_manager(NotifyState::Watchdog);
            }
            thread::sleep(LOOK_EVERY);
        }
        let seconds = (LOOK_EVERY * STILL_LOOKS).as_secs();
        error!(seconds, "the loop stands still: the registrar ends, so that another is started");
        std::process::exit(1);
    };
    thread::Builder::new().name("pulse".to_owned()).spawn(look).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The look at which the loop is found to stand still.
    fn found_at(turns: impl IntoIterator<Item = u64>) -> Option<usize> {
        let mut guard = Guard::default();
        turns.into_iter().position(|turns| guard.look(turns))
    }

    #[test]
    fn a_loop_that_turns_now_and_then_goes_on() {
        assert_eq!(found_at((0..1000).map(|look| 1 + look / u64::from(STILL_LOOKS))), None);
    }

    #[test]
    fn a_loop_that_stands_still_is_found_after_so_many_looks() {
        let turns = [1, 2, 3].into_iter().chain(std::iter::repeat(3));
        assert_eq!(found_at(turns), Some(2 + STILL_LOOKS as usize));
    }
}

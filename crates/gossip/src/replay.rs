//! What makes a datagram that was captured useless to whoever sends it again.
//!
//! Every datagram carries, under the seal, its sender's name and incarnation, its receiver's name and
//! incarnation, and a count that its sender never repeats in one incarnation. So it is good once, for one
//! receiver's one life:
//! - sent again to the same receiver, its count was seen already, or is older than all that the window
//!   remembers;
//! - after the sender's restart its incarnation is older than what the receiver knows;
//! - after the receiver's restart it is addressed to a life that has ended; to another host, it is addressed
//!   to somebody else. (That check stands in [`crate::envelope`]'s callers, who know themselves.)
//!
//! No clock takes part: hosts need not agree on the time.

use std::collections::HashMap;

use model::Incarnation;

/// How far behind the highest count a datagram may come in, for those that were overtaken on the way. A
/// sender counts all it sends, to whomever: at 17 datagrams a second this is 15 s.
const WINDOW: u64 = 256;
const WORDS: usize = 4;

/// The most hosts of which windows are kept. Whoever has the key can use up any number of names.
const WINDOWS_MAX: usize = crate::HOSTS_MAX;

/// Why a datagram is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replayed {
    /// It was seen, or it is too old to tell.
    Seen,
    /// Its sender has begun a new life since.
    OldLife,
}

#[derive(Clone, Debug)]
struct Window {
    incarnation: Incarnation,
    highest: u64,
    /// When a datagram was let in last, in the count of all.
    last: u64,
    /// Which of the counts up to `highest` were seen: bit `count % WINDOW`.
    seen: [u64; WORDS],
}

impl Window {
    const fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, highest: 0, last: 0, seen: [0; WORDS] }
    }

    /// `count` begins at 1.
    fn accept(&mut self, count: u64) -> bool {
        if count.saturating_add(WINDOW) <= self.highest || count == 0 {
            return false;
        }
        if count > self.highest {
            let passed = (count - self.highest).min(WINDOW);
            (count - passed + 1..=count).for_each(|skipped| self.set(skipped, false));
            self.highest = count;
        }
        let fresh = !self.is_set(count);
        self.set(count, true);
        fresh
    }

    const fn place(count: u64) -> (usize, u64) {
        let bit = count % WINDOW;
        ((bit / 64) as usize, 1 << (bit % 64))
    }

    const fn is_set(&self, count: u64) -> bool {
        let (word, bit) = Self::place(count);
        self.seen[word] & bit != 0
    }

    const fn set(&mut self, count: u64, value: bool) {
        let (word, bit) = Self::place(count);
        if value { self.seen[word] |= bit } else { self.seen[word] &= !bit }
    }
}

/// What was heard of each host, by the fingerprint of its name.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReplayWindows {
    windows: HashMap<u64, Window>,
    let_in: u64,
}

impl ReplayWindows {
    /// Lets a datagram in once.
    pub(crate) fn accept(&mut self, sender: u64, incarnation: Incarnation, count: u64) -> Result<(), Replayed> {
        if self.windows.len() >= WINDOWS_MAX && !self.windows.contains_key(&sender) {
            self.forget_oldest();
        }
        let window = self.windows.entry(sender).or_insert_with(|| Window::new(incarnation));
        if incarnation < window.incarnation {
            return Err(Replayed::OldLife);
        }
        if incarnation > window.incarnation {
            *window = Window::new(incarnation);
        }
        if !window.accept(count) {
            return Err(Replayed::Seen);
        }
        self.let_in += 1;
        window.last = self.let_in;
        Ok(())
    }

    /// Makes room for another host: the one that was not heard for the longest time is the least likely to come back.
    fn forget_oldest(&mut self) {
        let oldest = self.windows.iter().min_by_key(|(_, window)| window.last).map(|(sender, _)| *sender);
        oldest.map(|sender| self.windows.remove(&sender));
    }

    /// The latest life of the host that a datagram was let in from.
    pub(crate) fn incarnation(&self, sender: u64) -> Option<Incarnation> {
        self.windows.get(&sender).map(|window| window.incarnation)
    }

    /// Forgets a host that left long ago.
    pub(crate) fn forget(&mut self, sender: u64) {
        self.windows.remove(&sender);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const LIFE: Incarnation = Incarnation::new(7);

    #[test]
    fn a_datagram_of_an_ended_life_is_refused_and_a_new_life_counts_anew() {
        let mut windows = ReplayWindows::default();
        assert_eq!(windows.accept(1, LIFE, 500), Ok(()));
        assert_eq!(windows.accept(1, Incarnation::new(8), 1), Ok(()));
        assert_eq!(windows.accept(1, LIFE, 501), Err(Replayed::OldLife));
        assert_eq!(windows.accept(2, LIFE, 500), Ok(()), "another host's count is its own");
    }

    #[test]
    fn overtaken_datagrams_are_let_in_once_and_those_too_old_to_tell_are_not() {
        let mut windows = ReplayWindows::default();
        assert_eq!(windows.accept(1, LIFE, 1_000), Ok(()));
        assert_eq!(windows.accept(1, LIFE, 745), Ok(()));
        assert_eq!(windows.accept(1, LIFE, 745), Err(Replayed::Seen));
        assert_eq!(windows.accept(1, LIFE, 744), Err(Replayed::Seen));
        assert_eq!(windows.accept(1, LIFE, 0), Err(Replayed::Seen));
    }

    #[test]
    fn more_names_than_there_can_be_hosts_keep_no_new_host_out_and_those_that_speak_stay() {
        let mut windows = ReplayWindows::default();
        for sender in 0..2 * WINDOWS_MAX as u64 {
            assert_eq!(windows.accept(sender, LIFE, 1), Ok(()));
            if sender % 1_000 == 0 {
                assert_eq!(windows.accept(u64::MAX, LIFE, sender + 1), Ok(()));
            }
        }
        assert_eq!(windows.windows.len(), WINDOWS_MAX);
        assert_eq!(windows.accept(u64::MAX, LIFE, 1), Err(Replayed::Seen), "it was heard all the time");
    }

    proptest! {
        #[test]
        fn no_count_is_ever_let_in_twice(counts in proptest::collection::vec(1_u64..600, 1..400)) {
            let mut windows = ReplayWindows::default();
            let (mut seen, mut highest) = (BTreeSet::new(), 0);
            for count in counts {
                highest = highest.max(count);
                let fresh = seen.insert(count) && count + WINDOW > highest;
                prop_assert_eq!(windows.accept(1, LIFE, count).is_ok(), fresh, "{}", count);
            }
        }
    }
}

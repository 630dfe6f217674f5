//! Runs every case on every way, many at a time, and says what is not as promised.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::case::Case;
use crate::known::REFUSED_ONCE;
use crate::rig::Rig;
use crate::rules::Rule;
use crate::seen::{Half, Seen};
use crate::verdict::{Expect, equal, expected, without};
use crate::way::Way;

/// How many conversations take place at once; nearly all of their time is waiting.
const AT_ONCE: usize = 64;
/// How long what is on its way may take to arrive.
const GRACE: Duration = Duration::from_millis(1000);
/// How long a port may take to draw its conclusions from a conversation.
const SETTLE: Duration = Duration::from_millis(500);
/// How often that is waited for on a machine that is busy.
const SETTLES: u32 = 8;
/// Beyond this nobody asks which rules were needed.
const SMALL: usize = 100_000;

/// What came of it.
#[derive(Default)]
pub(crate) struct Outcome {
    /// A text for each thing that is not as promised.
    pub(crate) problems: Vec<String>,
    /// The rules that made a difference.
    pub(crate) used: BTreeSet<(Way, Rule)>,
    /// The cases that failed the first time on a learned port, and not the second.
    pub(crate) refused_once: BTreeSet<&'static str>,
}

/// Runs these cases, each on the ports with its index.
pub(crate) fn run(rig: &Rig, cases: &[Case]) -> Outcome {
    let (next, outcome) = (AtomicUsize::new(0), Mutex::<Outcome>::default());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(index) else { return };
                    let index = u16::try_from(index).expect("few cases");
                    Run { rig, case, index, outcome: &outcome }.all_ways();
                }
            });
        }
    });
    outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
}

struct Run<'a> {
    rig: &'a Rig,
    case: &'a Case,
    index: u16,
    outcome: &'a Mutex<Outcome>,
}

impl Run<'_> {
    fn all_ways(&self) {
        let plain = self.rig.plain(self.index, self.case);
        for way in Way::COMPARED {
            if way == Way::AutoLearned && !self.case.is_http {
                continue;
            }
            if way == Way::AutoAgain {
                std::thread::sleep(SETTLE);
            }
            self.compare(way, &plain);
        }
    }

    fn compare(&self, way: Way, plain: &Seen) {
        let expect = expected(self.case, way);
        let (mut ours, mut word) = self.once(way, expect, plain);
        // On a busy machine an end may come later than the other side's word. The first connection to an unknown port is
        // not repeated: nothing is known then that could make up for it.
        if word.is_err() && way != Way::AutoUnknown {
            let first = (ours, word);
            (ours, word) = self.until_settled(way, expect, plain);
            if way == Way::AutoLearned && expect == Expect::Equal && word.is_ok() {
                self.note(|outcome| outcome.refused_once.insert(self.case.name));
                if !REFUSED_ONCE.contains(&self.case.name) {
                    (ours, word) = first;
                }
            }
        }
        match word {
            Ok(()) => self.note_rules(way, plain, &ours),
            Err(word) => self.note(|outcome| outcome.problems.push(self.problem(way, expect, word, plain, &ours))),
        }
    }

    /// Again and again, until it is as promised: what was learned of the first conversation takes a moment to count.
    fn until_settled(&self, way: Way, expect: Expect, plain: &Seen) -> (Seen, Result<(), &'static str>) {
        for _ in 1..SETTLES {
            std::thread::sleep(SETTLE);
            let tried = self.once(way, expect, plain);
            if tried.1.is_ok() {
                return tried;
            }
        }
        std::thread::sleep(SETTLE);
        self.once(way, expect, plain)
    }

    fn once(&self, way: Way, expect: Expect, plain: &Seen) -> (Seen, Result<(), &'static str>) {
        self.rig.converse(way, self.index, self.case, GRACE, |ours, is_final| expect.judge(way, plain, ours, is_final))
    }

    fn note<T>(&self, note: impl FnOnce(&mut Outcome) -> T) -> T {
        note(&mut self.outcome.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Which rules could not be missed.
    fn note_rules(&self, way: Way, plain: &Seen, ours: &Seen) {
        let rules = way.rules();
        let is_small = ours.client.iter().chain(&ours.server).map(|half| half.bytes.len()).sum::<usize>() < SMALL;
        if is_small && equal(plain, ours, &rules) {
            for rule in &rules {
                let others: Vec<_> = rules.iter().copied().filter(|other| other != rule).collect();
                if !equal(plain, ours, &others) {
                    self.note(|outcome| outcome.used.insert((way, *rule)));
                }
            }
        }
    }

    /// What differs, without what may.
    fn problem(&self, way: Way, expect: Expect, word: &str, plain: &Seen, ours: &Seen) -> String {
        let (plain, ours) = without(plain, ours, &way.rules());
        let mut text = format!("{way:?}: {}: {word} (expected: {expect:?})\n", self.case.name);
        for (end, plain, ours) in [("client", &plain.client, &ours.client), ("server", &plain.server, &ours.server)] {
            if plain != ours {
                let _ = writeln!(text, "  the {end} saw, without us: {}", described(plain));
                let _ = writeln!(text, "  the {end} saw, with us:    {}", described(ours));
            }
        }
        text
    }
}

/// The first of all connections.
fn described(halves: &[Half]) -> String {
    let first = halves.first().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    if halves.len() > 1 { format!("{} connections, first {first}", halves.len()) } else { first }
}

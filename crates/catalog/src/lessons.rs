//! What was learned of unlabelled ports, by program and container port, so that only the first container of an image and
//! command is ever unknown. What is seen of one port, and when it counts, is decided elsewhere (`evidence`, `registration`).

use std::collections::{BTreeMap, HashMap};

use evidence::Finding;
use model::labels::ContainerFacts;

/// The most subjects that are remembered; the one that was learned longest ago goes first.
pub const LESSONS_MAX: usize = 4096;

/// What a lesson is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProgramPort {
    /// What runs: [`ContainerFacts::program`], never empty.
    pub program: String,
    /// The container's port.
    pub container_port: u16,
}

impl ProgramPort {
    /// A container's port as a subject; `None` where it is not known what runs there.
    #[must_use]
    pub fn of(facts: &ContainerFacts, container_port: u16) -> Option<Self> {
        (!facts.program.is_empty()).then(|| Self { program: facts.program.clone(), container_port })
    }
}

/// The memory. It is bounded by [`LESSONS_MAX`].
#[derive(Clone, Debug, Default)]
pub struct Lessons {
    by_subject: HashMap<ProgramPort, (Finding, u64)>,
    by_age: BTreeMap<u64, ProgramPort>,
    learned: u64,
}

impl Lessons {
    /// What is known of this subject.
    #[must_use]
    pub fn get(&self, subject: &ProgramPort) -> Option<Finding> {
        self.by_subject.get(subject).map(|(finding, _)| *finding)
    }

    /// Remembers a finding, in place of an earlier one. Yields whether that is news.
    pub fn learn(&mut self, subject: ProgramPort, finding: Finding) -> bool {
        if self.get(&subject) == Some(finding) {
            return false;
        }
        self.learned += 1;
        if let Some((_, age)) = self.by_subject.insert(subject.clone(), (finding, self.learned)) {
            self.by_age.remove(&age);
        }
        self.by_age.insert(self.learned, subject);
        while self.by_age.len() > LESSONS_MAX {
            if let Some((_, oldest)) = self.by_age.pop_first() {
                self.by_subject.remove(&oldest);
            }
        }
        true
    }

    /// Everything that is remembered, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&ProgramPort, Finding)> {
        self.by_age.values().filter_map(|subject| Some((subject, self.get(subject)?)))
    }
}

#[cfg(test)]
mod tests {
    use evidence::Reason;

    use super::*;

    fn subject(container_port: u16) -> ProgramPort {
        ProgramPort { program: "nginx".to_owned(), container_port }
    }

    #[test]
    fn a_later_finding_replaces_an_earlier_one_and_only_news_counts() {
        let mut lessons = Lessons::default();
        assert!(lessons.learn(subject(80), Finding::Http));
        assert!(!lessons.learn(subject(80), Finding::Http));
        assert!(lessons.learn(subject(80), Finding::Tcp(Reason::NotHttp)));
        assert_eq!(lessons.get(&subject(80)), Some(Finding::Tcp(Reason::NotHttp)));
        assert_eq!(lessons.get(&subject(81)), None);
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut lessons = Lessons::default();
        for port in 1..=LESSONS_MAX {
            lessons.learn(subject(u16::try_from(port).unwrap()), Finding::Http);
        }
        lessons.learn(subject(1), Finding::Tcp(Reason::NotHttp));
        lessons.learn(subject(60_000), Finding::Http);
        assert_eq!(lessons.iter().count(), LESSONS_MAX);
        assert_eq!(lessons.get(&subject(2)), None, "it was the oldest");
        assert!(lessons.get(&subject(1)).is_some(), "it was learned anew");
        assert_eq!(lessons.iter().last().map(|(subject, _)| subject.container_port), Some(60_000));
    }
}

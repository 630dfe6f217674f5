//! What is known of the running containers, what Docker is to be asked next, and what follows from its answers.
//!
//! Docker's events say which container changed, and never how. So each one makes a question due, and many may be open at
//! a time: an answer can be older than an event that came in the meantime, and then it counts for nothing. A whole
//! listing now and then finds what no event told of. Pure: nothing is asked here.

use std::collections::{BTreeSet, HashMap};

use catalog::ListedContainer;
use model::ContainerId;

use super::DockerEvent;

/// The most containers that one question is about.
const BATCH_MAX: usize = 256;

/// The most containers that a question is due for. From then on a whole listing is due instead.
const DUE_MAX: usize = 4 * BATCH_MAX;

/// A question for Docker.
#[derive(Debug)]
pub(super) struct Question {
    /// When it was asked, by the count of what happened.
    at: u64,
    pub(super) about: About,
}

/// What a question is about.
#[derive(Debug)]
pub(super) enum About {
    /// All containers that run.
    All,
    /// Those of these that run.
    Only(Vec<ContainerId>),
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct Known {
    containers: HashMap<ContainerId, ListedContainer>,
    /// Counts events and questions.
    count: u64,
    /// When something was last heard of a container, or asked and answered, as far as a question is open that was asked
    /// before.
    heard: HashMap<ContainerId, u64>,
    /// When the open questions were asked.
    open: BTreeSet<u64>,
    due: BTreeSet<ContainerId>,
    all_is_due: bool,
}

impl Known {
    /// Begins with a whole listing.
    pub(super) fn new(listed: &[ListedContainer]) -> Self {
        let containers = listed.iter().map(|listed| (listed.container.id.clone(), listed.clone())).collect();
        Self { containers, ..Self::default() }
    }

    /// The container runs otherwise than before, or may do so.
    pub(super) fn changed(&mut self, id: ContainerId) {
        self.hear(&id);
        if self.all_is_due {
            return;
        }
        self.due.insert(id);
        if self.due.len() > DUE_MAX {
            self.suspect_all();
        }
    }

    /// The container runs no longer.
    pub(super) fn ended(&mut self, id: ContainerId) -> DockerEvent {
        self.hear(&id);
        self.due.remove(&id);
        self.containers.remove(&id);
        DockerEvent::Stopped(id)
    }

    /// Anything may be otherwise than it is known.
    pub(super) fn suspect_all(&mut self) {
        self.all_is_due = true;
        self.due.clear();
    }

    /// What is to be asked now, if anything. Each question must be [`Self::answered`].
    pub(super) fn next_question(&mut self) -> Option<Question> {
        let about = if std::mem::take(&mut self.all_is_due) {
            About::All
        } else {
            let batch: Vec<_> = std::iter::from_fn(|| self.due.pop_first()).take(BATCH_MAX).collect();
            (!batch.is_empty()).then_some(About::Only(batch))?
        };
        self.count += 1;
        self.open.insert(self.count);
        Some(Question { at: self.count, about })
    }

    /// What follows from an answer: only what differs from what was known.
    pub(super) fn answered(&mut self, question: Question, listed: Vec<ListedContainer>) -> Vec<DockerEvent> {
        self.open.remove(&question.at);
        let is_news = |id: &ContainerId| self.heard.get(id).is_none_or(|heard| *heard < question.at);
        let running: BTreeSet<_> = listed.iter().map(|listed| listed.container.id.clone()).collect();
        let asked: Vec<_> = match question.about {
            About::All => self.containers.keys().cloned().collect(),
            About::Only(ids) => ids,
        };
        let is_gone = |id: &&ContainerId| !running.contains(*id) && is_news(id) && self.containers.contains_key(*id);
        let gone: Vec<_> = asked.iter().filter(is_gone).cloned().collect();
        let news: Vec<_> = listed
            .into_iter()
            .filter(|listed| is_news(&listed.container.id))
            .filter(|listed| self.containers.get(&listed.container.id) != Some(listed))
            .collect();
        let mut events = Vec::new();
        for id in gone {
            self.containers.remove(&id);
            events.push(DockerEvent::Stopped(id));
        }
        for listed in news {
            self.containers.insert(listed.container.id.clone(), listed.clone());
            events.push(DockerEvent::Listed(listed));
        }
        if self.open.first().is_some_and(|oldest| *oldest < question.at) {
            // An older question may be answered later.
            for id in asked.into_iter().chain(running) {
                let heard = self.heard.entry(id).or_default();
                *heard = question.at.max(*heard);
            }
        }
        self.forget_what_was_heard();
        events
    }

    fn hear(&mut self, id: &ContainerId) {
        self.count += 1;
        if !self.open.is_empty() {
            self.heard.insert(id.clone(), self.count);
        }
    }

    fn forget_what_was_heard(&mut self) {
        match self.open.first() {
            Some(oldest) => self.heard.retain(|_, heard| *heard > *oldest),
            None => self.heard.clear(),
        }
    }
}

#[cfg(test)]
#[path = "known_tests.rs"]
mod tests;

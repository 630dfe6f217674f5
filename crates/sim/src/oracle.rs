//! What must hold: at every step, and when all is quiet.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use gossip::HostView;
use model::{HostName, Stamp};

/// Watches what every host says of every other, and remembers what may not change.
#[derive(Debug, Default)]
pub struct Oracle {
    /// The latest stamp that an observer, in one of its lives, had of a host.
    latest: BTreeMap<(usize, u32, HostName), Stamp>,
    /// What the instances of a host were at a stamp.
    contents: BTreeMap<(HostName, Stamp), u64>,
    broken: Vec<String>,
}

impl Oracle {
    /// An observer, in one of its lives, sees a host so.
    pub fn sees(&mut self, observer: usize, life: u32, view: &HostView) {
        let Some(stamp) = view.stamp else { return };
        let latest = self.latest.entry((observer, life, view.name.clone())).or_insert(stamp);
        if stamp < *latest {
            self.broken.push(format!("host {observer} went back from {latest} to {stamp} of {}", view.name));
        }
        *latest = stamp;
        let mut hasher = DefaultHasher::new();
        view.instances.hash(&mut hasher);
        let content = hasher.finish();
        let known = *self.contents.entry((view.name.clone(), stamp)).or_insert(content);
        if known != content {
            self.broken.push(format!("host {observer} has another {stamp} of {} than others", view.name));
        }
    }

    /// Something else that may not be.
    pub fn report(&mut self, what: String) {
        self.broken.push(what);
    }

    /// All that was broken.
    #[must_use]
    pub fn broken(&self) -> &[String] {
        &self.broken
    }
}

//! What one client has of one kind of resource: what it was sent, what of it it acknowledged, what it rejected.
//!
//! A later response supersedes an earlier one for the resources in it, and clients answer the responses of one
//! kind in order. So each resource remembers the latest response it was in, and its fate is that response's.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::nack;
use crate::store::{Name, Resource, Version, work};

/// The most responses of one kind that a client may leave unanswered. It is sent nothing more until it answers
/// one. Envoy holds its answers on clusters back for as long as one of them waits for endpoints, so this is far
/// more than it ever needs.
pub(crate) const MAX_UNANSWERED: usize = 1000;

/// What a client was last told of a resource.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// Its content.
    Content(Arc<Resource>),
    /// That it does not exist.
    Absent,
    /// Content by another stream; the client says which version, if it is one of ours.
    Elsewhere(Option<Version>),
}

impl Told {
    pub(crate) fn is_content(&self) -> bool {
        matches!(self, Self::Content(_))
    }

    pub(crate) fn version(&self) -> Option<Version> {
        match self {
            Self::Content(resource) => Some(resource.version),
            Self::Absent => None,
            Self::Elsewhere(version) => *version,
        }
    }
}

#[derive(Debug)]
struct Entry {
    told: Told,
    /// The last response that told it; 0 for one of another stream.
    nonce: u64,
    /// The first response that told it.
    since: u64,
    /// The last response that had content for it; 0 if none did.
    content_at: u64,
    /// The content that the client surely has.
    acknowledged: Option<Version>,
    /// How many times the client has rejected what it was told last.
    failures: u32,
    /// Why it did so the last time.
    rejection: Option<Rejection>,
}

/// A response that the client has not answered.
#[derive(Debug)]
struct Unanswered {
    nonce: u64,
    names: Vec<Name>,
    /// How many of them it gave content.
    contents: usize,
}

#[derive(Debug)]
struct Rejection {
    reason: String,
    /// When to send it again, if at all.
    retry: Option<Instant>,
}

/// What a rejected response means.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Resources that the client does not take.
    pub(crate) rejected: Vec<Name>,
    /// Resources that it took, but without remembering their versions.
    pub(crate) taken: Vec<Name>,
    /// Resources of a response that was rejected as a whole, any of which may be the cause.
    pub(crate) suspects: Vec<Name>,
}

/// What one client has of one kind of resource.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: HashMap<Name, Entry>,
    /// Responses that the client has not answered, oldest first.
    unanswered: VecDeque<Unanswered>,
    /// How many contents are in these responses.
    unanswered_contents: usize,
    last_nonce: u64,
    rejected: HashSet<Name>,
    /// When to send a rejected resource again.
    retries: BTreeSet<(Instant, Name)>,
}

impl Ledger {
    /// The client says that it has this from another stream.
    pub(crate) fn claim(&mut self, name: Name, told: Told) {
        let acknowledged = told.version();
        self.entries.insert(
            name,
            Entry { told, nonce: 0, since: 0, content_at: 0, acknowledged, failures: 0, rejection: None },
        );
    }

    /// Whether the client was last told what is so.
    pub(crate) fn is_current(&self, name: &str, resource: Option<&Arc<Resource>>) -> bool {
        match (self.entries.get(name), resource) {
            (None, resource) => resource.is_none(),
            (Some(entry), None) => matches!(entry.told, Told::Absent),
            (Some(entry), Some(resource)) => entry.told.version() == Some(resource.version),
        }
    }

    /// What the client was last told, here or elsewhere.
    pub(crate) fn told(&self, name: &str) -> Option<&Told> {
        self.entries.get(name).map(|entry| &entry.told)
    }

    /// Whether the client has acknowledged what it was last told.
    pub(crate) fn is_settled(&self, name: &str) -> bool {
        self.entries.get(name).is_none_or(|entry| entry.acknowledged.is_some_and(|v| Some(v) == entry.told.version()))
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// What the client was last told, where that is content.
    pub(crate) fn content(&self, name: &str) -> Option<&Arc<Resource>> {
        match &self.entries.get(name)?.told {
            Told::Content(resource) => Some(resource),
            Told::Absent | Told::Elsewhere(_) => None,
        }
    }

    /// How often the client has rejected this very content.
    pub(crate) fn failures(&self, name: &str, version: Version) -> u32 {
        self.entries.get(name).filter(|entry| entry.told.version() == Some(version)).map_or(0, |entry| entry.failures)
    }

    /// Why the client does not take this content.
    pub(crate) fn rejection(&self, name: &str, version: Version) -> Option<&str> {
        let entry = self.entries.get(name).filter(|entry| entry.told.version() == Some(version))?;
        entry.rejection.as_ref().map(|rejection| rejection.reason.as_str())
    }

    /// Whether the client surely has this content.
    pub(crate) fn has_acknowledged(&self, name: &str, version: Version) -> bool {
        self.entries.get(name).is_some_and(|entry| entry.acknowledged == Some(version))
    }

    /// Whether the client has not answered some content that it was sent for the name, even if it was told since that the
    /// resource is gone: it may be about to use it.
    pub(crate) fn is_under_way(&self, name: &str) -> bool {
        let oldest = self.unanswered.front().map(|response| response.nonce);
        // Responses are answered in order, so all from the oldest on are unanswered.
        self.entries.get(name).zip(oldest).is_some_and(|(entry, oldest)| entry.content_at >= oldest)
    }

    /// How many contents the client has not answered.
    pub(crate) fn contents_under_way(&self) -> usize {
        self.unanswered_contents
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &Name> {
        self.entries.keys().inspect(|_| work::count())
    }

    /// Whether every response is answered and nothing is rejected.
    pub(crate) fn is_clean(&self) -> bool {
        self.unanswered.is_empty() && self.rejected.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.unanswered.len() >= MAX_UNANSWERED
    }

    /// Content that the client has not answered, and the first response that told it.
    pub(crate) fn under_way(&self) -> impl Iterator<Item = (&Name, u64)> {
        let names = self.unanswered.iter().flat_map(|response| &response.names);
        let content =
            |name| self.entries.get_key_value(name).filter(|(_, entry)| matches!(entry.told, Told::Content(_)));
        names.filter_map(content).map(|(name, entry)| (name, entry.since))
    }

    /// The last response that told of the name; 0 if none did.
    pub(crate) fn told_at(&self, name: &str) -> u64 {
        self.entries.get(name).map_or(0, |entry| entry.nonce)
    }

    /// The latest response, and whether the client has answered it.
    pub(crate) fn last_response(&self) -> (u64, bool) {
        (self.last_nonce, self.unanswered.back().is_none_or(|response| response.nonce != self.last_nonce))
    }

    /// The client no longer has the name, or does not care.
    pub(crate) fn forget(&mut self, name: &str) {
        self.pardon(name);
        self.entries.remove(name);
    }

    /// Takes a rejection back: the client is told something else, or has taken it after all.
    fn pardon(&mut self, name: &str) {
        let Some(name) = self.rejected.take(name) else { return };
        let Some(entry) = self.entries.get_mut(&name) else { return };
        entry.failures = 0;
        if let Some(retry) = entry.rejection.take().and_then(|rejection| rejection.retry) {
            self.retries.remove(&(retry, name));
        }
    }

    /// Notes what a response tells.
    pub(crate) fn record(&mut self, nonce: u64, told: &[(Name, Told)]) {
        for (name, told) in told {
            self.record_one(nonce, name, told.clone());
        }
        let names = told.iter().map(|(name, _)| Name::clone(name)).collect();
        let contents = told.iter().filter(|(_, told)| told.is_content()).count();
        self.unanswered.push_back(Unanswered { nonce, names, contents });
        self.unanswered_contents += contents;
        self.last_nonce = nonce;
    }

    fn record_one(&mut self, nonce: u64, name: &Name, told: Told) {
        let is_news = self.entries.get(name).is_none_or(|entry| entry.told.version() != told.version());
        if is_news {
            self.pardon(name);
        }
        let (acknowledged, content_at) = (None, 0);
        let new = || Entry {
            told: Told::Absent,
            nonce,
            since: nonce,
            content_at,
            acknowledged,
            failures: 0,
            rejection: None,
        };
        let entry = self.entries.entry(Name::clone(name)).or_insert_with(new);
        if told.is_content() {
            entry.content_at = nonce;
        }
        (entry.told, entry.nonce) = (told, nonce);
        if is_news {
            entry.since = nonce;
        }
    }

    /// The names of the oldest unanswered response, if that is `nonce` or an earlier one.
    fn pop_unanswered(&mut self, nonce: u64) -> Option<(u64, Vec<Name>)> {
        self.unanswered.front().filter(|oldest| oldest.nonce <= nonce)?;
        let Unanswered { nonce, names, contents } = self.unanswered.pop_front()?;
        self.unanswered_contents -= contents;
        Some((nonce, names))
    }

    /// The client has taken the response, and those before it that it did not answer.
    pub(crate) fn acknowledge(&mut self, nonce: u64) {
        while let Some((nonce, names)) = self.pop_unanswered(nonce) {
            names.iter().for_each(|name| self.settle(nonce, name));
        }
    }

    fn settle(&mut self, nonce: u64, name: &Name) {
        let Some(entry) = self.entries.get_mut(name).filter(|entry| entry.nonce == nonce) else { return };
        entry.acknowledged = entry.told.version();
        match entry.told {
            Told::Absent => self.forget(name),
            Told::Content(_) | Told::Elsewhere(_) => self.pardon(name),
        }
    }

    /// The client has not taken the response, or parts of it.
    pub(crate) fn reject(&mut self, nonce: u64, message: &str, now: Instant) -> Verdict {
        self.acknowledge(nonce.saturating_sub(1));
        let Some((nonce, names)) = self.pop_unanswered(nonce) else { return Verdict::default() };
        let reasons: HashMap<&str, &str> = nack::named(message).collect();
        let reason = |name: &Name| match &names[..] {
            [only] => Some(*reasons.get(&**only).unwrap_or(&message)),
            _ => reasons.get(&**name).copied(),
        };
        let is_named = names.iter().any(|name| reason(name).is_some());
        let mut verdict = Verdict::default();
        for name in &names {
            if self.entries.get(name).is_none_or(|entry| entry.nonce != nonce) {
                // What a later response told is decided by the answer to that one.
            } else if let Some(reason) = reason(name) {
                self.reject_one(name, reason, now);
                verdict.rejected.push(Name::clone(name));
            } else if is_named {
                self.settle(nonce, name);
                verdict.taken.extend(self.content(name).map(|_| Name::clone(name)));
            } else {
                verdict.suspects.push(Name::clone(name));
            }
        }
        verdict
    }

    /// The client does not take what it was last told of the resource.
    pub(crate) fn reject_one(&mut self, name: &Name, reason: &str, now: Instant) {
        let Some(entry) = self.entries.get_mut(name) else { return };
        entry.failures = entry.failures.saturating_add(1);
        let retry = nack::is_temporary(reason).then(|| now + nack::retry_delay(reason, entry.failures));
        let rejection = Rejection { reason: nack::truncated(reason).to_owned(), retry };
        let last_retry = entry.rejection.replace(rejection).and_then(|rejection| rejection.retry);
        if let Some(last_retry) = last_retry {
            self.retries.remove(&(last_retry, Name::clone(name)));
        }
        self.retries.extend(retry.map(|retry| (retry, Name::clone(name))));
        self.rejected.insert(Name::clone(name));
    }

    /// When the next rejected resource is to be sent again.
    pub(crate) fn next_retry(&self) -> Option<Instant> {
        self.retries.first().map(|(due, _)| *due)
    }

    /// A resource that is to be sent again by now.
    pub(crate) fn pop_retry(&mut self, now: Instant) -> Option<Name> {
        self.retries.first().filter(|(due, _)| *due <= now)?;
        self.retries.pop_first().map(|(_, name)| name)
    }
}

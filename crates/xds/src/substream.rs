//! One kind of resource on one stream: what the client wants, what it has, and so what is to be sent.
//!
//! Nothing here knows the form of requests and responses: see `delta` and `sotw`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use crate::ResourceType;
use crate::ledger::{Ledger, Told};
use crate::store::{Name, Resource, Store, Version};
use crate::subscription::{Interest, Subscription};
use crate::weight::NAME_COST;

/// The most resources in one response, where it may be split.
pub(crate) const RESPONSE_MAX_RESOURCES: usize = 500;

/// The most listeners that a client is sent before it has answered for one of them. Envoy takes about 2 ms for each, and
/// takes a removal only after all that it was sent before: so this bounds the wait for a port that is to be free.
pub(crate) const LISTENERS_UNDER_WAY: usize = 16;

/// The most of them in one response: with two under way, Envoy is never without work.
pub(crate) const RESPONSE_MAX_LISTENERS: usize = LISTENERS_UNDER_WAY / 2;

/// When a response is not filled further, in bytes. gRPC's usual limit for a message is 4 MiB.
const RESPONSE_FULL_BYTES: usize = 1 << 20;

/// Why a resource is to be sent. A greater reason includes the lesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Why {
    /// It may differ from what the client has.
    Changed,
    /// The client asked for it, or must get it again.
    Asked,
    /// Like `Asked`, but in a response of its own: one of several that the client rejected without a name.
    Alone,
}

/// Which part of what is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// What is new or changed.
    Upserts,
    /// What is gone.
    Removals,
    /// Everything. Envoy removes first, so a listener may take over the address of one that goes.
    Both,
}

impl Part {
    pub(crate) fn upserts(self) -> bool {
        self != Self::Removals
    }

    pub(crate) fn removals(self) -> bool {
        self != Self::Upserts
    }
}

/// One kind of resource on one stream.
#[derive(Debug)]
pub(crate) struct Substream {
    pub(crate) resource_type: ResourceType,
    /// Whether the client has asked for this kind at all.
    pub(crate) requested: bool,
    pub(crate) subscription: Subscription,
    pub(crate) ledger: Ledger,
    /// What is to be sent, by name. A name is in one of the three at most.
    pub(crate) upserts: BTreeMap<Name, Why>,
    pub(crate) removals: BTreeMap<Name, Why>,
    /// What may be to be sent, once all is known.
    withheld: BTreeMap<Name, Why>,
    /// The client waits for a response even if nothing is in it.
    pub(crate) must_answer: bool,
    /// The version of the complete set that the client says it has from another stream.
    pub(crate) claimed_set: Option<Version>,
}

impl Substream {
    pub(crate) fn new(resource_type: ResourceType) -> Self {
        Self {
            resource_type,
            requested: false,
            subscription: Subscription::new(resource_type),
            ledger: Ledger::default(),
            upserts: BTreeMap::new(),
            removals: BTreeMap::new(),
            withheld: BTreeMap::new(),
            must_answer: false,
            claimed_set: None,
        }
    }

    /// What the client is to have under the name.
    fn wanted<'a>(&self, store: &'a Store, name: &str) -> Option<&'a Arc<Resource>> {
        if self.subscription.wants(name) { store.get(self.resource_type, name) } else { None }
    }

    /// Sees to it that the name is sent if need be. To be called whenever its resource changed.
    pub(crate) fn touch(&mut self, store: &Store, name: &Name, why: Why) {
        let why = self.unqueue(name).map_or(why, |before| before.max(why));
        let wanted = self.wanted(store, name);
        if why == Why::Changed && self.ledger.is_current(name, wanted) {
            return;
        }
        let queue = if store.may_be_more(self.resource_type, name) && self.keeps(name, wanted) {
            &mut self.withheld
        } else if wanted.is_some() {
            &mut self.upserts
        } else {
            &mut self.removals
        };
        queue.insert(Name::clone(name), why);
    }

    /// Whether the client keeps what it has, or may have, as long as not all is known: it has it from an earlier life of
    /// this server, which knew more.
    fn keeps(&self, name: &str, wanted: Option<&Arc<Resource>>) -> bool {
        match self.ledger.told(name) {
            Some(told @ Told::Elsewhere(_)) => wanted.is_none_or(|resource| told.version() != Some(resource.version)),
            Some(Told::Content(_) | Told::Absent) => false,
            None => wanted.is_none(),
        }
    }

    /// All is known now.
    pub(crate) fn release_withheld(&mut self, store: &Store) {
        for (name, why) in std::mem::take(&mut self.withheld) {
            self.touch(store, &name, why);
        }
    }

    fn unqueue(&mut self, name: &str) -> Option<Why> {
        let queues = [&mut self.upserts, &mut self.removals, &mut self.withheld];
        queues.into_iter().find_map(|queue| queue.remove(name))
    }

    /// The client does not have the name any longer, or does not want it.
    pub(crate) fn forget(&mut self, name: &str) {
        self.unqueue(name);
        self.ledger.forget(name);
    }

    /// Sends the name although the client has not asked for it yet: it will.
    pub(crate) fn anticipate(&mut self, store: &Store, name: &Name) {
        self.subscription.anticipate(Name::clone(name));
        if store.get(self.resource_type, name).is_some() {
            self.touch(store, name, Why::Asked);
        }
    }

    /// The client drops the name by itself.
    pub(crate) fn cancel(&mut self, name: &str) {
        self.subscription.cancel(name);
        self.forget(name);
    }

    /// Does what a change of the subscription asks for.
    pub(crate) fn follow(&mut self, store: &Store, interest: Interest) {
        if interest.all_dropped {
            let known =
                self.ledger.names().chain(self.upserts.keys()).chain(self.removals.keys()).chain(self.withheld.keys());
            let unwanted: Vec<Name> = known.filter(|name| !self.subscription.wants(name)).cloned().collect();
            unwanted.iter().for_each(|name| self.forget(name));
        }
        for name in interest.dropped {
            // Under a wildcard the client can't know whether the name is still there: it has to be told.
            if self.subscription.wants_all() { self.touch(store, &name, Why::Asked) } else { self.forget(&name) }
        }
        if interest.all_asked {
            self.compare_all(store);
            self.must_answer = true;
        }
        for name in interest.asked {
            self.touch(store, &name, Why::Asked);
        }
    }

    /// Finds every difference between what the client has and, under a wildcard, what it is to have.
    pub(crate) fn compare_all(&mut self, store: &Store) {
        let had: Vec<Name> = self.ledger.names().cloned().collect();
        for name in store.iter(self.resource_type).map(|(name, _)| name).chain(&had) {
            self.touch(store, name, Why::Changed);
        }
    }

    /// Everything that the client asks for by name is to be sent, whatever it has.
    pub(crate) fn ask_for_names(&mut self, store: &Store) {
        let names: Vec<Name> = self.subscription.iter().cloned().collect();
        for name in names {
            self.touch(store, &name, Why::Asked);
        }
    }

    /// Queues what failed before and is due again.
    pub(crate) fn handle_timeout(&mut self, store: &Store, now: Instant) {
        while let Some(name) = self.ledger.pop_retry(now) {
            self.touch(store, &name, Why::Asked);
        }
    }

    /// How much memory all of it takes, about.
    pub(crate) fn weight(&self) -> usize {
        let remembered = self.ledger.len() + self.upserts.len() + self.removals.len();
        self.subscription.weight() + remembered * NAME_COST
    }

    pub(crate) fn is_in_sync(&self) -> bool {
        let queues = [&self.upserts, &self.removals, &self.withheld];
        queues.into_iter().all(BTreeMap::is_empty) && !self.must_answer && self.ledger.is_clean()
    }

    /// Whether an empty response is owed, and nothing else would be one.
    pub(crate) fn owes_empty_answer(&self) -> bool {
        self.must_answer && self.upserts.is_empty() && self.removals.is_empty()
    }

    /// How many contents the next response may have.
    fn room(&self) -> usize {
        match self.resource_type {
            ResourceType::Cluster | ResourceType::Endpoint => RESPONSE_MAX_RESOURCES,
            ResourceType::Listener => {
                LISTENERS_UNDER_WAY.saturating_sub(self.ledger.contents_under_way()).min(RESPONSE_MAX_LISTENERS)
            }
        }
    }

    /// Takes as much as fits one response out of what is to be sent; `None` when no response is called for.
    pub(crate) fn take(&mut self, store: &Store, part: Part) -> Option<Vec<(Name, Told)>> {
        let mut batch = Batch { told: Vec::new(), bytes: 0, limit: RESPONSE_MAX_RESOURCES, closed: false };
        if part.removals() {
            batch.fill(&mut self.removals, |_| Some(Told::Absent));
        }
        if part.upserts() {
            let resource_type = self.resource_type;
            batch.limit = batch.limit.min(batch.told.len() + self.room());
            batch.fill(&mut self.upserts, |name| store.get(resource_type, name).cloned().map(Told::Content));
        }
        if batch.told.is_empty() && !(part.upserts() && self.owes_empty_answer()) {
            return None;
        }
        self.must_answer = false;
        Some(batch.told)
    }
}

/// What goes into one response.
struct Batch {
    told: Vec<(Name, Told)>,
    bytes: usize,
    /// How many resources there may be.
    limit: usize,
    closed: bool,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.closed || self.told.len() >= self.limit || self.bytes >= RESPONSE_FULL_BYTES
    }

    fn fill(&mut self, queue: &mut BTreeMap<Name, Why>, told: impl Fn(&str) -> Option<Told>) {
        while !self.is_full() {
            let Some(first) = queue.first_entry() else { return };
            let alone = *first.get() == Why::Alone;
            if alone && !self.told.is_empty() {
                return;
            }
            let name = first.remove_entry().0;
            let Some(told) = told(&name) else { continue };
            self.bytes += name.len() + if let Told::Content(resource) = &told { resource.body.len() } else { 0 };
            self.told.push((name, told));
            self.closed = alone;
        }
    }
}

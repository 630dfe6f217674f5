//! What this host says of itself, and what of it is news.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use model::host_record::TooMuch;
use model::{HostName, HostRecord, Incarnation, Instance, InstanceKey, Stamp, Status};

use crate::delta::{BROADCAST_MAX, Broadcast, Change, Delta, News};
use crate::record_wire::{Heading, RECORD_MAX_LENGTH, write_instance};
use crate::wire::Writer;

/// How far back a delta reaches, where it fits: by then the deltas before it are known everywhere, or their
/// loss has been noticed.
const REACH: Duration = Duration::from_secs(5);

/// An instance that this host can't announce.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeftOut {
    /// One of the model's bounds.
    #[error(transparent)]
    TooMuch(#[from] TooMuch),
    /// All instances together would be longer than [`RECORD_MAX_LENGTH`].
    #[error("instance {0} is left out: what a host announces takes at most {RECORD_MAX_LENGTH} bytes")]
    TooLong(InstanceKey),
}

/// The record of this host, and the history that deltas are made of.
#[derive(Clone, Debug)]
pub(crate) struct OwnRecord {
    name: HostName,
    record: HostRecord,
    /// The version at which each instance changed last, removed ones included.
    changed: BTreeMap<InstanceKey, u64>,
    /// When each version began, those within [`REACH`] and the last one before.
    history: VecDeque<(Instant, u64)>,
    announced: u64,
}

impl OwnRecord {
    /// Nothing is said yet: version 0 is never told to anybody.
    pub(crate) fn new(name: HostName, incarnation: Incarnation) -> Self {
        let record = HostRecord::empty(Stamp { incarnation, version: 0 });
        Self { name, record, changed: BTreeMap::new(), history: VecDeque::new(), announced: 0 }
    }

    /// The stamp of what is said now; nobody else makes a later one of this host.
    pub(crate) const fn stamp(&self) -> Stamp {
        self.record.stamp
    }

    /// The record, once anything was said.
    pub(crate) fn said(&self) -> Option<&HostRecord> {
        (self.record.stamp.version > 0).then_some(&self.record)
    }

    /// Says what all of this host's instances are, and where they are. The second value says what is left out.
    pub(crate) fn say(&mut self, now: Instant, addresses: &[IpAddr], instances: Vec<Instance>) -> (bool, Vec<LeftOut>) {
        let mut next = HostRecord::empty(self.record.stamp);
        next.set_addresses(addresses.iter().copied());
        let left_out = fill(&mut next, instances);
        let changed = self.said().is_none() || next != self.record;
        if changed {
            self.replace(now, next);
        }
        (changed, left_out)
    }

    /// Says that all instances are draining.
    pub(crate) fn drain(&mut self, now: Instant) {
        let mut next = self.record.clone();
        for instance in self.record.instances().values() {
            // The key is there already, so no bound can be passed.
            let _ = next.put(Instance { status: Status::Draining, ..instance.clone() });
        }
        self.replace(now, next);
    }

    /// Says that this host has left.
    pub(crate) fn leave(&mut self, now: Instant) {
        let mut next = HostRecord::empty(self.record.stamp);
        next.left = true;
        self.replace(now, next);
    }

    /// Says the same in a later life: to be done when somebody remembers this one, or a later one.
    pub(crate) fn begin_life(&mut self, now: Instant, incarnation: Incarnation) {
        let said = self.said().is_some();
        self.record.stamp = Stamp { incarnation, version: u64::from(said) };
        self.changed = self.record.instances().keys().map(|key| (*key, 1)).collect();
        self.history.clear();
        self.history.extend(said.then_some((now, 1)));
        self.announced = 0;
    }

    fn replace(&mut self, now: Instant, mut next: HostRecord) {
        let version = self.record.stamp.version + 1;
        next.stamp.version = version;
        let (old, new) = (self.record.instances(), next.instances());
        let touched = new.iter().filter(|(key, instance)| old.get(key) != Some(instance)).map(|(key, _)| *key);
        let removed = old.keys().filter(|key| !new.contains_key(key)).copied();
        let changes: Vec<_> = touched.chain(removed).map(|key| (key, version)).collect();
        self.changed.extend(changes);
        self.record = next;
        self.history.push_back((now, version));
        self.forget_history(now);
    }

    fn forget_history(&mut self, now: Instant) {
        while self.history.get(1).is_some_and(|(began, _)| now.saturating_duration_since(*began) >= REACH) {
            self.history.pop_front();
        }
        let from = self.from(now);
        let present = &self.record;
        self.changed.retain(|key, version| *version > from || present.instances().contains_key(key));
    }

    /// The version that everybody is taken to know.
    fn from(&self, now: Instant) -> u64 {
        match self.history.front() {
            Some((began, version)) if now.saturating_duration_since(*began) >= REACH => *version,
            Some((_, version)) => version - 1,
            None => self.record.stamp.version,
        }
    }

    /// Whether something was said that was never spread.
    pub(crate) const fn has_news(&self) -> bool {
        self.announced < self.record.stamp.version
    }

    /// The news to spread now: as far back as it fits, or where not even the latest fits, that there is some.
    /// `None` where nothing was ever said.
    pub(crate) fn news(&mut self, now: Instant) -> Option<Broadcast> {
        self.said()?;
        self.forget_history(now);
        let starts = [self.from(now), self.announced];
        let fitting = starts.into_iter().find_map(|from| self.delta(from));
        self.announced = self.record.stamp.version;
        let head = || Broadcast { host: self.name.clone(), news: News::Head(self.record.stamp) };
        Some(fitting.unwrap_or_else(head))
    }

    fn delta(&self, from: u64) -> Option<Broadcast> {
        let changed = self.changed.iter().filter(|(_, version)| **version > from);
        let changes = changed.map(|(key, _)| match self.record.instances().get(key) {
            Some(instance) => Change::Put(instance.clone()),
            None => Change::Remove(*key),
        });
        let delta = Delta {
            incarnation: self.record.stamp.incarnation,
            from,
            to: self.record.stamp.version,
            heading: Heading::of(&self.record),
            changes: changes.collect(),
        };
        let broadcast = Broadcast { host: self.name.clone(), news: News::Delta(delta) };
        (broadcast.encode().len() <= BROADCAST_MAX).then_some(broadcast)
    }
}

fn fill(record: &mut HostRecord, instances: Vec<Instance>) -> Vec<LeftOut> {
    // The stamp and the heading, at their longest.
    let mut length = 1024;
    let mut left_out = Vec::new();
    for instance in instances {
        let mut writer = Writer::default();
        // More ports than there may be can't be written, and are refused below.
        if instance.ports.len() <= model::instance::PORTS_MAX {
            write_instance(&instance, &mut writer);
        }
        length += writer.0.len();
        if length > RECORD_MAX_LENGTH {
            left_out.push(LeftOut::TooLong(instance.key()));
        } else if let Err(error) = record.put(instance) {
            left_out.push(error.into());
        }
    }
    left_out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delta::Novelty;
    use crate::record_wire::tests::any_instance;

    fn at(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    fn own() -> OwnRecord {
        OwnRecord::new("a".parse().unwrap(), Incarnation::new(5))
    }

    fn delta(own: &mut OwnRecord, now: Instant) -> Delta {
        match own.news(now).unwrap().news {
            News::Delta(delta) => delta,
            News::Head(stamp) => panic!("only the head {stamp}"),
        }
    }

    fn small(seed: u8, status: Status) -> Instance {
        let [key, ..] = [[seed; 6]];
        Instance {
            origin: model::instance::Origin::Static(InstanceKey::from_bytes(key)),
            service: model::Service {
                name: model::ServiceName::corrected("web").unwrap().0,
                environment: model::EnvironmentName::default(),
            },
            ports: vec![],
            status,
            image: model::instance::Text::default(),
            version: model::instance::Text::default(),
            since_ms: 0,
        }
    }

    #[test]
    fn nothing_is_told_before_anything_was_said_and_an_empty_host_says_so() {
        let (mut own, now) = (own(), Instant::now());
        assert_eq!(own.news(now), None);
        assert!(own.said().is_none() && !own.has_news());
        assert!(own.say(now, &[], vec![]).0);
        assert!(own.has_news());
        assert_eq!((delta(&mut own, now).from, delta(&mut own, now).to), (0, 1));
        assert!(!own.has_news());
        assert!(!own.say(now, &[], vec![]).0, "the same again is no news");
    }

    #[test]
    fn a_delta_holds_the_changes_of_the_last_seconds_and_no_older_ones() {
        let (mut own, start) = (own(), Instant::now());
        own.say(start, &[], vec![small(1, Status::Alive)]);
        own.say(at(start, 4), &[], vec![small(1, Status::Alive), small(2, Status::Alive)]);
        assert_eq!(delta(&mut own, at(start, 4)).from, 0);
        own.say(at(start, 9), &[], vec![small(2, Status::Draining)]);
        let late = delta(&mut own, at(start, 9));
        assert_eq!((late.from, late.to), (2, 3));
        assert_eq!(late.changes.len(), 2, "{late:?}");
        assert!(late.changes.contains(&Change::Remove(small(1, Status::Alive).key())));
    }

    #[test]
    fn what_is_too_long_is_told_by_its_head_and_later_changes_by_deltas_again() {
        let (mut own, start) = (own(), Instant::now());
        let many: Vec<_> = (0..100).map(|seed| small(seed, Status::Alive)).collect();
        own.say(start, &[], many.clone());
        let head = own.news(start).unwrap();
        assert_eq!(head.news, News::Head(own.said().unwrap().stamp));
        own.say(at(start, 1), &[], many[1..].to_vec());
        let after = delta(&mut own, at(start, 1));
        assert_eq!((after.from, after.changes.len()), (1, 1), "reaches back only as far as it fits");
    }

    #[test]
    fn what_can_not_be_announced_is_named() {
        let mut own = own();
        let port = model::InstancePort {
            service_port: None,
            address: [10, 0, 0, 1].into(),
            port: 1,
            protocol: model::Protocol::Tcp,
            mode: model::ProxyMode::Http,
        };
        let many_ports = Instance { ports: vec![port.clone(); 33], ..small(1, Status::Alive) };
        let (_, left_out) = own.say(Instant::now(), &[], vec![many_ports, small(2, Status::Alive)]);
        assert_eq!(left_out, [LeftOut::TooMuch(TooMuch::Ports(small(1, Status::Alive).key(), 33))]);
        assert_eq!(own.said().unwrap().instances().len(), 1, "the others are announced");

        let long = |number: u16| Instance {
            origin: model::instance::Origin::Static(InstanceKey::from_bytes({
                let [high, low] = number.to_be_bytes();
                [9, 9, 9, 9, high, low]
            })),
            ports: vec![port.clone(); 32],
            image: model::instance::Text::cut(&"x".repeat(255)),
            ..small(1, Status::Alive)
        };
        let (_, left_out) = own.say(Instant::now(), &[], (0..600).map(long).collect());
        assert!(matches!(left_out[..], [LeftOut::TooLong(_), ..]));
        let mut writer = Writer::default();
        crate::record_wire::write_record(own.said().unwrap(), &mut writer);
        assert!(writer.0.len() <= RECORD_MAX_LENGTH);
    }

    #[test]
    fn a_new_life_says_all_of_it_again() {
        let (mut own, now) = (own(), Instant::now());
        own.say(now, &[], vec![small(1, Status::Alive)]);
        own.begin_life(at(now, 60), Incarnation::new(9));
        let all = delta(&mut own, at(now, 60));
        assert_eq!((all.incarnation.get(), all.from, all.changes.len()), (9, 0, 1));
    }

    proptest! {
        /// Whatever order deltas come in, however many are lost or doubled: a replica either knows exactly
        /// what the host said at some version, or sees a gap.
        #[test]
        fn replicas_follow_deltas_in_any_order(
            steps in proptest::collection::vec((0..4_u64, proptest::collection::vec(any_instance(), 0..3)), 1..12),
            order in proptest::collection::vec(any::<proptest::sample::Index>(), 0..40),
        ) {
            let (mut own, mut now) = (own(), Instant::now());
            let (mut broadcasts, mut truth) = (Vec::new(), BTreeMap::new());
            for (seconds, instances) in steps {
                now = at(now, seconds);
                own.say(now, &[], instances);
                broadcasts.push(own.news(now).unwrap());
                let record = own.said().unwrap();
                truth.insert(record.stamp, record.clone());
            }
            let mut replica: Option<HostRecord> = None;
            for index in order {
                let broadcast = &broadcasts[index.index(broadcasts.len())];
                let known = replica.as_ref().map(|record| record.stamp);
                if let (Novelty::Fresh, News::Delta(delta)) = (broadcast.novelty(known), &broadcast.news) {
                    let record = delta.apply(replica.as_ref()).unwrap();
                    prop_assert!(Some(record.stamp) > known);
                    prop_assert_eq!(&record, &truth[&record.stamp]);
                    replica = Some(record);
                }
            }
        }
    }
}

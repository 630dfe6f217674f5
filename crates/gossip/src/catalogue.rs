//! The records of all hosts, and what is compared to find out whether two hosts know the same.
//!
//! Nothing here knows whether a host is alive: a host that dies changes no record.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::{HostName, HostRecord, Stamp};

use crate::cluster::fingerprint;
use crate::identity::name_fingerprint;
use crate::record_wire::record_fingerprint;

/// How many parts the digest has. Only parts that differ are looked at closer.
pub(crate) const BUCKETS: usize = 64;

/// The most forgotten hosts whose last stamps are kept.
const FORGOTTEN_MAX: usize = 1_000;

/// One number for each part of the catalogue; equal numbers stand for equal knowledge.
pub(crate) type Buckets = [u64; BUCKETS];

/// What a record is, without its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) host: HostName,
    pub(crate) stamp: Stamp,
    /// Tells records apart that two hosts of one name gave the same stamp.
    pub(crate) content: u64,
}

#[derive(Clone, Debug)]
struct Entry {
    record: Arc<HostRecord>,
    content: u64,
    /// Others are told of it.
    is_told: bool,
}

/// The records of all hosts, this host's own included: at most [`crate::HOSTS_MAX`].
#[derive(Clone, Debug)]
pub(crate) struct Catalogue {
    entries: BTreeMap<HostName, Entry>,
    buckets: Buckets,
    /// Who announces which address as its own.
    claims: BTreeMap<IpAddr, BTreeSet<HostName>>,
    /// The last stamps of hosts that were forgotten, so that they are not learned again from somebody who
    /// forgets them a little later; with a number that grows from one to the next.
    forgotten: BTreeMap<HostName, (Stamp, u64)>,
    forgotten_ever: u64,
}

impl Default for Catalogue {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            buckets: [0; BUCKETS],
            claims: BTreeMap::new(),
            forgotten: BTreeMap::new(),
            forgotten_ever: 0,
        }
    }
}

impl Catalogue {
    pub(crate) fn get(&self, host: &HostName) -> Option<&Arc<HostRecord>> {
        self.entries.get(host).map(|entry| &entry.record)
    }

    pub(crate) fn stamp(&self, host: &HostName) -> Option<Stamp> {
        self.get(host).map(|record| record.stamp)
    }

    pub(crate) fn hosts(&self) -> impl Iterator<Item = &HostName> {
        self.entries.keys()
    }

    /// Takes in a record if it is later than the one that is known, and says whether it was. Takes none of a
    /// host that would be one too many.
    pub(crate) fn merge(&mut self, host: &HostName, record: HostRecord) -> bool {
        let known = self.entries.get(host);
        if known.is_none() && self.is_full() {
            return false;
        }
        if known.is_some_and(|known| *known.record >= record) || self.is_forgotten(host, record.stamp) {
            return false;
        }
        let is_told = known.is_none_or(|known| known.is_told);
        let content = record_fingerprint(&record);
        self.remove(host);
        if is_told {
            self.mix(host, record.stamp, content);
        }
        for address in record.addresses() {
            self.claims.entry(*address).or_default().insert(host.clone());
        }
        self.entries.insert(host.clone(), Entry { record: Arc::new(record), content, is_told });
        true
    }

    /// Forgets a host that is gone for long, and all that it said until now.
    pub(crate) fn forget(&mut self, host: &HostName) {
        let stamp = self.stamp(host);
        self.remove(host);
        let Some(stamp) = stamp else { return };
        self.forgotten_ever += 1;
        self.forgotten.insert(host.clone(), (stamp, self.forgotten_ever));
        if self.forgotten.len() > FORGOTTEN_MAX {
            let oldest = self.forgotten.iter().min_by_key(|(_, (_, number))| *number).map(|(host, _)| host.clone());
            oldest.map(|oldest| self.forgotten.remove(&oldest));
        }
    }

    /// The host is there after all: what it said counts again.
    pub(crate) fn recall(&mut self, host: &HostName) {
        self.forgotten.remove(host);
    }

    fn is_forgotten(&self, host: &HostName, stamp: Stamp) -> bool {
        self.forgotten.get(host).is_some_and(|(forgotten, _)| stamp <= *forgotten)
    }

    /// Takes out a record.
    pub(crate) fn remove(&mut self, host: &HostName) {
        if let Some(entry) = self.entries.remove(host) {
            if entry.is_told {
                self.mix(host, entry.record.stamp, entry.content);
            }
            for address in entry.record.addresses() {
                self.withdraw_claim(*address, host);
            }
        }
    }

    /// Whether others are to be told of the record, in digests and heads.
    pub(crate) fn set_told(&mut self, host: &HostName, is_told: bool) {
        let Some(entry) = self.entries.get_mut(host).filter(|entry| entry.is_told != is_told) else { return };
        entry.is_told = is_told;
        let (stamp, content) = (entry.record.stamp, entry.content);
        self.mix(host, stamp, content);
    }

    /// Whether there are [`crate::HOSTS_MAX`] already.
    pub(crate) fn is_full(&self) -> bool {
        self.entries.len() >= crate::HOSTS_MAX
    }

    /// The hosts that announce this address as their own.
    pub(crate) fn claimants(&self, address: IpAddr) -> impl Iterator<Item = &HostName> {
        self.claims.get(&address).into_iter().flatten()
    }

    fn withdraw_claim(&mut self, address: IpAddr, host: &HostName) {
        if let Some(claimants) = self.claims.get_mut(&address) {
            claimants.remove(host);
            if claimants.is_empty() {
                self.claims.remove(&address);
            }
        }
    }

    pub(crate) const fn buckets(&self) -> &Buckets {
        &self.buckets
    }

    /// The heads of all records in the buckets whose bits are set in `mask`.
    pub(crate) fn heads(&self, mask: u64) -> Vec<Head> {
        let wanted = |host: &HostName| mask & (1 << bucket_of(host)) != 0;
        let heads = self.entries.iter().filter(|(host, entry)| mask != 0 && entry.is_told && wanted(host));
        heads
            .map(|(host, entry)| Head { host: host.clone(), stamp: entry.record.stamp, content: entry.content })
            .collect()
    }

    /// Whether the record behind `head` could replace the one that is known.
    pub(crate) fn wants(&self, head: &Head) -> bool {
        let is_later = self.entries.get(&head.host).is_none_or(|known| {
            head.stamp > known.record.stamp || (head.stamp == known.record.stamp && head.content != known.content)
        });
        is_later && !self.is_forgotten(&head.host, head.stamp)
    }

    /// Adds to the digest, or takes out what was added before.
    fn mix(&mut self, host: &HostName, stamp: Stamp, content: u64) {
        let parts = [stamp.incarnation.get(), stamp.version, content].map(u64::to_be_bytes);
        let [incarnation, version, content] = &parts;
        let mixed = fingerprint(&[host.as_str().as_bytes(), &[0], incarnation, version, content]);
        self.buckets[bucket_of(host)] ^= mixed;
    }
}

/// The bits of the buckets that differ.
pub(crate) fn differing(a: &Buckets, b: &Buckets) -> u64 {
    let differ = a.iter().zip(b).enumerate().filter(|(_, (a, b))| a != b);
    differ.fold(0, |mask, (bucket, _)| mask | 1 << bucket)
}

const fn bucket_of_fingerprint(fingerprint: u64) -> usize {
    (fingerprint >> 58) as usize
}

fn bucket_of(host: &HostName) -> usize {
    bucket_of_fingerprint(name_fingerprint(host))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record_wire::tests::any_record;

    fn host(number: usize) -> HostName {
        format!("host-{number}").parse().unwrap()
    }

    fn stamp(version: u64) -> Stamp {
        Stamp { version, ..Stamp::default() }
    }

    proptest! {
        #[test]
        fn the_same_records_in_any_order_and_number_give_the_same_catalogue(
            records in proptest::collection::vec((0..4_usize, any_record()), 0..10),
            order in proptest::collection::vec(any::<proptest::sample::Index>(), 0..10),
        ) {
            let (mut forth, mut back) = (Catalogue::default(), Catalogue::default());
            for (number, record) in &records {
                forth.merge(&host(*number), record.clone());
            }
            let again = order.iter().filter(|_| !records.is_empty()).map(|index| &records[index.index(records.len())]);
            for (number, record) in records.iter().rev().chain(again) {
                back.merge(&host(*number), record.clone());
            }
            prop_assert_eq!(differing(forth.buckets(), back.buckets()), 0);
            prop_assert_eq!(forth.heads(u64::MAX), back.heads(u64::MAX));
        }

        #[test]
        fn a_difference_shows_in_the_digest_and_what_is_wanted_makes_it_good(
            records in proptest::collection::vec((0..20_usize, any_record()), 1..20),
            missing in any::<proptest::sample::Index>(),
        ) {
            let mut full = Catalogue::default();
            for (number, record) in &records {
                full.merge(&host(*number), record.clone());
            }
            let mut partial = full.clone();
            let lost = host(records[missing.index(records.len())].0);
            partial.remove(&lost);
            let mask = differing(full.buckets(), partial.buckets());
            prop_assert_eq!(mask.count_ones(), 1);
            let wanted: Vec<_> = full.heads(mask).into_iter().filter(|head| partial.wants(head)).collect();
            prop_assert_eq!(wanted.len(), 1);
            prop_assert!(partial.merge(&lost, full.get(&lost).unwrap().as_ref().clone()));
            prop_assert_eq!(differing(full.buckets(), partial.buckets()), 0);
        }
    }

    #[test]
    fn a_host_that_was_forgotten_comes_back_only_with_something_new() {
        let mut catalogue = Catalogue::default();
        catalogue.merge(&host(1), HostRecord::empty(stamp(5)));
        let head = catalogue.heads(u64::MAX).remove(0);
        catalogue.forget(&host(1));
        assert_eq!(differing(catalogue.buckets(), Catalogue::default().buckets()), 0);
        assert!(!catalogue.wants(&head));
        assert!(!catalogue.merge(&host(1), HostRecord::empty(stamp(5))));
        assert!(catalogue.merge(&host(1), HostRecord::empty(stamp(6))));
        catalogue.forget(&host(1));
        catalogue.recall(&host(1));
        assert!(catalogue.merge(&host(1), HostRecord::empty(stamp(6))), "it takes part again");
    }

    #[test]
    fn the_oldest_of_what_was_forgotten_goes_first_whatever_its_name() {
        let mut catalogue = Catalogue::default();
        for number in (0..=FORGOTTEN_MAX).rev() {
            catalogue.merge(&host(number), HostRecord::empty(stamp(5)));
            catalogue.forget(&host(number));
        }
        assert!(!catalogue.merge(&host(0), HostRecord::empty(stamp(5))), "it was forgotten last");
        assert!(catalogue.merge(&host(FORGOTTEN_MAX), HostRecord::empty(stamp(5))), "it was forgotten first");
    }

    #[test]
    fn a_record_that_others_are_not_told_of_is_in_no_digest_and_in_no_list() {
        let mut catalogue = Catalogue::default();
        catalogue.merge(&host(1), HostRecord::empty(stamp(5)));
        let with = *catalogue.buckets();
        catalogue.set_told(&host(1), false);
        assert_eq!((catalogue.buckets(), catalogue.heads(u64::MAX)), (&[0; BUCKETS], vec![]));
        catalogue.merge(&host(1), HostRecord::empty(stamp(6)));
        assert_eq!(catalogue.buckets(), &[0; BUCKETS]);
        catalogue.merge(&host(2), HostRecord::empty(stamp(5)));
        catalogue.remove(&host(2));
        catalogue.set_told(&host(1), true);
        assert_eq!(catalogue.heads(u64::MAX).len(), 1);
        catalogue.remove(&host(1));
        assert_eq!(catalogue.buckets(), &[0; BUCKETS]);
        assert_ne!(with, [0; BUCKETS]);
    }

    #[test]
    fn a_host_too_many_is_not_taken_in() {
        let mut catalogue = Catalogue::default();
        for number in 0..crate::HOSTS_MAX {
            assert!(catalogue.merge(&host(number), HostRecord::default()));
        }
        assert!(!catalogue.merge(&host(crate::HOSTS_MAX), HostRecord::default()));
        let newer = HostRecord::empty(Stamp { version: 1, ..Stamp::default() });
        assert!(catalogue.merge(&host(0), newer), "those that are known go on");
    }
}

//! How two hosts come to know the same: compare digests, then heads, then fetch what is later.
//!
//! ```text
//! opener    ── Hello ──────────▶           greeting: see `crate::gossip::greeting`
//!           ◀── Hello, Remembered ──
//!           ── Remembered ─────▶
//!           ── Digest ─────────▶           from here on: this file
//!           ◀── Digest, Members, Heads ──  (heads only where the digests differ, members also
//!                                          where neither was told of any)
//!           ── Members, Heads ─▶
//!           ◀─▶ Want, Record … Done ◀─▶    both ways at once, a few records at a time
//! ```
//! A host takes only what it asked for, so that what is under way is bounded on both sides, and a record only
//! as a whole: a stream that breaks has changed nothing but what was complete.

use std::collections::{BTreeSet, VecDeque};

use foca::Member;
use model::{HostName, HostRecord};

use crate::catalogue::{Buckets, Catalogue, Head, differing};
use crate::identity::HostIdentity;
use crate::message::{LIST_MAX, Message, WANT_MAX};
use crate::refusal::Refusal;

/// The digest of members of a host that was never told of them.
pub(crate) const NOT_TOLD: u64 = 0;

/// Where one exchange stands, on one side.
#[derive(Debug, Default)]
pub(crate) struct Exchange {
    opener: bool,
    digested: bool,
    heads_seen: usize,
    /// How many records the other side has asked for.
    asked_for: usize,
    wanted: VecDeque<HostName>,
    awaited: BTreeSet<HostName>,
    done_sent: bool,
    done_received: bool,
}

impl Exchange {
    /// The exchange on the side of the stream's opener, and its first message.
    pub(crate) fn open(catalogue: &Catalogue, members: u64) -> (Self, Message) {
        let digest = Message::Digest { members, buckets: Box::new(*catalogue.buckets()) };
        (Self { opener: true, ..Self::default() }, digest)
    }

    /// Whether both sides have all they wanted.
    pub(crate) const fn is_over(&self) -> bool {
        self.done_sent && self.done_received
    }

    /// The other side's digest. `members` is this side's, and `list` yields the list behind it.
    pub(crate) fn digest(
        &mut self,
        catalogue: &Catalogue,
        (theirs, their_buckets): (u64, &Buckets),
        members: u64,
        list: impl FnOnce() -> Vec<Member<HostIdentity>>,
    ) -> Result<Vec<Message>, Refusal> {
        if std::mem::replace(&mut self.digested, true) {
            return Err(Refusal::Malformed);
        }
        let mut answer = Vec::new();
        if !self.opener {
            answer.push(Message::Digest { members, buckets: Box::new(*catalogue.buckets()) });
        }
        // Two that were never told are the same in this only: each may know others.
        if theirs == NOT_TOLD || theirs != members {
            answer.extend(list().chunks(LIST_MAX).map(|part| Message::Members(part.to_vec())));
        }
        let heads = catalogue.heads(differing(catalogue.buckets(), their_buckets));
        let mut parts = heads.chunks(LIST_MAX).peekable();
        while let Some(part) = parts.next() {
            answer.push(Message::Heads { last: parts.peek().is_none(), heads: part.to_vec() });
        }
        if heads.is_empty() {
            answer.push(Message::Heads { last: true, heads });
        }
        Ok(answer)
    }

    /// What the other side has. `own` is never asked for: nobody knows this host better than itself.
    pub(crate) fn heads(
        &mut self,
        catalogue: &Catalogue,
        own: &HostName,
        last: bool,
        heads: Vec<Head>,
    ) -> Result<Option<Message>, Refusal> {
        self.heads_seen += heads.len();
        if self.heads_seen > crate::HOSTS_MAX {
            return Err(Refusal::TooMuch);
        }
        let wanted = heads.into_iter().filter(|head| head.host != *own && catalogue.wants(head));
        self.wanted.extend(wanted.map(|head| head.host));
        Ok(last.then(|| self.want()))
    }

    /// Answers with those records that are known. Nobody needs one twice.
    pub(crate) fn wanted(&mut self, catalogue: &Catalogue, hosts: &[HostName]) -> Result<Vec<Message>, Refusal> {
        self.asked_for += hosts.len();
        if self.asked_for > crate::HOSTS_MAX {
            return Err(Refusal::TooMuch);
        }
        let known = hosts.iter().filter_map(|host| Some((host, catalogue.get(host)?)));
        Ok(known.map(|(host, record)| Message::Record(host.clone(), HostRecord::clone(record))).collect())
    }

    /// A record has come in. Says whether it was asked for, and what to say next.
    pub(crate) fn record(&mut self, host: &HostName) -> Result<Option<Message>, Refusal> {
        if !self.awaited.remove(host) {
            return Err(Refusal::TooMuch);
        }
        Ok(self.awaited.is_empty().then(|| self.want()))
    }

    pub(crate) const fn done(&mut self) {
        self.done_received = true;
    }

    fn want(&mut self) -> Message {
        let part: Vec<_> = self.wanted.drain(..self.wanted.len().min(WANT_MAX)).collect();
        if part.is_empty() {
            self.done_sent = true;
            return Message::Done;
        }
        self.awaited = part.iter().cloned().collect();
        Message::Want(part)
    }
}

#[cfg(test)]
mod tests {
    use model::Incarnation;
    use proptest::prelude::*;

    use super::*;
    use crate::record_wire::tests::any_record;

    /// Carries messages between two sides until none is left; returns how many records went each way.
    fn run(sides: &mut [Catalogue; 2]) -> [usize; 2] {
        let own: HostName = "nobody".parse().unwrap();
        let (opener, first) = Exchange::open(&sides[0], 0);
        let mut exchanges = [opener, Exchange::default()];
        let (mut queue, mut records) = (VecDeque::from([(1, first)]), [0; 2]);
        while let Some((to, message)) = queue.pop_front() {
            let (exchange, catalogue) = (&mut exchanges[to], &mut sides[to]);
            let answer = match message {
                Message::Digest { buckets, .. } => exchange.digest(catalogue, (0, &buckets), 0, Vec::new).unwrap(),
                Message::Heads { last, heads } => {
                    exchange.heads(catalogue, &own, last, heads).unwrap().into_iter().collect()
                }
                Message::Want(hosts) => exchange.wanted(catalogue, &hosts).unwrap(),
                Message::Record(host, record) => {
                    records[to] += 1;
                    catalogue.merge(&host, record);
                    exchange.record(&host).unwrap().into_iter().collect()
                }
                Message::Done => {
                    exchange.done();
                    vec![]
                }
                other => panic!("{other:?}"),
            };
            queue.extend(answer.into_iter().map(|message| (1 - to, message)));
        }
        assert!(exchanges.iter().all(Exchange::is_over));
        records
    }

    fn catalogue(records: &[(usize, HostRecord)]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for (number, record) in records {
            catalogue.merge(&format!("host-{number}").parse().unwrap(), record.clone());
        }
        catalogue
    }

    proptest! {
        #[test]
        fn afterwards_both_sides_know_the_same_and_nothing_was_sent_in_vain(
            one in proptest::collection::vec((0..30_usize, any_record()), 0..20),
            other in proptest::collection::vec((0..30_usize, any_record()), 0..20),
        ) {
            let mut sides = [catalogue(&one), catalogue(&other)];
            let before = sides.clone();
            let records = run(&mut sides);
            prop_assert_eq!(sides[0].heads(u64::MAX), sides[1].heads(u64::MAX));
            for (side, before) in sides.iter().zip(&before) {
                prop_assert!(before.heads(u64::MAX).iter().all(|head| side.stamp(&head.host) >= Some(head.stamp)));
            }
            prop_assert!(records[0] <= other.len() && records[1] <= one.len());
            prop_assert_eq!(run(&mut sides), [0, 0], "a second time there is nothing to send");
        }
    }

    #[test]
    fn a_large_difference_is_made_good_a_few_records_at_a_time() {
        let many: Vec<_> = (0..1_000).map(|number| (number, HostRecord::default())).collect();
        let mut sides = [catalogue(&many), catalogue(&[])];
        assert_eq!(run(&mut sides), [0, 1_000]);
    }

    #[test]
    fn two_hosts_that_were_never_told_of_members_tell_each_other() {
        let (catalogue, buckets) = (Catalogue::default(), [0; 64]);
        let address = "10.0.0.1:7946".parse().unwrap();
        let someone = HostIdentity::new("a".parse().unwrap(), address, Incarnation::new(1));
        let named = |theirs, members| {
            let list = || vec![Member::alive(someone.clone())];
            let answer = Exchange::default().digest(&catalogue, (theirs, &buckets), members, list).unwrap();
            answer.iter().any(|message| matches!(message, Message::Members(_)))
        };
        assert!(named(NOT_TOLD, NOT_TOLD) && named(NOT_TOLD, 7) && named(7, NOT_TOLD) && named(7, 8));
        assert!(!named(7, 7), "both know the same");
    }

    #[test]
    fn who_asks_for_more_records_than_there_can_be_is_refused() {
        let (catalogue, mut exchange) = (Catalogue::default(), Exchange::default());
        let hosts = vec!["a".parse().unwrap(); WANT_MAX];
        let asked = (0..).take_while(|_| exchange.wanted(&catalogue, &hosts).is_ok()).take(10_000).count();
        assert_eq!(asked, crate::HOSTS_MAX / WANT_MAX);
    }

    #[test]
    fn a_record_that_nobody_asked_for_is_refused() {
        let mut exchange = Exchange::default();
        assert_eq!(exchange.record(&"a".parse().unwrap()), Err(Refusal::TooMuch));
        let (catalogue, buckets) = (Catalogue::default(), [0; 64]);
        assert!(exchange.digest(&catalogue, (0, &buckets), 0, Vec::new).is_ok());
        assert_eq!(exchange.digest(&catalogue, (0, &buckets), 0, Vec::new), Err(Refusal::Malformed));
    }
}

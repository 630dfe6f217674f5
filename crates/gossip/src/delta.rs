//! What changed in a host's record lately, small enough for a datagram.
//!
//! A delta is cumulative: it holds *all* that changed after the version `from`, as it stands at the version
//! `to`. So a later delta makes an earlier one needless, a delta that was missed is made good by the next,
//! and applying one twice, or late, changes nothing. What is too long is announced by its stamp alone, and
//! fetched.

use model::host_record::INSTANCES_MAX;
use model::{HostName, HostRecord, Incarnation, Instance, InstanceKey, Stamp};

use crate::record_wire::{Heading, read_heading, read_instance, write_instance};
use crate::wire::{DecodeError, Reader, Writer};

/// The longest broadcast, in bytes.
///
/// foca accepts any that fits a datagram, but does not count its own header: what is longer than the rest is
/// never sent and never dropped. The header is at most three identities of 91 bytes and 8 more, the counts
/// and lengths around a broadcast 4, so this always fits; a test holds it to that.
pub(crate) const BROADCAST_MAX: usize = 800;

/// One change of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Put(Instance),
    Remove(InstanceKey),
}

/// All that changed in a host's record between two versions of one life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delta {
    pub(crate) incarnation: Incarnation,
    /// 0 stands for "before anything was said": the delta is the whole record.
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) heading: Heading,
    pub(crate) changes: Vec<Change>,
}

/// What news is for a host that knows a record up to some stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Novelty {
    /// It can be applied.
    Fresh,
    /// It says nothing new.
    Stale,
    /// It is news, but something before it is missing.
    Gap,
}

impl Delta {
    pub(crate) const fn stamp(&self) -> Stamp {
        Stamp { incarnation: self.incarnation, version: self.to }
    }

    pub(crate) fn novelty(&self, known: Option<Stamp>) -> Novelty {
        let known = known.unwrap_or_default();
        if self.stamp() <= known {
            Novelty::Stale
        } else if self.from == 0 || (self.incarnation == known.incarnation && self.from <= known.version) {
            Novelty::Fresh
        } else {
            Novelty::Gap
        }
    }

    /// The record after the delta. `known` must be such that the delta is [`Novelty::Fresh`] for it.
    ///
    /// # Errors
    /// The record would pass a bound: its host has announced what no host may.
    pub(crate) fn apply(&self, known: Option<&HostRecord>) -> Result<HostRecord, DecodeError> {
        let base = known.filter(|_| self.from != 0).cloned().unwrap_or_default();
        let mut record = self.heading.clone().onto(base);
        record.stamp = self.stamp();
        for change in &self.changes {
            match change {
                Change::Put(instance) => {
                    record.put(instance.clone()).map_err(|_| DecodeError::Invalid("instances"))?;
                }
                Change::Remove(key) => {
                    record.remove(*key);
                }
            }
        }
        Ok(record)
    }
}

/// One item that is spread to all hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broadcast {
    pub(crate) host: HostName,
    pub(crate) news: News,
}

/// What a broadcast says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// What changed.
    Delta(Delta),
    /// That there is a record of this stamp, to be fetched from whoever said so.
    Head(Stamp),
}

const DELTA: u8 = 1;
const HEAD: u8 = 2;
const PUT: u8 = 1;
const REMOVE: u8 = 2;

impl Broadcast {
    pub(crate) const fn stamp(&self) -> Stamp {
        match &self.news {
            News::Delta(delta) => delta.stamp(),
            News::Head(stamp) => *stamp,
        }
    }

    pub(crate) fn novelty(&self, known: Option<Stamp>) -> Novelty {
        match &self.news {
            News::Delta(delta) => delta.novelty(known),
            News::Head(stamp) if Some(*stamp) <= known => Novelty::Stale,
            News::Head(_) => Novelty::Gap,
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        match &self.news {
            News::Head(stamp) => {
                writer.u8(HEAD).text(self.host.as_str()).stamp(*stamp);
            }
            News::Delta(delta) => {
                writer.u8(DELTA).text(self.host.as_str()).incarnation(delta.incarnation).u64(delta.from).u64(delta.to);
                delta.heading.write(&mut writer);
                writer.count(delta.changes.len());
                delta.changes.iter().for_each(|change| write_change(change, &mut writer));
            }
        }
        writer.0
    }

    /// # Errors
    /// The bytes are no broadcast, or something follows it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let kind = reader.u8("broadcast")?;
        let host = reader.host_name()?;
        let news = match kind {
            HEAD => News::Head(reader.stamp()?),
            DELTA => News::Delta(read_delta(&mut reader)?),
            _ => return Err(DecodeError::Invalid("broadcast")),
        };
        if reader.rest().is_empty() { Ok(Self { host, news }) } else { Err(DecodeError::Invalid("end of broadcast")) }
    }
}

fn write_change(change: &Change, writer: &mut Writer) {
    match change {
        Change::Put(instance) => write_instance(instance, writer.u8(PUT)),
        Change::Remove(key) => {
            writer.u8(REMOVE).bytes(key.as_bytes());
        }
    }
}

fn read_delta(reader: &mut Reader<'_>) -> Result<Delta, DecodeError> {
    let incarnation = reader.incarnation()?;
    let (from, to) = (reader.u64("from version")?, reader.u64("to version")?);
    let heading = read_heading(reader)?;
    let count = reader.count(2 * INSTANCES_MAX, "changes")?;
    let changes = (0..count).map(|_| read_change(reader)).collect::<Result<_, _>>()?;
    Ok(Delta { incarnation, from, to, heading, changes })
}

fn read_change(reader: &mut Reader<'_>) -> Result<Change, DecodeError> {
    match reader.u8("change")? {
        PUT => Ok(Change::Put(read_instance(reader)?)),
        REMOVE => Ok(Change::Remove(InstanceKey::from_bytes(reader.array("instance key")?))),
        _ => Err(DecodeError::Invalid("change")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record_wire::tests::any_instance;

    fn any_delta() -> impl Strategy<Value = Delta> {
        let change = prop_oneof![
            any_instance().prop_map(Change::Put),
            any::<[u8; 6]>().prop_map(|key| Change::Remove(InstanceKey::from_bytes(key))),
        ];
        (any::<u64>(), any::<u64>(), any::<u64>(), any::<bool>(), proptest::collection::vec(change, 0..5)).prop_map(
            |(incarnation, from, to, left, changes)| Delta {
                incarnation: Incarnation::new(incarnation),
                from,
                to,
                heading: Heading { left, addresses: vec![] },
                changes,
            },
        )
    }

    fn stamp(incarnation: u64, version: u64) -> Stamp {
        Stamp { incarnation: Incarnation::new(incarnation), version }
    }

    #[test]
    fn a_delta_is_fresh_only_on_what_it_builds_on() {
        let heading = Heading { left: false, addresses: vec![] };
        let delta =
            |from, to| Delta { incarnation: Incarnation::new(5), from, to, heading: heading.clone(), changes: vec![] };
        let cases = [
            (3, 7, Some(stamp(5, 3)), Novelty::Fresh),
            (3, 7, Some(stamp(5, 6)), Novelty::Fresh),
            (3, 7, Some(stamp(5, 7)), Novelty::Stale),
            (3, 7, Some(stamp(6, 1)), Novelty::Stale),
            (3, 7, Some(stamp(5, 2)), Novelty::Gap),
            (3, 7, Some(stamp(4, 9)), Novelty::Gap),
            (3, 7, None, Novelty::Gap),
            (0, 7, None, Novelty::Fresh),
            (0, 7, Some(stamp(4, 9)), Novelty::Fresh),
        ];
        for (from, to, known, expected) in cases {
            assert_eq!(delta(from, to).novelty(known), expected, "{from}..{to} on {known:?}");
        }
    }

    #[test]
    fn a_broadcast_fits_every_datagram_even_beside_the_longest_names() {
        use foca::{Codec as _, Header, Message};

        use crate::envelope::BODY_MAX;
        use crate::identity::{HostIdentity, IdentityCodec};

        let address = "[fd00::1]:7946".parse().unwrap();
        let longest = HostIdentity::new("x".repeat(63).parse().unwrap(), address, Incarnation::default());
        let message = Message::PingReq { target: longest.clone(), probe_number: 0 };
        let header = Header { src: longest.clone(), src_incarnation: 0, dst: longest, message };
        let mut bytes = Vec::new();
        IdentityCodec.encode_header(&header, &mut bytes).unwrap();
        let counts = 2 + 2;
        assert!(bytes.len() + counts + BROADCAST_MAX <= BODY_MAX, "{} + {BROADCAST_MAX} > {BODY_MAX}", bytes.len());
    }

    #[test]
    fn a_head_is_news_to_be_fetched() {
        let head = Broadcast { host: "a".parse().unwrap(), news: News::Head(stamp(5, 7)) };
        assert_eq!(head.novelty(Some(stamp(5, 6))), Novelty::Gap);
        assert_eq!(head.novelty(None), Novelty::Gap);
        assert_eq!(head.novelty(Some(stamp(5, 7))), Novelty::Stale);
        assert_eq!(Broadcast::decode(&head.encode()), Ok(head));
    }

    proptest! {
        #[test]
        fn every_delta_survives_the_wire(delta in any_delta()) {
            let broadcast = Broadcast { host: "host-1".parse().unwrap(), news: News::Delta(delta) };
            let mut bytes = broadcast.encode();
            prop_assert_eq!(Broadcast::decode(&bytes), Ok(broadcast));
            prop_assert!(Broadcast::decode(&bytes[..bytes.len() - 1]).is_err());
            bytes.push(0);
            prop_assert!(Broadcast::decode(&bytes).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Broadcast::decode(&bytes);
        }
    }
}

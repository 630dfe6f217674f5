//! What hosts say to each other on a stream. In which order is in [`crate::exchange`].

use foca::Member;
use model::{HostName, HostRecord, Incarnation};

use crate::catalogue::{BUCKETS, Buckets, Head};
use crate::channel::MESSAGE_MAX;
use crate::identity::{HostIdentity, IdentityCodec};
use crate::order::{AnswerMessage, OrderMessage};
use crate::record_wire::{read_record, write_record};
use crate::wire::{DecodeError, Reader, Writer, at_place, place_in};

/// The most heads or members in one message; a longer list takes several.
pub(crate) const LIST_MAX: usize = 400;

/// The most records asked for at once: it bounds what is under way.
pub(crate) const WANT_MAX: usize = 32;

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) identity: HostIdentity,
    /// A random number by which a process knows itself again.
    pub(crate) boot: u64,
    /// The incarnation that the process began with: of two hosts of one name the older process keeps it.
    pub(crate) started: Incarnation,
    pub(crate) standing: Standing,
}

/// Whether a host takes part in the cluster now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Not yet, or not at the moment.
    Outside,
    Inside,
    /// It neither does nor wants to.
    Apart,
}

const STANDINGS: [Standing; 3] = [Standing::Outside, Standing::Inside, Standing::Apart];

/// What the speaker knows of the listener.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Remembered {
    /// The highest incarnation that it ever heard of under the listener's name.
    pub(crate) incarnation: Incarnation,
    /// The listener's identity as a member, and whether it counts as alive.
    pub(crate) member: Option<(HostIdentity, bool)>,
}

/// One message on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Hello(Hello),
    Remembered(Remembered),
    /// What the speaker knows, in short: of members, and of records.
    Digest {
        members: u64,
        buckets: Box<Buckets>,
    },
    /// A part of the list of members.
    Members(Vec<Member<HostIdentity>>),
    /// A part of the list of heads in the buckets that differ.
    Heads {
        last: bool,
        heads: Vec<Head>,
    },
    /// Asks for the records of these hosts.
    Want(Vec<HostName>),
    Record(HostName, HostRecord),
    /// The speaker wants nothing more.
    Done,
    /// The speaker's operator wants something done.
    Order(OrderMessage),
    /// What came of it.
    Answer(AnswerMessage),
}

const HELLO: u8 = 1;
const REMEMBERED: u8 = 2;
const DIGEST: u8 = 3;
const MEMBERS: u8 = 4;
const HEADS: u8 = 5;
const WANT: u8 = 6;
const RECORD: u8 = 7;
const DONE: u8 = 8;
const ORDER: u8 = 9;
const ANSWER: u8 = 10;

impl Message {
    /// At most [`MESSAGE_MAX`] bytes, as lists and records are bounded.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        match self {
            Self::Hello(hello) => {
                hello.identity.write(writer.u8(HELLO));
                writer.u64(hello.boot).incarnation(hello.started).u8(place_in(&STANDINGS, hello.standing));
            }
            Self::Remembered(remembered) => {
                writer.u8(REMEMBERED).incarnation(remembered.incarnation).bool(remembered.member.is_some());
                if let Some((identity, alive)) = &remembered.member {
                    identity.write(&mut writer);
                    writer.bool(*alive);
                }
            }
            Self::Digest { members, buckets } => {
                writer.u8(DIGEST).u64(*members);
                for bucket in buckets.iter() {
                    writer.u64(*bucket);
                }
            }
            Self::Members(members) => {
                writer.u8(MEMBERS).count(members.len());
                members.iter().for_each(|member| IdentityCodec::write_member(member, &mut writer));
            }
            Self::Heads { last, heads } => {
                writer.u8(HEADS).bool(*last).count(heads.len());
                for head in heads {
                    writer.text(head.host.as_str()).stamp(head.stamp).u64(head.content);
                }
            }
            Self::Want(hosts) => {
                writer.u8(WANT).count(hosts.len());
                for host in hosts {
                    writer.text(host.as_str());
                }
            }
            Self::Record(host, record) => write_record(record, writer.u8(RECORD).text(host.as_str())),
            Self::Done => {
                writer.u8(DONE);
            }
            Self::Order(order) => order.write(writer.u8(ORDER)),
            Self::Answer(answer) => answer.write(writer.u8(ANSWER)),
        }
        debug_assert!(writer.0.len() <= MESSAGE_MAX, "{}", writer.0.len());
        writer.0
    }

    /// # Errors
    /// The bytes are no message, or something follows it.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = match reader.u8("message")? {
            HELLO => Self::Hello(read_hello(&mut reader)?),
            REMEMBERED => Self::Remembered(read_remembered(&mut reader)?),
            DIGEST => Self::Digest { members: reader.u64("members")?, buckets: Box::new(read_buckets(&mut reader)?) },
            MEMBERS => Self::Members(read_list(&mut reader, LIST_MAX, IdentityCodec::read_member)?),
            HEADS => Self::Heads { last: reader.bool("last")?, heads: read_list(&mut reader, LIST_MAX, read_head)? },
            WANT => Self::Want(read_list(&mut reader, WANT_MAX, Reader::host_name)?),
            RECORD => Self::Record(reader.host_name()?, read_record(&mut reader)?),
            DONE => Self::Done,
            ORDER => Self::Order(OrderMessage::read(&mut reader)?),
            ANSWER => Self::Answer(AnswerMessage::read(&mut reader)?),
            _ => return Err(DecodeError::Invalid("message")),
        };
        if reader.rest().is_empty() { Ok(message) } else { Err(DecodeError::Invalid("end of message")) }
    }
}

fn read_list<'a, T>(
    reader: &mut Reader<'a>,
    max: usize,
    read: impl Fn(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.count(max, "list")?;
    (0..count).map(|_| read(reader)).collect()
}

fn read_hello(reader: &mut Reader<'_>) -> Result<Hello, DecodeError> {
    Ok(Hello {
        identity: HostIdentity::read(reader)?,
        boot: reader.u64("boot")?,
        started: reader.incarnation()?,
        standing: at_place(&STANDINGS, reader.u8("standing")?, "standing")?,
    })
}

fn read_remembered(reader: &mut Reader<'_>) -> Result<Remembered, DecodeError> {
    let incarnation = reader.incarnation()?;
    let known = reader.bool("member")?;
    let member = if known { Some((HostIdentity::read(reader)?, reader.bool("alive")?)) } else { None };
    Ok(Remembered { incarnation, member })
}

fn read_buckets(reader: &mut Reader<'_>) -> Result<Buckets, DecodeError> {
    let mut buckets = [0; BUCKETS];
    for bucket in &mut buckets {
        *bucket = reader.u64("digest")?;
    }
    Ok(buckets)
}

fn read_head(reader: &mut Reader<'_>) -> Result<Head, DecodeError> {
    Ok(Head { host: reader.host_name()?, stamp: reader.stamp()?, content: reader.u64("content")? })
}

#[cfg(test)]
mod tests {
    use foca::State;
    use proptest::prelude::*;

    use model::InstanceKey;
    use model::instance::Text;

    use super::*;
    use crate::order::{Answer, Order};
    use crate::record_wire::tests::any_record;

    fn identity() -> HostIdentity {
        HostIdentity::new("host-1".parse().unwrap(), "[fd00::1]:7946".parse().unwrap(), Incarnation::new(5))
    }

    #[test]
    fn every_message_survives_the_wire() {
        let head = Head { host: "host-1".parse().unwrap(), stamp: model::Stamp::default(), content: 3 };
        let hello = Hello { identity: identity(), boot: 4, started: Incarnation::new(2), standing: Standing::Inside };
        let messages = [
            Message::Hello(hello),
            Message::Remembered(Remembered::default()),
            Message::Remembered(Remembered { incarnation: Incarnation::new(9), member: Some((identity(), false)) }),
            Message::Digest { members: 5, buckets: Box::new([6; BUCKETS]) },
            Message::Members(vec![Member::new(identity(), 1, State::Suspect)]),
            Message::Heads { last: true, heads: vec![head] },
            Message::Want(vec!["a".parse().unwrap(), "b".parse().unwrap()]),
            Message::Done,
            Message::Order(OrderMessage::Known(Order::Drain { key: InstanceKey::from_bytes([7; 6]), drains: true })),
            Message::Answer(AnswerMessage::Known(Answer::Done)),
            Message::Answer(AnswerMessage::Known(Answer::NoSuchInstance)),
            Message::Answer(AnswerMessage::Known(Answer::Starting)),
            Message::Answer(AnswerMessage::Known(Answer::Failed(Text::cut("the disk is full")))),
            Message::Answer(AnswerMessage::KnowsVersion(3)),
        ];
        for message in messages {
            let mut bytes = message.encode();
            assert_eq!(Message::decode(&bytes), Ok(message));
            assert!(Message::decode(&bytes[..bytes.len() - 1]).is_err());
            bytes.push(0);
            assert!(Message::decode(&bytes).is_err());
        }
    }

    #[test]
    fn an_order_of_a_later_version_is_known_for_one() {
        let later = [&[ORDER, 2][..], &[9; 100]].concat();
        assert_eq!(Message::decode(&later), Ok(Message::Order(OrderMessage::OfVersion(2))));
        assert!(Message::decode(&[&[ORDER, 2][..], &[9; 5000]].concat()).is_err());
    }

    #[test]
    fn the_longest_messages_fit() {
        let long: HostName = "x".repeat(63).parse().unwrap();
        let identity = HostIdentity {
            address: "[fd00::1]:7946".parse().unwrap(),
            ..HostIdentity::new(long.clone(), "1.2.3.4:5".parse().unwrap(), Incarnation::default())
        };
        assert!(Message::Members(vec![Member::alive(identity); LIST_MAX]).encode().len() < MESSAGE_MAX);
        let head = Head { host: long, stamp: model::Stamp::default(), content: 0 };
        assert!(Message::Heads { last: false, heads: vec![head; LIST_MAX] }.encode().len() < MESSAGE_MAX);
        const { assert!(crate::record_wire::RECORD_MAX_LENGTH + 100 < MESSAGE_MAX) };
    }

    proptest! {
        #[test]
        fn every_record_message_survives_the_wire(record in any_record()) {
            let message = Message::Record("host-1".parse().unwrap(), record);
            prop_assert_eq!(Message::decode(&message.encode()), Ok(message));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Message::decode(&bytes);
        }
    }
}

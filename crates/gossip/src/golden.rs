//! The bytes on the wire, as they are and must stay while [`crate::VERSION`] is what it is.
//!
//! `golden/*.hex` were written once. A test that fails here says that hosts of before and after a change do
//! not understand each other: then the version must rise.

use foca::{Header, Member, Message as SwimMessage, State};
use model::instance::{Origin, Text};
use model::{
    EnvironmentName, HostRecord, Incarnation, Instance, InstanceKey, InstancePort, Protocol, ProxyMode, Service,
    ServiceName, Stamp, Status,
};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use crate::catalogue::Head;
use crate::channel::Channel;
use crate::delta::{Broadcast, Change, Delta, News};
use crate::envelope::Envelope;
use crate::identity::{HostIdentity, IdentityCodec};
use crate::key_ring::KeyRing;
use crate::message::{Hello, Message, Remembered, Standing};
use crate::order::{Answer, AnswerMessage, Order, OrderMessage};
use crate::record_wire::Heading;
use crate::wire::{Reader, Writer};

macro_rules! golden {
    ($name:literal) => {
        from_hex(include_str!(concat!("../golden/v1_", $name, ".hex")))
    };
}

fn from_hex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter(char::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

/// What `bytes` would be in a golden file.
fn to_hex(bytes: &[u8]) -> String {
    let lines = bytes.chunks(32).map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    lines.collect::<Vec<_>>().join("\n")
}

fn identity(number: u64) -> HostIdentity {
    let name = format!("host-{number}").parse().unwrap();
    HostIdentity { renewal: 3, ..HostIdentity::new(name, "10.0.0.1:7946".parse().unwrap(), Incarnation::new(number)) }
}

fn stamp() -> Stamp {
    Stamp { incarnation: Incarnation::new(1_800_000_000_000), version: 7 }
}

fn instance(origin: Origin, address: &str) -> Instance {
    Instance {
        origin,
        service: Service {
            name: ServiceName::corrected("web").unwrap().0,
            environment: EnvironmentName::corrected("production").0,
        },
        ports: vec![InstancePort {
            service_port: Some(9_500),
            address: address.parse().unwrap(),
            port: 32_768,
            protocol: Protocol::Tcp,
            mode: ProxyMode::Http,
        }],
        status: Status::Draining,
        image: Text::cut("web:1.2"),
        version: Text::cut("1.2"),
        since_ms: 1_700_000_000_000,
    }
}

fn instances() -> [Instance; 2] {
    let container = Origin::Container("0123456789abcdef".repeat(4).parse().unwrap());
    let entry = Origin::Static(InstanceKey::from_bytes([1, 2, 3, 4, 5, 6]));
    [instance(container, "10.0.0.1"), instance(entry, "fd00::1")]
}

fn record() -> HostRecord {
    let addresses = vec!["10.0.0.1".parse().unwrap(), "fd00::1".parse().unwrap()];
    let mut record = Heading { left: false, addresses }.onto(HostRecord::empty(stamp()));
    instances().into_iter().for_each(|instance| record.put(instance).unwrap());
    record
}

fn is_broadcast(golden: &[u8], news: News) {
    let broadcast = Broadcast { host: "host-1".parse().unwrap(), news };
    assert_eq!(to_hex(&broadcast.encode()), to_hex(golden));
    assert_eq!(Broadcast::decode(golden), Ok(broadcast));
}

fn is_message(golden: &[u8], message: Message) {
    assert_eq!(to_hex(&message.encode()), to_hex(golden));
    assert_eq!(Message::decode(golden), Ok(message));
}

#[test]
fn broadcasts_are_as_ever() {
    let [put, removed] = instances();
    let changes = vec![Change::Put(put), Change::Remove(removed.key())];
    let heading = Heading { left: true, addresses: vec!["10.0.0.1".parse().unwrap()] };
    let delta = Delta { incarnation: stamp().incarnation, from: 5, to: 7, heading, changes };
    is_broadcast(&golden!("broadcast_delta"), News::Delta(delta));
    is_broadcast(&golden!("broadcast_head"), News::Head(stamp()));
}

#[test]
fn messages_on_streams_are_as_ever() {
    let hello = Hello { identity: identity(1), boot: 4, started: Incarnation::new(1), standing: Standing::Inside };
    is_message(&golden!("hello"), Message::Hello(hello));
    let remembered = Remembered { incarnation: Incarnation::new(9), member: Some((identity(1), false)) };
    is_message(&golden!("remembered"), Message::Remembered(remembered));
    let mut buckets = Box::new([0; 64]);
    buckets[63] = 6;
    is_message(&golden!("digest"), Message::Digest { members: 5, buckets });
    let members = [State::Alive, State::Suspect, State::Down].map(|state| Member::new(identity(1), 2, state));
    is_message(&golden!("members"), Message::Members(members.to_vec()));
    let head = Head { host: "host-1".parse().unwrap(), stamp: stamp(), content: 8 };
    is_message(&golden!("heads"), Message::Heads { last: true, heads: vec![head] });
    is_message(&golden!("want"), Message::Want(vec!["host-1".parse().unwrap(), "host-2".parse().unwrap()]));
    is_message(&golden!("record"), Message::Record("host-1".parse().unwrap(), record()));
    is_message(&golden!("done"), Message::Done);
    let order = Order::Drain { key: InstanceKey::from_bytes([1, 2, 3, 4, 5, 6]), drains: true };
    is_message(&golden!("order"), Message::Order(OrderMessage::Known(order)));
    is_message(&golden!("answer_done"), Message::Answer(AnswerMessage::Known(Answer::Done)));
    let failed = Answer::Failed(Text::cut("the disk is full"));
    is_message(&golden!("answer_failed"), Message::Answer(AnswerMessage::Known(failed)));
    is_message(&golden!("answer_starting"), Message::Answer(AnswerMessage::Known(Answer::Starting)));
    is_message(&golden!("answer_knows_version"), Message::Answer(AnswerMessage::KnowsVersion(1)));
}

#[test]
fn swim_headers_are_as_ever() {
    let message = SwimMessage::PingReq { target: identity(3), probe_number: 7 };
    let header = Header { src: identity(1), src_incarnation: 2, dst: identity(2), message };
    let mut bytes = Vec::new();
    foca::Codec::encode_header(&mut IdentityCodec, &header, &mut bytes).unwrap();
    assert_eq!(to_hex(&bytes), to_hex(&golden!("swim_header")));
    assert_eq!(IdentityCodec::read_header(&mut Reader::new(&bytes)), Ok(header));
}

/// The nonce is drawn by a generator that may change; that the bytes can be opened may not.
#[test]
fn a_datagram_sealed_once_can_be_opened_ever_after() {
    let envelope = Envelope { cluster: "default".parse().unwrap(), keys: KeyRing::insecure() };
    assert_eq!(envelope.open(&golden!("datagram")), Ok((5, b"body".to_vec())));
}

/// The same for a stream's first bytes: the answer to them is 2 bytes of length, an ephemeral key and a tag.
#[test]
fn a_stream_opened_once_is_accepted_ever_after() {
    let envelope = Envelope { cluster: "default".parse().unwrap(), keys: KeyRing::insecure() };
    let mut answer = Vec::new();
    let mut channel = Channel::accept(&mut StdRng::seed_from_u64(1));
    assert_eq!(channel.receive(&envelope, &golden!("stream_opening"), &mut answer), Ok(vec![]));
    assert_eq!(answer.len(), 2 + 32 + 16);
}

#[test]
fn fingerprints_are_as_ever() {
    let mut writer = Writer::default();
    writer.u64(crate::identity::name_fingerprint(&"host-1".parse().unwrap()));
    writer.u64(crate::record_wire::record_fingerprint(&record()));
    writer.bytes(&"default".parse::<crate::ClusterName>().unwrap().tag());
    writer.bytes(&KeyRing::insecure().first().id);
    assert_eq!(to_hex(&writer.0), to_hex(&golden!("fingerprints")));
}

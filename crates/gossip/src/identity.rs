//! Who a member is, in foca's words, and how foca's messages are written down.
//!
//! foca keeps one member per *address*; for us that is the host's name, so that a host that comes back
//! elsewhere takes its own place. Of two identities of one name the later life wins.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Identity, Member, Message, State};
use model::{HostName, Incarnation};

use crate::cluster::fingerprint;
use crate::wire::{DecodeError, Reader, Writer};

/// A host in one life, as a member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HostIdentity {
    /// Stands for the name where speed matters; compared first.
    pub(crate) fingerprint: u64,
    pub(crate) incarnation: Incarnation,
    /// Counts the identities of one life: each time the host is taken for dead it needs another.
    pub(crate) renewal: u16,
    /// Where the host listens, for datagrams and streams.
    pub(crate) address: SocketAddr,
    pub(crate) name: Arc<HostName>,
}

impl HostIdentity {
    pub(crate) fn new(name: HostName, address: SocketAddr, incarnation: Incarnation) -> Self {
        let fingerprint = name_fingerprint(&name);
        Self { fingerprint, incarnation, renewal: 0, address, name: Arc::new(name) }
    }

    /// The next identity of the same life, or of the next one when a life's are used up.
    pub(crate) fn renewed(&self) -> Self {
        match self.renewal.checked_add(1) {
            Some(renewal) => Self { renewal, ..self.clone() },
            None => Self { incarnation: self.incarnation.beyond(self.incarnation), renewal: 0, ..self.clone() },
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        writer.text(self.name.as_str()).socket_address(self.address).incarnation(self.incarnation).u16(self.renewal);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let name = reader.host_name()?;
        let address = reader.socket_address("host address")?;
        let incarnation = reader.incarnation()?;
        Ok(Self { renewal: reader.u16("renewal")?, ..Self::new(name, address, incarnation) })
    }
}

/// Stands for a host name in foca and on the wire.
pub(crate) fn name_fingerprint(name: &HostName) -> u64 {
    fingerprint(&[b"host ", name.as_str().as_bytes()])
}

impl Identity for HostIdentity {
    type Addr = u64;

    fn addr(&self) -> u64 {
        self.fingerprint
    }

    /// When this host is taken for dead, what follows is decided in [`crate::gossip`], not by foca: renewing
    /// by itself, it would fight for ever with another host of the same name.
    fn renew(&self) -> Option<Self> {
        None
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        (self.incarnation, self.renewal, self.address) > (other.incarnation, other.renewal, other.address)
    }
}

/// foca's messages on the wire.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IdentityCodec;

impl IdentityCodec {
    fn write_message(message: &Message<HostIdentity>, writer: &mut Writer) {
        let (kind, about, number) = match message {
            Message::Ping(number) => (0, None, Some(number)),
            Message::Ack(number) => (1, None, Some(number)),
            Message::PingReq { target, probe_number } => (2, Some(target), Some(probe_number)),
            Message::IndirectPing { origin, probe_number } => (3, Some(origin), Some(probe_number)),
            Message::IndirectAck { target, probe_number } => (4, Some(target), Some(probe_number)),
            Message::ForwardedAck { origin, probe_number } => (5, Some(origin), Some(probe_number)),
            Message::Announce => (6, None, None),
            Message::Feed => (7, None, None),
            Message::Gossip => (8, None, None),
            Message::Broadcast => (9, None, None),
            Message::TurnUndead => (10, None, None),
        };
        writer.u8(kind);
        if let Some(about) = about {
            about.write(writer);
        }
        if let Some(number) = number {
            writer.u8(*number);
        }
    }

    fn read_message(reader: &mut Reader<'_>) -> Result<Message<HostIdentity>, DecodeError> {
        let kind = reader.u8("message")?;
        let about = if (2..=5).contains(&kind) { Some(HostIdentity::read(reader)?) } else { None };
        let probe_number = if kind <= 5 { reader.u8("probe number")? } else { 0 };
        Ok(match (kind, about) {
            (0, _) => Message::Ping(probe_number),
            (1, _) => Message::Ack(probe_number),
            (2, Some(target)) => Message::PingReq { target, probe_number },
            (3, Some(origin)) => Message::IndirectPing { origin, probe_number },
            (4, Some(target)) => Message::IndirectAck { target, probe_number },
            (5, Some(origin)) => Message::ForwardedAck { origin, probe_number },
            (6, _) => Message::Announce,
            (7, _) => Message::Feed,
            (8, _) => Message::Gossip,
            (9, _) => Message::Broadcast,
            (10, _) => Message::TurnUndead,
            _ => return Err(DecodeError::Invalid("message")),
        })
    }

    pub(crate) fn read_header(reader: &mut Reader<'_>) -> Result<Header<HostIdentity>, DecodeError> {
        Ok(Header {
            src: HostIdentity::read(reader)?,
            src_incarnation: reader.u16("suspicion count")?,
            dst: HostIdentity::read(reader)?,
            message: Self::read_message(reader)?,
        })
    }

    pub(crate) fn read_member(reader: &mut Reader<'_>) -> Result<Member<HostIdentity>, DecodeError> {
        let identity = HostIdentity::read(reader)?;
        let suspicion = reader.u16("suspicion count")?;
        let state = match reader.u8("member state")? {
            0 => State::Alive,
            1 => State::Suspect,
            2 => State::Down,
            _ => return Err(DecodeError::Invalid("member state")),
        };
        Ok(Member::new(identity, suspicion, state))
    }

    pub(crate) fn write_member(member: &Member<HostIdentity>, writer: &mut Writer) {
        member.id().write(writer);
        writer.u16(member.incarnation()).u8(match member.state() {
            State::Alive => 0,
            State::Suspect => 1,
            State::Down => 2,
        });
    }
}

/// Reads one thing from the front of `buf`, which is contiguous, as foca guarantees.
fn read_from<T>(
    mut buf: impl Buf,
    read: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let mut reader = Reader::new(buf.chunk());
    let value = read(&mut reader)?;
    let taken = buf.chunk().len() - reader.rest().len();
    buf.advance(taken);
    Ok(value)
}

/// Writes all of `writer` or, where it does not fit, nothing.
fn write_to(mut buf: impl BufMut, writer: &Writer) -> Result<(), DecodeError> {
    if buf.remaining_mut() < writer.0.len() {
        return Err(DecodeError::Truncated("datagram"));
    }
    buf.put_slice(&writer.0);
    Ok(())
}

impl Codec<HostIdentity> for IdentityCodec {
    type Error = DecodeError;

    fn encode_header(&mut self, header: &Header<HostIdentity>, buf: impl BufMut) -> Result<(), DecodeError> {
        let mut writer = Writer::default();
        header.src.write(&mut writer);
        writer.u16(header.src_incarnation);
        header.dst.write(&mut writer);
        Self::write_message(&header.message, &mut writer);
        write_to(buf, &writer)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<HostIdentity>, DecodeError> {
        read_from(buf, Self::read_header)
    }

    fn encode_member(&mut self, member: &Member<HostIdentity>, buf: impl BufMut) -> Result<(), DecodeError> {
        let mut writer = Writer::default();
        Self::write_member(member, &mut writer);
        write_to(buf, &writer)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<HostIdentity>, DecodeError> {
        read_from(buf, Self::read_member)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn identity(number: u64) -> HostIdentity {
        let name = format!("host-{number}").parse().unwrap();
        HostIdentity::new(name, "10.0.0.1:7946".parse().unwrap(), Incarnation::new(number))
    }

    #[test]
    fn every_message_survives_the_wire() {
        let (a, b) = (identity(1), identity(2));
        let messages = [
            Message::Ping(3),
            Message::Ack(4),
            Message::PingReq { target: b.clone(), probe_number: 5 },
            Message::IndirectPing { origin: b.clone(), probe_number: 6 },
            Message::IndirectAck { target: b.clone(), probe_number: 7 },
            Message::ForwardedAck { origin: b.clone(), probe_number: 8 },
            Message::Announce,
            Message::Feed,
            Message::Gossip,
            Message::Broadcast,
            Message::TurnUndead,
        ];
        for message in messages {
            let header = Header { src: a.clone(), src_incarnation: 9, dst: b.clone(), message };
            let mut bytes = Vec::new();
            IdentityCodec.encode_header(&header, &mut bytes).unwrap();
            let mut left = &bytes[..];
            assert_eq!(IdentityCodec.decode_header(&mut left).as_ref(), Ok(&header));
            assert!(left.is_empty());
            assert!(IdentityCodec.decode_header(&bytes[..bytes.len() - 1]).is_err());
        }
    }

    #[test]
    fn every_member_state_survives_the_wire() {
        for state in [State::Alive, State::Suspect, State::Down] {
            let member = Member::new(identity(1), 7, state);
            let mut bytes = Vec::new();
            IdentityCodec.encode_member(&member, &mut bytes).unwrap();
            assert_eq!(IdentityCodec.decode_member(&bytes[..]), Ok(member));
        }
    }

    #[test]
    fn what_does_not_fit_leaves_the_buffer_clean() {
        let mut buf = Vec::new().limit(10);
        assert!(IdentityCodec.encode_member(&Member::alive(identity(1)), &mut buf).is_err());
        assert!(buf.into_inner().is_empty());
    }

    #[test]
    fn a_renewed_identity_and_a_later_life_win() {
        let first = identity(5);
        assert!(first.renewed().win_addr_conflict(&first));
        let last = HostIdentity { renewal: u16::MAX, ..first };
        assert!(last.renewed().win_addr_conflict(&last));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = IdentityCodec.decode_header(&bytes[..]);
            let _ = IdentityCodec.decode_member(&bytes[..]);
        }
    }
}

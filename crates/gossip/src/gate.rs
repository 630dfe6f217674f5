//! What is let into foca: foca takes every member that it is told of, in whatever life, and keeps it.
//!
//! What is not let in is read as if it spoke of this host, alive, which foca passes over: the rest of its datagram counts.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Buf, BufMut};
use foca::{Codec, Header, Member};
use model::Incarnation;

use crate::identity::{HostIdentity, IdentityCodec};
use crate::wire::DecodeError;

/// The most members that foca knows, those included that it takes for dead: twice as many as hosts, since names that come
/// and go are remembered for an hour.
pub(crate) const MEMBERS_MAX: usize = 2 * crate::HOSTS_MAX;

#[derive(Debug)]
struct Bounds {
    own: HostIdentity,
    /// The latest life that is believed.
    latest: Incarnation,
    /// Those that are known, while no more may come.
    known: Option<HashSet<u64>>,
}

/// The bounds on what foca is told; its codec is one end of it.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Mutex<Bounds>>);

impl Gate {
    pub(crate) fn new(own: HostIdentity) -> Self {
        Self(Arc::new(Mutex::new(Bounds { own, latest: Incarnation::new(u64::MAX), known: None })))
    }

    fn bounds(&self) -> MutexGuard<'_, Bounds> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adapts to the time, and to how many members there are. `known` yields their fingerprints.
    pub(crate) fn adapt(&self, latest: Incarnation, members: usize, known: impl Iterator<Item = u64>) {
        let mut bounds = self.bounds();
        bounds.latest = latest;
        if members < MEMBERS_MAX {
            bounds.known = None;
        } else if bounds.known.as_ref().is_none_or(|known| known.len() != members) {
            bounds.known = Some(known.collect());
        }
    }

    fn lets_in(&self, identity: &HostIdentity) -> bool {
        let bounds = self.bounds();
        let has_place = bounds.known.as_ref().is_none_or(|known| known.contains(&identity.fingerprint));
        has_place && identity.incarnation <= bounds.latest
    }
}

impl Codec<HostIdentity> for Gate {
    type Error = DecodeError;

    fn encode_header(&mut self, header: &Header<HostIdentity>, buf: impl BufMut) -> Result<(), DecodeError> {
        IdentityCodec.encode_header(header, buf)
    }

    fn decode_header(&mut self, buf: impl Buf) -> Result<Header<HostIdentity>, DecodeError> {
        let header = IdentityCodec.decode_header(buf)?;
        if self.lets_in(&header.src) { Ok(header) } else { Err(DecodeError::Invalid("sender")) }
    }

    fn encode_member(&mut self, member: &Member<HostIdentity>, buf: impl BufMut) -> Result<(), DecodeError> {
        IdentityCodec.encode_member(member, buf)
    }

    fn decode_member(&mut self, buf: impl Buf) -> Result<Member<HostIdentity>, DecodeError> {
        let member = IdentityCodec.decode_member(buf)?;
        let is_welcome = self.lets_in(member.id());
        Ok(if is_welcome { member } else { Member::alive(self.bounds().own.clone()) })
    }
}

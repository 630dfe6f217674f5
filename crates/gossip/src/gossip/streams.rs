//! Streams: what is carried on them. Which ones of others are let in is in `accepting`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foca::{Member, State};
use model::{HostName, HostRecord};

use super::Gossip;
use super::joining::Phase;
use crate::channel::Channel;
use crate::exchange::{Exchange, NOT_TOLD};
use crate::gate::MEMBERS_MAX;
use crate::hosts::{Answer, Host};
use crate::identity::HostIdentity;
use crate::members::Members;
use crate::message::{Hello, LIST_MAX, Message, Standing};
use crate::order::Order;
use crate::output::{OpenFailure, Output, StreamId};
use crate::refusal::Refusal;
use crate::seeds::SeedOutcome;
use crate::timers::Wake;

/// The most streams that this host has open to others, for exchanges; direct checks come on top.
const OPENED_MAX: usize = 8;

/// The most direct checks at once.
const CHECKS_MAX: usize = 64;

/// The longest time until the other side has said who it is.
const GREETING_MAX: Duration = Duration::from_secs(3);

/// The longest time for a whole exchange.
const EXCHANGE_MAX: Duration = Duration::from_secs(30);

/// The most hosts that are looked at because another host has lost them.
const RUMOURS_MAX: usize = 8;

/// What a stream is opened for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To know the same afterwards.
    Exchange,
    /// To find out whether this host's registrar is there.
    Check(HostName),
    /// To find out whether another process bears this host's own name.
    Namesake,
    /// To find out who answers at an address that two hosts claim.
    Holder,
    /// To have this host do something.
    Order(HostName, Order),
}

/// How a stream ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamEnd {
    /// It could not be opened.
    NotOpened(OpenFailure),
    /// It broke, or the other side closed it.
    ByOther,
    /// It took too long.
    TimedOut,
    /// What came on it was refused.
    Refused(Refusal),
}

/// One stream.
#[derive(Debug)]
pub(super) struct Session {
    /// `None` until the driver has opened it.
    channel: Option<Channel>,
    pub(super) remote: SocketAddr,
    pub(super) opener: bool,
    pub(super) purpose: Purpose,
    pub(super) peer: Option<Hello>,
    /// The other side has said what it remembers of this host.
    pub(super) remembered: bool,
    /// The other side has given an order.
    pub(super) is_ordered: bool,
    exchange: Exchange,
}

impl Session {
    const fn is_exchange(&self) -> bool {
        matches!(self.purpose, Purpose::Exchange)
    }

    /// Whether the driver has connected it.
    pub(super) const fn is_open(&self) -> bool {
        self.channel.is_some()
    }
}

impl Gossip {
    /// A stream that was asked for by [`Output::OpenStream`] is open.
    pub fn handle_stream_opened(&mut self, now: Instant, stream: StreamId) {
        let Some(session) = self.sessions.get_mut(&stream) else { return };
        match Channel::open(&self.envelope, &mut self.rng) {
            Ok((channel, first)) => {
                session.channel = Some(channel);
                self.write(stream, first);
                self.say(stream, &self.hello());
            }
            Err(why) => self.refuse_stream(now, stream, why),
        }
    }

    /// Bytes came in on a stream.
    pub fn handle_stream_data(&mut self, now: Instant, stream: StreamId, bytes: &[u8]) {
        let Some(channel) = self.sessions.get_mut(&stream).and_then(|session| session.channel.as_mut()) else {
            return;
        };
        let mut answer = Vec::new();
        let messages = channel.receive(&self.envelope, bytes, &mut answer);
        self.write(stream, answer);
        let handled = messages.and_then(|messages| {
            messages.iter().try_for_each(|bytes| self.handle_message(now, stream, Message::decode(bytes)?))
        });
        if let Err(why) = handled {
            self.refuse_stream(now, stream, why);
        }
        self.settle(now);
    }

    /// A stream that was asked for by [`Output::OpenStream`] could not be opened.
    pub fn handle_stream_failed(&mut self, now: Instant, stream: StreamId, why: OpenFailure) {
        self.end_stream(now, stream, StreamEnd::NotOpened(why));
        self.settle(now);
    }

    /// A stream has broken, or was closed by the other side.
    pub fn handle_stream_closed(&mut self, now: Instant, stream: StreamId) {
        self.end_stream(now, stream, StreamEnd::ByOther);
        self.settle(now);
    }

    pub(super) fn has_stream_to(&self, address: SocketAddr) -> bool {
        self.sessions.values().any(|session| session.opener && session.remote == address && session.is_exchange())
    }

    /// Asks the driver for a stream, unless there are too many.
    pub(super) fn open_stream(&mut self, now: Instant, to: SocketAddr, purpose: Purpose) -> Option<StreamId> {
        let is_check = purpose != Purpose::Exchange;
        let opened = self.sessions.values().filter(|session| session.opener && session.is_exchange() != is_check);
        if opened.count() >= if is_check { CHECKS_MAX } else { OPENED_MAX } {
            return None;
        }
        self.counters.streams_opened += 1;
        let stream = self.add_session(now, None, to, true, purpose);
        self.outputs.push_back(Output::OpenStream { stream, to });
        Some(stream)
    }

    pub(super) fn add_session(
        &mut self,
        now: Instant,
        channel: Option<Channel>,
        remote: SocketAddr,
        opener: bool,
        purpose: Purpose,
    ) -> StreamId {
        let id = StreamId(self.next_id());
        let exchange = Exchange::default();
        let session =
            Session { channel, remote, opener, purpose, peer: None, remembered: false, is_ordered: false, exchange };
        self.sessions.insert(id, session);
        self.timers.set(Wake::Stream(id), now + GREETING_MAX);
        id
    }

    pub(super) fn say(&mut self, stream: StreamId, message: &Message) {
        let Some(channel) = self.sessions.get_mut(&stream).and_then(|session| session.channel.as_mut()) else {
            return;
        };
        let mut bytes = Vec::new();
        // Only a message beyond its bound could fail, and there is none.
        let _ = channel.send(&message.encode(), &mut bytes);
        self.write(stream, bytes);
    }

    fn write(&mut self, stream: StreamId, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            self.counters.stream_bytes_sent += bytes.len() as u64;
            self.outputs.push_back(Output::WriteStream { stream, bytes });
        }
    }

    fn refuse_stream(&mut self, now: Instant, stream: StreamId, why: Refusal) {
        self.counters.count_refused(why);
        self.end_stream(now, stream, StreamEnd::Refused(why));
    }

    /// Nothing more is wanted of the stream.
    pub(super) fn close_stream(&mut self, stream: StreamId) {
        if let Some(session) = self.sessions.remove(&stream) {
            self.timers.clear(&Wake::Stream(stream));
            self.outputs.push_back(Output::CloseStream { stream });
            if matches!(session.purpose, Purpose::Order(..)) {
                self.order_broke_off(stream, &session, false);
            }
        }
    }

    /// The stream is over before its time.
    pub(super) fn end_stream(&mut self, now: Instant, stream: StreamId, end: StreamEnd) {
        let Some(session) = self.sessions.remove(&stream) else { return };
        self.timers.clear(&Wake::Stream(stream));
        let by_other = matches!(end, StreamEnd::ByOther | StreamEnd::NotOpened(_));
        if !by_other {
            self.outputs.push_back(Output::CloseStream { stream });
        }
        self.note_about_seed(now, &session, end);
        if matches!(session.purpose, Purpose::Order(..)) {
            return self.order_broke_off(stream, &session, by_other);
        }
        if session.peer.is_some() {
            return;
        }
        match session.purpose {
            // Who accepts and closes is there, and has no time; who accepts and is silent hangs.
            Purpose::Check(host) if by_other && session.channel.is_some() => {
                self.registrar_answered(now, &host, Answer::Busy);
            }
            Purpose::Check(host) if end == StreamEnd::NotOpened(OpenFailure::Refused) => {
                self.registrar_answered(now, &host, Answer::Absent);
            }
            Purpose::Check(host) => self.registrar_answered(now, &host, Answer::No),
            Purpose::Namesake => self.no_namesake(now, session.remote),
            Purpose::Exchange | Purpose::Holder | Purpose::Order(..) => {}
        }
    }

    /// Keeps what an ended stream says of a seed.
    fn note_about_seed(&mut self, now: Instant, session: &Session, end: StreamEnd) {
        if session.peer.is_some() {
            return;
        }
        let outcome = match end {
            StreamEnd::Refused(why) if !session.opener => {
                return self.seeds.was_refused(session.remote.ip(), why, now);
            }
            _ if !session.opener => return,
            StreamEnd::NotOpened(why) => SeedOutcome::NotConnected(why),
            StreamEnd::ByOther if session.is_open() => SeedOutcome::HungUp,
            StreamEnd::ByOther => SeedOutcome::NotConnected(OpenFailure::Unreachable),
            StreamEnd::TimedOut if session.is_open() => SeedOutcome::Silent,
            StreamEnd::TimedOut => SeedOutcome::NotConnected(OpenFailure::TimedOut),
            StreamEnd::Refused(_) => SeedOutcome::NotGossip,
        };
        self.seeds.tried(session.remote, outcome, now);
    }

    fn handle_message(&mut self, now: Instant, id: StreamId, message: Message) -> Result<(), Refusal> {
        match message {
            Message::Hello(hello) => {
                self.allow_an_exchange(now, id);
                return self.handle_hello(now, id, &hello);
            }
            Message::Remembered(theirs) => return self.handle_remembered(now, id, &theirs),
            Message::Members(members) => return self.handle_members(now, id, members),
            Message::Record(host, record) => return self.handle_record(now, id, &host, record),
            Message::Order(order) => return self.handle_order(id, order),
            Message::Answer(answer) => return self.handle_answer(id, answer),
            _ => {}
        }
        let latest = self.latest_plausible(now);
        let mut forged = None;
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        if session.peer.is_none() {
            return Err(Refusal::Malformed);
        }
        let answer = match message {
            Message::Digest { .. } if self.phase != Phase::Inside => {
                self.close_stream(id);
                return Ok(());
            }
            Message::Digest { members: theirs, buckets } => {
                let members = self.members.as_ref();
                let digest = digest_of(members, self.is_informed);
                let served =
                    self.hosts.iter().map(|(_, host)| host).filter(|host| theirs == NOT_TOLD && host.is_served());
                let list = || members.map_or_else(Vec::new, |members| members_to_tell(members, served));
                session.exchange.digest(&self.catalogue, (theirs, &buckets), digest, list)?
            }
            Message::Heads { last, mut heads } => {
                heads.retain(|head| head.stamp.incarnation <= latest);
                let name = &self.identity.name;
                forged = heads.iter().find(|head| head.host == **name).map(|head| head.stamp);
                session.exchange.heads(&self.catalogue, name, last, heads)?.into_iter().collect()
            }
            Message::Want(hosts) => session.exchange.wanted(&self.catalogue, &hosts)?,
            _ => {
                session.exchange.done();
                Vec::new()
            }
        };
        answer.iter().for_each(|message| self.say(id, message));
        if let Some(stamp) = forged {
            self.defend_name(now, stamp);
        }
        self.close_if_over(id);
        Ok(())
    }

    /// The other side has said who it is: there may be much to say. An order's time is as it was.
    fn allow_an_exchange(&mut self, now: Instant, id: StreamId) {
        if self.sessions.get(&id).is_some_and(|session| !matches!(session.purpose, Purpose::Order(..))) {
            self.timers.set(Wake::Stream(id), now + EXCHANGE_MAX);
        }
    }

    pub(super) fn say_digest(&mut self, id: StreamId) {
        let digest = digest_of(self.members.as_ref(), self.is_informed);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let (exchange, first) = Exchange::open(&self.catalogue, digest);
        session.exchange = exchange;
        self.say(id, &first);
    }

    fn close_if_over(&mut self, id: StreamId) {
        let Some(session) = self.sessions.get(&id).filter(|session| session.exchange.is_over()) else { return };
        self.counters.exchanges_completed += 1;
        self.is_informed |= session.peer.as_ref().is_some_and(|peer| peer.standing == Standing::Inside);
        // Who accepted leaves the closing to the opener: what was said last must arrive.
        if session.opener {
            self.close_stream(id);
        }
    }

    /// What the other side knows of members. Whom it has lost is looked at, not believed.
    fn handle_members(&mut self, now: Instant, id: StreamId, theirs: Vec<Member<HostIdentity>>) -> Result<(), Refusal> {
        if self.sessions.get(&id).is_none_or(|session| session.peer.is_none()) {
            return Err(Refusal::Malformed);
        }
        let (own, latest) = (self.identity.fingerprint, self.latest_plausible(now));
        let Some(members) = &mut self.members else { return Ok(()) };
        if members.all().len() + theirs.len() > MEMBERS_MAX + LIST_MAX {
            return Err(Refusal::TooMuch);
        }
        let (lost, present): (Vec<_>, Vec<_>) = theirs
            .into_iter()
            .filter(|member| member.id().fingerprint != own && member.id().incarnation <= latest)
            .partition(|member| member.state() == State::Down);
        members.apply(present.into_iter());
        let is_here = |lost: &&Member<HostIdentity>| {
            members.find(lost.id().fingerprint).is_some_and(|m| m.id() == lost.id() && m.state() != State::Down)
        };
        let rumours: Vec<_> = lost.iter().filter(is_here).map(|lost| lost.id().name.as_ref().clone()).collect();
        rumours.iter().take(RUMOURS_MAX).for_each(|host| self.doubt(now, host));
        lost.into_iter().for_each(|lost| self.hear_of_lost(now, lost.id().clone()));
        self.settle(now);
        Ok(())
    }

    fn handle_record(
        &mut self,
        now: Instant,
        id: StreamId,
        host: &HostName,
        record: HostRecord,
    ) -> Result<(), Refusal> {
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let next = session.exchange.record(host)?;
        self.learn(now, host, record);
        if let Some(message) = next {
            self.say(id, &message);
        }
        self.close_if_over(id);
        Ok(())
    }
}

/// Members to tell another host of: those that are there, and those that were lost. `served` may be in service although
/// their registrars are dead; to who was never told of them they are lost ones as well, to be looked at.
fn members_to_tell<'a>(members: &Members, served: impl Iterator<Item = &'a Host>) -> Vec<Member<HostIdentity>> {
    let own = Member::alive(members.identity().clone());
    let known: BTreeSet<_> = members.all().map(|member| member.id().fingerprint).collect();
    let served = served.map(|host| &host.identity).filter(|identity| !known.contains(&identity.fingerprint));
    let served = served.cloned().map(Member::down);
    members.all().cloned().chain(std::iter::once(own)).chain(served).take(crate::HOSTS_MAX).collect()
}

/// Equal on two hosts that see the same members. A host that was never told of them says so: the other's list then
/// also names those that are lost.
fn digest_of(members: Option<&Members>, is_informed: bool) -> u64 {
    members.filter(|_| is_informed).map_or(NOT_TOLD, Members::digest)
}

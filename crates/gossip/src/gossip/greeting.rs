//! The first words on a stream: who is there, what each remembers of the other, and what follows from it.
//!
//! A host's incarnation must be later than all that anybody remembers of its name. And of two processes that
//! bear one name at once, both must find out, and one must yield.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use foca::{Member, State};

use super::Gossip;
use super::joining::Phase;
use super::streams::Purpose;
use crate::hosts::Answer;
use crate::identity::HostIdentity;
use crate::message::{Hello, Message, Remembered, Standing};
use crate::output::StreamId;
use crate::refusal::Refusal;
use crate::seeds::SeedOutcome;
use crate::timers::Wake;

/// How long a clash is reported after it was last seen.
const CLASH_REPORTED: Duration = Duration::from_secs(60);

/// How often the yielding host asks whether the other is still there.
const CLASH_ASK_EVERY: Duration = Duration::from_secs(15);

/// How long a host waits before it begins yet another life because somebody remembers a later one: a fault
/// must not make it change for ever.
const LIFE_MIN: Duration = Duration::from_secs(3);

/// Another process bears this host's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clash {
    pub(super) address: SocketAddr,
    pub(super) yields: bool,
    seen: Instant,
}

impl Gossip {
    pub(super) fn hello(&self) -> Message {
        Message::Hello(Hello {
            identity: self.identity.clone(),
            boot: self.boot,
            started: self.started,
            standing: self.phase.standing(),
        })
    }

    /// What this host knows of another.
    pub(super) fn remembered(&self, other: &HostIdentity) -> Message {
        let member = self.members.as_ref().and_then(|members| members.find(other.fingerprint));
        let lives = [
            member.map(|member| member.id().incarnation),
            self.catalogue.stamp(&other.name).map(|stamp| stamp.incarnation),
            self.replay.incarnation(other.fingerprint),
        ];
        Message::Remembered(Remembered {
            incarnation: lives.into_iter().flatten().max().unwrap_or_default(),
            member: member.map(|member| (member.id().clone(), member.state() != State::Down)),
        })
    }

    /// The other side has said who it is.
    pub(super) fn handle_hello(&mut self, now: Instant, id: StreamId, hello: &Hello) -> Result<(), Refusal> {
        let latest = self.latest_plausible(now);
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        if session.peer.is_some() {
            return Err(Refusal::Malformed);
        }
        if hello.identity.incarnation.max(hello.started) > latest {
            return Err(Refusal::TooFarAhead);
        }
        session.peer = Some(hello.clone());
        let (opener, purpose, remote) = (session.opener, session.purpose.clone(), session.remote);
        let is_namesake = hello.identity.fingerprint == self.identity.fingerprint;
        if opener {
            let is_itself = hello.boot == self.boot;
            let name = hello.identity.name.as_ref().clone();
            let outcome = if is_itself { SeedOutcome::Itself } else { SeedOutcome::Reached(name) };
            self.seeds.tried(remote, outcome, now);
            self.answered_at(now, remote, &hello.identity.name);
        } else if !self.may_stay() {
            return Err(Refusal::TooMuch);
        } else {
            self.say(id, &self.hello());
            if !is_namesake {
                self.say(id, &self.remembered(&hello.identity));
            }
        }
        if let Purpose::Order(host, order) = purpose {
            self.order_host(id, &hello.identity.name, (&host, order));
        } else if is_namesake {
            self.close_stream(id);
            if hello.boot != self.boot {
                self.meet_namesake(now, hello);
            } else if purpose == Purpose::Namesake {
                self.no_namesake(now, remote);
            }
        } else if purpose == Purpose::Namesake {
            self.close_stream(id);
            self.no_namesake(now, remote);
        } else if let Purpose::Check(host) = purpose {
            let answer = if host == *hello.identity.name { Answer::Yes } else { Answer::No };
            self.registrar_answered(now, &host, answer);
        }
        Ok(())
    }

    /// The other side has said what it remembers of this host.
    pub(super) fn handle_remembered(&mut self, now: Instant, id: StreamId, theirs: &Remembered) -> Result<(), Refusal> {
        let latest = self.latest_plausible(now);
        let Some(session) = self.sessions.get_mut(&id) else { return Ok(()) };
        let Some(peer) = session.peer.clone() else { return Err(Refusal::Malformed) };
        if std::mem::replace(&mut session.remembered, true) {
            return Err(Refusal::Malformed);
        }
        if matches!(session.purpose, Purpose::Order(..)) {
            return Ok(());
        }
        let lives = theirs.member.iter().map(|(identity, _)| identity.incarnation);
        if lives.chain([theirs.incarnation]).any(|life| life > latest) {
            return Err(Refusal::TooFarAhead);
        }
        let (opener, is_check) = (session.opener, matches!(session.purpose, Purpose::Check(_) | Purpose::Holder));
        if opener {
            self.say(id, &self.remembered(&peer.identity));
        }
        self.consider(now, &peer, theirs);
        // Who is not inside has nothing to tell: it may be about to find that its name is taken.
        let compares = self.phase == Phase::Inside && peer.standing != Standing::Apart;
        if opener && (is_check || !compares) {
            self.close_stream(id);
        } else if opener {
            self.say_digest(id);
        }
        Ok(())
    }

    /// Takes part with the peer, under an identity that is later than what it remembers.
    fn consider(&mut self, now: Instant, peer: &Hello, theirs: &Remembered) {
        if self.phase.standing() == Standing::Apart || peer.standing == Standing::Apart {
            return;
        }
        let elsewhere = |(identity, alive): &(HostIdentity, bool)| {
            (*alive && identity.address != self.identity.address).then_some(identity.address)
        };
        if let Some(address) = theirs.member.as_ref().and_then(elsewhere).filter(|at| self.cleared != Some(*at)) {
            // This host before it moved, or another of the same name: only asking there can tell.
            self.open_stream(now, address, Purpose::Namesake);
            return;
        }
        let renewed = self.outlive(now, theirs);
        if renewed || self.members.is_none() {
            self.enter(now, peer.identity.clone());
        } else if peer.standing == Standing::Inside {
            self.meet(&peer.identity);
        }
        self.settle(now);
    }

    /// Both are members; they may not know it of each other.
    fn meet(&mut self, peer: &HostIdentity) {
        let Some(members) = &mut self.members else { return };
        // Who is taken for dead under this very identity has just been told so, and takes another.
        if members.find(peer.fingerprint).is_none_or(|member| member.id() != peer) {
            members.apply(std::iter::once(Member::alive(peer.clone())));
            members.announce_to(peer.clone());
        }
    }

    /// Makes this host's identity later than all that is remembered of it. Says whether that changed it.
    fn outlive(&mut self, now: Instant, theirs: &Remembered) -> bool {
        // Who was never inside can't have been heard of: what is remembered is an earlier life.
        let is_new = self.last_life.is_none() && self.members.is_none();
        let earlier_life = is_new && theirs.incarnation == self.identity.incarnation;
        if theirs.incarnation > self.identity.incarnation || earlier_life {
            return self.begin_life(now, theirs.incarnation);
        }
        self.last_life.get_or_insert(now);
        match &theirs.member {
            Some((known, alive)) if known.incarnation == self.identity.incarnation => {
                let is_outdated =
                    known.renewal > self.identity.renewal || (!alive && known.renewal == self.identity.renewal);
                if is_outdated {
                    self.identity = HostIdentity { renewal: known.renewal, ..self.identity.clone() }.renewed();
                    self.counters.renewals += u64::from(self.members.is_some());
                }
                is_outdated
            }
            _ => false,
        }
    }

    /// Begins a life that is later than `remembered`.
    fn begin_life(&mut self, now: Instant, remembered: model::Incarnation) -> bool {
        let is_soon = self.last_life.is_some_and(|last| now.saturating_duration_since(last) < LIFE_MIN);
        if is_soon && self.members.is_some() {
            return false;
        }
        self.last_life = Some(now);
        let incarnation = self.identity.incarnation.beyond(remembered);
        self.identity = HostIdentity { incarnation, renewal: 0, ..self.identity.clone() };
        self.own.begin_life(now, incarnation);
        let name = self.own_name().clone();
        self.catalogue.remove(&name);
        if let Some(record) = self.own.said() {
            self.catalogue.merge(&name, record.clone());
        }
        true
    }

    /// Somebody says something of this host that it did not say: what it says itself from now on is later.
    pub(super) fn defend_name(&mut self, now: Instant, forged: model::Stamp) {
        if self.phase == Phase::Inside && forged > self.own.stamp() && self.begin_life(now, forged.incarnation) {
            self.reenter(now);
        }
    }

    /// Another process bears this host's name. Who is inside keeps it, or else who is older.
    fn meet_namesake(&mut self, now: Instant, other: &Hello) {
        let inside = |standing| standing == Standing::Inside;
        let yields = match (inside(self.phase.standing()), inside(other.standing)) {
            (true, false) => false,
            (false, true) => true,
            _ => (self.started, self.boot) > (other.started, other.boot),
        };
        self.clash = Some(Clash { address: other.identity.address, yields, seen: now });
        self.problems_changed();
        if yields && matches!(self.phase, Phase::Outside { .. } | Phase::Inside) {
            self.end_membership();
            self.timers.clear(&Wake::Join);
            self.phase = Phase::Yielding;
        }
        if self.phase == Phase::Yielding {
            self.timers.set(Wake::Clash, now + CLASH_ASK_EVERY);
        } else if other.identity.incarnation >= self.identity.incarnation
            && self.begin_life(now, other.identity.incarnation)
        {
            // What the other said under this name must not stay.
            self.reenter(now);
        }
    }

    /// Goes on under the present identity with one of those that are there.
    fn reenter(&mut self, now: Instant) {
        let peer = self.members.as_ref().and_then(|members| members.active().next().cloned());
        if let Some(peer) = peer {
            self.enter(now, peer);
        }
    }

    /// Asks whether the process that bears this host's name is still there.
    pub(super) fn ask_the_other(&mut self, now: Instant) {
        if let Some(clash) = self.clash.filter(|_| self.phase == Phase::Yielding) {
            self.open_stream(now, clash.address, Purpose::Namesake);
            self.timers.set(Wake::Clash, now + CLASH_ASK_EVERY);
        }
    }

    /// Nobody of this host's name was found there.
    pub(super) fn no_namesake(&mut self, now: Instant, address: SocketAddr) {
        self.cleared = Some(address);
        if self.phase == Phase::Yielding {
            self.clash = None;
            self.phase = Phase::outside(now, false);
            self.timers.clear(&Wake::Clash);
            self.problems_changed();
        }
        if matches!(self.phase, Phase::Outside { .. }) {
            self.timers.set(Wake::Join, now);
        }
    }

    /// The clash to report, while it lasts.
    pub(super) fn current_clash(&self) -> Option<Clash> {
        let yields = self.phase == Phase::Yielding;
        self.clash.filter(|clash| yields || self.last_heard.saturating_duration_since(clash.seen) < CLASH_REPORTED)
    }
}

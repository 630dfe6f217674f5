//! The state machine of one host: events in, outputs out.
//!
//! | part | file |
//! |---|---|
//! | getting in, being cut off, getting in again | `joining` |
//! | who is at the other end of a stream, and what follows | `greeting` |
//! | which streams of others are let in | `accepting` |
//! | streams and the exchange on them | `streams` |
//! | what the operator of one host wants of another | `orders` |
//! | what changed here and elsewhere, leaving | `spreading` |
//! | looking at hosts that do not answer | `checking` |
//! | two hosts at one address | `claims` |
//! | forgetting those that are gone for long | `expiry` |
//! | what is known, for the outside | `view` |

mod accepting;
mod checking;
mod claims;
mod expiry;
mod greeting;
mod joining;
mod orders;
mod spreading;
mod streams;
#[cfg(test)]
mod tests;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use model::{HostName, Incarnation};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

pub use self::orders::{ORDER_MAX, OrderError};
pub use self::view::{HostView, Part, Problem};
use crate::addresses::AddressRules;
use crate::catalogue::Catalogue;
use crate::config::Config;
use crate::envelope::Envelope;
use crate::hosts::Hosts;
use crate::identity::{HostIdentity, IdentityCodec};
use crate::key_ring::KeyRing;
use crate::local_health::Hearing;
use crate::members::{Effects, MemberEvent, Members};
use crate::output::{Output, ProbeId, StreamId};
use crate::own::{LeftOut, OwnRecord};
use crate::refusal::{Counters, Refusal};
use crate::replay::{ReplayWindows, Replayed};
use crate::seeds::Seeds;
use crate::timers::{Due, Timers, Wake};
use crate::wire::Reader;
use greeting::Clash;
use joining::Phase;
use spreading::Fetch;
use streams::{Session, StreamEnd};

/// How far ahead of this host's clock another's may be: 200 years. A host without a battery for its clock begins in 1970.
const AHEAD_MAX: Duration = Duration::from_secs(200 * 365 * 24 * 3600);

/// One host's part in the gossip, without sockets, clock or randomness of its own.
///
/// The driver owns a UDP socket, a TCP listener and a timer. The methods are of four kinds:
/// - **`handle_*`**: something happened in the world. Call them as it happens, with the present time.
/// - **commands** ([`announce`](Self::announce), [`set_seeds`](Self::set_seeds),
///   [`set_keys`](Self::set_keys), [`order`](Self::order), [`leave`](Self::leave)): the application wants something.
/// - **`poll_*`**: after any of these, call [`poll_output`](Self::poll_output) until it yields nothing and do
///   what it says, then call [`poll_timeout`](Self::poll_timeout) and see that
///   [`handle_timeout`](Self::handle_timeout) is called then. Late is harmless.
/// - **getters** ([`host`](Self::host), [`hosts`](Self::hosts), [`problems`](Self::problems),
///   [`counters`](Self::counters)): what is known now. [`Output::HostChanged`] says which host to look at
///   again, so that a change costs no more in a large cluster than in a small one.
///
/// `now` must never go back between calls. Nothing that comes from the network can make a method fail or
/// panic: it is counted in [`counters`](Self::counters) and dropped.
///
/// ```no_run
/// # fn wait_for_something(_until: Option<std::time::Instant>) -> Event { unimplemented!() }
/// # enum Event { Datagram(Vec<u8>), TimeIsUp }
/// # fn carry_out(_output: gossip::Output) {}
/// # fn run(mut gossip: gossip::Gossip) {
/// use std::time::Instant;
/// loop {
///     while let Some(output) = gossip.poll_output() {
///         carry_out(output);
///     }
///     match wait_for_something(gossip.poll_timeout()) {
///         Event::Datagram(bytes) => gossip.handle_datagram(Instant::now(), &bytes),
///         Event::TimeIsUp => gossip.handle_timeout(Instant::now()),
///     }
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct Gossip {
    envelope: Envelope,
    rules: AddressRules,
    rng: StdRng,
    /// How this host is known now. Kept while outside, so that the next identity is a later one.
    identity: HostIdentity,
    /// By which this process knows itself.
    boot: u64,
    /// The incarnation that this process began with.
    started: Incarnation,
    /// When that was, in milliseconds of Unix time, and the same moment by the other clock.
    started_at: (u64, Instant),
    phase: Phase,
    members: Option<Members>,
    own: OwnRecord,
    left_out: Vec<LeftOut>,
    catalogue: Catalogue,
    hosts: Hosts,
    seeds: Seeds,
    sessions: BTreeMap<StreamId, Session>,
    probes: BTreeMap<ProbeId, HostName>,
    fetches: BTreeMap<HostName, Fetch>,
    clash: Option<Clash>,
    /// Another host that answered at this host's own address.
    address_holder: Option<HostName>,
    /// Since when records are known of hosts of which nothing else was ever heard.
    orphans: BTreeMap<HostName, Instant>,
    /// Where nobody of this host's name was found.
    cleared: Option<SocketAddr>,
    replay: ReplayWindows,
    datagrams_sealed: u64,
    ids_given: u64,
    exchanges_begun: u64,
    /// An exchange was completed with somebody who was inside.
    is_informed: bool,
    last_heard: Instant,
    entered: Instant,
    /// How often in a row this host got in by a stream and then heard no datagram.
    in_vain: u32,
    last_loss: Option<Instant>,
    last_spread: Option<Instant>,
    last_life: Option<Instant>,
    timers: Timers,
    outputs: VecDeque<Output>,
    changed: BTreeSet<HostName>,
    counters: Counters,
}

impl Gossip {
    /// A host that is alone and says nothing yet. `rng` must be seeded by the operating system, except in
    /// tests; nonces and ephemeral keys are drawn from it.
    #[must_use]
    pub fn new(config: Config, mut rng: StdRng, now: Instant) -> Self {
        let started = Incarnation::new(config.unix_ms);
        let boot = rng.random();
        let Config { host, cluster, keys, address, own_addresses, service_addresses, unix_ms } = config;
        Self {
            envelope: Envelope { cluster, keys },
            rules: AddressRules { service_addresses, own_addresses },
            rng,
            own: OwnRecord::new(host.clone(), started),
            identity: HostIdentity::new(host, address, started),
            boot,
            started,
            started_at: (unix_ms, now),
            phase: Phase::outside(now, false),
            members: None,
            left_out: Vec::new(),
            catalogue: Catalogue::default(),
            hosts: Hosts::default(),
            seeds: Seeds::default(),
            sessions: BTreeMap::new(),
            probes: BTreeMap::new(),
            fetches: BTreeMap::new(),
            clash: None,
            address_holder: None,
            orphans: BTreeMap::new(),
            cleared: None,
            replay: ReplayWindows::default(),
            datagrams_sealed: 0,
            ids_given: 0,
            exchanges_begun: 0,
            is_informed: false,
            last_heard: now,
            entered: now,
            in_vain: 0,
            last_loss: None,
            last_spread: None,
            last_life: None,
            timers: Timers::default(),
            outputs: VecDeque::new(),
            changed: BTreeSet::new(),
            counters: Counters::default(),
        }
    }

    /// Replaces the keys, for new datagrams and streams; streams under way go on.
    pub fn set_keys(&mut self, keys: KeyRing) {
        self.envelope.keys = keys;
    }

    /// A datagram came in on the gossip socket.
    pub fn handle_datagram(&mut self, now: Instant, bytes: &[u8]) {
        match self.accept_datagram(now, bytes) {
            Ok(()) => self.counters.datagrams_received += 1,
            Err(why) => self.counters.count_refused(why),
        }
        self.settle(now);
    }

    fn accept_datagram(&mut self, now: Instant, bytes: &[u8]) -> Result<(), Refusal> {
        let (count, body) = self.envelope.open(bytes)?;
        let header = IdentityCodec::read_header(&mut Reader::new(&body))?;
        if header.src.fingerprint == self.identity.fingerprint {
            return Err(Refusal::OwnName);
        }
        if header.dst.fingerprint != self.identity.fingerprint {
            return Err(Refusal::NotForThisHost);
        }
        if header.dst.incarnation != self.identity.incarnation {
            return Err(Refusal::OldLife);
        }
        if header.src.incarnation > self.latest_plausible(now) {
            return Err(Refusal::TooFarAhead);
        }
        let fresh = self.replay.accept(header.src.fingerprint, header.src.incarnation, count);
        fresh.map_err(|why| match why {
            Replayed::Seen => Refusal::Replayed,
            Replayed::OldLife => Refusal::OldLife,
        })?;
        self.last_heard = now;
        if std::mem::take(&mut self.in_vain) > 0 {
            self.problems_changed();
        }
        let latest = self.latest_plausible(now);
        self.members.as_mut().map_or(Ok(()), |members| members.handle_datagram(&body, latest))
    }

    /// The time that [`poll_timeout`](Self::poll_timeout) named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(due) = self.timers.pop(now) {
            match due {
                Due::Foca(timer) => self.handle_foca_timer(now, timer),
                Due::Wake(wake) => self.handle_wake(now, wake),
            }
            self.settle(now);
        }
    }

    fn handle_wake(&mut self, now: Instant, wake: Wake) {
        match wake {
            Wake::Watch => self.watch(now),
            Wake::Join => self.join(now),
            Wake::Exchange => self.begin_exchange(now),
            Wake::Reconcile => self.reconcile(now),
            Wake::Spread => self.spread(now),
            Wake::Clash => self.ask_the_other(now),
            Wake::Leave => self.continue_leaving(now),
            Wake::Fetch(host) => self.fetch(now, host),
            Wake::Check(host) => self.check(now, host),
            Wake::Holder(address) => self.look_for_holder(now, address),
            Wake::Stream(stream) => self.end_stream(now, stream, StreamEnd::TimedOut),
        }
    }

    fn handle_foca_timer(&mut self, now: Instant, timer: foca::Timer<HostIdentity>) {
        let Some(members) = &mut self.members else { return };
        let silence = now.saturating_duration_since(self.last_heard);
        let hearing = Hearing { silence, others: members.others() };
        if let Some((later, timer)) = members.handle_timer(timer, hearing) {
            self.timers.add_foca(timer, now + later);
        }
    }

    /// The next thing to do. To be called until it yields nothing.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front().or_else(|| self.changed.pop_first().map(Output::HostChanged))
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called next.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Does what follows from the last call to foca, until nothing follows any more.
    fn settle(&mut self, now: Instant) {
        while let Some(members) = &mut self.members {
            let Effects { send, timers, events, arrived } = members.effects();
            let is_settled = send.is_empty() && timers.is_empty() && events.is_empty() && arrived.is_empty();
            if is_settled {
                return;
            }
            timers.into_iter().for_each(|(after, timer)| self.timers.add_foca(timer, now + after));
            send.into_iter().for_each(|(to, body)| self.send(to, &body));
            events.into_iter().for_each(|event| self.handle_member_event(now, event));
            arrived.into_iter().for_each(|arrived| self.hear(now, arrived));
        }
    }

    fn send(&mut self, to: SocketAddr, body: &[u8]) {
        self.datagrams_sealed += 1;
        let bytes = self.envelope.seal(self.datagrams_sealed, body, &mut self.rng);
        self.counters.datagrams_sent += 1;
        self.counters.datagram_bytes_sent += bytes.len() as u64;
        self.outputs.push_back(Output::Datagram { to, bytes });
    }

    fn handle_member_event(&mut self, now: Instant, event: MemberEvent) {
        match event {
            MemberEvent::Up(identity) => self.host_is_up(now, identity),
            MemberEvent::Down(identity) => self.host_is_down(now, &identity),
            MemberEvent::Alone => self.step_outside(now, false),
            MemberEvent::TakenForDead => {
                self.counters.renewals += 1;
                self.step_outside(now, false);
            }
        }
    }

    /// The latest life of another host that is believed. A host whose name was used with a later one could never speak
    /// for itself again. The limit moves with time, so that whatever was believed can be outlived a moment later, and it
    /// is wide enough for clocks that are set wrong on either side.
    fn latest_plausible(&self, now: Instant) -> Incarnation {
        let (unix_ms, at) = self.started_at;
        let passed = now.saturating_duration_since(at) + AHEAD_MAX;
        Incarnation::new(unix_ms.saturating_add(u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)))
    }

    const fn next_id(&mut self) -> u64 {
        self.ids_given += 1;
        self.ids_given
    }

    /// A moment between now and `most` later, so that hosts do not all do the same at once.
    fn soon(&mut self, now: Instant, most: Duration) -> Instant {
        now + most.mul_f64(self.rng.random())
    }

    fn fork_rng(&mut self) -> StdRng {
        StdRng::from_seed(self.rng.random())
    }

    fn own_name(&self) -> &HostName {
        &self.identity.name
    }

    fn problems_changed(&mut self) {
        if self.outputs.back() != Some(&Output::ProblemsChanged) {
            self.outputs.push_back(Output::ProblemsChanged);
        }
    }
}

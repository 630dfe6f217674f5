//! Who is in the cluster: foca, and what stands around it.
//!
//! One value of this type is one membership. When this host was cut off, or taken for dead, the value is
//! dropped with all its timers and suspicions, and a new one is made under a new identity: what foca believed
//! while it heard nobody would make every other host take a new identity too.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use foca::{Foca, Member, Notification, Runtime, Timer};
use model::{HostName, Incarnation, Stamp};
use rand::rngs::StdRng;

use crate::broadcasts::{Arrived, Inbox};
use crate::cluster::fingerprint;
use crate::delta::Broadcast;
use crate::gate::Gate;
use crate::identity::HostIdentity;
use crate::local_health::{Hearing, LocalHealth};
use crate::refusal::Refusal;
use crate::settings::Settings;

/// What foca found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MemberEvent {
    /// The host takes part, under this identity.
    Up(HostIdentity),
    /// The host does not answer, or has left.
    Down(HostIdentity),
    /// There is nobody left.
    Alone,
    /// This host is taken for dead, and needs a new identity.
    TakenForDead,
}

/// What is to be done after a call.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) send: Vec<(SocketAddr, Vec<u8>)>,
    pub(crate) timers: Vec<(Duration, Timer<HostIdentity>)>,
    pub(crate) events: Vec<MemberEvent>,
    pub(crate) arrived: Vec<Arrived>,
}

/// Names a suspicion, to count how often it was prolonged.
type Suspicion = (HostIdentity, foca::Incarnation);

/// This host's membership under one identity.
pub(crate) struct Members {
    foca: Foca<HostIdentity, Gate, StdRng, Inbox>,
    gate: Gate,
    collected: Collected,
    inbox: Inbox,
    settings: Settings,
    health: LocalHealth,
    prolonged: HashMap<(u64, foca::Incarnation), u8>,
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Members").field("identity", self.identity()).finish_non_exhaustive()
    }
}

impl Members {
    pub(crate) fn new(identity: HostIdentity, rng: StdRng) -> Self {
        let settings = Settings::new(1, false);
        let inbox = Inbox::new(identity.name.as_ref().clone());
        let gate = Gate::new(identity.clone());
        let foca = Foca::with_custom_broadcast(identity, settings.config(), rng, gate.clone(), inbox.clone());
        Self {
            foca,
            gate,
            collected: Collected::default(),
            inbox,
            settings,
            health: LocalHealth::default(),
            prolonged: HashMap::new(),
        }
    }

    pub(crate) const fn identity(&self) -> &HostIdentity {
        self.foca.identity()
    }

    /// How many others take part.
    pub(crate) const fn others(&self) -> usize {
        self.foca.num_members()
    }

    pub(crate) fn active(&self) -> impl Iterator<Item = &HostIdentity> {
        self.foca.iter_members().map(Member::id)
    }

    /// All that is known of members, those taken for dead included.
    pub(crate) fn all(&self) -> impl ExactSizeIterator<Item = &Member<HostIdentity>> {
        self.foca.iter_membership_state()
    }

    /// What is known of the host of this name.
    pub(crate) fn find(&self, fingerprint: u64) -> Option<&Member<HostIdentity>> {
        self.all().find(|member| member.id().fingerprint == fingerprint)
    }

    /// Stands for who takes part, this host included.
    pub(crate) fn digest(&self) -> u64 {
        let of = |identity: &HostIdentity| {
            let mut writer = crate::wire::Writer::default();
            identity.write(&mut writer);
            fingerprint(&[&writer.0])
        };
        self.active().map(of).fold(of(self.identity()), |digest, one| digest ^ one)
    }

    /// Takes in the body of a datagram for this identity. Lives after `latest` are not believed.
    pub(crate) fn handle_datagram(&mut self, body: &[u8], latest: Incarnation) -> Result<(), Refusal> {
        let members = self.foca.iter_membership_state();
        self.gate.adapt(latest, members.len(), members.map(|member| member.id().fingerprint));
        self.foca.handle_data(body, &mut self.collected).map_err(|error| match error {
            foca::Error::DataFromOurselves => Refusal::OwnName,
            _ => Refusal::Malformed,
        })
    }

    /// Handles a timer, or says when to handle it instead.
    pub(crate) fn handle_timer(
        &mut self,
        timer: Timer<HostIdentity>,
        hearing: Hearing,
    ) -> Option<(Duration, Timer<HostIdentity>)> {
        if let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = &timer {
            let suspicion = (member_id.clone(), *incarnation);
            if let Some(longer) = self.prolong(&suspicion, hearing) {
                return Some((longer, timer));
            }
        }
        let probe_ended = matches!(timer, Timer::ProbeRandomMember(_));
        // foca recovers by itself from what it calls an error of its caller.
        let _ = self.foca.handle_timer(timer, &mut self.collected);
        let failed = std::mem::take(&mut self.collected.probe_failed);
        if probe_ended {
            self.health.probe_ended(failed);
        }
        None
    }

    fn prolong(&mut self, (identity, incarnation): &Suspicion, hearing: Hearing) -> Option<Duration> {
        let key = (identity.fingerprint, *incarnation);
        let prolonged = self.prolonged.entry(key).or_default();
        let longer = self.health.prolong(self.settings.suspicion(), *prolonged, hearing);
        *prolonged = prolonged.saturating_add(1);
        if longer.is_none() {
            self.prolonged.remove(&key);
        }
        longer
    }

    /// Takes in what another host knows of members. It is not spread further: the other has done so.
    pub(crate) fn apply(&mut self, members: impl Iterator<Item = Member<HostIdentity>>) {
        let _ = self.foca.apply_many(members, false, &mut self.collected);
    }

    /// Takes a member for dead, and spreads it.
    pub(crate) fn declare_down(&mut self, identity: HostIdentity) {
        let _ = self.foca.apply_many(std::iter::once(Member::down(identity)), true, &mut self.collected);
    }

    /// Takes a member for alive, and spreads it.
    #[cfg(test)]
    pub(crate) fn spread_alive(&mut self, identity: HostIdentity) {
        let _ = self.foca.apply_many(std::iter::once(Member::alive(identity)), true, &mut self.collected);
    }

    /// Makes this host known to another, which tells the rest.
    pub(crate) fn announce_to(&mut self, other: HostIdentity) {
        let _ = self.foca.announce(other, &mut self.collected);
    }

    /// Spreads news, and begins at once.
    pub(crate) fn spread(&mut self, broadcast: &Broadcast) {
        let _ = self.foca.add_broadcast(&broadcast.encode());
        self.gossip();
    }

    /// Sends what waits to be spread to a few others.
    pub(crate) fn gossip(&mut self) {
        let _ = self.foca.gossip(&mut self.collected);
    }

    /// Tells a few others that this host takes part no longer.
    pub(crate) fn leave(&mut self) {
        let _ = self.foca.leave_cluster(&mut self.collected);
    }

    /// Up to which stamp a host's record is known.
    pub(crate) fn learn(&self, host: &HostName, stamp: Option<Stamp>) {
        self.inbox.learn(host, stamp);
    }

    /// Adapts foca to the number of hosts.
    pub(crate) fn adapt(&mut self, lost_lately: bool) {
        let settings = Settings::new(self.others() + 1, lost_lately);
        if settings != self.settings && self.foca.set_config(settings.config()).is_ok() {
            self.settings = settings;
        }
    }

    /// What follows from the calls since the last time.
    pub(crate) fn effects(&mut self) -> Effects {
        let Collected { send, timers, notes, .. } = std::mem::take(&mut self.collected);
        let events = notes.into_iter().filter_map(|note| self.event(note)).collect();
        Effects { send, timers, events, arrived: self.inbox.take() }
    }

    fn event(&self, note: Note) -> Option<MemberEvent> {
        match note {
            Note::Event(event) => Some(event),
            // A host that comes back before it was missed is only renamed.
            Note::Renamed(new) => self.active().any(|active| *active == new).then_some(MemberEvent::Up(new)),
        }
    }
}

#[derive(Debug)]
enum Note {
    Event(MemberEvent),
    Renamed(HostIdentity),
}

/// Takes what foca gives.
#[derive(Debug, Default)]
struct Collected {
    send: Vec<(SocketAddr, Vec<u8>)>,
    timers: Vec<(Duration, Timer<HostIdentity>)>,
    notes: Vec<Note>,
    probe_failed: bool,
}

impl Runtime<HostIdentity> for Collected {
    fn notify(&mut self, notification: Notification<'_, HostIdentity>) {
        let event = match notification {
            Notification::MemberUp(identity) => MemberEvent::Up(identity.clone()),
            Notification::MemberDown(identity) => MemberEvent::Down(identity.clone()),
            Notification::Idle => MemberEvent::Alone,
            Notification::Defunct => MemberEvent::TakenForDead,
            Notification::Rename(_, new) => return self.notes.push(Note::Renamed(new.clone())),
            Notification::ProbeFailed(..) => return self.probe_failed = true,
            _ => return,
        };
        self.notes.push(Note::Event(event));
    }

    fn send_to(&mut self, to: HostIdentity, data: &[u8]) {
        self.send.push((to.address, data.to_vec()));
    }

    fn submit_after(&mut self, timer: Timer<HostIdentity>, after: Duration) {
        self.timers.push((after, timer));
    }
}

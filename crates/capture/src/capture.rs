//! Capture as the registrar uses it: told of ports and of time, it does what follows.

use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use model::PublishedPort;
use nix::errno::Errno;

use crate::choice::{Asked, Choice, Facts, Mode, Obstacle, choose};
use crate::docker_rules::DockerRules;
use crate::element::Element;
use crate::socket::{NetfilterError, NetfilterSocket};
use crate::table::Table;
use crate::watch::{Notice, Watch};

/// How long after its last renewal the lease is renewed. A quarter of [`crate::LEASE`]: a registrar may miss two.
pub const RENEW_AFTER: Duration = Duration::from_secs(15);

/// Docker's rules are looked at again at least this often.
const LOOK_AFTER: Duration = Duration::from_secs(15);
/// The same where the kernel gives no notice of changes: `iptables-legacy`.
const LOOK_AFTER_LEGACY: Duration = Duration::from_secs(2);
/// How soon Docker's rules are looked at after others changed rules: while there is nothing to divert yet, soon, for
/// a container may just start; else there is time.
const LOOK_SOON: Duration = Duration::from_millis(50);
const LOOK_SOON_DIVERTING: Duration = Duration::from_secs(1);
/// The table is repaired at most this often, in case something deletes it again and again.
const REPAIR_AFTER: Duration = Duration::from_millis(100);
/// How long after a failure it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The most published ports that are diverted; more is a mistake somewhere, and they keep Docker's own path.
pub const MAX_PORTS: usize = 65_536;

/// Diverts traffic for published ports, or leaves it alone, and knows why.
///
/// Nothing happens but in [`Self::tick`] and [`Self::remove`]; each takes well under a millisecond, unless the table
/// is built or Docker's rules are read (a few milliseconds at 1,000 ports). Dropping it leaves the table in place: it
/// has an effect for at most [`crate::LEASE`] longer, and a registrar that starts again takes it over as it is.
#[derive(Debug)]
pub struct Capture {
    asked: Asked,
    socket: Result<NetfilterSocket, NetfilterError>,
    /// Until the first ports are set, nobody knows what is wanted, and an earlier registrar's table is not touched.
    has_ports: bool,
    wanted: BTreeSet<Element>,
    /// Whether nothing was wanted when the choice was made.
    was_empty: bool,
    touched: BTreeSet<Element>,
    too_many: bool,
    once_translated: BTreeSet<Element>,
    rules: Result<DockerRules, Obstacle>,
    choice: Choice,
    table: Table,
    next_look: Option<Instant>,
    next_repair: Option<Instant>,
    /// The kernel refused something: when it is tried again.
    failure: Option<Instant>,
}

impl Capture {
    /// In the network namespace of the calling thread. Touches nothing yet.
    ///
    /// A kernel without nf_tables, or a process without `CAP_NET_ADMIN`, is no error: [`Self::status`] tells.
    #[must_use]
    pub fn new(asked: Asked) -> Self {
        let nothing = Facts { rules: Ok(&DockerRules::default()), wanted: &[].into(), once_translated: &[].into() };
        Self {
            asked,
            socket: NetfilterSocket::open(),
            has_ports: false,
            wanted: BTreeSet::new(),
            was_empty: true,
            touched: BTreeSet::new(),
            too_many: false,
            once_translated: BTreeSet::new(),
            rules: Ok(DockerRules::default()),
            choice: choose(asked, &nothing),
            table: Table::new(),
            next_look: None,
            next_repair: None,
            failure: None,
        }
    }

    /// Hears of other programs' changes of rules; [`Self::noticed`] is to be told of them.
    ///
    /// # Errors
    /// The kernel has no nf_tables, or no descriptor is left. Changes are then found within 15 s.
    pub fn watch(&self) -> io::Result<Watch> {
        match &self.socket {
            Ok(socket) => Watch::open(socket.port_id()),
            Err(error) => Err(io::Error::from(error.errno())),
        }
    }

    /// All published ports that are to be diverted, in place of those that were.
    ///
    /// The first call is the word to begin: a registrar that just started must not give it before the shims had time
    /// to register again, or ports would be taken out of a table that still serves.
    pub fn set_ports(&mut self, ports: impl IntoIterator<Item = PublishedPort>) {
        let elements: BTreeSet<_> = ports.into_iter().filter_map(|port| Element::of(&port)).collect();
        self.has_ports = true;
        self.too_many = false;
        for gone in self.wanted.difference(&elements).copied().collect::<Vec<_>>() {
            self.remove_element(gone);
        }
        for element in elements {
            self.add_element(element);
        }
    }

    /// One more published port. Anything but TCP is ignored. See [`Self::set_ports`] for when to begin.
    pub fn add(&mut self, port: &PublishedPort) {
        if let Some(element) = Element::of(port) {
            self.add_element(element);
        }
    }

    /// One published port less.
    pub fn remove(&mut self, port: &PublishedPort) {
        if let Some(element) = Element::of(port) {
            self.remove_element(element);
        }
    }

    fn add_element(&mut self, element: Element) {
        if self.wanted.len() >= MAX_PORTS {
            self.too_many = true;
        } else if self.wanted.insert(element) {
            self.touched.insert(element);
            if self.choice.mode == Mode::Off {
                self.next_look = None;
            }
        }
    }

    fn remove_element(&mut self, element: Element) {
        if self.wanted.remove(&element) {
            self.touched.insert(element);
            self.once_translated.remove(&element);
        }
    }

    /// Other programs changed rules.
    pub fn noticed(&mut self, notice: Notice, now: Instant) {
        if notice.own_table {
            self.table.doubt();
        }
        if notice.other_tables {
            let delay = if self.choice.mode == Mode::Divert { LOOK_SOON_DIVERTING } else { LOOK_SOON };
            self.next_look = self.next_look.map(|look| look.min(now + delay));
        }
    }

    /// Does what is due. Yields when to call again at the latest; `None`: when something changed.
    pub fn tick(&mut self, now: Instant) -> Option<Instant> {
        if !self.has_ports && self.asked != Asked::None {
            return None;
        }
        if self.failure.is_some_and(|retry| now < retry) {
            return self.next_due();
        }
        let had_failed = self.failure.take().is_some();
        let has_looked = self.look_if_due(now);
        if has_looked || had_failed || self.wanted.is_empty() != self.was_empty {
            self.was_empty = self.wanted.is_empty();
            self.choice = self.choose(self.rules.as_ref());
        }
        if let Err(error) = self.apply(now) {
            let obstacle = Obstacle::from(&error);
            self.choice = self.choose(Err(&obstacle));
            self.failure = Some(now + RETRY_AFTER);
        }
        self.next_due()
    }

    /// Whether Docker's rules matter.
    fn has_interest(&self) -> bool {
        self.asked != Asked::None && !self.wanted.is_empty()
    }

    /// Whether it was due.
    fn look_if_due(&mut self, now: Instant) -> bool {
        if !self.has_interest() || self.next_look.is_some_and(|look| now < look) {
            return false;
        }
        self.rules = self.look();
        let wait = match &self.rules {
            Ok(rules) if rules.has_legacy_tables => LOOK_AFTER_LEGACY,
            Ok(_) => LOOK_AFTER,
            Err(_) => RETRY_AFTER,
        };
        self.next_look = Some(now + wait);
        if let Ok(rules) = &self.rules {
            self.once_translated.extend(self.wanted.iter().filter(|element| rules.translates(element.port())));
        }
        true
    }

    fn choose(&self, rules: Result<&DockerRules, &Obstacle>) -> Choice {
        choose(self.asked, &Facts { rules, wanted: &self.wanted, once_translated: &self.once_translated })
    }

    fn look(&self) -> Result<DockerRules, Obstacle> {
        let socket = self.socket.as_ref().map_err(Obstacle::from)?;
        DockerRules::read(socket).map_err(|error| Obstacle::from(&error))
    }

    fn apply(&mut self, now: Instant) -> Result<(), NetfilterError> {
        let is_diverting = self.choice.mode == Mode::Divert;
        let Ok(socket) = &self.socket else { return Ok(()) };
        if !is_diverting && self.choice.mode == Mode::LeftAlone && self.rules.is_err() {
            return Ok(());
        }
        let is_early = self.next_repair.is_some_and(|repair| now < repair);
        if self.table.is_in_doubt() && is_early {
            return Ok(());
        }
        if self.table.is_in_doubt() {
            self.next_repair = Some(now + REPAIR_AFTER);
        }
        let wanted = is_diverting.then_some(&self.wanted);
        self.table.bring_to(socket, wanted, &self.touched, now)?;
        self.touched.clear();
        if is_diverting && self.table.leased_at().is_none_or(|leased| leased + RENEW_AFTER <= now) {
            match self.table.renew_lease(socket, now) {
                // The table went, and no notice came.
                Err(error) if error.errno() == Errno::ENOENT => {
                    self.table.bring_to(socket, wanted, &BTreeSet::new(), now)?;
                }
                result => result?,
            }
        }
        Ok(())
    }

    fn next_due(&self) -> Option<Instant> {
        if self.failure.is_some() {
            return self.failure;
        }
        let repair = self.next_repair.filter(|_| self.table.is_in_doubt());
        let look = self.next_look.filter(|_| self.has_interest());
        let lease = self.table.leased_at().map(|leased| leased + RENEW_AFTER);
        [repair, look, lease].into_iter().flatten().min()
    }

    /// What is done now, and why.
    #[must_use]
    pub fn status(&self) -> Choice {
        let mut status = self.choice.clone();
        if self.too_many {
            status.problem.get_or_insert_with(|| format!("only {MAX_PORTS} ports are diverted; more are published"));
        }
        status
    }

    /// Takes the table away, for good: Docker's own path serves from this moment. Nothing of ours is left.
    ///
    /// # Errors
    /// The kernel refused; the table is still there, and has an effect until its lease ends.
    pub fn remove_for_good(&mut self, now: Instant) -> Result<(), NetfilterError> {
        self.set_ports([]);
        let Ok(socket) = &self.socket else { return Ok(()) };
        self.table.doubt();
        self.table.bring_to(socket, None, &BTreeSet::new(), now)
    }
}

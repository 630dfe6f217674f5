//! Capture as the registrar uses it: told of ports and of time, it does what follows.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use model::PublishedPort;
use nix::errno::Errno;

use crate::choice::{Asked, Choice, Facts, Mode, Obstacle, choose};
use crate::docker_rules::DockerRules;
use crate::element::Element;
use crate::layout;
use crate::socket::{NetfilterError, NetfilterSocket};
use crate::table::{Part, Table, Wanted};
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
/// How long after its last renewal the lease of unproxied ports is renewed.
const RENEW_UNPROXIED_AFTER: Duration = Duration::from_secs(1);
/// How long after a failure it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The most published ports that are diverted; more is a mistake somewhere, and they keep Docker's own path.
pub const MAX_PORTS: usize = 65_536;

/// The most pairs of service address and service port that are captured.
pub const MAX_SERVICES: usize = 65_536;

static NONE: BTreeSet<Element> = BTreeSet::new();

/// Diverts traffic for published ports, or leaves it alone, and knows why. Captures traffic for service ports, in the
/// same table but for its own reasons: Docker's firewall has no part in it.
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
    /// `None` until the first service ports are set: an earlier registrar's stay captured.
    services: Option<BTreeSet<Element>>,
    /// Whether what an earlier registrar captured stays captured beside them.
    keeps_services: bool,
    too_many_services: bool,
    services_failure: Option<String>,
    /// Whether Envoy was seen to take the connections of the unproxied ports since the last tick.
    unproxied_are_confirmed: bool,
    touched: BTreeSet<Element>,
    /// Whether the whole table is to be compared with what is wanted, not what was touched alone.
    compare_all: bool,
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
            services: None,
            keeps_services: false,
            too_many_services: false,
            services_failure: None,
            unproxied_are_confirmed: false,
            touched: BTreeSet::new(),
            compare_all: true,
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
        self.compare_all |= !self.has_ports;
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

    /// One more published port, of those that Envoy does not listen on: its connections arrive at
    /// [`crate::UNPROXIED_CATCH_PORT`] of the same address. As with [`Self::add`], only where ports are diverted at all.
    ///
    /// Whoever adds one must have seen that Envoy takes these connections, and go on to say so:
    /// [`Self::confirm_unproxied`].
    pub fn add_unproxied(&mut self, port: &PublishedPort) {
        if let Some(element) = Element::of_unproxied(port) {
            self.add_element(element);
        }
    }

    /// One unproxied port less: Docker's own path serves it.
    pub fn remove_unproxied(&mut self, port: &PublishedPort) {
        if let Some(element) = Element::of_unproxied(port) {
            self.remove_element(element);
        }
    }

    /// Envoy was just seen to take the connections of the unproxied ports. Where that is not said again within
    /// [`crate::UNPROXIED_LEASE`], Docker's own path serves them.
    pub fn confirm_unproxied(&mut self) {
        self.unproxied_are_confirmed = true;
    }

    /// Whether the unproxied ports that were added are Envoy's now, as far as the kernel has been told.
    #[must_use]
    pub fn has_unproxied(&self) -> bool {
        self.choice.mode == Mode::Divert && self.failure.is_none() && self.table.unproxied_leased_at().is_some()
    }

    /// All service ports that are to be captured, each at each service address, in place of those that were. Only what
    /// differs is changed in the kernel.
    ///
    /// Connections to an element arrive at [`crate::CATCH_PORT`] of the same address, if it is an address of this host.
    /// An element beats a published port of the same number, even one published on that very address: the caller
    /// leaves out what should not.
    ///
    /// The first call is the word to begin, as with [`Self::set_ports`]. What an earlier registrar captured stays until
    /// then. Nothing is captured with [`Asked::None`].
    pub fn set_services(&mut self, services: impl IntoIterator<Item = (IpAddr, u16)>) {
        let mut elements = BTreeSet::new();
        self.too_many_services = false;
        for element in services.into_iter().filter_map(|(address, port)| Element::of_service(address, port)) {
            self.too_many_services |= elements.len() >= MAX_SERVICES && !elements.contains(&element);
            if !self.too_many_services {
                elements.insert(element);
            }
        }
        match &self.services {
            Some(before) => self.touched.extend(before.symmetric_difference(&elements)),
            None => self.compare_all = true,
        }
        self.services = Some(elements);
        self.compare_all |= std::mem::replace(&mut self.keeps_services, false);
    }

    /// As [`Self::set_services`], while it is not known whether these are all: what an earlier registrar captured stays so,
    /// and its lease, which is that of the published ports too, is renewed.
    pub fn keep_services(&mut self, services: impl IntoIterator<Item = (IpAddr, u16)>) {
        self.set_services(services);
        self.keeps_services = true;
    }

    /// One service port more at one service address. See [`Self::set_services`].
    pub fn add_service(&mut self, address: IpAddr, port: u16) {
        let Some(element) = Element::of_service(address, port) else { return };
        let services = self.services.get_or_insert_default();
        if services.len() >= MAX_SERVICES && !services.contains(&element) {
            self.too_many_services = true;
        } else if services.insert(element) {
            self.touched.insert(element);
        }
    }

    /// One service port less at one service address.
    pub fn remove_service(&mut self, address: IpAddr, port: u16) {
        let element = Element::of_service(address, port);
        let services = self.services.as_mut();
        if let (Some(element), Some(services)) = (element, services)
            && services.remove(&element)
        {
            self.touched.insert(element);
        }
    }

    /// Whether service ports can be captured on this host: the kernel is made to build the table, and to take it all
    /// back before it has an effect. What is there stays as it is.
    ///
    /// # Errors
    /// Why not, in a sentence for the operator: `--capture none`, no `CAP_NET_ADMIN`, or what the kernel lacks.
    pub fn try_services(&self) -> Result<(), String> {
        if self.asked == Asked::None {
            return Err("off by --capture none".to_owned());
        }
        let socket = self.socket.as_ref().map_err(services_obstacle)?;
        socket.rehearse(layout::rehearse()).map_err(|error| services_obstacle(&error))
    }

    /// What keeps service ports from being captured, in a sentence for the operator; `None` while all is well. What can
    /// pass by itself is tried again every few seconds.
    #[must_use]
    pub fn services_problem(&self) -> Option<String> {
        let too_many = || format!("only {MAX_SERVICES} service ports are captured; there are more");
        self.services_failure.clone().or_else(|| self.too_many_services.then(too_many))
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
        if !self.has_ports && self.services.is_none() && self.asked != Asked::None {
            return None;
        }
        if self.failure.is_some_and(|retry| now < retry) {
            return self.next_due();
        }
        let had_failed = self.failure.take().is_some();
        let was_blind = self.is_blind();
        let has_looked = self.look_if_due(now);
        if has_looked || had_failed || self.wanted.is_empty() != self.was_empty {
            self.was_empty = self.wanted.is_empty();
            let choice = self.choose(self.rules.as_ref());
            let changed = choice.mode != self.choice.mode;
            self.choice = choice;
            self.compare_all |= changed || self.is_blind() != was_blind;
        }
        self.services_failure = None;
        if let Err(error) = self.apply(now) {
            self.failed(&error);
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
        let services = match &self.services {
            None => Part::Keep,
            Some(services) if self.keeps_services => Part::AtLeast(services),
            Some(services) => Part::These(services),
        };
        let wanted = wanted(self.asked, &self.choice, self.has_ports && !self.is_blind(), &self.wanted, services);
        let socket = match &self.socket {
            Ok(socket) => socket,
            Err(_) if !self.has_services() => return Ok(()),
            Err(error) => return Err(error.clone()),
        };
        if self.is_blind() && !self.has_services() {
            return Ok(());
        }
        let is_early = self.next_repair.is_some_and(|repair| now < repair);
        if self.table.is_in_doubt() && is_early {
            return Ok(());
        }
        if self.table.is_in_doubt() {
            self.next_repair = Some(now + REPAIR_AFTER);
        }
        let touched = if self.compare_all { None } else { Some(&self.touched) };
        self.table.bring_to(socket, &wanted, touched, now)?;
        self.touched.clear();
        self.compare_all = false;
        if self.table.is_present() && self.table.leased_at().is_none_or(|leased| leased + RENEW_AFTER <= now) {
            match self.table.renew_lease(socket, now) {
                // The table went, and no notice came.
                Err(error) if error.errno() == Errno::ENOENT => self.table.bring_to(socket, &wanted, None, now)?,
                result => result?,
            }
        }
        self.renew_unproxied(now)
    }

    fn renew_unproxied(&mut self, now: Instant) -> Result<(), NetfilterError> {
        let is_confirmed = std::mem::take(&mut self.unproxied_are_confirmed);
        let is_due = self.table.unproxied_leased_at().is_none_or(|leased| leased + RENEW_UNPROXIED_AFTER <= now);
        match &self.socket {
            Ok(socket) if is_confirmed && is_due && self.table.is_present() => {
                self.table.renew_unproxied_lease(socket, now)
            }
            _ => Ok(()),
        }
    }

    fn has_services(&self) -> bool {
        self.services.as_ref().is_some_and(|services| !services.is_empty())
    }

    /// Whether it can't be seen what Docker's rules do: what is diverted stays so.
    fn is_blind(&self) -> bool {
        self.choice.mode == Mode::LeftAlone && self.rules.is_err()
    }

    fn failed(&mut self, error: &NetfilterError) {
        if self.choice.mode == Mode::Divert {
            self.choice = self.choose(Err(&Obstacle::from(error)));
        }
        if self.has_services() {
            self.services_failure = Some(services_obstacle(error));
        }
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

    /// What was asked for.
    #[must_use]
    pub const fn asked(&self) -> Asked {
        self.asked
    }

    /// Takes the table away, for good: Docker's own path serves from this moment. Nothing of ours is left.
    ///
    /// Connections to service ports that are under way end, where no other table translates addresses either.
    ///
    /// # Errors
    /// The kernel refused; the table is still there, and has an effect until its lease ends.
    pub fn remove_for_good(&mut self, now: Instant) -> Result<(), NetfilterError> {
        // Whatever happens until the registrar has ended builds no other.
        self.asked = Asked::None;
        self.set_ports([]);
        self.set_services([]);
        let Ok(socket) = &self.socket else { return Ok(()) };
        self.table.doubt();
        self.table.bring_to(socket, &Wanted::NOTHING_EVER, None, now)
    }
}

/// What the table should hold. `knows_ports`: whether it is known which ports are to be diverted, if any.
fn wanted<'a>(
    asked: Asked,
    choice: &Choice,
    knows_ports: bool,
    ports: &'a BTreeSet<Element>,
    services: Part<'a>,
) -> Wanted<'a> {
    if asked == Asked::None {
        return Wanted::NOTHING_EVER;
    }
    let ports = match choice.mode {
        _ if !knows_ports => Part::Keep,
        Mode::Divert => Part::These(ports),
        Mode::Off | Mode::LeftAlone => Part::These(&NONE),
    };
    Wanted { ports, services, is_final: false }
}

fn services_obstacle(error: &NetfilterError) -> String {
    match Obstacle::from(error) {
        Obstacle::NoNetAdmin => "service ports cannot be captured without CAP_NET_ADMIN".to_owned(),
        Obstacle::Kernel(what) => {
            format!("service ports cannot be captured: this kernel lacks what is needed ({what})")
        }
        Obstacle::Failure(what) => format!("service ports are not captured for now, and tried again: {what}"),
    }
}

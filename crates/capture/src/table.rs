//! Brings our table in the kernel to what it should hold, with as little change as possible.

use std::collections::BTreeSet;
use std::time::Instant;

use nix::errno::Errno;

use crate::batch::Batch;
use crate::element::{Element, Kind};
use crate::layout;
use crate::read_back::{self, Found};
use crate::socket::{NetfilterError, NetfilterSocket};

/// How often a change is tried again because somebody else changed the table at the same time.
const TRIES: u32 = 3;

/// What the kernel holds, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Known {
    /// It has to be read first: at the start, after somebody else's change, after a failure.
    Nothing,
    Absent,
    /// A table of our name that is not as it should be.
    Broken,
    Present(BTreeSet<Element>),
}

impl From<Option<Found>> for Known {
    fn from(found: Option<Found>) -> Self {
        match found {
            None => Self::Absent,
            Some(Found { is_intact: false, .. }) => Self::Broken,
            Some(Found { elements, .. }) => Self::Present(elements),
        }
    }
}

/// What one kind of elements should be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Part<'a> {
    /// What an earlier registrar left, if anything: nobody knows yet what is wanted.
    Keep,
    /// These, and what an earlier registrar left: not all is known yet that is wanted.
    AtLeast(&'a BTreeSet<Element>),
    These(&'a BTreeSet<Element>),
}

/// What the table should hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) ports: Part<'a>,
    pub(crate) services: Part<'a>,
    /// Whether the table may go although connections were captured.
    pub(crate) is_final: bool,
}

impl<'a> Wanted<'a> {
    /// Not even a table for the connections that are under way.
    pub(crate) const NOTHING_EVER: Self =
        Self { ports: Part::These(&NONE), services: Part::These(&NONE), is_final: true };

    const fn part(&self, element: &Element) -> Part<'a> {
        if matches!(element.kind(), Kind::Service) { self.services } else { self.ports }
    }

    fn named(&self) -> impl Iterator<Item = &'a Element> + use<'a> {
        [self.ports, self.services].into_iter().flat_map(|part| match part {
            Part::Keep => NONE.iter(),
            Part::AtLeast(elements) | Part::These(elements) => elements.iter(),
        })
    }

    fn adds(&self, element: &Element) -> bool {
        matches!(self.part(element), Part::AtLeast(elements) | Part::These(elements) if elements.contains(element))
    }

    fn removes(&self, element: &Element) -> bool {
        matches!(self.part(element), Part::These(elements) if !elements.contains(element))
    }

    /// Whether there is a reason for a table, given what is in it.
    fn is_any(&self, present: &BTreeSet<Element>) -> bool {
        self.named().next().is_some() || present.iter().any(|element| !self.removes(element))
    }
}

static NONE: BTreeSet<Element> = BTreeSet::new();

/// What has to be done.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Build,
    Delete,
    Change { add: Vec<Element>, remove: Vec<Element> },
}

/// What turns what is `known` into what is `wanted`. Of a table that is there, only the elements in `touched` are looked
/// at; all, where that is `None`.
fn step(known: &Known, wanted: &Wanted<'_>, is_kept: bool, touched: Option<&BTreeSet<Element>>) -> Step {
    let present = match known {
        Known::Present(present) => present,
        Known::Nothing | Known::Broken | Known::Absent => &NONE,
    };
    let is_wanted = is_kept || wanted.is_any(present);
    match known {
        Known::Absent if !is_wanted => Step::Nothing,
        _ if !is_wanted => Step::Delete,
        Known::Nothing | Known::Broken | Known::Absent => Step::Build,
        Known::Present(present) => {
            let adds = |element: &&Element| wanted.adds(element) && !present.contains(element);
            let removes = |element: &&Element| wanted.removes(element) && present.contains(element);
            let (add, remove): (Vec<_>, Vec<_>) = match touched {
                Some(touched) => {
                    (touched.iter().filter(adds).copied().collect(), touched.iter().filter(removes).copied().collect())
                }
                None => {
                    (wanted.named().filter(adds).copied().collect(), present.iter().filter(removes).copied().collect())
                }
            };
            if add.is_empty() && remove.is_empty() { Step::Nothing } else { Step::Change { add, remove } }
        }
    }
}

/// Our table.
#[derive(Debug)]
pub(crate) struct Table {
    known: Known,
    /// When the lease began last, if there is a table of our making.
    leased_at: Option<Instant>,
    /// The same for the lease of unproxied ports.
    unproxied_leased_at: Option<Instant>,
    /// Whether connections may be under way that were captured. Where no chain of type nat is left, the kernel stops
    /// translating those, and they would hang: so an empty table stays.
    has_captured: bool,
}

impl Table {
    pub(crate) const fn new() -> Self {
        Self { known: Known::Nothing, leased_at: None, unproxied_leased_at: None, has_captured: false }
    }

    /// Somebody else changed it.
    pub(crate) fn doubt(&mut self) {
        self.known = Known::Nothing;
    }

    /// Whether it has to be read before anything else is done.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.known == Known::Nothing
    }

    /// Whether there is one, as far as is known.
    pub(crate) const fn is_present(&self) -> bool {
        matches!(self.known, Known::Present(_))
    }

    /// When the lease began last; `None` where there is none, or none that is known of.
    pub(crate) const fn leased_at(&self) -> Option<Instant> {
        self.leased_at
    }

    /// Makes the table hold what is wanted; where nothing is, there is no table afterwards. See [`step`].
    pub(crate) fn bring_to(
        &mut self,
        socket: &NetfilterSocket,
        wanted: &Wanted<'_>,
        touched: Option<&BTreeSet<Element>>,
        now: Instant,
    ) -> Result<(), NetfilterError> {
        let mut result = Ok(());
        for _ in 0..TRIES {
            let touched = if self.is_in_doubt() { None } else { touched };
            if self.is_in_doubt() {
                self.known = read_back::read_table(socket)?.into();
            }
            self.note_captures(touched);
            let is_kept = self.has_captured && !wanted.is_final;
            result = self.take(socket, step(&self.known, wanted, is_kept, touched), wanted, now);
            match &result {
                Ok(()) => return Ok(()),
                // Not there, or there already: not as it was known.
                Err(error) if matches!(error.errno(), Errno::ENOENT | Errno::EEXIST) => self.doubt(),
                Err(_) => break,
            }
        }
        self.doubt();
        result
    }

    /// Remembers that there are elements whose connections get another port. Of a table that is known already, only the touched can be new.
    fn note_captures(&mut self, touched: Option<&BTreeSet<Element>>) {
        if let (Known::Present(present), false) = (&self.known, self.has_captured) {
            self.has_captured = match touched {
                Some(touched) => touched.iter().any(|element| is_caught(element) && present.contains(element)),
                None => present.iter().any(is_caught),
            };
        }
    }

    fn take(
        &mut self,
        socket: &NetfilterSocket,
        step: Step,
        wanted: &Wanted<'_>,
        now: Instant,
    ) -> Result<(), NetfilterError> {
        match step {
            Step::Nothing => {}
            Step::Delete => {
                let mut batch = Batch::new();
                layout::delete(&mut batch);
                socket.transact(batch)?;
                self.known = Known::Absent;
                self.leased_at = None;
                self.unproxied_leased_at = None;
            }
            Step::Build => {
                let elements: BTreeSet<_> = wanted.named().copied().collect();
                socket.transact(layout::build(&elements))?;
                self.known = Known::Present(elements);
                self.leased_at = Some(now);
                self.unproxied_leased_at = None;
            }
            Step::Change { add, remove } => {
                let mut batch = Batch::new();
                layout::delete_elements(&mut batch, &remove);
                layout::add_elements(&mut batch, &add);
                socket.transact(batch)?;
                if let Known::Present(present) = &mut self.known {
                    present.extend(add);
                    for element in &remove {
                        present.remove(element);
                    }
                }
            }
        }
        Ok(())
    }

    /// Starts the lease anew; there must be a table.
    pub(crate) fn renew_lease(&mut self, socket: &NetfilterSocket, now: Instant) -> Result<(), NetfilterError> {
        self.renew(socket, layout::renew_lease)?;
        self.leased_at = Some(now);
        Ok(())
    }

    /// When the lease of unproxied ports began last; as [`Self::leased_at`].
    pub(crate) const fn unproxied_leased_at(&self) -> Option<Instant> {
        self.unproxied_leased_at
    }

    /// As [`Self::renew_lease`], for the lease of unproxied ports.
    pub(crate) fn renew_unproxied_lease(
        &mut self,
        socket: &NetfilterSocket,
        now: Instant,
    ) -> Result<(), NetfilterError> {
        self.renew(socket, layout::renew_unproxied_lease)?;
        self.unproxied_leased_at = Some(now);
        Ok(())
    }

    fn renew(&mut self, socket: &NetfilterSocket, fill: impl FnOnce(&mut Batch)) -> Result<(), NetfilterError> {
        let mut batch = Batch::new();
        fill(&mut batch);
        socket.transact(batch).inspect_err(|_| self.doubt())
    }
}

/// Whether its connections get another port.
fn is_caught(element: &Element) -> bool {
    element.kind() != Kind::Port
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::{Protocol, PublishedPort};

    fn step(known: &Known, wanted: &Wanted<'_>, touched: Option<&BTreeSet<Element>>) -> Step {
        super::step(known, wanted, false, touched)
    }

    fn elements(ports: &[u16]) -> BTreeSet<Element> {
        let published = |port| PublishedPort { address: [0, 0, 0, 0].into(), port, protocol: Protocol::Tcp };
        ports.iter().map(|port| Element::of(&published(*port)).unwrap()).collect()
    }

    fn services(ports: &[u16]) -> BTreeSet<Element> {
        ports.iter().map(|port| Element::of_service([10, 0, 0, 1].into(), *port).unwrap()).collect()
    }

    fn list(ports: &[u16]) -> Vec<Element> {
        elements(ports).into_iter().collect()
    }

    const NOTHING: Wanted<'_> = Wanted { ports: Part::These(&NONE), services: Part::These(&NONE), is_final: false };
    const KEEP: Wanted<'_> = Wanted { ports: Part::Keep, services: Part::Keep, is_final: false };

    fn ports(ports: &BTreeSet<Element>) -> Wanted<'_> {
        Wanted { ports: Part::These(ports), ..NOTHING }
    }

    #[test]
    fn a_table_that_is_not_there_is_built_and_one_that_is_not_wanted_deleted() {
        let wanted = elements(&[80]);
        assert_eq!(step(&Known::Absent, &ports(&wanted), None), Step::Build);
        assert_eq!(step(&Known::Broken, &ports(&wanted), None), Step::Build);
        assert_eq!(step(&Known::Broken, &NOTHING, None), Step::Delete);
        assert_eq!(step(&Known::Present(wanted), &NOTHING, None), Step::Delete);
        assert_eq!(step(&Known::Absent, &NOTHING, None), Step::Nothing);
    }

    #[test]
    fn an_adopted_table_gets_only_the_differences() {
        let present = Known::Present(elements(&[80, 81, 82]));
        let change = Step::Change { add: list(&[83]), remove: list(&[80]) };
        assert_eq!(step(&present, &ports(&elements(&[81, 82, 83])), None), change);
        assert_eq!(step(&present, &ports(&elements(&[80, 81, 82])), None), Step::Nothing);
    }

    #[test]
    fn in_the_common_case_only_the_touched_are_looked_at() {
        let present = Known::Present(elements(&[80, 81]));
        let step = step(&present, &ports(&elements(&[81, 90, 91])), Some(&elements(&[80, 81, 90])));
        assert_eq!(step, Step::Change { add: list(&[90]), remove: list(&[80]) });
    }

    #[test]
    fn services_alone_are_a_reason_for_a_table() {
        let wanted = services(&[9500]);
        let wanted = Wanted { services: Part::These(&wanted), ..NOTHING };
        assert_eq!(step(&Known::Absent, &wanted, None), Step::Build);
        let present = Known::Present(elements(&[80]));
        let change = Step::Change { add: services(&[9500]).into_iter().collect(), remove: list(&[80]) };
        assert_eq!(step(&present, &wanted, None), change);
    }

    #[test]
    fn a_table_that_connections_may_need_stays_empty() {
        let change = Step::Change { add: vec![], remove: services(&[9500]).into_iter().collect() };
        assert_eq!(super::step(&Known::Present(services(&[9500])), &NOTHING, true, None), change);
        assert_eq!(super::step(&Known::Present(NONE.clone()), &NOTHING, true, None), Step::Nothing);
    }

    #[test]
    fn what_nobody_has_spoken_of_yet_stays() {
        let present = Known::Present(&elements(&[80]) | &services(&[9500]));
        assert_eq!(step(&present, &KEEP, None), Step::Nothing);
        assert_eq!(step(&Known::Absent, &KEEP, None), Step::Nothing);
        let change = Step::Change { add: vec![], remove: list(&[80]) };
        assert_eq!(step(&present, &Wanted { services: Part::Keep, ..NOTHING }, None), change);
        assert_eq!(step(&present, &Wanted { services: Part::Keep, ..NOTHING }, Some(&elements(&[80]))), change);
    }
}

//! Which number our socket has in its group, and so which one to name. Pure.
//!
//! The first of a group is number 0 for as long as it lives. Who joins an Envoy that is there already (the registrar
//! was restarted) comes last; from then on who leaves is replaced by the last, so that our number is only known as
//! long as nobody else comes or goes.

use std::collections::BTreeSet;

use crate::watchdog::Steering;

/// The inodes of the other sockets of our group: Envoy's.
pub(super) type Others = BTreeSet<u32>;

/// Our place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Number 0, whoever comes and goes.
    First,
    /// Behind these, and they are still the same.
    Behind(Others),
}

/// What a look at the group means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Our number is known.
    Known,
    /// It is not known any longer: to be closed and opened again, which makes it the last.
    Lost,
}

impl Place {
    /// Takes in who else is in the group now.
    pub(super) fn look(&mut self, others: &Others) -> Finding {
        match self {
            Self::First => Finding::Known,
            Self::Behind(_) if others.is_empty() => {
                *self = Self::First;
                Finding::Known
            }
            Self::Behind(known) if known == others => Finding::Known,
            Self::Behind(_) => Finding::Lost,
        }
    }

    /// The number to name, so that new connections go where they are to go. Envoy's sockets need not be counted: of
    /// what one of them gets, Envoy gives its other workers their share.
    pub(super) fn number(&self, steering: Steering) -> u32 {
        match (self, steering) {
            (Self::First, Steering::Envoy) => 1,
            (Self::First, Steering::Standby) | (Self::Behind(_), Steering::Envoy) => 0,
            (Self::Behind(others), Steering::Standby) => u32::try_from(others.len()).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(place: &Place) -> [u32; 2] {
        [Steering::Envoy, Steering::Standby].map(|steering| place.number(steering))
    }

    /// The kernel's way with members.
    fn leave(group: &mut Vec<u32>, who: u32) {
        let at = group.iter().position(|member| *member == who).unwrap();
        group.swap_remove(at);
    }

    #[test]
    fn the_first_stays_the_first() {
        let mut place = Place::First;
        for others in [vec![], vec![7, 8], vec![9], vec![]] {
            assert_eq!(place.look(&others.into_iter().collect()), Finding::Known);
            assert_eq!(numbers(&place), [1, 0]);
        }
    }

    #[test]
    fn who_comes_to_an_envoy_is_the_last_and_the_first_when_envoy_is_gone() {
        let mut place = Place::Behind([7, 8].into());
        assert_eq!(place.look(&[7, 8].into()), Finding::Known);
        assert_eq!(numbers(&place), [0, 2]);
        assert_eq!(place.look(&[].into()), Finding::Known);
        assert_eq!((&place, numbers(&place)), (&Place::First, [1, 0]));
    }

    #[test]
    fn where_others_come_or_go_the_number_is_not_known() {
        for others in [vec![7], vec![7, 9], vec![7, 8, 9], vec![9, 10]] {
            let mut place = Place::Behind([7, 8].into());
            assert_eq!(place.look(&others.into_iter().collect()), Finding::Lost);
        }
    }

    #[test]
    fn the_numbers_are_those_that_the_kernel_gives() {
        const OURS: u32 = 1;
        let mut group = vec![OURS, 7, 8];
        for leaver in [7, 8] {
            assert_eq!(group[Place::First.number(Steering::Standby) as usize], OURS);
            assert_ne!(group[Place::First.number(Steering::Envoy) as usize], OURS);
            leave(&mut group, leaver);
        }
        let mut group = vec![7, 8, OURS];
        let place = Place::Behind([7, 8].into());
        assert_eq!(group[place.number(Steering::Standby) as usize], OURS);
        assert_ne!(group[place.number(Steering::Envoy) as usize], OURS);
        leave(&mut group, 7);
        assert_eq!(group, [OURS, 8], "this is why one leaver is enough not to know");
    }
}

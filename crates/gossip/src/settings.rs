//! foca's settings for a cluster of some size. Its own presets lose broadcasts and take long to agree.

use std::num::{NonZeroU8, NonZeroUsize};
use std::time::Duration;

use foca::{Config, PeriodicParams};

use crate::envelope::BODY_MAX;

/// The least number of times that each host passes on what it heard.
///
/// foca's preset for 10 hosts is 4, with which 8 % of all broadcasts miss some host on a perfect network;
/// with 12 none of 5,000 did.
const TRANSMISSIONS_MIN: u32 = 12;

/// As many hosts as make a small cluster.
const SMALL: usize = 30;

/// How long a member that was taken for dead is remembered as such.
const FORGET_DOWN: Duration = Duration::from_secs(3600);

/// What foca's settings depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    transmissions: u8,
    suspicion: Duration,
    announce_to_down: Duration,
}

impl Settings {
    /// `hosts` counts this one; `lost_lately` says whether a host was taken for dead in the last minutes.
    pub(crate) fn new(hosts: usize, lost_lately: bool) -> Self {
        let suspicion = match hosts {
            0..=SMALL => 2,
            31..=300 => 3,
            _ => 4,
        };
        Self {
            transmissions: transmissions(hosts),
            suspicion: Duration::from_secs(suspicion),
            // After a partition both sides count each other as dead; asking often makes healing fast. foca takes another
            // time only when the one that runs is over, which for a partition of a minute is too late: so a small
            // cluster, where asking costs next to nothing, has the short one from the start.
            announce_to_down: Duration::from_secs(if lost_lately || hosts <= SMALL { 5 } else { 65 }),
        }
    }

    pub(crate) const fn suspicion(&self) -> Duration {
        self.suspicion
    }

    pub(crate) fn config(&self) -> Config {
        let periodic = |frequency, members| {
            Some(PeriodicParams { frequency, num_members: NonZeroUsize::new(members).unwrap_or(NonZeroUsize::MIN) })
        };
        Config {
            max_transmissions: NonZeroU8::new(self.transmissions).unwrap_or(NonZeroU8::MAX),
            suspect_to_down_after: self.suspicion,
            probe_period: Duration::from_secs(1),
            probe_rtt: Duration::from_millis(500),
            remove_down_after: Some(FORGET_DOWN),
            max_packet_size: NonZeroUsize::new(BODY_MAX).unwrap_or(NonZeroUsize::MIN),
            notify_down_members: true,
            periodic_announce: periodic(Duration::from_secs(30), 1),
            periodic_announce_to_down_members: periodic(self.announce_to_down, 2),
            periodic_gossip: periodic(Duration::from_millis(200), 3),
            ..Config::simple()
        }
    }
}

/// memberlist's rule, 4 * ceil(log10(n + 1)), and not less than [`TRANSMISSIONS_MIN`].
fn transmissions(hosts: usize) -> u8 {
    // The digits of n are floor(log10(n)) + 1 = ceil(log10(n + 1)).
    let digits = hosts.max(1).ilog10() + 1;
    u8::try_from((4 * digits).max(TRANSMISSIONS_MIN)).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_heard_is_passed_on_often_enough_at_every_size() {
        let of = |hosts| Settings::new(hosts, false).config().max_transmissions.get();
        assert_eq!([of(1), of(10), of(999), of(1_000), of(10_000)], [12, 12, 12, 16, 20]);
    }

    #[test]
    fn those_that_were_lost_are_asked_often_at_first() {
        let every = |hosts, lost| {
            let announces = Settings::new(hosts, lost).config().periodic_announce_to_down_members;
            announces.unwrap().frequency.as_secs()
        };
        assert_eq!([every(1000, true), every(1000, false), every(10, true), every(10, false)], [5, 65, 5, 5]);
    }
}

//! Notices an Envoy that holds its ports but takes no connections: stopped, overloaded, or stuck.
//!
//! The kernel goes on giving such an Envoy its share, and clients hang. What gives it away is the queue of
//! connections that wait to be accepted: it is looked at every [`INTERVAL`], and where it is never empty and
//! never shorter for [`PATIENCE`] looks, new connections are given to who stands by (the shim, say) until it is empty again.
//! Pure: looking is the caller's part.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use model::PublishedPort;

/// How often the queues are looked at.
pub(crate) const INTERVAL: Duration = Duration::from_millis(200);

/// How many looks in a row must find a queue that does not shrink. A healthy Envoy under load may be caught
/// with a connection waiting once or twice, but it empties its queue many times between two looks.
const PATIENCE: u32 = 4;

/// Who is to be given new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steering {
    Envoy,
    /// Whoever shares the port with Envoy: a published port's shim, a service port's standby.
    Standby,
}

/// How many connections wait for Envoy, by port; a port that Envoy does not listen on is not in it.
pub(crate) type Queues = HashMap<PublishedPort, u32>;

/// What was seen so far, for ports whose queue was not empty at the last look.
#[derive(Debug, Default)]
pub(crate) struct Watchdog {
    suspects: BTreeMap<PublishedPort, Suspect>,
}

#[derive(Debug)]
struct Suspect {
    waiting: u32,
    looks: u32,
    stuck: bool,
}

impl Watchdog {
    /// Takes in one look, and says which ports are to be steered otherwise from now on.
    pub(crate) fn look(&mut self, queues: &Queues) -> Vec<(PublishedPort, Steering)> {
        let mut orders = self.forget_recovered(queues);
        for (port, waiting) in queues.iter().filter(|(_, waiting)| **waiting > 0) {
            let suspect = self.suspects.entry(*port).or_insert(Suspect { waiting: 0, looks: 0, stuck: false });
            suspect.looks = if *waiting >= suspect.waiting { suspect.looks + 1 } else { 1 };
            suspect.waiting = *waiting;
            if suspect.looks >= PATIENCE && !suspect.stuck {
                suspect.stuck = true;
                orders.push((*port, Steering::Standby));
            }
        }
        orders
    }

    /// Whether new connections to this port are kept from Envoy.
    pub(crate) fn is_stuck(&self, port: &PublishedPort) -> bool {
        self.suspects.get(port).is_some_and(|suspect| suspect.stuck)
    }

    fn forget_recovered(&mut self, queues: &Queues) -> Vec<(PublishedPort, Steering)> {
        let mut orders = Vec::new();
        self.suspects.retain(|port, suspect| {
            let waits = queues.get(port).is_some_and(|waiting| *waiting > 0);
            if !waits && suspect.stuck {
                orders.push((*port, Steering::Envoy));
            }
            waits
        });
        orders
    }
}

#[cfg(test)]
mod tests {
    use model::Protocol;

    use super::*;

    fn port() -> PublishedPort {
        PublishedPort { address: [0, 0, 0, 0].into(), port: 8080, protocol: Protocol::Tcp }
    }

    /// The orders after each look.
    fn orders(looks: &[Option<u32>]) -> Vec<Vec<Steering>> {
        let mut watchdog = Watchdog::default();
        let look = |waiting: &Option<u32>| {
            let queues = waiting.iter().map(|waiting| (port(), *waiting)).collect();
            watchdog.look(&queues).into_iter().map(|(_, steering)| steering).collect()
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn a_queue_that_never_shrinks_sends_new_connections_to_the_shim_once() {
        let orders = orders(&[Some(1), Some(1), Some(3), Some(3), Some(4)]);
        assert_eq!(orders, [vec![], vec![], vec![], vec![Steering::Standby], vec![]]);
    }

    #[test]
    fn an_empty_queue_brings_envoy_back() {
        let looks = [Some(1), Some(1), Some(1), Some(1), Some(1), Some(0), Some(0)];
        assert_eq!(orders(&looks)[3..], [vec![Steering::Standby], vec![], vec![Steering::Envoy], vec![]]);
    }

    #[test]
    fn an_envoy_that_goes_away_is_no_longer_suspected() {
        let looks = [Some(1), Some(1), Some(1), Some(1), None];
        assert_eq!(orders(&looks)[4], vec![Steering::Envoy]);
    }

    #[test]
    fn a_busy_envoy_that_keeps_accepting_is_left_alone() {
        assert!(orders(&[Some(3), Some(2), Some(3), Some(1), Some(0), Some(5), Some(4)]).concat().is_empty());
    }
}

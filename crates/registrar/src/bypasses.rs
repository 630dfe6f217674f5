//! The clients that are given a path without HTTP on learned ports: Envoy refused something that they need. Decisions
//! only; the shims, and the standby, do it.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use shim_wire::BYPASS_MAX;

/// How long a client goes past Envoy after its last refusal. Then it is Envoy's again; if it still needs the other path,
/// that costs it one more request. Long, so that what runs once a day does not fail each time.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The clients, by the place `P` where they connect.
#[derive(Debug)]
pub(crate) struct Bypasses<P> {
    by_place: HashMap<P, BTreeMap<IpAddr, Instant>>,
}

impl<P> Default for Bypasses<P> {
    fn default() -> Self {
        Self { by_place: HashMap::new() }
    }
}

impl<P: Copy + Eq + Hash> Bypasses<P> {
    /// A client was refused. Yields whether that is news. At most [`BYPASS_MAX`] clients are kept for each place; the one
    /// that was refused longest ago goes first.
    pub(crate) fn add(&mut self, place: P, client: IpAddr, now: Instant) -> bool {
        let clients = self.by_place.entry(place).or_default();
        let is_new = clients.insert(client, now).is_none();
        if clients.len() > BYPASS_MAX
            && let Some(oldest) = clients.iter().min_by_key(|(_, since)| **since).map(|(client, _)| *client)
        {
            clients.remove(&oldest);
        }
        is_new
    }

    /// The clients that go past Envoy here, in order.
    pub(crate) fn clients(&self, place: &P) -> Vec<IpAddr> {
        self.by_place.get(place).map(|clients| clients.keys().copied().collect()).unwrap_or_default()
    }

    /// All of them.
    pub(crate) fn all(&self) -> HashMap<P, Vec<IpAddr>> {
        self.by_place.keys().map(|place| (*place, self.clients(place))).collect()
    }

    /// Nobody goes past Envoy here any longer. Yields whether somebody did.
    pub(crate) fn clear(&mut self, place: &P) -> bool {
        self.by_place.remove(place).is_some()
    }

    /// Drops the clients whose time is over; yields the places where there were some.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<P> {
        let mut changed = Vec::new();
        self.by_place.retain(|place, clients| {
            let before = clients.len();
            clients.retain(|_, since| *since + KEPT > now);
            if clients.len() != before {
                changed.push(*place);
            }
            !clients.is_empty()
        });
        changed
    }

    /// When [`Self::expire`] is to be called next.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.by_place.values().flat_map(BTreeMap::values).min().map(|since| *since + KEPT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn a_client_goes_past_envoy_until_its_time_is_over() {
        let mut bypasses = Bypasses::default();
        let now = Instant::now();
        assert!(bypasses.add(80, client(1), now));
        assert!(!bypasses.add(80, client(1), now + KEPT / 2), "it is known, and its time begins anew");
        assert_eq!(bypasses.clients(&80), [client(1)]);
        assert_eq!(bypasses.clients(&81), [] as [IpAddr; 0]);
        assert_eq!(bypasses.expire(now + KEPT), [] as [i32; 0]);
        let end = bypasses.next_timeout().unwrap();
        assert_eq!(bypasses.expire(end), [80]);
        assert_eq!((bypasses.clients(&80), bypasses.next_timeout()), (vec![], None));
    }

    #[test]
    fn a_place_keeps_a_bounded_number_and_drops_the_oldest() {
        let mut bypasses = Bypasses::default();
        let now = Instant::now();
        for number in 0..=u32::try_from(BYPASS_MAX).unwrap() {
            bypasses.add(80, client(number), now + Duration::from_secs(number.into()));
        }
        let kept = bypasses.clients(&80);
        assert_eq!((kept.len(), kept.contains(&client(0))), (BYPASS_MAX, false));
    }
}

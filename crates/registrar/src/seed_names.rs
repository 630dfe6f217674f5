//! Looks up the names of the seeds, again and again, each for itself: a name server that hangs for one keeps no other
//! seed waiting. Whether a seed answers is the crate `gossip`'s matter.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::event::Event;
use crate::gossip_net::GossipEvent;

/// The pauses between look-ups that fail, the first and the longest.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(8));

/// How often a name that is known is looked up, in case it moves.
const REFRESH: Duration = Duration::from_secs(30);

/// The most addresses of one name that are used.
const ADDRESSES_MAX: usize = 16;

/// A seed, and what its name led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeedLookup {
    /// `HOST:PORT`.
    pub(crate) seed: String,
    /// Those of the last successful look-up, even where a later one failed.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Why the last look-up failed, if it did.
    pub(crate) problem: Option<String>,
}

impl SeedLookup {
    pub(crate) fn unknown(seed: String) -> Self {
        Self { seed, ..Self::default() }
    }

    /// A look-up has ended. A name server that does not answer takes no known address away.
    fn ended(&mut self, result: Result<Vec<SocketAddr>, String>) {
        let known = match result {
            Ok(found) if found.is_empty() => Err("the name has no address".to_owned()),
            other => other,
        };
        match known {
            Ok(mut found) => {
                found.truncate(ADDRESSES_MAX);
                (self.addresses, self.problem) = (found, None);
            }
            Err(why) => self.problem = Some(why),
        }
    }
}

/// Looks up the seed of this number for as long as the registrar runs.
pub(crate) async fn follow(number: usize, seed: String, events: mpsc::Sender<Event>) {
    let mut known = SeedLookup::unknown(seed);
    let mut retry = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let found = lookup_host(&known.seed).await;
        let before = known.clone();
        known.ended(found.map(Iterator::collect).map_err(|error| error.to_string()));
        if known != before {
            log(&known);
            if events.send(Event::Gossip(GossipEvent::Seed(number, known.clone()))).await.is_err() {
                return;
            }
        }
        let pause = if known.problem.is_some() {
            retry.next_delay()
        } else {
            retry.reset();
            REFRESH
        };
        sleep(pause).await;
    }
}

fn log(known: &SeedLookup) {
    let SeedLookup { seed, addresses, problem } = known;
    match problem {
        Some(error) => warn!(seed, error, ?addresses, "a seed's name can't be looked up; this is tried again"),
        None => info!(seed, ?addresses, "a seed's addresses are known"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_up_that_fails_is_told_and_takes_no_known_address_away() {
        let (a, b) = ("10.0.0.1:7946".parse().unwrap(), "10.0.0.2:7946".parse().unwrap());
        let mut known = SeedLookup::unknown("web1:7946".to_owned());
        known.ended(Err("no server".to_owned()));
        assert_eq!((known.addresses.len(), known.problem.as_deref()), (0, Some("no server")));
        known.ended(Ok(vec![a]));
        assert_eq!((&known.addresses[..], &known.problem), (&[a][..], &None));
        for nothing in [Err("no server".to_owned()), Ok(vec![])] {
            known.ended(nothing);
            assert_eq!(known.addresses, [a]);
            assert!(known.problem.is_some());
        }
        known.ended(Ok(vec![b]));
        assert_eq!((&known.addresses[..], &known.problem), (&[b][..], &None), "it has moved");
    }
}

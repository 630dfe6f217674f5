//! What foca does with a broadcast that it receives or is given.
//!
//! foca owns its handler and lends it to nobody, so the handler is one end of an inbox and
//! [`crate::members`] keeps the other.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foca::{BroadcastHandler, Invalidates};
use model::{HostName, Stamp};

use crate::delta::{Broadcast, Novelty};
use crate::identity::{HostIdentity, name_fingerprint};
use crate::wire::DecodeError;

/// A broadcast that came in and says something new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Arrived {
    pub(crate) broadcast: Broadcast,
    /// Who passed it on, not who wrote it.
    pub(crate) from: SocketAddr,
}

#[derive(Debug, Default)]
struct Contents {
    known: HashMap<HostName, Stamp>,
    arrived: Vec<Arrived>,
}

/// Both ends of the inbox; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    own: HostName,
    contents: Arc<Mutex<Contents>>,
}

impl Inbox {
    pub(crate) fn new(own: HostName) -> Self {
        Self { own, contents: Arc::default() }
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells up to which stamp the record of a host is known, so that older news is not passed on.
    pub(crate) fn learn(&self, host: &HostName, stamp: Option<Stamp>) {
        let known = &mut self.contents().known;
        match stamp {
            Some(stamp) => drop(known.insert(host.clone(), stamp)),
            None => drop(known.remove(host)),
        }
    }

    pub(crate) fn take(&self) -> Vec<Arrived> {
        std::mem::take(&mut self.contents().arrived)
    }
}

/// Which broadcast another one replaces: later news of a host makes earlier news of it needless. So at most
/// one broadcast of each host waits to be sent, however fast things change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BroadcastKey {
    /// The fingerprint of the host's name: this is compared with every broadcast that waits.
    host: u64,
    stamp: Stamp,
}

impl Invalidates for BroadcastKey {
    fn invalidates(&self, other: &Self) -> bool {
        self.host == other.host && self.stamp >= other.stamp
    }
}

impl BroadcastHandler<HostIdentity> for Inbox {
    type Key = BroadcastKey;
    type Error = DecodeError;

    fn receive_item(
        &mut self,
        data: &[u8],
        sender: Option<&HostIdentity>,
    ) -> Result<Option<BroadcastKey>, DecodeError> {
        let broadcast = Broadcast::decode(data)?;
        let key = BroadcastKey { host: name_fingerprint(&broadcast.host), stamp: broadcast.stamp() };
        // What this host itself spreads is known here, and always passed on.
        let Some(sender) = sender else { return Ok(Some(key)) };
        if broadcast.host == self.own {
            return Ok(None);
        }
        let mut contents = self.contents();
        let novelty = broadcast.novelty(contents.known.get(&broadcast.host).copied());
        if novelty == Novelty::Fresh {
            contents.known.insert(broadcast.host.clone(), key.stamp);
        }
        if novelty != Novelty::Stale {
            contents.arrived.push(Arrived { broadcast, from: sender.address });
        }
        // Whoever hears of a record from this host will ask this host for it; so what is missing here is
        // passed on only when it has been fetched.
        Ok((novelty == Novelty::Fresh).then_some(key))
    }
}

#[cfg(test)]
mod tests {
    use model::Incarnation;

    use super::*;
    use crate::delta::{Delta, News};
    use crate::record_wire::Heading;

    fn delta(host: &str, from: u64, to: u64) -> Broadcast {
        let heading = Heading { left: false, addresses: vec![] };
        let delta = Delta { incarnation: Incarnation::new(1), from, to, heading, changes: vec![] };
        Broadcast { host: host.parse().unwrap(), news: News::Delta(delta) }
    }

    fn sender() -> HostIdentity {
        HostIdentity::new("b".parse().unwrap(), "10.0.0.2:7946".parse().unwrap(), Incarnation::new(1))
    }

    #[test]
    fn news_is_passed_on_once_and_what_is_missing_only_when_it_was_fetched() {
        let mut inbox = Inbox::new("own".parse().unwrap());
        let mut receive = |broadcast: &Broadcast| inbox.receive_item(&broadcast.encode(), Some(&sender())).unwrap();
        assert!(receive(&delta("a", 0, 3)).is_some());
        assert!(receive(&delta("a", 0, 3)).is_none(), "again");
        assert!(receive(&delta("a", 2, 4)).is_some());
        assert!(receive(&delta("a", 6, 7)).is_none(), "a gap");
        assert!(receive(&delta("own", 0, 9)).is_none(), "this host's own");
        assert_eq!(inbox.take().len(), 3, "the gap is to be fetched");
        assert!(inbox.take().is_empty());
    }

    #[test]
    fn later_news_of_a_host_replaces_earlier_news_and_touches_no_others() {
        let key = |host: &str, version| BroadcastKey {
            host: name_fingerprint(&host.parse().unwrap()),
            stamp: Stamp { incarnation: Incarnation::new(1), version },
        };
        assert!(key("a", 2).invalidates(&key("a", 1)));
        assert!(!key("a", 1).invalidates(&key("a", 2)));
        assert!(!key("a", 2).invalidates(&key("b", 1)));
    }
}

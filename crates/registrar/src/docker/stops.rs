//! Which signals that Docker sends to containers are those by which it asks them to stop.
//!
//! Docker is asked for a container's stop signal, and answers only once it is done with what it does to the container,
//! be that a whole restart. Nothing else may wait for it: least of all the word that the container has ended, since
//! Docker wants its ports back for the next one.

use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;

use bollard::Docker;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use model::ContainerId;

use super::{answered, convert};

/// Signals that are asked about at the same time, at most. Of more than that nothing follows: instances are withdrawn
/// when they have ended, and not before.
const ASKED_MAX: usize = 256;

/// A signal, by number, and whether it was a stop.
type Asked = (ContainerId, u64, bool);

/// Signals that Docker has not said about yet whether they end a container.
pub(super) struct Stops<'a> {
    docker: &'a Docker,
    asked: FuturesUnordered<Pin<Box<dyn Future<Output = Asked> + Send + 'a>>>,
    /// Those of containers that live on as they did then.
    current: HashSet<(ContainerId, u64)>,
    number: u64,
}

impl<'a> Stops<'a> {
    pub(super) fn new(docker: &'a Docker) -> Self {
        Self { docker, asked: FuturesUnordered::new(), current: HashSet::new(), number: 0 }
    }

    /// Asks about a signal that a container was sent.
    pub(super) fn ask(&mut self, id: ContainerId, signal: String) {
        if self.asked.len() >= ASKED_MAX {
            return;
        }
        self.number += 1;
        let (docker, number) = (self.docker, self.number);
        self.current.insert((id.clone(), number));
        self.asked.push(Box::pin(async move {
            let stops = is_stop_signal(docker, &id, &signal).await;
            (id, number, stops)
        }));
    }

    /// The container has ended or begun: what was asked before is not about it any more.
    pub(super) fn forget(&mut self, id: &ContainerId) {
        self.current.retain(|(other, _)| other != id);
    }

    /// The next container that was asked to stop and has not ended since. `None`: nothing is asked about. May be dropped
    /// while it waits.
    pub(super) async fn next(&mut self) -> Option<ContainerId> {
        loop {
            let (id, number, stops) = self.asked.next().await?;
            let asked = (id, number);
            if self.current.remove(&asked) && stops {
                return Some(asked.0);
            }
        }
    }
}

/// Whether this signal is the one by which Docker asks this container to stop. Others, HUP say, mean nothing.
async fn is_stop_signal(docker: &Docker, id: &ContainerId, signal: &str) -> bool {
    let inspected = answered(docker.inspect_container(id.as_str(), None)).await;
    let config = inspected.ok().and_then(|container| container.config);
    let stop_signal = config.and_then(|config| config.stop_signal).filter(|signal| !signal.is_empty());
    convert::signal_number(signal) == convert::signal_number(stop_signal.as_deref().unwrap_or("SIGTERM"))
}

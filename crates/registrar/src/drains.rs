//! Orders to take an instance out of service, or back: those that are for another host and wait for its answer, and
//! what is kept of this host's own ([`file`]).
//!
//! What draining means is in `catalog::own_instances`; how an order reaches another host, in the crate `gossip`.

pub(crate) mod file;

use std::collections::{BTreeSet, HashMap};

use gossip::{Answer, OrderError, OrderId};
use model::instance::Text;
use model::{HostName, InstanceId, InstanceKey};
use tokio::sync::oneshot;
use tracing::{info, warn};

use file::{DrainFile, Restored};

/// Why an instance is not drained, or not put back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DrainError {
    /// The host has no such instance.
    #[error("host {} has no instance {}: `shimctl services --instances` lists them", .0.host, .0.key)]
    NoSuchInstance(InstanceId),
    /// The host has just started, and does not know all its instances yet.
    #[error("host {} is still starting, and has not seen instance {} yet: try again", .0.host, .0.key)]
    Starting(InstanceId),
    /// Gossip is off.
    #[error("host {0} can't be asked: gossip is off here, so this host knows no other")]
    ByItself(HostName),
    /// The order did not reach the other host, or its answer did not come back.
    #[error("host {0} was not told, or did not answer: {1}")]
    Order(HostName, OrderError),
    /// The host could not do it, or not all of it; in its words.
    #[error("host {0}: {1}")]
    Failed(HostName, String),
}

/// Who waits for what comes of an order.
pub(crate) type Waiter = oneshot::Sender<Result<(), DrainError>>;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Drains {
    file: DrainFile,
    /// What this host drains, as it was last looked at.
    seen: BTreeSet<InstanceKey>,
    /// Orders that other hosts have not answered yet. Each ends within [`gossip::ORDER_MAX`].
    forwarded: HashMap<OrderId, (InstanceId, Waiter)>,
}

impl Drains {
    /// What is wrong with what an earlier registrar left is logged.
    pub(crate) fn new((file, (keys, problems)): (DrainFile, Restored)) -> Self {
        for problem in problems {
            warn!(problem, "drains of the registrar's last life are not all known");
        }
        if !keys.is_empty() {
            info!(instances = keys.len(), "still drained from before the restart");
        }
        Self { file, seen: keys, forwarded: HashMap::new() }
    }

    /// What was drained when this registrar started.
    pub(crate) const fn restored(&self) -> &BTreeSet<InstanceKey> {
        &self.seen
    }

    /// Keeps what is drained on this host, if that is something else than before.
    pub(crate) fn follow(&mut self, drained: &BTreeSet<InstanceKey>) {
        if self.seen != *drained {
            // What is wrong was logged.
            let _ = self.keep(drained);
        }
    }

    /// Keeps what is drained on this host.
    ///
    /// # Errors
    /// In words: a restart would forget it.
    pub(crate) fn keep(&mut self, drained: &BTreeSet<InstanceKey>) -> Result<(), String> {
        self.seen.clone_from(drained);
        self.file.save(drained).map_err(|error| {
            let problem = format!("done, but a restart of the registrar would not know it: {error}");
            warn!(problem, "drains");
            problem
        })
    }

    /// The order is on its way to the instance's host.
    pub(crate) fn forwarded(&mut self, order: OrderId, instance: InstanceId, waiter: Waiter) {
        self.forwarded.insert(order, (instance, waiter));
    }

    /// What came of it.
    pub(crate) fn ended(&mut self, order: OrderId, outcome: Result<Answer, OrderError>) {
        if let Some((instance, waiter)) = self.forwarded.remove(&order) {
            let _ = waiter.send(in_words(instance, outcome));
        }
    }
}

fn in_words(instance: InstanceId, outcome: Result<Answer, OrderError>) -> Result<(), DrainError> {
    match outcome {
        Ok(Answer::Done) => Ok(()),
        Ok(Answer::NoSuchInstance) => Err(DrainError::NoSuchInstance(instance)),
        Ok(Answer::Starting) => Err(DrainError::Starting(instance)),
        Ok(Answer::Failed(reason)) => Err(DrainError::Failed(instance.host, reason.as_str().to_owned())),
        Err(error) => Err(DrainError::Order(instance.host, error)),
    }
}

/// What another host that gave the order is answered.
pub(crate) fn answer(outcome: Result<(), DrainError>) -> Answer {
    match outcome {
        Ok(()) => Answer::Done,
        Err(DrainError::NoSuchInstance(_)) => Answer::NoSuchInstance,
        Err(DrainError::Starting(_)) => Answer::Starting,
        Err(DrainError::Failed(_, reason)) => Answer::Failed(Text::cut(&reason)),
        Err(other) => Answer::Failed(Text::cut(&other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_on_the_other_host_what_it_says_here() {
        let instance: InstanceId = "there/0123456789ab".parse().unwrap();
        let failed = DrainError::Failed(instance.host.clone(), "the disk is full".to_owned());
        let starting = DrainError::Starting(instance.clone());
        for outcome in [Ok(()), Err(DrainError::NoSuchInstance(instance.clone())), Err(starting), Err(failed)] {
            assert_eq!(in_words(instance.clone(), Ok(answer(outcome.clone()))), outcome);
        }
        let down = in_words(instance, Err(OrderError::Down)).unwrap_err().to_string();
        assert!(down.starts_with("host there was not told") && down.contains("down"), "{down}");
    }
}

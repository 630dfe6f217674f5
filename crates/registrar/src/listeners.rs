//! Listeners: programs that are posted every change of the catalogue, in Sidecar's shape.
//!
//! There are those that the configuration names, and own instances whose label `SidecarListener` (or static entry)
//! asks for it. Each has a task of its own, so that a slow one delays nobody; what it is posted, and when, is decided in
//! `delivery`, from what it was told and what is known now. There is no queue. Here is who is a listener at all.

mod delivery;
mod post;
mod target;

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{info, warn};

use self::delivery::Delivery;
pub(crate) use self::target::Target;
pub use self::target::{BadListenerUrl, ListenerUrl};
use crate::event::Event;
use crate::sidecar::Identity;
use crate::watch::Watching;

/// The most listeners of a host, those of the configuration first.
pub(crate) const LISTENERS_MAX: usize = 32;

/// All that the listeners' tasks need.
#[derive(Clone)]
pub(crate) struct Surroundings {
    pub(crate) watching: Watching,
    pub(crate) identity: Arc<Identity>,
    pub(crate) events: mpsc::Sender<Event>,
}

/// Keeps a task for each listener, until the registrar ends. `labelled` are those that come and go.
pub(crate) async fn run(
    configured: Vec<ListenerUrl>,
    mut labelled: watch::Receiver<Vec<Target>>,
    surroundings: Surroundings,
    mut rng: StdRng,
) {
    let configured: Vec<_> = configured.into_iter().map(Target::configured).collect();
    let mut running: BTreeMap<Target, JoinHandle<()>> = BTreeMap::new();
    loop {
        let (chosen, left_out) = chosen(&configured, &labelled.borrow_and_update());
        let gone: Vec<_> = running.keys().filter(|target| !chosen.contains(target)).cloned().collect();
        for target in gone {
            if let Some(task) = running.remove(&target) {
                task.abort();
                let _ = task.await;
            }
            report(&surroundings.events, target.to_string(), None).await;
        }
        for target in chosen {
            let start =
                |target: &Target| tokio::spawn(tell(target.clone(), surroundings.clone(), StdRng::from_rng(&mut rng)));
            running.entry(target).or_insert_with_key(start);
        }
        report(&surroundings.events, "listeners".to_owned(), left_out).await;
        if labelled.changed().await.is_err() {
            return;
        }
    }
}

/// The first [`LISTENERS_MAX`], and what is to be said of the others.
fn chosen(configured: &[Target], labelled: &[Target]) -> (Vec<Target>, Option<String>) {
    let mut all: Vec<_> = configured.iter().chain(labelled).cloned().collect();
    let left_out = all.split_off(all.len().min(LISTENERS_MAX));
    let problem = left_out.first().map(|first| {
        format!("a host has at most {LISTENERS_MAX}: {first} and {} more hear nothing", left_out.len() - 1)
    });
    (all, problem)
}

/// Has one listener know what is known, for as long as it is one.
async fn tell(target: Target, surroundings: Surroundings, mut rng: StdRng) {
    let Surroundings { watching, identity, events } = surroundings;
    let mut states = watching.follow();
    let mut delivery = Delivery::default();
    loop {
        if states.changed().await.is_err() {
            return;
        }
        loop {
            let now = Arc::clone(&states.borrow_and_update());
            let Some(post) = delivery.next(&now) else { break };
            match post::post(&target.url, &identity, &now, &post).await {
                Ok(()) => {
                    if delivery.succeeded(&post, &now) {
                        info!(listener = %target, "it takes changes again");
                        report(&events, target.to_string(), None).await;
                    }
                }
                Err(reason) => {
                    let (delay, is_problem) = delivery.failed(rng.random());
                    if is_problem {
                        warn!(listener = %target, reason, "it does not take changes; it is tried again and again");
                        let problem = format!("it does not take changes: {reason}; it is tried again and again");
                        report(&events, target.to_string(), Some(problem)).await;
                    }
                    sleep(delay).await;
                }
            }
        }
    }
}

async fn report(events: &mpsc::Sender<Event>, listener: String, problem: Option<String>) {
    let _ = events.send(Event::Listener { listener, problem }).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_of_the_configuration_come_first_and_the_rest_is_named() {
        let target = |number: usize| Target {
            who: format!("host/{number:012}"),
            url: format!("http://10.0.0.1:{}/", 1000 + number).parse().unwrap(),
        };
        let configured = [Target::configured("http://example.test/".parse().unwrap())];
        let labelled: Vec<_> = (0..LISTENERS_MAX + 1).map(target).collect();
        let (taken, problem) = chosen(&configured, &labelled);
        assert_eq!((taken.len(), &taken[0]), (LISTENERS_MAX, &configured[0]));
        let problem = problem.unwrap();
        assert!(problem.contains("http://10.0.0.1:1031/") && problem.contains("and 1 more"), "{problem}");
        assert_eq!(chosen(&configured, &labelled[..3]).1, None);
    }
}

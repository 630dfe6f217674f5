//! Finds the containers of freshly registered shims by their addresses.
//!
//! While a container starts, asking for the container itself blocks until all its shims have answered, and
//! the listing of containers knows no addresses yet. Its networks know it within milliseconds, so they are
//! asked: `GET /networks`, `GET /networks/ID`, then `GET /containers/json` for the labels.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{ListContainersOptions, ListNetworksOptions};
use catalog::{Container, Lookup};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use model::ContainerId;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tracing::debug;

use super::{DockerError, DockerEvent, answered, convert};
use crate::backoff::Backoff;
use crate::event::Event;

/// The first and the longest wait before addresses are looked up again that Docker did not know. dockerd
/// enters a container into its network within a few milliseconds of starting the shim.
const RETRY: (Duration, Duration) = (Duration::from_millis(2), Duration::from_secs(1));

/// The most networks that are asked at once.
const NETWORKS_MAX: usize = 16;

/// Answers every lookup until it is answered in full or no longer wanted. Ends with the registrar.
pub(super) async fn run(docker: &Docker, mut lookups: watch::Receiver<Option<Lookup>>, events: &mpsc::Sender<Event>) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    loop {
        let wanted = lookups.borrow_and_update().clone();
        let Some(lookup) = wanted else {
            backoff.reset();
            if lookups.changed().await.is_err() {
                return;
            }
            continue;
        };
        let number = lookup.number;
        tokio::select! {
            // A shim that is new is not to wait for a network that is slow.
            new = is_newer(&mut lookups, number) => {
                if !new {
                    return;
                }
                backoff.reset();
                continue;
            }
            found = find(docker, &lookup, events) => {
                if let Err(error) = found {
                    debug!(%error, "looking up containers failed, it is tried again");
                }
            }
        }
        wait(&mut lookups, number, &mut backoff).await;
    }
}

/// Waits for the next lookup, or for the time to repeat this one.
async fn wait(lookups: &mut watch::Receiver<Option<Lookup>>, number: u64, backoff: &mut Backoff) {
    let delay = backoff.next_delay();
    if let Ok(true) = timeout(delay, is_newer(lookups, number)).await {
        backoff.reset();
    }
}

/// Waits until another lookup is wanted than the one of this number, or none; false if there won't be any more. An
/// answer in part changes the lookup too, but not its number.
async fn is_newer(lookups: &mut watch::Receiver<Option<Lookup>>, number: u64) -> bool {
    let is_new = |lookup: &Option<Lookup>| lookup.as_ref().is_none_or(|lookup| lookup.number > number);
    lookups.wait_for(is_new).await.is_ok()
}

/// Tells of each container as soon as its network has answered.
async fn find(docker: &Docker, lookup: &Lookup, events: &mpsc::Sender<Event>) -> Result<(), DockerError> {
    let networks = answered(docker.list_networks(None::<ListNetworksOptions>)).await?;
    let holding = convert::networks_holding(&networks, &lookup.addresses);
    let mut waiting = holding.into_iter();
    let mut answers = FuturesUnordered::<Pin<Box<dyn Future<Output = InNetwork> + Send + '_>>>::new();
    loop {
        let room = NETWORKS_MAX.saturating_sub(answers.len());
        for network in waiting.by_ref().take(room) {
            answers.push(Box::pin(find_in(docker, network, &lookup.addresses)));
        }
        let Some(answer) = answers.next().await else { return Ok(()) };
        match answer {
            Ok(containers) if containers.is_empty() => {}
            Ok(containers) => {
                let found = DockerEvent::Found { number: lookup.number, containers };
                events.send(Event::Docker(found)).await.map_err(|_| DockerError::EventsEnded)?;
            }
            // It may have been removed since.
            Err(error) => debug!(%error, "a network could not be inspected"),
        }
    }
}

/// The containers of one network, address by address.
type InNetwork = Result<Vec<(IpAddr, Container)>, DockerError>;

async fn find_in(docker: &Docker, network: &str, addresses: &[IpAddr]) -> InNetwork {
    let network = answered(docker.inspect_network(network, None)).await?;
    let ids = convert::containers_at(&network, addresses);
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let containers = named(docker, ids.values()).await?;
    Ok(ids.into_iter().filter_map(|(address, id)| Some((address, containers.get(&id)?.clone()))).collect())
}

async fn named(
    docker: &Docker,
    ids: impl Iterator<Item = &ContainerId>,
) -> Result<HashMap<ContainerId, Container>, DockerError> {
    let ids = ids.map(ToString::to_string).collect();
    let filters = Some(HashMap::from([("id".to_owned(), ids)]));
    let options = ListContainersOptions { all: true, filters, ..Default::default() };
    let summaries = answered(docker.list_containers(Some(options))).await?;
    Ok(summaries.iter().filter_map(convert::container).map(|container| (container.id.clone(), container)).collect())
}

//! Finds the containers of freshly registered shims by their addresses.
//!
//! While a container starts, asking for the container itself blocks until all its shims have answered, and
//! the listing of containers knows no addresses yet. Its networks know it within milliseconds, so they are
//! asked: `GET /networks`, `GET /networks/ID`, then `GET /containers/json` for the labels.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use bollard::Docker;
use bollard::query_parameters::{ListContainersOptions, ListNetworksOptions};
use catalog::{Container, Lookup};
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
        let containers = match find(docker, &lookup.addresses).await {
            Ok(containers) => containers,
            Err(error) => {
                debug!(%error, "looking up containers failed, it is tried again");
                Vec::new()
            }
        };
        let number = lookup.number;
        if !containers.is_empty()
            && events.send(Event::Docker(DockerEvent::Found { number, containers })).await.is_err()
        {
            return;
        }
        wait(&mut lookups, number, &mut backoff).await;
    }
}

/// Waits for the next lookup, or for the time to repeat this one.
async fn wait(lookups: &mut watch::Receiver<Option<Lookup>>, number: u64, backoff: &mut Backoff) {
    let delay = backoff.next_delay();
    // An answer in part changes the lookup too, but a shim that is new is not to wait for those that failed.
    let is_new = |lookup: &Option<Lookup>| lookup.as_ref().is_none_or(|lookup| lookup.number > number);
    if let Ok(Ok(_)) = timeout(delay, lookups.wait_for(is_new)).await {
        backoff.reset();
    }
}

async fn find(docker: &Docker, addresses: &[IpAddr]) -> Result<Vec<(IpAddr, Container)>, DockerError> {
    let networks = answered(docker.list_networks(None::<ListNetworksOptions>)).await?;
    let mut ids = HashMap::new();
    for network in convert::networks_holding(&networks, addresses) {
        match answered(docker.inspect_network(network, None)).await {
            Ok(network) => ids.extend(convert::containers_at(&network, addresses)),
            // It may have been removed since.
            Err(error) => debug!(network, %error, "a network could not be inspected"),
        }
    }
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let containers = named(docker, ids.values()).await?;
    let found = ids.into_iter().filter_map(|(address, id)| Some((address, containers.get(&id)?.clone())));
    Ok(found.collect())
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

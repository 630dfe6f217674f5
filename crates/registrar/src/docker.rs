//! The registrar's conversation with Docker: which containers run, and which one has an address.
//!
//! Two things go on at once over one client: [`watch`](watch) keeps the listing of running containers true,
//! and [`lookup`](lookup) finds the containers of freshly registered shims. Docker lost is Docker sought
//! again. What Docker says is turned into the project's nouns in [`convert`]; what follows from it is decided
//! in the catalogue. Nothing here ever makes a shim wait.

pub(crate) mod convert;
mod known;
mod listing;
mod lookup;
mod reach;
mod settled;
mod stops;
mod watch;

use std::net::IpAddr;
use std::time::Duration;

use bollard::Docker;
use catalog::{Container, ListedContainer, Lookup};
use model::ContainerId;
use tokio::sync::{mpsc, watch as watch_channel};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::backoff::Backoff;
use crate::cause::deepest_cause;
use crate::event::Event;

/// How long Docker may take to answer a question. While dockerd starts with live-restore it accepts
/// connections and answers none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What Docker told us.
#[derive(Debug)]
pub(crate) enum DockerEvent {
    /// The whole listing of running containers: first of all, and after every reconnect.
    ListedAll(Vec<ListedContainer>),
    /// One container that runs, or runs otherwise than before.
    Listed(ListedContainer),
    /// A container that was asked to stop, and runs on until it has.
    Stopping(ContainerId),
    /// A container that runs no longer.
    Stopped(ContainerId),
    /// The answer to the [`Lookup`] of this number, as far as containers were found.
    Found {
        /// The lookup's number.
        number: u64,
        /// Address by address.
        containers: Vec<(IpAddr, Container)>,
    },
    /// Docker can't be reached, or fell silent; in words for the operator.
    Lost(String),
}

/// Why Docker's word could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DockerError {
    #[error("{0}")]
    Api(#[from] bollard::errors::Error),
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Silent,
    #[error("the stream of events ended")]
    EventsEnded,
}

/// Talks with the Docker at `host` until the registrar ends.
pub(crate) async fn run(host: String, lookups: watch_channel::Receiver<Option<Lookup>>, events: mpsc::Sender<Event>) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let mut lost = None;
    loop {
        let error = match connect(&host).await {
            Ok(docker) => {
                info!(host, api_version = %docker.client_version(), "connected to Docker");
                backoff.reset();
                lost = None;
                converse(&docker, lookups.clone(), &events).await
            }
            Err(error) => error,
        };
        let reason = format!("Docker at {host}: {}", deepest_cause(&error));
        if lost.as_ref() != Some(&reason) {
            warn!(reason, "Docker is lost; it is tried again until it is back");
        }
        if events.send(Event::Docker(DockerEvent::Lost(reason.clone()))).await.is_err() {
            return;
        }
        lost = Some(reason);
        sleep(backoff.next_delay()).await;
    }
}

/// Talks over one client until it fails.
async fn converse(
    docker: &Docker,
    lookups: watch_channel::Receiver<Option<Lookup>>,
    events: &mpsc::Sender<Event>,
) -> DockerError {
    tokio::select! {
        error = watch::run(docker, events) => error,
        () = lookup::run(docker, lookups, events) => DockerError::EventsEnded,
    }
}

async fn connect(host: &str) -> Result<Docker, DockerError> {
    let docker = Docker::connect_with_host(host)?;
    answered(docker.negotiate_version()).await
}

/// Waits for an answer, but not for ever.
async fn answered<T>(question: impl Future<Output = Result<T, bollard::errors::Error>>) -> Result<T, DockerError> {
    timeout(ANSWER_TIMEOUT, question).await.map_err(|_| DockerError::Silent)?.map_err(DockerError::Api)
}

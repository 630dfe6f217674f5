//! Keeps the listing of running containers true: a full listing first, then event by event.

use std::collections::HashMap;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::models::EventMessage;
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use futures_util::StreamExt;
use model::ContainerId;
use tokio::sync::mpsc;

use super::{DockerError, DockerEvent, answered, convert};
use crate::event::Event;

/// How far back Docker is to tell events: what happens while the full listing is taken must not be missed.
const OVERLAP: Duration = Duration::from_secs(2);

/// Watches until Docker fails.
pub(super) async fn run(docker: &Docker, events: &mpsc::Sender<Event>) -> DockerError {
    match follow(docker, events).await {
        Err(error) => error,
        Ok(()) => DockerError::EventsEnded,
    }
}

async fn follow(docker: &Docker, events: &mpsc::Sender<Event>) -> Result<(), DockerError> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(OVERLAP);
    let options = EventsOptions {
        since: Some(since.as_secs().to_string()),
        filters: Some(HashMap::from([("type".to_owned(), vec!["container".to_owned()])])),
        ..Default::default()
    };
    let all = list(docker, None).await?;
    tell(events, DockerEvent::ListedAll(all)).await?;

    let mut stream = pin!(docker.events(Some(options)));
    while let Some(message) = stream.next().await {
        if let Some(event) = react(docker, &message?).await? {
            tell(events, event).await?;
        }
    }
    Ok(())
}

/// What follows from one of Docker's events.
async fn react(docker: &Docker, message: &EventMessage) -> Result<Option<DockerEvent>, DockerError> {
    let id = message.actor.as_ref().and_then(|actor| actor.id.as_deref()).and_then(|id| id.parse::<ContainerId>().ok());
    let (Some(id), Some(action)) = (id, message.action.as_deref()) else { return Ok(None) };
    match action {
        "start" | "rename" | "unpause" => {
            let listed = list(docker, Some(&id)).await?.pop();
            Ok(listed.map(DockerEvent::Listed))
        }
        "die" | "destroy" => Ok(Some(DockerEvent::Stopped(id))),
        _ => Ok(None),
    }
}

async fn list(docker: &Docker, only: Option<&ContainerId>) -> Result<Vec<catalog::ListedContainer>, DockerError> {
    let filters = only.map(|id| HashMap::from([("id".to_owned(), vec![id.to_string()])]));
    let options = ListContainersOptions { filters, ..Default::default() };
    let summaries = answered(docker.list_containers(Some(options))).await?;
    Ok(summaries.iter().filter_map(convert::listed_container).collect())
}

async fn tell(events: &mpsc::Sender<Event>, event: DockerEvent) -> Result<(), DockerError> {
    events.send(Event::Docker(event)).await.map_err(|_| DockerError::EventsEnded)
}

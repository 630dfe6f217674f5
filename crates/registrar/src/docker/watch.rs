//! Keeps the listing of running containers true: a full listing first, then event by event.

use std::collections::HashMap;
use std::pin::pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::models::{ContainerSummary, EventMessage};
use bollard::query_parameters::{EventsOptions, ListContainersOptions};
use futures_util::StreamExt;
use model::ContainerId;
use tokio::sync::mpsc;

use super::stops::Stops;
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
    let mut stops = Stops::new(docker);
    loop {
        tokio::select! {
            message = stream.next() => {
                let Some(message) = message else { return Ok(()) };
                if let Some(event) = react(docker, &message?, &mut stops).await? {
                    tell(events, event).await?;
                }
            }
            Some(id) = stops.next() => tell(events, DockerEvent::Stopping(id)).await?,
        }
    }
}

/// What follows from one of Docker's events.
async fn react(
    docker: &Docker,
    message: &EventMessage,
    stops: &mut Stops<'_>,
) -> Result<Option<DockerEvent>, DockerError> {
    let id = message.actor.as_ref().and_then(|actor| actor.id.as_deref()).and_then(|id| id.parse::<ContainerId>().ok());
    let (Some(id), Some(action)) = (id, message.action.as_deref()) else { return Ok(None) };
    if matches!(action, "start" | "die" | "destroy") {
        stops.forget(&id);
    }
    match action {
        "start" | "rename" | "unpause" => Ok(list(docker, Some(&id)).await?.pop().map(DockerEvent::Listed)),
        "die" | "destroy" => Ok(Some(DockerEvent::Stopped(id))),
        "kill" => {
            let attributes = message.actor.as_ref().and_then(|actor| actor.attributes.as_ref());
            if let Some(signal) = attributes.and_then(|attributes| attributes.get("signal")) {
                stops.ask(id, signal.clone());
            }
            Ok(None)
        }
        // `health_status: healthy` and the like.
        _ if action.starts_with("health_status") => Ok(list(docker, Some(&id)).await?.pop().map(DockerEvent::Listed)),
        _ => Ok(None),
    }
}

async fn list(docker: &Docker, only: Option<&ContainerId>) -> Result<Vec<catalog::ListedContainer>, DockerError> {
    let filters = only.map(|id| HashMap::from([("id".to_owned(), vec![id.to_string()])]));
    let options = ListContainersOptions { filters, ..Default::default() };
    let summaries = answered(docker.list_containers(Some(options))).await?;
    let mut listed = Vec::new();
    for summary in &summaries {
        let Some(mut container) = convert::listed_container(summary) else { continue };
        if convert::asks_for_a_command(&container) {
            container.image_labels = image_labels(docker, summary).await;
        }
        listed.push(container);
    }
    Ok(listed)
}

/// The labels that came with the image: a command of theirs is never run on the host.
async fn image_labels(docker: &Docker, summary: &ContainerSummary) -> Option<HashMap<String, String>> {
    let image = answered(docker.inspect_image(summary.image_id.as_deref()?)).await.ok()?;
    Some(image.config.and_then(|config| config.labels).unwrap_or_default())
}

async fn tell(events: &mpsc::Sender<Event>, event: DockerEvent) -> Result<(), DockerError> {
    events.send(Event::Docker(event)).await.map_err(|_| DockerError::EventsEnded)
}

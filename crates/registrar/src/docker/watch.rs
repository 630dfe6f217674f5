//! Keeps the listing of running containers true: a whole listing first, then question by question as events come.
//!
//! Events are read whatever becomes of the questions, since dockerd drops those of a reader that is slow. What follows
//! from events and answers is decided in [`known`](super::known).

use std::collections::HashMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::Docker;
use bollard::models::{EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::EventsOptions;
use catalog::ListedContainer;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use model::ContainerId;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until};

use super::known::{About, Known, Question};
use super::listing::Lister;
use super::settled::Settling;
use super::stops::Stops;
use super::{DockerError, DockerEvent};
use crate::event::Event;

/// How far back Docker is to tell events: what happens while the full listing is taken must not be missed.
const OVERLAP: Duration = Duration::from_secs(2);

/// How often everything is listed, whether an event asks for it or not: dockerd drops events of a reader that it takes
/// for slow, and says nothing.
const LIST_ALL_EVERY: Duration = Duration::from_secs(60);

/// How many questions may be open at once.
const QUESTIONS_MAX: usize = 4;

/// How long events are still read after a question failed: a dockerd that stops takes its socket away first, and ends its
/// containers then.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The events that say something of a running container, by the type of what they are about. The others, above all those
/// of commands that are run in containers, are many.
const EVENTS: [&str; 9] =
    ["start", "die", "destroy", "kill", "rename", "unpause", "health_status", "connect", "disconnect"];

/// Watches until Docker fails.
pub(super) async fn run(docker: &Docker, events: &mpsc::Sender<Event>) -> DockerError {
    match follow(docker, events).await {
        Err(error) => error,
        Ok(()) => DockerError::EventsEnded,
    }
}

async fn follow(docker: &Docker, events: &mpsc::Sender<Event>) -> Result<(), DockerError> {
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let lister = Lister::new(docker);
    let all = lister.list(&About::All).await?;
    let mut watch = Watch {
        lister: &lister,
        began,
        known: Known::new(&all),
        stops: Stops::new(docker),
        settling: Settling::new(docker),
        questions: FuturesUnordered::new(),
    };
    tell(events, [DockerEvent::ListedAll(all)]).await?;

    let mut stream = pin!(docker.events(Some(events_since(began.saturating_sub(OVERLAP)))));
    let mut whole = interval_at(Instant::now() + LIST_ALL_EVERY, LIST_ALL_EVERY);
    whole.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = None;
    loop {
        if failed.is_none() {
            watch.ask();
        }
        let last_words = failed.as_ref().map(|(_, until)| *until);
        tokio::select! {
            message = stream.next() => {
                let Some(message) = message else { return Ok(()) };
                tell(events, watch.react(&message?)).await?;
            }
            Some((question, listed)) = watch.questions.next() => match listed {
                Ok(listed) => tell(events, watch.known.answered(question, listed)).await?,
                Err(error) => drop(failed.get_or_insert((error, Instant::now() + LAST_WORDS))),
            },
            Some(id) = watch.stops.next() => tell(events, [DockerEvent::Stopping(id)]).await?,
            Some(id) = watch.settling.next() => watch.known.changed(id),
            _ = whole.tick() => watch.known.suspect_all(),
            () = until(last_words) => break,
        }
    }
    failed.map_or(Ok(()), |(error, _)| Err(error))
}

async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

fn events_since(since: Duration) -> EventsOptions {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    EventsOptions {
        since: Some(since.as_secs().to_string()),
        filters: Some(HashMap::from([
            ("type".to_owned(), texts(&["container", "network"])),
            ("event".to_owned(), texts(&EVENTS)),
        ])),
        ..Default::default()
    }
}

type Answer = (Question, Result<Vec<ListedContainer>, DockerError>);

/// One conversation: what is known, and what is asked.
struct Watch<'a> {
    lister: &'a Lister<'a>,
    /// When the first listing was asked for, by Unix time.
    began: Duration,
    known: Known,
    stops: Stops<'a>,
    settling: Settling<'a>,
    questions: FuturesUnordered<Pin<Box<dyn Future<Output = Answer> + Send + 'a>>>,
}

impl Watch<'_> {
    fn ask(&mut self) {
        while self.questions.len() < QUESTIONS_MAX {
            let Some(question) = self.known.next_question() else { return };
            let lister = self.lister;
            self.questions.push(Box::pin(async move {
                let listed = lister.list(&question.about).await;
                (question, listed)
            }));
        }
    }

    /// What follows at once from one of Docker's events.
    fn react(&mut self, message: &EventMessage) -> Option<DockerEvent> {
        let actor = message.actor.as_ref()?;
        let attribute = |name: &str| actor.attributes.as_ref()?.get(name);
        let is_of_a_network = message.typ == Some(EventMessageTypeEnum::NETWORK);
        match message.action.as_deref()? {
            "connect" | "disconnect" if is_of_a_network => {
                self.settling.wait_for(attribute("container")?.parse().ok()?);
            }
            _ if is_of_a_network => {}
            "kill" => self.stops.ask(id_of(message)?, attribute("signal")?.clone()),
            "start" => {
                let id = id_of(message)?;
                self.stops.forget(&id);
                self.known.changed(id);
            }
            "die" | "destroy" => {
                let id = id_of(message)?;
                self.stops.forget(&id);
                if self.is_before_the_listing(message) {
                    // The same container may have been started since.
                    self.known.changed(id);
                } else {
                    return Some(self.known.ended(id));
                }
            }
            action if action == "rename" || action == "unpause" || action.starts_with("health_status") => {
                self.known.changed(id_of(message)?);
            }
            _ => {}
        }
        None
    }

    /// Whether the event may be told only because of the [`OVERLAP`].
    fn is_before_the_listing(&self, message: &EventMessage) -> bool {
        let at = message.time_nano.and_then(|nanoseconds| u64::try_from(nanoseconds).ok());
        at.is_none_or(|at| Duration::from_nanos(at) <= self.began)
    }
}

fn id_of(message: &EventMessage) -> Option<ContainerId> {
    message.actor.as_ref()?.id.as_deref()?.parse().ok()
}

async fn tell(events: &mpsc::Sender<Event>, told: impl IntoIterator<Item = DockerEvent>) -> Result<(), DockerError> {
    for event in told {
        events.send(Event::Docker(event)).await.map_err(|_| DockerError::EventsEnded)?;
    }
    Ok(())
}

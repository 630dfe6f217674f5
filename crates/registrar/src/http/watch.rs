//! `GET /api/v1/watch`: server-sent events, as `admin_api::watch` has them.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use admin_api::watch::WatchEvent;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tracing::warn;

use super::{Api, error};
use crate::watch::Watcher;

/// How often a comment is sent where nothing happens, so that either side notices when the other is gone.
pub(super) const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Answers with all there is, and then with every change.
pub(super) async fn events(State(api): State<Api>) -> Response {
    match api.watching.watch() {
        Ok(watcher) => {
            let events = stream::unfold((watcher, VecDeque::new()), next);
            Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
        }
        Err(reason) => error(StatusCode::SERVICE_UNAVAILABLE, &reason.to_string()),
    }
}

type Waiting = (Watcher, VecDeque<WatchEvent>);

/// The next event. Those that wait are of one step between two states; while they do, no other is asked for.
async fn next((mut watcher, mut waiting): Waiting) -> Option<(Result<sse::Event, Infallible>, Waiting)> {
    loop {
        while let Some(event) = waiting.pop_front() {
            match written(&event) {
                Ok(event) => return Some((Ok(event), (watcher, waiting))),
                Err(error) => warn!(%error, "an event could not be written"),
            }
        }
        let (before, now) = watcher.next().await?;
        waiting.extend(now.events_since(before.as_deref()));
    }
}

fn written(event: &WatchEvent) -> Result<sse::Event, axum::Error> {
    match event {
        WatchEvent::State(state) => named("state").json_data(state),
        WatchEvent::Service(service) => named("service").json_data(service),
        WatchEvent::ServiceGone(key) => named("service-gone").json_data(key),
        WatchEvent::Host(host) => named("host").json_data(host),
        WatchEvent::HostGone(key) => named("host-gone").json_data(key),
    }
}

fn named(name: &str) -> sse::Event {
    sse::Event::default().event(name)
}

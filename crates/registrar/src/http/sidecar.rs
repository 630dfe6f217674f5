//! Sidecar's read endpoints, for those who come from it: under `/api`, and where older readers look for them.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/services.json` (`/services.json`) | services by name, and the hosts |
//! | `GET /api/services/NAME.json` | one service |
//! | `GET /api/state.json` (`/state.json`) | instances by host |
//! | `GET /api/watch` (`/watch`) | services by name, again and again: one JSON object at once and one after each change. With `?by_service=false` as `state.json` |
//!
//! What stands in them is `crate::sidecar`'s. While the registrar does not know the world yet, they answer 503, and
//! `watch` sends nothing but line feeds. Deliberately absent: Sidecar's order to drain (see `admin`), and leave
//! for foreign web pages to read this.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::shared::Page;
use super::watch::KEEP_ALIVE;
use super::{Api, shared};
use crate::sidecar::{self, Identity};
use crate::watch::Watcher;
use crate::watch::state;

/// The routes.
pub(super) fn routes(api: &Api) -> Router<Api> {
    let (all_services, whole_state) = (shared(api, services), shared(api, state));
    Router::new()
        .route("/api/services.json", all_services.clone())
        .route("/services.json", all_services)
        .route("/api/services/{file}", get(service))
        .route("/api/state.json", whole_state.clone())
        .route("/state.json", whole_state)
        .route("/api/watch", get(watch))
        .route("/watch", get(watch))
}

async fn services(api: Api) -> Result<Page, Page> {
    let state = newest(&api).await?;
    Ok(json(serde_json::to_vec_pretty(&sidecar::services(&state, &api.identity))))
}

async fn service(State(api): State<Api>, Path(file): Path<String>) -> Result<Page, Page> {
    let Some(name) = file.strip_suffix(".json") else {
        return Err(error(StatusCode::NOT_FOUND, "expected NAME.json"));
    };
    let state = newest(&api).await?;
    match sidecar::service(&state, &api.identity, name) {
        Some(service) => Ok(json(serde_json::to_vec_pretty(&service))),
        None => Err(error(StatusCode::NOT_FOUND, "no instance of a service of this name is known")),
    }
}

async fn state(api: Api) -> Result<Page, Page> {
    let state = newest(&api).await?;
    Ok(json(serde_json::to_vec(&sidecar::state(&state, &api.identity, state.changed_at))))
}

#[derive(Deserialize)]
struct WatchQuery {
    /// Sidecar takes exactly `false` for no.
    by_service: Option<String>,
}

async fn watch(State(api): State<Api>, Query(query): Query<WatchQuery>) -> Result<Response, Page> {
    let watcher = api.watching.watch();
    let watcher = watcher.map_err(|reason| error(StatusCode::SERVICE_UNAVAILABLE, &reason.to_string()))?;
    let by_service = query.by_service.as_deref() != Some("false");
    let objects = stream::unfold((watcher, api.identity), move |(mut watcher, identity)| async move {
        let object = next(&mut watcher, &identity, by_service, KEEP_ALIVE).await?;
        Some((Ok::<_, Infallible>(object), (watcher, identity)))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(objects)).into_response())
}

/// The next object, or a line feed where nothing happens for so long: readers of JSON pass over it, and either side
/// notices when the other is gone.
async fn next(watcher: &mut Watcher, identity: &Identity, by_service: bool, silence: Duration) -> Option<Bytes> {
    // States come that differ in nothing that is told here; they are silence, too.
    let deadline = Instant::now() + silence;
    loop {
        let Ok(next) = timeout_at(deadline, watcher.next()).await else { return Some(Bytes::from_static(b"\n")) };
        let (before, now) = next?;
        if before.is_none_or(|before| before.changed_at != now.changed_at) {
            return object(&now, identity, by_service).ok();
        }
    }
}

fn object(now: &state::State, identity: &Identity, by_service: bool) -> Result<Bytes, serde_json::Error> {
    let mut text = if by_service {
        serde_json::to_vec(&sidecar::by_name(now))
    } else {
        serde_json::to_vec(&sidecar::state(now, identity, now.changed_at))
    }?;
    text.push(b'\n');
    Ok(text.into())
}

async fn newest(api: &Api) -> Result<Arc<state::State>, Page> {
    let unavailable = |reason| error(StatusCode::SERVICE_UNAVAILABLE, reason);
    let newest = api.watching.newest().await.ok_or_else(|| unavailable("the registrar is stopping"))?;
    if !newest.is_whole {
        return Err(unavailable(
            "the registrar has just started and does not know all there is yet: ask again; /readyz says what it waits for",
        ));
    }
    Ok(newest)
}

fn json(text: Result<Vec<u8>, serde_json::Error>) -> Page {
    match text {
        Ok(text) => Page { content_type: "application/json", ..Page::text(text) },
        Err(reason) => error(StatusCode::INTERNAL_SERVER_ERROR, &reason.to_string()),
    }
}

/// An error in Sidecar's shape.
#[derive(Serialize)]
struct SidecarError<'a> {
    status: &'static str,
    message: &'a str,
}

fn error(status: StatusCode, message: &str) -> Page {
    Page::json(status, &SidecarError { status: "error", message })
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::watch::state::tests::{instance, view};
    use crate::watch::tests::loop_that_answers;
    use crate::watch::{View, Watching};

    /// The API of a registrar that knows one service, and all of the world from the second look on.
    fn api(changed: &Arc<Notify>) -> Api {
        let web = instance("web", 1, model::Status::Alive);
        let view = move |times| View { is_whole: times > 1, ..view(&[("a", Arc::clone(&web))]) };
        let events = loop_that_answers(view);
        let identity = Identity { cluster_name: "default".to_owned(), host_name: "a".parse().unwrap() };
        Api {
            watching: Watching::start(2, Arc::clone(changed), events.clone()),
            events,
            host_name: "a".into(),
            identity: Arc::new(identity),
        }
    }

    #[tokio::test]
    async fn half_a_world_is_answered_503_with_the_reason_and_a_whole_one_200() {
        for page in ["services", "service", "state"] {
            let api = api(&Arc::default());
            let ask = async || match page {
                "services" => services(api.clone()).await,
                "service" => service(State(api.clone()), Path("web.json".to_owned())).await,
                _ => state(api.clone()).await,
            };
            let refused = ask().await.unwrap_err();
            assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE, "{page}");
            let text = refused.body;
            assert!(String::from_utf8_lossy(&text).contains("just started"), "{page}: {text:?}");
            assert_eq!(ask().await.unwrap().status, StatusCode::OK, "{page}");
        }
    }

    #[tokio::test]
    async fn a_watcher_gets_a_line_feed_while_states_come_that_differ_in_nothing() {
        let changed = Arc::new(Notify::new());
        let api = api(&changed);
        let mut watcher = api.watching.watch().unwrap();
        let changes = tokio::spawn(async move {
            loop {
                changed.notify_one();
                sleep(Duration::from_millis(50)).await;
            }
        });
        let mut next = async || {
            let next = next(&mut watcher, &api.identity, true, Duration::from_millis(500));
            timeout(Duration::from_secs(10), next).await.expect("something is sent in time").unwrap()
        };
        assert!(next().await.starts_with(b"{\"web\":"));
        assert_eq!(*next().await, *b"\n");
        changes.abort();
    }
}

//! Sidecar's read endpoints, for those who come from it: under `/api`, and where older readers look for them.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/services.json` (`/services.json`) | services by name, and the hosts |
//! | `GET /api/services/NAME.json` | one service |
//! | `GET /api/state.json` (`/state.json`) | instances by host |
//! | `GET /api/watch` (`/watch`) | services by name, again and again: one JSON object at once and one after each change. With `?by_service=false` as `state.json` |
//!
//! What stands in them is `crate::sidecar`'s. Deliberately absent: Sidecar's order to drain (see `admin`), and leave
//! for foreign web pages to read this.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::stream;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::Api;
use super::watch::KEEP_ALIVE;
use crate::sidecar::{self, Identity};
use crate::watch::Watcher;
use crate::watch::state;

/// The routes.
pub(super) fn routes() -> Router<Api> {
    Router::new()
        .route("/api/services.json", get(services))
        .route("/services.json", get(services))
        .route("/api/services/{file}", get(service))
        .route("/api/state.json", get(state))
        .route("/state.json", get(state))
        .route("/api/watch", get(watch))
        .route("/watch", get(watch))
}

async fn services(State(api): State<Api>) -> Result<Response, Response> {
    let state = newest(&api).await?;
    Ok(json(serde_json::to_vec_pretty(&sidecar::services(&state, &api.identity))))
}

async fn service(State(api): State<Api>, Path(file): Path<String>) -> Result<Response, Response> {
    let Some(name) = file.strip_suffix(".json") else {
        return Err(error(StatusCode::NOT_FOUND, "expected NAME.json"));
    };
    let state = newest(&api).await?;
    match sidecar::service(&state, &api.identity, name) {
        Some(service) => Ok(json(serde_json::to_vec_pretty(&service))),
        None => Err(error(StatusCode::NOT_FOUND, "no instance of a service of this name is known")),
    }
}

async fn state(State(api): State<Api>) -> Result<Response, Response> {
    let state = newest(&api).await?;
    Ok(json(serde_json::to_vec(&sidecar::state(&state, &api.identity, state.changed_at))))
}

#[derive(Deserialize)]
struct WatchQuery {
    /// Sidecar takes exactly `false` for no.
    by_service: Option<String>,
}

async fn watch(State(api): State<Api>, Query(query): Query<WatchQuery>) -> Result<Response, Response> {
    let watcher = api.watching.watch();
    let watcher = watcher.map_err(|reason| error(StatusCode::SERVICE_UNAVAILABLE, &reason.to_string()))?;
    let by_service = query.by_service.as_deref() != Some("false");
    let objects = stream::unfold((watcher, api.identity), move |(mut watcher, identity)| async move {
        let object = next(&mut watcher, &identity, by_service).await?;
        Some((Ok::<_, Infallible>(object), (watcher, identity)))
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(objects)).into_response())
}

/// The next object, or a line feed where nothing happens: readers of JSON pass over it, and either side notices when
/// the other is gone.
async fn next(watcher: &mut Watcher, identity: &Identity, by_service: bool) -> Option<Bytes> {
    loop {
        let Ok(next) = timeout(KEEP_ALIVE, watcher.next()).await else { return Some(Bytes::from_static(b"\n")) };
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

async fn newest(api: &Api) -> Result<Arc<state::State>, Response> {
    let stopping = || error(StatusCode::SERVICE_UNAVAILABLE, "the registrar is stopping");
    api.watching.newest().await.ok_or_else(stopping)
}

fn json(text: Result<Vec<u8>, serde_json::Error>) -> Response {
    match text {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text).into_response(),
        Err(reason) => error(StatusCode::INTERNAL_SERVER_ERROR, &reason.to_string()),
    }
}

/// An error in Sidecar's shape.
#[derive(Serialize)]
struct SidecarError<'a> {
    status: &'static str,
    message: &'a str,
}

fn error(status: StatusCode, message: &str) -> Response {
    (status, axum::Json(SidecarError { status: "error", message })).into_response()
}

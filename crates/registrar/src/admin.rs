//! Changes, by root alone: the admin socket. What can be read is served in `http`.

use std::sync::Arc;

use admin_api::Error;
use admin_api::gossip::BelievedLosses;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use gossip::OrderError;
use model::InstanceId;
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use crate::door::Door;
use crate::drains::DrainError;
use crate::event::{Event, Order};
use crate::http::server;
use crate::query::{self, Stopping};

/// Serves until the registrar ends.
pub(crate) async fn run(listener: UnixListener, door: Arc<Door>, events: mpsc::Sender<Event>) {
    let routes = Router::new()
        .route("/api/v1/leave", post(leave))
        .route("/api/v1/gossip/believe-losses", post(believe_losses))
        .route("/api/v1/instances/{host}/{key}/drain", post(drain).delete(undrain))
        .fallback(async || failed(StatusCode::NOT_FOUND, "no such change: see shimctl --help"))
        .with_state(events);
    server::serve(listener, door, routes).await;
}

async fn leave(State(events): State<mpsc::Sender<Event>>) -> Response {
    match query::ask(&events, |answer| Event::Order(Order::Leave(answer))).await {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(reason)) => failed(StatusCode::INTERNAL_SERVER_ERROR, &reason),
        Err(Stopping) => failed(StatusCode::SERVICE_UNAVAILABLE, &Stopping.to_string()),
    }
}

async fn believe_losses(State(events): State<mpsc::Sender<Event>>) -> Response {
    match query::ask(&events, |answer| Event::Order(Order::BelieveLosses(answer))).await {
        Ok(hosts) => Json(BelievedLosses { hosts }).into_response(),
        Err(Stopping) => failed(StatusCode::SERVICE_UNAVAILABLE, &Stopping.to_string()),
    }
}

async fn drain(State(events): State<mpsc::Sender<Event>>, Path(id): Path<(String, String)>) -> Response {
    set_draining(&events, id, true).await
}

async fn undrain(State(events): State<mpsc::Sender<Event>>, Path(id): Path<(String, String)>) -> Response {
    set_draining(&events, id, false).await
}

async fn set_draining(events: &mpsc::Sender<Event>, (host, key): (String, String), drains: bool) -> Response {
    let instance: InstanceId = match format!("{host}/{key}").parse() {
        Ok(instance) => instance,
        Err(error) => return failed(StatusCode::BAD_REQUEST, &format!("{error}")),
    };
    let named = instance.to_string();
    match query::ask(events, |answer| Event::Order(Order::Drain { instance, drains, answer })).await {
        Ok(Ok(())) => StatusCode::NO_CONTENT.into_response(),
        Ok(Err(error)) => failed(status_of(&error), &format!("{named}: {error}")),
        Err(Stopping) => failed(StatusCode::SERVICE_UNAVAILABLE, &Stopping.to_string()),
    }
}

/// 404 where there is no such thing, 503 where it is to be tried again, 504 where the other host did not answer, 502
/// where it could not be asked.
fn status_of(error: &DrainError) -> StatusCode {
    match error {
        DrainError::NoSuchInstance(_) | DrainError::Order(_, OrderError::NoSuchHost) => StatusCode::NOT_FOUND,
        DrainError::Order(_, OrderError::NoAnswer) => StatusCode::GATEWAY_TIMEOUT,
        DrainError::Starting(_) | DrainError::Order(_, OrderError::TooMany | OrderError::Leaving) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        DrainError::ByItself(_) | DrainError::Order(..) => StatusCode::BAD_GATEWAY,
        DrainError::Failed(..) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn failed(status: StatusCode, reason: &str) -> Response {
    (status, Json(Error { error: reason.to_owned() })).into_response()
}

//! The read API over HTTP: ports, Envoy, services, hosts, gossip, health; below it the stream of changes, and what
//! readers of Sidecar's expect. Nothing can be changed here.
//!
//! Readers have a thread of their own, which gives way to the others. They are many at times, and nobody else is to
//! wait for them. The `Host` header is checked, so that a web page can't have a browser read this by a name that leads
//! to loopback (DNS rebinding).

pub(crate) mod server;
mod shared;
mod sidecar;
mod watch;

use std::io;
use std::net::{IpAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use admin_api::Readiness;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use self::shared::{Page, Shared};
use crate::door::Door;
use crate::event::{Event, Query};
use crate::sidecar::Identity;
use crate::watch::Watching;
use crate::{listener_watch, ports_view, query, services_view};

/// How much the readers' thread gives way to others, from 1 to 19.
const NICE: i32 = 5;
/// How many of the readers' questions may wait for the kernel at a time.
const KERNEL_THREADS: usize = 2;

/// What the API is about, and where it learns of it.
#[derive(Clone)]
pub(crate) struct Api {
    /// Where the loop is asked.
    pub(crate) events: mpsc::Sender<Event>,
    /// A name by which this host may be asked, beside `localhost` and any address.
    pub(crate) host_name: Arc<str>,
    /// The changes.
    pub(crate) watching: Watching,
    /// What readers of Sidecar's are told of this host.
    pub(crate) identity: Arc<Identity>,
}

/// Serves until the registrar ends, on a thread of its own.
///
/// # Errors
/// There is no thread to be had, or no runtime on it.
pub(crate) fn start(listener: TcpListener, door: Arc<Door>, api: Api) -> io::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(KERNEL_THREADS).build()?;
    let serve = move || {
        // Of this thread alone.
        if let Err(error) = rustix::process::nice(NICE) {
            info!(%error, "readers are as important as everybody else");
        }
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => server::serve(listener, door, routes(api)).await,
                Err(error) => tracing::warn!(%error, "the HTTP API ended"),
            }
        });
    };
    thread::Builder::new().name("readers".to_owned()).spawn(serve).map(drop)
}

fn routes(api: Api) -> Router {
    Router::new()
        .route("/healthz", shared(&api, healthz))
        .route("/readyz", shared(&api, readyz))
        .route("/api/v1/ports", shared(&api, ports))
        .route("/api/v1/envoy", shared(&api, envoy))
        .route("/api/v1/services", shared(&api, services))
        .route("/api/v1/hosts", shared(&api, hosts))
        .route("/api/v1/gossip", shared(&api, gossip))
        .route("/api/v1/watch", get(watch::events))
        .route("/metrics", shared(&api, metrics))
        .merge(sidecar::routes(&api))
        .fallback(async || {
            error(
                StatusCode::NOT_FOUND,
                "no such page: see /api/v1/ports, /api/v1/services, /api/v1/hosts, /api/v1/gossip, /api/v1/envoy, \
                 /api/v1/watch, /metrics, /readyz, /healthz",
            )
        })
        .layer(middleware::from_fn_with_state(api.clone(), check_host))
        .with_state(api)
}

/// A page that is made once for all who ask for it at a time.
fn shared<F>(api: &Api, make: fn(Api) -> F) -> MethodRouter<Api>
where
    F: Future<Output = Result<Page, Page>> + Send + 'static,
{
    let api = api.clone();
    let page = Shared::new(move || {
        let page = make(api.clone());
        async move { page.await.unwrap_or_else(|problem| problem) }
    });
    get(move || async move { page.get().await })
}

async fn healthz(api: Api) -> Result<Page, Page> {
    ask(&api, Query::Readiness).await.map(|_| Page::text("ok\n"))
}

async fn readyz(api: Api) -> Result<Page, Page> {
    let waiting_for = ask(&api, Query::Readiness).await?;
    let ready = waiting_for.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(Page::json(status, &Readiness { ready, waiting_for }))
}

async fn envoy(api: Api) -> Result<Page, Page> {
    Ok(Page::json(StatusCode::OK, &ask(&api, Query::Envoy).await?))
}

async fn services(api: Api) -> Result<Page, Page> {
    let rows = ask(&api, Query::Services).await?;
    Ok(Page::json(StatusCode::OK, &services_view::services(&rows)))
}

async fn metrics(api: Api) -> Result<Page, Page> {
    let numbers = ask(&api, Query::Metrics).await?;
    let text = crate::metrics::text(numbers);
    let text = text.map_err(|reason| Page::error(StatusCode::INTERNAL_SERVER_ERROR, &reason.to_string()))?;
    Ok(Page { content_type: crate::metrics::CONTENT_TYPE, ..Page::text(text) })
}

async fn hosts(api: Api) -> Result<Page, Page> {
    Ok(Page::json(StatusCode::OK, &ask(&api, Query::Hosts).await?))
}

async fn gossip(api: Api) -> Result<Page, Page> {
    Ok(Page::json(StatusCode::OK, &ask(&api, Query::Gossip).await?))
}

async fn ports(api: Api) -> Result<Page, Page> {
    let report = ask(&api, Query::Ports).await?;
    let listeners = listener_watch::listeners().await;
    let listeners = listeners.map_err(|reason| Page::error(StatusCode::INTERNAL_SERVER_ERROR, &reason))?;
    Ok(Page::json(StatusCode::OK, &ports_view::ports(&report, &ports_view::by_address(&listeners))))
}

/// Asks the loop.
async fn ask<T>(api: &Api, query: fn(oneshot::Sender<T>) -> Query) -> Result<T, Page> {
    let asked = query::ask(&api.events, |answer| Event::Query(query(answer))).await;
    asked.map_err(|stopping| Page::error(StatusCode::SERVICE_UNAVAILABLE, &stopping.to_string()))
}

async fn check_host(State(api): State<Api>, headers: HeaderMap, request: Request, next: Next) -> Response {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    if is_own_name(host, &api.host_name) {
        return next.run(request).await;
    }
    error(StatusCode::FORBIDDEN, "the Host header names neither localhost, an address, nor this host")
}

/// Whether a `Host` header can't be the name of somebody else's site.
fn is_own_name(host: &str, host_name: &str) -> bool {
    let (name, _) = match host.strip_prefix('[') {
        Some(v6) => v6.split_once(']').unwrap_or((v6, "")),
        None => host.split_once(':').unwrap_or((host, "")),
    };
    name.eq_ignore_ascii_case("localhost") || name.eq_ignore_ascii_case(host_name) || name.parse::<IpAddr>().is_ok()
}

fn error(status: StatusCode, reason: &str) -> Response {
    Page::error(status, reason).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_cannot_be_anothers_are_served() {
        for host in ["localhost", "LOCALHOST:7777", "127.0.0.1:7777", "[::1]:7777", "10.0.0.5", "host1:7777"] {
            assert!(is_own_name(host, "host1"), "{host}");
        }
        for host in ["", "evil.example", "evil.example:7777", "127.0.0.1.evil.example", "[evil]"] {
            assert!(!is_own_name(host, "host1"), "{host}");
        }
    }
}

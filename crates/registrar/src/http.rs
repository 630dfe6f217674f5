//! The read API over HTTP: ports, Envoy, services, hosts, gossip, health; below it the stream of changes, and what readers of
//! Sidecar's expect. Nothing can be changed here.
//!
//! The `Host` header is checked, so that a web page can't have a browser read this by a name that leads to
//! loopback (DNS rebinding).

mod sidecar;
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use admin_api::{Error, Readiness};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::{Listener, ListenerExt};
use axum::{Json, Router};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use crate::event::{Event, Query};
use crate::sidecar::Identity;
use crate::watch::Watching;
use crate::{listener_watch, ports_view, query, services_view};

/// How long a client may take nothing of what waits for it before its connection is ended.
const STUCK_MAX: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Api {
    events: mpsc::Sender<Event>,
    host_name: Arc<str>,
    watching: Watching,
    identity: Arc<Identity>,
}

/// Serves until the registrar ends. `host_name` is a name by which this host may be asked, beside
/// `localhost` and any address.
pub(crate) async fn run(
    listener: TcpListener,
    host_name: Arc<str>,
    events: mpsc::Sender<Event>,
    watching: Watching,
    identity: Arc<Identity>,
) {
    let api = Api { events, host_name, watching, identity };
    let routes = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/api/v1/ports", get(ports))
        .route("/api/v1/envoy", get(envoy))
        .route("/api/v1/services", get(services))
        .route("/api/v1/hosts", get(hosts))
        .route("/api/v1/gossip", get(gossip))
        .route("/api/v1/watch", get(watch::events))
        .route("/metrics", get(metrics))
        .merge(sidecar::routes())
        .fallback(async || {
            error(
                StatusCode::NOT_FOUND,
                "no such page: see /api/v1/ports, /api/v1/services, /api/v1/hosts, /api/v1/gossip, /api/v1/envoy, \
                 /api/v1/watch, /metrics, /readyz, /healthz",
            )
        })
        .layer(middleware::from_fn_with_state(api.clone(), check_host))
        .with_state(api);
    if let Err(error) = axum::serve(ending_stuck_clients(listener, STUCK_MAX), routes).await {
        warn!(%error, "the HTTP API ended");
    }
}

/// A listener whose connections end when their client takes nothing, or is gone without a word, for `limit`.
fn ending_stuck_clients(listener: TcpListener, limit: Duration) -> impl Listener<Addr = SocketAddr> {
    let limit_ms = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
    listener.tap_io(move |client| {
        if let Err(error) = setsockopt(client, sockopt::TcpUserTimeout, &limit_ms) {
            warn!(%error, "a client that takes nothing can't be noticed");
        }
    })
}

async fn healthz(State(api): State<Api>) -> Response {
    match ask(&api, Query::Readiness).await {
        Ok(_) => "ok\n".into_response(),
        Err(response) => response,
    }
}

async fn readyz(State(api): State<Api>) -> Result<Response, Response> {
    let waiting_for = ask(&api, Query::Readiness).await?;
    let ready = waiting_for.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(Readiness { ready, waiting_for })).into_response())
}

async fn envoy(State(api): State<Api>) -> Result<Json<admin_api::Envoy>, Response> {
    ask(&api, Query::Envoy).await.map(Json)
}

async fn services(State(api): State<Api>) -> Result<Json<Vec<admin_api::Service>>, Response> {
    let rows = ask(&api, Query::Services).await?;
    Ok(Json(services_view::services(&rows)))
}

async fn metrics(State(api): State<Api>) -> Response {
    let numbers = match ask(&api, Query::Metrics).await {
        Ok(numbers) => numbers,
        Err(response) => return response,
    };
    match crate::metrics::text(numbers) {
        Ok(text) => ([(header::CONTENT_TYPE, crate::metrics::CONTENT_TYPE)], text).into_response(),
        Err(reason) => error(StatusCode::INTERNAL_SERVER_ERROR, &reason.to_string()),
    }
}

async fn hosts(State(api): State<Api>) -> Result<Json<Vec<admin_api::Host>>, Response> {
    ask(&api, Query::Hosts).await.map(Json)
}

async fn gossip(State(api): State<Api>) -> Result<Json<admin_api::gossip::Gossip>, Response> {
    ask(&api, Query::Gossip).await.map(Json)
}

async fn ports(State(api): State<Api>) -> Result<Json<Vec<admin_api::Port>>, Response> {
    let report = ask(&api, Query::Ports).await?;
    let listeners = listener_watch::listeners().await;
    let listeners = listeners.map_err(|reason| error(StatusCode::INTERNAL_SERVER_ERROR, &reason))?;
    Ok(Json(ports_view::ports(&report, &ports_view::by_address(&listeners))))
}

/// Asks the loop.
async fn ask<T>(api: &Api, query: fn(oneshot::Sender<T>) -> Query) -> Result<T, Response> {
    let asked = query::ask(&api.events, |answer| Event::Query(query(answer))).await;
    asked.map_err(|stopping| error(StatusCode::SERVICE_UNAVAILABLE, &stopping.to_string()))
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
    (status, Json(Error { error: reason.to_owned() })).into_response()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::body::{Body, Bytes};
    use futures_util::stream;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;
    use tokio::time::timeout;

    use super::*;

    /// Says when it is no more.
    struct Guard(mpsc::Sender<()>);

    impl Drop for Guard {
        fn drop(&mut self) {
            let _ = self.0.try_send(());
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_ended() {
        let (ended, mut has_ended) = mpsc::channel(1);
        let endless = move || {
            let chunk = |guard| async move { Some((Ok::<_, Infallible>(Bytes::from(vec![0; 1 << 16])), guard)) };
            std::future::ready(Body::from_stream(stream::unfold(Guard(ended.clone()), chunk)))
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let listener = ending_stuck_clients(listener, Duration::from_secs(1));
        tokio::spawn(axum::serve(listener, Router::new().route("/", get(endless))).into_future());
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        assert_eq!(timeout(Duration::from_secs(20), has_ended.recv()).await, Ok(Some(())));
    }

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

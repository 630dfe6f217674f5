//! Posts one change to a listener.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, header};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::ListenerUrl;
use super::delivery::Post;
use crate::one_request::{self, USER_AGENT};
use crate::sidecar::{self, Identity};
use crate::watch::state::State;

/// How long one post may take, from the look-up of the name to the status.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// Has the listener take it, or says in words why it did not.
pub(super) async fn post(url: &ListenerUrl, identity: &Identity, now: &State, post: &Post) -> Result<(), String> {
    let update = sidecar::update(now, identity, post.change.as_ref(), post.last_changed);
    let body = serde_json::to_vec(&update).map_err(|error| error.to_string())?;
    let sent = timeout(TIME_LIMIT, send(url, identity, body.into())).await;
    sent.unwrap_or_else(|_| Err(format!("no answer within {TIME_LIMIT:?}")))
}

async fn send(url: &ListenerUrl, identity: &Identity, body: Bytes) -> Result<(), String> {
    let request = Request::post(&url.path_and_query)
        .header(header::HOST, &url.authority)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_LENGTH, body.len())
        .header(header::CONNECTION, "close")
        // As Sidecar has it, so that load balancers keep one host's posts together.
        .header(header::COOKIE, format!("sidecar-session-host={}", identity.host_name))
        .body(Full::new(body))
        .map_err(|error| error.to_string())?;
    let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|error| error.to_string())?;
    match one_request::status(stream, request).await? {
        status if status.is_success() => Ok(()),
        status => Err(format!("answered {}", status.as_str())),
    }
}

//! The check by HTTP: one GET over a connection of its own, without redirects.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use health::HttpGet;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::{Seen, tcp, text};
use crate::cause::deepest_cause;

/// The longest head of a response, in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// How much of a body is read, in bytes. Nothing depends on it: it lets most servers finish undisturbed.
const BODY_MAX: usize = 4 * 1024;

/// How long is waited for it.
const BODY_WAIT: Duration = Duration::from_millis(100);

const USER_AGENT: &str = concat!("envoy-docker-registrar/", env!("CARGO_PKG_VERSION"));

/// Healthy if it is answered by 200 to 299. The text is the status, or why there is none.
pub(super) async fn get(get: &HttpGet) -> Seen {
    let request = Request::get(&get.path_and_query)
        .header(header::HOST, &get.authority)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(text)?;
    let stream = tcp::connect(&get.peer, |_| Ok(())).await.map_err(text)?;
    let handshake = http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| deepest_cause(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| deepest_cause(&error))?;
        let status = response.status();
        // What counts is known by now, so nothing that happens to the body matters.
        let _ = timeout(BODY_WAIT, read_some(response.into_body())).await;
        verdict(status)
    };
    // Both in this one future, so that nothing is left behind if it is dropped.
    let (mut exchange, connection) = (pin!(exchange), pin!(connection));
    tokio::select! {
        seen = &mut exchange => seen,
        _ = connection => exchange.await,
    }
}

fn verdict(status: StatusCode) -> Seen {
    match status {
        _ if status.is_success() => Ok(status.as_str().to_owned()),
        _ if status.is_redirection() => Err(format!("{}, and redirects are not followed", status.as_str())),
        _ => Err(status.as_str().to_owned()),
    }
}

async fn read_some(mut body: Incoming) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read >= BODY_MAX {
            return;
        }
    }
}

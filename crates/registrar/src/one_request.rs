//! One HTTP request on a connection of its own, and the status that it is answered by.
//!
//! Dropping the future ends the connection. Redirects are not followed, and there are no retries.

use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cause::deepest_cause;

/// How the registrar calls itself.
pub(crate) const USER_AGENT: &str = concat!("envoy-docker-registrar/", env!("CARGO_PKG_VERSION"));

/// The longest head of a response, in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// How much of a body is read, in bytes. Nothing depends on it: it lets most servers finish undisturbed.
const BODY_MAX: usize = 4 * 1024;

/// How long is waited for it.
const BODY_WAIT: Duration = Duration::from_millis(100);

/// Sends the request; what went wrong is said in words.
pub(crate) async fn status(stream: TcpStream, request: Request<Full<Bytes>>) -> Result<StatusCode, String> {
    let handshake = http1::Builder::new().max_buf_size(HEAD_MAX).handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| deepest_cause(&error))?;
    let exchange = async {
        let response = sender.send_request(request).await.map_err(|error| deepest_cause(&error))?;
        let status = response.status();
        // What counts is known by now, so nothing that happens to the body matters.
        let _ = timeout(BODY_WAIT, read_some(response.into_body())).await;
        Ok(status)
    };
    // Both in this one future, so that nothing is left behind if it is dropped.
    let (mut exchange, connection) = (pin!(exchange), pin!(connection));
    tokio::select! {
        status = &mut exchange => status,
        _ = connection => exchange.await,
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

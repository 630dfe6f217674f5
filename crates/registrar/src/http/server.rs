//! Serves HTTP at a door: one task for each client, which holds its place while it is asked for something.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::door::{Busy, Door, Guarded, Listens};

/// Serves until the registrar ends.
pub(crate) async fn serve<L: Listens<Stream: AsyncRead + AsyncWrite>>(listener: L, door: Arc<Door>, routes: Router) {
    loop {
        let client = door.accept(&listener).await;
        tokio::spawn(converse(client, routes.clone()));
    }
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(client: Guarded<S>, routes: Router) {
    let visitor = client.visitor().clone();
    let routes = TowerToHyperService::new(routes);
    let answer = service_fn(move |request: Request<Incoming>| {
        let busy = visitor.busy();
        let answered = routes.call(request);
        async move { Ok::<_, Infallible>(holding(busy, answered.await?)) }
    });
    // A connection that breaks off is the client's own affair.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(client), answer).await;
}

/// The client is busy until the last of the body is on its way.
fn holding(busy: Busy, response: Response<Body>) -> Response<Body> {
    let keep = move |frame| {
        let _held = &busy;
        frame
    };
    response.map(|body| Body::new(body.map_frame(keep)))
}

//! The gRPC service that Envoy subscribes to. It moves messages; what they mean is the crate `xds`'s.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use futures_util::{Stream, StreamExt, stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;
use xds::{StreamId, Variant};

use crate::door::{Door, Listens, SILENCE_MAX, Visitor};
use crate::event::{Event, Turn, XdsEvent};
use crate::refusal_log::RefusalLog;

/// How many responses may wait for one Envoy. The loop keeps what is beyond, as its latest state.
const RESPONSE_QUEUE: usize = 4;

/// The largest request. The first one of a stream lists every resource that Envoy has, and may bring 60 kB of
/// Envoy's own extensions.
const MAX_REQUEST_BYTES: usize = 8 << 20;

/// How often a client is asked whether it is still there, and how long its answer may take. One that has vanished counts
/// as an Envoy until then.
const PING_EVERY: Duration = Duration::from_secs(15);
const PONG_MAX: Duration = Duration::from_secs(10);

/// The most streams of one connection: Envoy opens one.
const STREAMS_OF_A_CONNECTION: u32 = 8;

/// One stream of every connected Envoy ends here.
#[derive(Clone)]
pub(crate) struct XdsServer {
    events: mpsc::Sender<Event>,
    writable: Arc<Notify>,
    next_id: Arc<AtomicU64>,
}

impl XdsServer {
    /// `writable` is notified whenever an Envoy has taken a response.
    pub(crate) fn new(events: mpsc::Sender<Event>, writable: Arc<Notify>) -> Self {
        Self { events, writable, next_id: Arc::new(AtomicU64::new(1)) }
    }

    /// Serves all who come to the door until the registrar ends; takes their reports of refusals, too.
    pub(crate) async fn serve<L>(
        self,
        listener: L,
        door: Arc<Door>,
        refusals: RefusalLog,
    ) -> Result<(), tonic::transport::Error>
    where
        L: Listens<Stream: AsyncRead + AsyncWrite> + 'static,
    {
        let service = AggregatedDiscoveryServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES);
        let incoming = stream::unfold((listener, door), |(listener, door)| async {
            let client = door.accept(&listener).await;
            Some((Ok::<_, Infallible>(client), (listener, door)))
        });
        Server::builder()
            .http2_keepalive_interval(Some(PING_EVERY))
            .http2_keepalive_timeout(Some(PONG_MAX))
            .max_concurrent_streams(STREAMS_OF_A_CONNECTION)
            .add_service(service)
            .add_service(refusals.into_service())
            .serve_with_incoming(incoming)
            .await
    }

    /// Announces a stream, pumps its requests to the loop, and returns the responses.
    async fn open<T: Send + 'static>(
        &self,
        variant: Variant,
        request: Request<Streaming<T>>,
        event_of: fn(Box<T>, Turn) -> XdsEvent,
    ) -> Result<impl Stream<Item = Result<xds::Response, Status>> + use<T>, Status> {
        let id = StreamId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let (responses, outgoing) = mpsc::channel(RESPONSE_QUEUE);
        let opened = Event::Xds { id, event: XdsEvent::Opened { variant, responses } };
        self.events.send(opened).await.map_err(|_| Status::unavailable("the registrar is stopping"))?;
        let visitor = request.extensions().get::<Visitor>().cloned();
        let events = self.events.clone();
        tokio::spawn(async move {
            let _busy = visitor.as_ref().map(Visitor::busy);
            pump(id, request.into_inner(), event_of, events).await;
        });
        let writable = Arc::clone(&self.writable);
        Ok(ReceiverStream::new(outgoing).inspect(move |_| writable.notify_one()))
    }
}

async fn pump<T>(
    id: StreamId,
    mut requests: Streaming<T>,
    event_of: fn(Box<T>, Turn) -> XdsEvent,
    events: mpsc::Sender<Event>,
) {
    let turns = Arc::new(Semaphore::new(1));
    let mut first = true;
    loop {
        let Ok(turn) = Arc::clone(&turns).acquire_owned().await else { return };
        let limit = if std::mem::take(&mut first) { SILENCE_MAX } else { Duration::MAX };
        let event = match timeout(limit, requests.message()).await {
            Ok(Ok(Some(request))) => event_of(Box::new(request), turn),
            Ok(Ok(None)) => XdsEvent::Closed,
            Err(_) => {
                debug!(stream = id.0, "a stream was opened, and nothing was asked for");
                XdsEvent::Closed
            }
            Ok(Err(status)) => {
                debug!(stream = id.0, %status, "a stream of Envoy broke off");
                XdsEvent::Closed
            }
        };
        let ends = matches!(event, XdsEvent::Closed);
        if events.send(Event::Xds { id, event }).await.is_err() || ends {
            return;
        }
    }
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for XdsServer {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let responses = self.open(Variant::Sotw, request, XdsEvent::Sotw).await?;
        let responses = responses.map(|response| match response? {
            xds::Response::Sotw(response) => Ok(response),
            xds::Response::Delta(_) => Err(Status::internal("a delta response on a stream that is not")),
        });
        Ok(Response::new(Box::pin(responses)))
    }

    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let responses = self.open(Variant::Delta, request, XdsEvent::Delta).await?;
        let responses = responses.map(|response| match response? {
            xds::Response::Delta(response) => Ok(response),
            xds::Response::Sotw(_) => Err(Status::internal("a response without delta on a delta stream")),
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

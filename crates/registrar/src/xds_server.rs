//! The gRPC service that Envoy subscribes to. It moves messages; what they mean is the crate `xds`'s.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use futures_util::{Stream, StreamExt};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::debug;
use xds::{StreamId, Variant};

use crate::event::{Event, XdsEvent};

/// How many responses may wait for one Envoy. The loop keeps what is beyond, as its latest state.
const RESPONSE_QUEUE: usize = 4;

/// The largest request. The first one of a stream lists every resource that Envoy has, and may bring 60 kB of
/// Envoy's own extensions.
const MAX_REQUEST_BYTES: usize = 32 << 20;

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

    pub(crate) fn into_service(self) -> AggregatedDiscoveryServiceServer<Self> {
        AggregatedDiscoveryServiceServer::new(self).max_decoding_message_size(MAX_REQUEST_BYTES)
    }

    /// Announces a stream, pumps its requests to the loop, and returns the responses.
    async fn open<T: Send + 'static>(
        &self,
        variant: Variant,
        requests: Streaming<T>,
        event_of: fn(Box<T>) -> XdsEvent,
    ) -> Result<impl Stream<Item = Result<xds::Response, Status>> + use<T>, Status> {
        let id = StreamId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let (responses, outgoing) = mpsc::channel(RESPONSE_QUEUE);
        let opened = Event::Xds { id, event: XdsEvent::Opened { variant, responses } };
        self.events.send(opened).await.map_err(|_| Status::unavailable("the registrar is stopping"))?;
        tokio::spawn(pump(id, requests, event_of, self.events.clone()));
        let writable = Arc::clone(&self.writable);
        Ok(ReceiverStream::new(outgoing).inspect(move |_| writable.notify_one()))
    }
}

async fn pump<T>(
    id: StreamId,
    mut requests: Streaming<T>,
    event_of: fn(Box<T>) -> XdsEvent,
    events: mpsc::Sender<Event>,
) {
    loop {
        let event = match requests.message().await {
            Ok(Some(request)) => event_of(Box::new(request)),
            Ok(None) => XdsEvent::Closed,
            Err(status) => {
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
        let responses = self.open(Variant::Sotw, request.into_inner(), XdsEvent::Sotw).await?;
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
        let responses = self.open(Variant::Delta, request.into_inner(), XdsEvent::Delta).await?;
        let responses = responses.map(|response| match response? {
            xds::Response::Delta(response) => Ok(response),
            xds::Response::Sotw(_) => Err(Status::internal("a response without delta on a delta stream")),
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

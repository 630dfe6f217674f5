//! A gRPC service for the lab's containers and a client for it: one stream, messages both ways.
//!
//! It borrows the published service of Envoy's own protocol, since any service with a stream both ways does.
//! Each message comes back; [`FAIL`] ends the stream with an error.

use std::net::{Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

/// The message that ends the stream with `RESOURCE_EXHAUSTED` and the message [`FAILURE`].
pub const FAIL: &str = "fail";
/// What the error says.
pub const FAILURE: &str = "told to fail: ä";
/// The header of the answer that says whom the request came through (`x-forwarded-for`), where it says so.
pub const FORWARDED_FOR: &str = "x-grpc-forwarded-for";

/// The longest message either way; gRPC's own default is 4 MiB.
const MESSAGE_MAX_BYTES: usize = 16 << 20;
/// How long a client waits for a connection and for each message.
const TIME_LIMIT: Duration = Duration::from_secs(15);

struct Echo;

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Echo {
    type StreamAggregatedResourcesStream = Answers<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Answers<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        let forwarded_for = request.metadata().get("x-forwarded-for").cloned();
        let answers = request.into_inner().map(|message| answer(message?));
        let mut response = Response::new(Box::pin(answers) as Answers<DiscoveryResponse>);
        if let Some(client) = forwarded_for {
            response.metadata_mut().insert(FORWARDED_FOR, client);
        }
        Ok(response)
    }

    async fn delta_aggregated_resources(
        &self,
        _: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("the lab uses the other method"))
    }
}

fn answer(message: DiscoveryRequest) -> Result<DiscoveryResponse, Status> {
    if message.type_url == FAIL {
        return Err(Status::resource_exhausted(FAILURE));
    }
    Ok(DiscoveryResponse { type_url: message.type_url, ..Default::default() })
}

/// Serves the port of a container, without TLS, until the program ends.
///
/// # Panics
/// The port is taken.
pub fn serve(port: u16) {
    let service = AggregatedDiscoveryServiceServer::new(Echo)
        .max_decoding_message_size(MESSAGE_MAX_BYTES)
        .max_encoding_message_size(MESSAGE_MAX_BYTES);
    let address = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    runtime().block_on(Server::builder().add_service(service).serve(address)).expect("a new container's port is free");
}

/// What came of a conversation.
#[derive(Debug)]
pub struct Conversation {
    /// What came back, in order.
    pub answers: Vec<String>,
    /// How it ended: `None` where the server ended it without an error.
    pub end: Option<Status>,
    /// What the server saw as `x-forwarded-for`.
    pub forwarded_for: Option<String>,
}

/// Says each message after such a pause and an answer to the one before, and then that it has said all.
///
/// # Errors
/// The connection could not be made, an answer did not come in time, or the stream was refused.
pub fn converse(target: SocketAddr, messages: &[(&str, Duration)]) -> Result<Conversation, Box<dyn std::error::Error>> {
    runtime().block_on(conversation(target, messages))
}

async fn conversation(
    target: SocketAddr,
    messages: &[(&str, Duration)],
) -> Result<Conversation, Box<dyn std::error::Error>> {
    let channel = Endpoint::from_shared(format!("http://{target}"))?.connect_timeout(TIME_LIMIT).connect().await?;
    let mut client = AggregatedDiscoveryServiceClient::new(channel)
        .max_decoding_message_size(MESSAGE_MAX_BYTES)
        .max_encoding_message_size(MESSAGE_MAX_BYTES);
    let (sender, said) = tokio::sync::mpsc::channel(1);
    let response = client.stream_aggregated_resources(ReceiverStream::new(said)).await?;
    let forwarded_for = response.metadata().get(FORWARDED_FOR).map(|value| value.to_str().map(str::to_owned));
    let mut incoming = response.into_inner();
    let mut answers = Vec::new();
    for (message, pause) in messages {
        tokio::time::sleep(*pause).await;
        sender.send(DiscoveryRequest { type_url: (*message).to_owned(), ..Default::default() }).await?;
        match tokio::time::timeout(TIME_LIMIT, incoming.message()).await? {
            Ok(Some(answer)) => answers.push(answer.type_url),
            Ok(None) => return Err("the stream ended too early".into()),
            Err(status) => {
                return Ok(Conversation { answers, end: Some(status), forwarded_for: forwarded_for.transpose()? });
            }
        }
    }
    drop(sender);
    let end = tokio::time::timeout(TIME_LIMIT, incoming.message()).await?.err();
    Ok(Conversation { answers, end, forwarded_for: forwarded_for.transpose()? })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

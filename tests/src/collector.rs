//! Trace collectors: take spans in the forms that tracing systems publish, and keep them.
//!
//! OpenTelemetry's protocol is decoded by its own crate; Zipkin's version 2 is JSON.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use axum::{Json, Router};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span as OtlpSpan};
use prost::Message;
use serde_json::Value;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::namespace::Namespace;

/// Where OTLP over gRPC is taken: the port that IANA assigned to it.
pub const OTLP_ADDRESS: &str = "127.0.0.1:4317";
/// Where OTLP over HTTP is taken: the port that IANA assigned to it.
pub const OTLP_HTTP_ADDRESS: &str = "127.0.0.1:4318";
/// Where Zipkin's spans are taken: Zipkin's own default port.
pub const ZIPKIN_ADDRESS: &str = "127.0.0.1:9411";

/// A span, whichever way it came. Ids are in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// What was done.
    pub name: String,
    /// Which trace it belongs to.
    pub trace_id: String,
    /// The span that it is a part of; empty where it is the first.
    pub parent_id: String,
    /// Its own id.
    pub span_id: String,
    /// Its tags (OpenTelemetry: attributes) that are texts.
    pub tags: BTreeMap<String, String>,
    /// Who made it: OpenTelemetry's resource attributes; for Zipkin `service.name`.
    pub resource: BTreeMap<String, String>,
}

/// A running collector. It ends with the program.
#[derive(Clone, Debug, Default)]
pub struct Collector {
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    /// Takes spans on the namespace's loopback: at [`OTLP_ADDRESS`], [`OTLP_HTTP_ADDRESS`] and [`ZIPKIN_ADDRESS`].
    #[must_use]
    pub fn start(namespace: &Namespace) -> Self {
        let collector = Self::default();
        let addresses = [OTLP_ADDRESS, OTLP_HTTP_ADDRESS, ZIPKIN_ADDRESS];
        let [grpc, http, zipkin] = addresses.map(|address| bind(namespace, address));
        let serve = collector.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime starts").block_on(async {
                tokio::join!(serve.serve_grpc(grpc), serve.serve_http(http), serve.serve_http(zipkin));
            });
        });
        collector
    }

    /// All spans so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.spans.lock().expect("nobody panics with the spans").clone()
    }
}

fn bind(namespace: &Namespace, address: &str) -> TcpListener {
    let listener = namespace.in_network(|| TcpListener::bind(address));
    let listener = listener.unwrap_or_else(|error| panic!("a collector at {address}: {error}"));
    listener.set_nonblocking(true).expect("a socket can be made not to wait");
    listener
}

async fn report(server: impl Future<Output = Result<(), impl std::fmt::Display>>) {
    if let Err(error) = server.await {
        eprintln!("lab: a collector ended: {error}");
    }
}

impl Collector {
    fn keep(&self, spans: impl IntoIterator<Item = Span>) {
        self.spans.lock().expect("nobody panics with the spans").extend(spans);
    }

    async fn serve_grpc(&self, listener: TcpListener) {
        let listener = tokio::net::TcpListener::from_std(listener).expect("it is listening");
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(self.clone()));
        report(server.serve_with_incoming(TcpListenerStream::new(listener))).await;
    }

    async fn serve_http(&self, listener: TcpListener) {
        let listener = tokio::net::TcpListener::from_std(listener).expect("it is listening");
        let routes = Router::new().route("/v1/traces", post(take_otlp)).route("/api/v2/spans", post(take_zipkin));
        report(axum::serve(listener, routes.with_state(self.clone())).into_future()).await;
    }
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.keep(request.into_inner().resource_spans.into_iter().flat_map(of_resource));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

async fn take_otlp(State(collector): State<Collector>, body: Bytes) -> Result<Vec<u8>, StatusCode> {
    let request = ExportTraceServiceRequest::decode(body).map_err(|_| StatusCode::BAD_REQUEST)?;
    collector.keep(request.resource_spans.into_iter().flat_map(of_resource));
    Ok(ExportTraceServiceResponse::default().encode_to_vec())
}

async fn take_zipkin(State(collector): State<Collector>, Json(batch): Json<Vec<Value>>) -> StatusCode {
    collector.keep(batch.iter().map(from_zipkin));
    StatusCode::ACCEPTED
}

fn of_resource(spans: ResourceSpans) -> impl Iterator<Item = Span> {
    let resource = texts(spans.resource.map(|resource| resource.attributes).unwrap_or_default());
    let all = spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
    all.map(move |span| from_otlp(span, resource.clone()))
}

fn from_otlp(span: OtlpSpan, resource: BTreeMap<String, String>) -> Span {
    Span {
        name: span.name,
        trace_id: hexadecimal(&span.trace_id),
        parent_id: hexadecimal(&span.parent_span_id),
        span_id: hexadecimal(&span.span_id),
        tags: texts(span.attributes),
        resource,
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |attribute: KeyValue| match attribute.value?.value? {
        any_value::Value::StringValue(text) => Some((attribute.key, text)),
        _ => None,
    };
    attributes.into_iter().filter_map(text).collect()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_zipkin(span: &Value) -> Span {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let tags = span["tags"].as_object().into_iter().flatten();
    Span {
        name: text(&span["name"]),
        trace_id: text(&span["traceId"]),
        parent_id: text(&span["parentId"]),
        span_id: text(&span["id"]),
        tags: tags.map(|(tag, value)| (tag.clone(), text(value))).collect(),
        resource: BTreeMap::from([("service.name".to_owned(), text(&span["localEndpoint"]["serviceName"]))]),
    }
}

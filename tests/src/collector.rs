//! Trace collectors: take spans in the forms that tracing systems publish, and keep them.
//!
//! OTLP over gRPC is decoded by OpenTelemetry's own crate; Zipkin's version 2 is JSON.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span as OtlpSpan};
use serde_json::Value;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::namespace::Namespace;

/// Where OTLP over gRPC is taken: the port that IANA assigned to it.
pub const OTLP_ADDRESS: &str = "127.0.0.1:4317";
/// Where Zipkin's spans are taken: Zipkin's own default port.
pub const ZIPKIN_ADDRESS: &str = "127.0.0.1:9411";

/// The longest batch of Zipkin spans that is read, in bytes.
const BATCH_MAX_LENGTH: u64 = 16 << 20;

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
    /// Takes OpenTelemetry's protocol over gRPC at [`OTLP_ADDRESS`] in this namespace.
    #[must_use]
    pub fn otlp(namespace: &Namespace) -> Self {
        let (collector, listener) = (Self::default(), bind(namespace, OTLP_ADDRESS));
        let receiver = OtlpReceiver { spans: Arc::clone(&collector.spans) };
        std::thread::spawn(move || serve_otlp(listener, receiver));
        collector
    }

    /// Takes Zipkin's version 2 over HTTP at [`ZIPKIN_ADDRESS`] in this namespace.
    #[must_use]
    pub fn zipkin(namespace: &Namespace) -> Self {
        let (collector, listener) = (Self::default(), bind(namespace, ZIPKIN_ADDRESS));
        let spans = Arc::clone(&collector.spans);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let spans = Arc::clone(&spans);
                std::thread::spawn(move || serve_zipkin(stream, &spans));
            }
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
    listener.unwrap_or_else(|error| panic!("a collector at {address}: {error}"))
}

struct OtlpReceiver {
    spans: Arc<Mutex<Vec<Span>>>,
}

#[tonic::async_trait]
impl TraceService for OtlpReceiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let spans = request.into_inner().resource_spans.into_iter().flat_map(of_resource);
        self.spans.lock().expect("nobody panics with the spans").extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn serve_otlp(listener: TcpListener, receiver: OtlpReceiver) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        listener.set_nonblocking(true).expect("a socket can be made not to wait");
        let listener = tokio::net::TcpListener::from_std(listener).expect("it is listening");
        let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(receiver));
        if let Err(error) = server.serve_with_incoming(TcpListenerStream::new(listener)).await {
            eprintln!("lab: the OTLP collector ended: {error}");
        }
    });
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

/// Answers batches until the connection ends.
fn serve_zipkin(stream: TcpStream, spans: &Mutex<Vec<Span>>) -> io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = None;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            match line.trim().to_ascii_lowercase().split_once(':') {
                Some(("content-length", value)) => length = value.trim().parse::<u64>().ok(),
                None if line.trim().is_empty() => break,
                _ => {}
            }
        }
        let mut body = Vec::new();
        reader.by_ref().take(length.unwrap_or(0).min(BATCH_MAX_LENGTH)).read_to_end(&mut body)?;
        let batch: Vec<Value> = serde_json::from_slice(&body)?;
        spans.lock().expect("nobody panics with the spans").extend(batch.iter().map(from_zipkin));
        writer.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")?;
    }
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

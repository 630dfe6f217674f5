//! Spans: who is told of a request, and what. Which requests have one is in `sampling`.
//!
//! - `tcp` has no spans: Envoy makes none for connections.
//! - OpenTelemetry: each listener has its own `service.name` and `deployment.environment.name`, as resource
//!   attributes.
//! - Zipkin: Envoy takes the service name from `node.cluster` of its bootstrap, one for all services. So both
//!   names are given as tags instead, and every span is named after its service.
//! - A tag cannot be empty: Envoy refuses an empty literal. A service without an environment has neither the tag
//!   `EnvironmentName` nor `deployment.environment.name`.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::{
    GrpcService, HeaderValue, HeaderValueOption, HttpService, HttpUri, grpc_service, http_uri,
};
use envoy_types::pb::envoy::config::trace::v3::tracing::{Http, http};
use envoy_types::pb::envoy::config::trace::v3::zipkin_config::{CollectorEndpointVersion, TraceContextOption};
use envoy_types::pb::envoy::config::trace::v3::{OpenTelemetryConfig, ZipkinConfig};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager as hcm;
use envoy_types::pb::envoy::extensions::tracers::opentelemetry::resource_detectors::v3::StaticConfigResourceDetectorConfig;
use envoy_types::pb::envoy::r#type::tracing::v3::{CustomTag, custom_tag};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;
use model::{Service, Treatment};

use super::names::TRACE_COLLECTOR;
use super::port::Port;
use super::values::{boolean, duration, extension};
use super::{Tracing, TracingProtocol, sampling};

const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);

/// A trace context that says that nothing is recorded. It goes with spans to the collector, which may be a container
/// whose port is published or a service's, here or on another host: the Envoy there would make a span of each delivery
/// of spans, and deliver that. The ids mean nothing, but may not be zero.
const NOT_RECORDED: (&str, &str) = ("traceparent", "00-00000000000000000000000000000001-0000000000000001-00");

fn not_recorded() -> HeaderValue {
    HeaderValue { key: NOT_RECORDED.0.to_owned(), value: NOT_RECORDED.1.to_owned(), ..Default::default() }
}

/// What the HTTP filter of a port is told.
pub(super) fn for_port(port: &Port<'_>, tracing: &Tracing) -> hcm::Tracing {
    hcm::Tracing {
        random_sampling: Some(sampling::by_envoy(tracing)),
        custom_tags: tags(port.service, tracing.protocol),
        provider: Some(provider(port.service, tracing)),
        operation: operation(port),
        ..Default::default()
    }
}

/// Names spans after method, service and port: `GET web.test:8080`.
fn operation(port: &Port<'_>) -> String {
    let Service { name, environment } = port.service;
    let dot = if environment.as_str().is_empty() { "" } else { "." };
    format!("%REQ(:METHOD)% {name}{dot}{environment}:{}", port.number)
}

fn tags(service: &Service, protocol: TracingProtocol) -> Vec<CustomTag> {
    let (name, environment) = (service.name.as_str(), service.environment.as_str());
    let ours = [("EnvironmentName", environment), ("ServiceName", name), ("ProxyMode", Treatment::Http.as_str())];
    let of_resource = match protocol {
        TracingProtocol::Zipkin => &[("service.name", name), ("deployment.environment.name", environment)][..],
        TracingProtocol::OtlpGrpc | TracingProtocol::OtlpHttp => &[],
    };
    ours.iter()
        .chain(of_resource)
        .filter(|(_, value)| !value.is_empty())
        .map(|(tag, value)| literal(tag, value))
        .collect()
}

fn literal(tag: &str, value: &str) -> CustomTag {
    let value = custom_tag::Literal { value: value.to_owned() };
    CustomTag { tag: tag.to_owned(), r#type: Some(custom_tag::Type::Literal(value)) }
}

fn provider(service: &Service, tracing: &Tracing) -> Http {
    let (name, config) = match tracing.protocol {
        TracingProtocol::OtlpGrpc => {
            let config = OpenTelemetryConfig { grpc_service: Some(grpc(tracing)), ..open_telemetry(service, tracing) };
            ("envoy.tracers.opentelemetry", pack_any(config))
        }
        TracingProtocol::OtlpHttp => {
            let config = OpenTelemetryConfig {
                http_service: Some(http(tracing, "/v1/traces")),
                ..open_telemetry(service, tracing)
            };
            ("envoy.tracers.opentelemetry", pack_any(config))
        }
        TracingProtocol::Zipkin => ("envoy.tracers.zipkin", zipkin(tracing)),
    };
    Http { name: name.to_owned(), config_type: Some(http::ConfigType::TypedConfig(config)) }
}

fn open_telemetry(service: &Service, tracing: &Tracing) -> OpenTelemetryConfig {
    let environment = service.environment.as_str();
    let detector = |()| {
        // One entry: a map of more would be encoded in another order each time.
        let attributes = HashMap::from([("deployment.environment.name".to_owned(), environment.to_owned())]);
        let config = StaticConfigResourceDetectorConfig { attributes };
        extension("envoy.tracers.opentelemetry.resource_detectors.static_config", config)
    };
    OpenTelemetryConfig {
        service_name: service.name.to_string(),
        sampler: Some(sampling::by_open_telemetry(tracing)),
        resource_detectors: (!environment.is_empty()).then_some(()).map(detector).into_iter().collect(),
        ..Default::default()
    }
}

fn grpc(tracing: &Tracing) -> GrpcService {
    let envoy_grpc = grpc_service::EnvoyGrpc {
        cluster_name: TRACE_COLLECTOR.to_owned(),
        authority: authority(tracing),
        ..Default::default()
    };
    GrpcService {
        timeout: duration(EXPORT_TIMEOUT),
        initial_metadata: vec![not_recorded()],
        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(envoy_grpc)),
        ..Default::default()
    }
}

fn http(tracing: &Tracing, path: &str) -> HttpService {
    let http_uri = HttpUri {
        uri: format!("http://{}{path}", authority(tracing)),
        timeout: duration(EXPORT_TIMEOUT),
        http_upstream_type: Some(http_uri::HttpUpstreamType::Cluster(TRACE_COLLECTOR.to_owned())),
    };
    let not_recorded = HeaderValueOption { header: Some(not_recorded()), ..Default::default() };
    HttpService { http_uri: Some(http_uri), request_headers_to_add: vec![not_recorded], ..Default::default() }
}

fn zipkin(tracing: &Tracing) -> Any {
    pack_any(ZipkinConfig {
        collector_service: Some(http(tracing, "/api/v2/spans")),
        collector_endpoint_version: CollectorEndpointVersion::HttpJson.into(),
        trace_id_128bit: true,
        // The caller's span and Envoy's are two.
        shared_span_context: boolean(false),
        // A `traceparent` that comes in is continued too, and both forms go on to the container.
        trace_context_option: TraceContextOption::UseB3WithW3cPropagation.into(),
        ..Default::default()
    })
}

/// `HOST:PORT`, an IPv6 address in brackets.
pub(super) fn authority(tracing: &Tracing) -> String {
    let (host, port) = (&tracing.collector_host, tracing.collector_port);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

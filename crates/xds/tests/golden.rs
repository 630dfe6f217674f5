//! What Envoy is told of a port, as text: a change of a resource is seen here, line by line. All of it was taken by
//! Envoy 1.40. `BLESS=1 cargo test -p xds --test golden` writes the files anew.
//!
//! The text is the messages' `Debug` form with nested messages decoded and whatever is at its default left out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Debug;
use std::path::Path;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::trace::v3::{OpenTelemetryConfig, ZipkinConfig};
use envoy_types::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::HttpGrpcAccessLogConfig;
use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::StdoutAccessLog;
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3::HeaderMutation;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::http::upstream_codec::v3::UpstreamCodec;
use envoy_types::pb::envoy::extensions::filters::listener::original_dst::v3::OriginalDst;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3::HeaderMutation as EarlyMutation;
use envoy_types::pb::envoy::extensions::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig;
use envoy_types::pb::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::extensions::tracers::opentelemetry::resource_detectors::v3::StaticConfigResourceDetectorConfig;
use envoy_types::pb::envoy::extensions::tracers::opentelemetry::samplers::v3::{
    ParentBasedSamplerConfig, TraceIdRatioBasedSamplerConfig,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::google::protobuf::value::Kind;
use model::{
    Endpoint, EnvironmentName, ProxiedPort, ProxiedServicePort, PublishedPort, Service, ServiceName, Status, Treatment,
};
use prost::{Message, Name};
use regex_lite::{Captures, Regex};
use xds::resources::service::{self, Binding, ServiceSettings};
use xds::resources::{self, AccessLog, Hops, ReportTo, Settings, Tracing, TracingProtocol};
use xds::{Change, ResourceType};

fn port(address: &str, service: (&str, &str), mode: Treatment) -> ProxiedPort {
    let protocol = model::Protocol::Tcp;
    ProxiedPort {
        published: PublishedPort { address: address.parse().unwrap(), port: 8080, protocol },
        container: "172.17.0.2:80".parse().unwrap(),
        service: Service {
            name: ServiceName::corrected(service.0).unwrap().0,
            environment: EnvironmentName::corrected(service.1).0,
        },
        treatment: mode,
        is_bound: true,
    }
}

fn tracing(protocol: TracingProtocol, host: &str, sampling_percent: f64) -> Settings {
    let tracing = Tracing { protocol, collector_host: host.to_owned(), collector_port: 4317, sampling_percent };
    Settings { tracing: Some(tracing), access_log: AccessLog::Stdout, hops: None, refusals: None }
}

/// Among other hosts, with keys that are about to be replaced.
fn among_others() -> Settings {
    let host = "here".parse().unwrap();
    Settings {
        access_log: AccessLog::Stdout,
        hops: Some(Hops::new(host, vec![[1; 32], [2; 32]])),
        ..Settings::default()
    }
}

fn check(name: &str, changes: &[Change]) {
    let actual: String = changes.iter().map(|change| text(change) + "\n").collect();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).with_extension("txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &actual).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let differs = golden.lines().zip(actual.lines()).find(|(golden, actual)| golden != actual);
    assert!(golden == actual, "{name} is not what tests/golden/{name}.txt says, first at {differs:?}");
}

fn text(change: &Change) -> String {
    let head = format!("{} {}", change.resource_type.as_str(), change.name);
    let Some(body) = &change.body else { return head + " removed\n" };
    let message = match change.resource_type {
        ResourceType::Cluster => debug::<Cluster>(body),
        ResourceType::Endpoint => debug::<ClusterLoadAssignment>(body),
        ResourceType::Listener => debug::<Listener>(body),
    };
    format!("{head}\n{message}\n")
}

fn debug<M: Message + Default + Debug>(bytes: &[u8]) -> String {
    shortened(&nested(&format!("{:#?}", M::decode(bytes).unwrap())))
}

/// Decodes the messages within a message's text.
fn nested(text: &str) -> String {
    let any = Regex::new(r#"(?s)\n( *)([^\n]*)Any \{\s*type_url: "([^"]*)",\s*value: \[([0-9,\s]*)\],\s*\}"#).unwrap();
    let decoded = |captures: &Captures<'_>| {
        let bytes: Vec<u8> = captures[4].split(',').filter_map(|byte| byte.trim().parse().ok()).collect();
        let message = of_type(&captures[3], &bytes).replace('\n', &format!("\n{}", &captures[1]));
        format!("\n{}{}{message}", &captures[1], &captures[2])
    };
    any.replace_all(text, decoded).into_owned()
}

fn of_type(type_url: &str, bytes: &[u8]) -> String {
    macro_rules! decode {
        ($($message:ty),* $(,)?) => {
            $(if type_url == <$message>::type_url() { return debug::<$message>(bytes); })*
        };
    }
    decode!(
        EarlyMutation,
        ExpressionFilter,
        HeaderMutation,
        HttpConnectionManager,
        HttpGrpcAccessLogConfig,
        HttpProtocolOptions,
        OpenTelemetryConfig,
        OriginalDst,
        ParentBasedSamplerConfig,
        PreserveCaseFormatterConfig,
        PreviousHostsPredicate,
        Router,
        StaticConfigResourceDetectorConfig,
        TcpProxy,
        TraceIdRatioBasedSamplerConfig,
        UpstreamCodec,
        UuidRequestIdConfig,
        ZipkinConfig,
    );
    if type_url == StdoutAccessLog::type_url() {
        return log_fields(bytes);
    }
    panic!("{type_url} is not known to this test")
}

/// The fields of an access log, which are a map and so without an order once decoded.
fn log_fields(bytes: &[u8]) -> String {
    use envoy_types::pb::envoy::config::core::v3::substitution_format_string::Format;
    use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::stdout_access_log::AccessLogFormat;
    let Some(AccessLogFormat::LogFormat(format)) = StdoutAccessLog::decode(bytes).unwrap().access_log_format else {
        panic!("no format");
    };
    let Some(Format::JsonFormat(json)) = format.format else { panic!("no JSON") };
    let field = |(key, value): (String, envoy_types::pb::google::protobuf::Value)| match value.kind {
        Some(Kind::StringValue(text)) => format!("    {key}: {text:?}\n"),
        Some(Kind::NumberValue(number)) => format!("    {key}: {number}\n"),
        kind => panic!("{kind:?}"),
    };
    let mut fields: Vec<String> = json.fields.into_iter().map(field).collect();
    fields.sort_unstable();
    format!("StdoutAccessLog {{\n{}}}", fields.concat())
}

/// Leaves out what is at its default, and the wrappers of optional values.
fn shortened(text: &str) -> String {
    let default = Regex::new(r#"(?m)^ *\w+: (None|""|0|0\.0|false|\[\]|\{\}),\n"#).unwrap();
    let wrapper = Regex::new(r"Some\(\s*(BoolValue|UInt32Value) \{\s*(?:value: (\w+),\s*)?\},\s*\)").unwrap();
    let text = wrapper.replace_all(text, |captures: &Captures<'_>| {
        let zero = if &captures[1] == "BoolValue" { "false" } else { "0" };
        format!("explicitly {}", captures.get(2).map_or(zero, |value| value.as_str()))
    });
    unwrapped(&default.replace_all(&text, ""))
}

/// Puts `Some(` and the like, which stand on a line of their own, in one line with what they hold.
fn unwrapped(text: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut joins = false;
    for line in text.lines() {
        let indent = line.len() - line.trim_start().len();
        if open.last() == Some(&indent) && line.trim_start().starts_with(')') {
            open.pop();
            continue;
        }
        let opens = line.ends_with('(');
        let content = line.trim_start().trim_end_matches("Some(").trim_end_matches('(');
        let content = if opens && !content.ends_with(' ') { format!("{content} ") } else { content.to_owned() };
        match lines.last_mut().filter(|_| joins) {
            Some(last) => last.push_str(&content),
            None => lines.push(" ".repeat(indent - 4 * open.len()) + &content),
        }
        joins = opens;
        open.extend(opens.then_some(indent));
    }
    lines.join("\n")
}

#[test]
fn each_mode_has_its_resources() {
    for treatment in [Treatment::Http, Treatment::Tcp] {
        let port = port("0.0.0.0", ("web", "test"), treatment);
        check(treatment.as_str(), &resources::set(&port, &Settings::default()));
    }
}

#[test]
fn a_port_that_other_hosts_reach() {
    check("among_others", &resources::set(&port("0.0.0.0", ("web", "test"), Treatment::Http), &among_others()));
}

#[test]
fn a_learned_port_adds_no_header_refuses_what_it_would_change_and_says_so() {
    let port = port("0.0.0.0", ("web", "test"), Treatment::LearnedHttp);
    let refusals = Some(ReportTo::Unix("/run/envoy-docker-shim/xds.sock".into()));
    let settings = Settings { refusals, ..Settings::default() };
    let mut changes = resources::common(&settings);
    changes.extend(resources::set(&port, &settings));
    check("learned_http", &changes);
}

#[test]
fn an_ipv6_port_of_a_service_without_environment() {
    let port = port("::", ("web.v1", ""), Treatment::Tcp);
    let settings = Settings { access_log: AccessLog::Stdout, ..Settings::default() };
    check("ipv6_logged", &resources::set(&port, &settings));
}

#[test]
fn each_collector_has_its_cluster_and_each_listener_its_tracer() {
    let cases = [
        ("otlp_grpc", tracing(TracingProtocol::OtlpGrpc, "192.0.2.1", 100.0), ("web", "test")),
        ("otlp_http", tracing(TracingProtocol::OtlpHttp, "collector.example", 12.5), ("web", "test")),
        ("zipkin", tracing(TracingProtocol::Zipkin, "2001:db8::1", 50.0), ("web", "")),
    ];
    for (name, settings, service) in cases {
        let mut changes = resources::common(&settings);
        let port = port("192.0.2.7", service, Treatment::Http);
        changes
            .extend(resources::set(&port, &settings).into_iter().filter(|c| c.resource_type == ResourceType::Listener));
        check(name, &changes);
    }
}

#[test]
fn what_is_removed_and_what_is_replaced() {
    let old = port("0.0.0.0", ("web", "test"), Treatment::Tcp);
    let new = port("0.0.0.0", ("api", "test"), Treatment::Tcp);
    let is_removal = |change: &Change| change.body.is_none();
    let mut changes = resources::remove(&old);
    changes.extend(resources::common(&Settings::default()));
    changes.extend(resources::replace(&old, &new, &Settings::default()).into_iter().filter(is_removal));
    check("removals", &changes);
}

#[test]
fn an_unproxied_port_and_what_catches_its_connections() {
    let mut changes = resources::unproxied(&["0.0.0.0".parse().unwrap(), "::".parse().unwrap()], 15_002);
    let port = ProxiedPort { is_bound: false, ..port("0.0.0.0", ("web", "test"), Treatment::Tcp) };
    changes.extend(resources::set(&port, &Settings::default()));
    changes.extend(resources::remove(&port));
    check("unproxied", &changes);
}

fn service_port(mode: Treatment) -> ProxiedServicePort {
    let endpoint = |instance: &str, address: &str, status, is_local| Endpoint {
        instance: instance.parse().unwrap(),
        address: address.parse().unwrap(),
        status,
        is_local,
    };
    let endpoints = vec![
        endpoint("here/00000000000a", "172.17.0.2:80", Status::Alive, true),
        endpoint("here/00000000000b", "172.17.0.3:80", Status::Unknown, true),
        endpoint("there/00000000000c", "192.0.2.7:32768", Status::Draining, false),
        endpoint("there/00000000000d", "[2001:db8::7]:32769", Status::Unhealthy, false),
    ];
    ProxiedServicePort {
        port: 9500,
        service: port("0.0.0.0", ("web", "test"), mode).service,
        treatment: mode,
        endpoints,
    }
}

#[test]
fn a_captured_service_port() {
    let addresses = ["192.168.168.168", "fd00::a8"].map(|address| address.parse().unwrap()).into();
    let services = ServiceSettings { addresses, binding: Binding::Captured { catch_port: 15001 }, prefer_local: false };
    let mut changes = service::common(&services);
    changes.extend(service::set(&service_port(Treatment::Http), &services, &among_others()));
    check("service_captured", &changes);
}

#[test]
fn a_bound_service_port_with_instances_of_this_host_preferred() {
    let addresses = vec!["192.168.168.168".parse().unwrap()];
    let services = ServiceSettings { addresses, binding: Binding::Bound, prefer_local: true };
    let mut changes = service::common(&services);
    changes.extend(service::set(&service_port(Treatment::Tcp), &services, &Settings::default()));
    check("service_bound", &changes);
}

//! How Envoy reports what it refuses on a port whose HTTP treatment was learned, so that the client that needs it gets a
//! path without HTTP.
//!
//! The report is Envoy's gRPC access log, sent to the registrar over its own socket: no application and no client can
//! write there. Only Envoy's own refusals are sent, one entry for each, at once. What they mean is decided in the
//! catalogue of the registrar.

use std::path::PathBuf;
use std::time::Duration;

use envoy_types::pb::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, AndFilter, ComparisonFilter, ExtensionFilter, OrFilter, ResponseFlagFilter,
    StatusCodeFilter, access_log, access_log_filter, comparison_filter, extension_filter,
};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::{Address, ApiVersion, GrpcService, Pipe, RuntimeUInt32, address};
use envoy_types::pb::envoy::extensions::access_loggers::filters::cel::v3::ExpressionFilter;
use envoy_types::pb::envoy::extensions::access_loggers::grpc::v3::{
    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig,
};
use envoy_types::util::pack_any;

use super::values::{duration, number, socket_address};
use super::{cluster, collector, endpoint, names};

/// Where the registrar takes Envoy's reports, as Envoy reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportTo {
    /// A Unix socket.
    Unix(PathBuf),
    /// A TCP address.
    Tcp(std::net::SocketAddr),
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// The lowest status that a refusal has.
const LOWEST_STATUS: u32 = 400;

/// True for answers that are Envoy's own: those of the application bear these details.
const IS_ENVOYS_OWN: &str = "response.code_details != 'via_upstream'";

/// Envoy's flags for a client that ended its side, or left, before it had its answer, and for an answer that Envoy broke
/// off, whatever its status was.
const ENDED_EARLY: [&str; 2] = ["DC", "UPE"];

/// The Envoy cluster by which Envoy reaches the registrar.
pub(super) fn cluster(to: &ReportTo) -> Cluster {
    let address = match to {
        ReportTo::Unix(path) => Address {
            address: Some(address::Address::Pipe(Pipe {
                path: path.to_string_lossy().into_owned(),
                ..Default::default()
            })),
        },
        ReportTo::Tcp(address) => socket_address(*address),
    };
    Cluster {
        name: names::REFUSAL_LOG.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
        connect_timeout: duration(CONNECT_TIMEOUT),
        load_assignment: Some(endpoint::to_address(names::REFUSAL_LOG, address)),
        typed_extension_protocol_options: cluster::http_options(collector::http2_only()),
        ..Default::default()
    }
}

/// The logger of every learned port.
pub(super) fn logger() -> AccessLog {
    let grpc = EnvoyGrpc { cluster_name: names::REFUSAL_LOG.to_owned(), ..Default::default() };
    let common = CommonGrpcAccessLogConfig {
        // One for all ports, and so one stream: an entry says where the client connected to.
        log_name: names::REFUSAL_LOG.to_owned(),
        transport_api_version: ApiVersion::V3.into(),
        // At once: the client's next connection is to find its new path.
        buffer_size_bytes: number(0),
        grpc_service: Some(GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(grpc)),
            ..Default::default()
        }),
        ..Default::default()
    };
    let config = HttpGrpcAccessLogConfig { common_config: Some(common), ..Default::default() };
    AccessLog {
        name: "envoy.access_loggers.http_grpc".to_owned(),
        filter: Some(any_of(vec![all_of(vec![at_least(LOWEST_STATUS), is_envoys_own()]), has_any_flag(&ENDED_EARLY)])),
        config_type: Some(access_log::ConfigType::TypedConfig(pack_any(config))),
    }
}

fn filter(specifier: access_log_filter::FilterSpecifier) -> AccessLogFilter {
    AccessLogFilter { filter_specifier: Some(specifier) }
}

fn any_of(filters: Vec<AccessLogFilter>) -> AccessLogFilter {
    filter(access_log_filter::FilterSpecifier::OrFilter(OrFilter { filters }))
}

fn all_of(filters: Vec<AccessLogFilter>) -> AccessLogFilter {
    filter(access_log_filter::FilterSpecifier::AndFilter(AndFilter { filters }))
}

fn at_least(status: u32) -> AccessLogFilter {
    // The key can't be left out, and names nothing that is set.
    let value = RuntimeUInt32 { default_value: status, runtime_key: "refusals.lowest_status".to_owned() };
    let comparison = ComparisonFilter { op: comparison_filter::Op::Ge.into(), value: Some(value) };
    filter(access_log_filter::FilterSpecifier::StatusCodeFilter(StatusCodeFilter { comparison: Some(comparison) }))
}

fn has_any_flag(flags: &[&str]) -> AccessLogFilter {
    let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    filter(access_log_filter::FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter { flags }))
}

fn is_envoys_own() -> AccessLogFilter {
    let expression = ExpressionFilter { expression: IS_ENVOYS_OWN.to_owned(), ..Default::default() };
    filter(access_log_filter::FilterSpecifier::ExtensionFilter(ExtensionFilter {
        name: "envoy.access_loggers.extension_filters.cel".to_owned(),
        config_type: Some(extension_filter::ConfigType::TypedConfig(pack_any(expression))),
    }))
}

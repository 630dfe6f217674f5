//! CDS: how Envoy connects to a container.
//!
//! An application behind docker-proxy gets one connection for each of its clients', at once and however many
//! there are. So nothing is pooled across clients, counted or timed here.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, EdsClusterConfig};
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster, UpstreamConnectionOptions};
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    AggregatedConfigSource, ApiVersion, ConfigSource, HttpProtocolOptions as CommonOptions, RoutingPriority,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    UpstreamProtocolOptions, UseDownstreamHttpConfig,
};
use envoy_types::util::pack_any;
use model::ProxyMode;

use super::values::{duration, never, number, tcp_keepalive};
use super::{http, names};

/// Longer than the kernel tries (`tcp_syn_retries`: 127 s), so that Envoy is never the first to give up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(130);

/// How long Envoy waits for the endpoints of a new or changed cluster. They follow at once, see `stream`; should
/// they be lost, Envoy goes on after this time with those it had.
const ENDPOINTS_TIMEOUT: Duration = Duration::from_secs(2);

/// The key of a cluster's HTTP options. Envoy's message holds a map; more than one entry would be encoded in
/// another order each time.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The Envoy cluster of a published port.
pub(super) fn published_port(name: &str, mode: ProxyMode) -> Cluster {
    let speaks_http = match mode {
        ProxyMode::Http | ProxyMode::Auto => true,
        ProxyMode::Tcp | ProxyMode::None => false,
    };
    Cluster {
        name: name.to_owned(),
        alt_stat_name: names::stats_prefix(name),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(aggregated()), ..Default::default() }),
        connect_timeout: duration(CONNECT_TIMEOUT),
        circuit_breakers: Some(no_limits()),
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: tcp_keepalive(),
            ..Default::default()
        }),
        connection_pool_per_downstream_connection: speaks_http,
        typed_extension_protocol_options: speaks_http.then(transparent_http).map(http_options).unwrap_or_default(),
        ..Default::default()
    }
}

fn aggregated() -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        resource_api_version: ApiVersion::V3.into(),
        initial_fetch_timeout: duration(ENDPOINTS_TIMEOUT),
        ..Default::default()
    }
}

/// Envoy refuses connections beyond 1024 unless told otherwise.
fn no_limits() -> CircuitBreakers {
    let thresholds = |priority: RoutingPriority| Thresholds {
        priority: priority.into(),
        max_connections: number(u32::MAX),
        max_pending_requests: number(u32::MAX),
        max_requests: number(u32::MAX),
        max_retries: number(u32::MAX),
        ..Default::default()
    };
    let thresholds = [RoutingPriority::Default, RoutingPriority::High].map(thresholds).to_vec();
    CircuitBreakers { thresholds, ..Default::default() }
}

/// The options as they stand in a cluster.
pub(super) fn http_options(options: HttpProtocolOptions) -> HashMap<String, envoy_types::pb::google::protobuf::Any> {
    HashMap::from([(HTTP_OPTIONS.to_owned(), pack_any(options))])
}

/// The container is spoken to as the client spoke: HTTP/1 or HTTP/2, so that h2c and gRPC go end to end.
fn transparent_http() -> HttpProtocolOptions {
    let as_downstream = UseDownstreamHttpConfig {
        http_protocol_options: Some(http::http1_options()),
        http2_protocol_options: Some(http::http2_options()),
        ..Default::default()
    };
    HttpProtocolOptions {
        common_http_protocol_options: Some(CommonOptions {
            idle_timeout: never(),
            max_headers_count: number(http::MAX_HEADERS),
            max_response_headers_kb: number(http::MAX_HEADERS_KB),
            ..Default::default()
        }),
        upstream_protocol_options: Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(as_downstream)),
        ..Default::default()
    }
}

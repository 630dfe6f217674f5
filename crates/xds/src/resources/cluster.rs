//! CDS: how Envoy connects to containers, and to other hosts.
//!
//! An application behind docker-proxy gets one connection for each of its clients', at once and however many
//! there are. So nothing is pooled across clients, counted or timed here.

use std::collections::HashMap;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::Thresholds;
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::thresholds::RetryBudget;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, EdsClusterConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::{
    CircuitBreakers, Cluster, OutlierDetection, UpstreamConnectionOptions,
};
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::{
    AggregatedConfigSource, ApiVersion, ConfigSource, HttpProtocolOptions as CommonOptions, RoutingPriority,
    TcpKeepalive,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    UpstreamProtocolOptions, UseDownstreamHttpConfig,
};
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::util::pack_any;
use model::Treatment;

use super::hops::{self, Hops};
use super::values::{duration, never, number, tcp_keepalive};
use super::{http, names, service};

/// Longer than the kernel tries (`tcp_syn_retries`: 127 s), so that Envoy is never the first to give up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(130);

/// How long Envoy waits for the endpoints of a new or changed cluster. They follow at once, see `stream`; should
/// they be lost, Envoy goes on after this time with those it had.
const ENDPOINTS_TIMEOUT: Duration = Duration::from_secs(2);

/// The key of a cluster's HTTP options. Envoy's message holds a map; more than one entry would be encoded in
/// another order each time.
const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// The Envoy cluster of a published port.
pub(super) fn published_port(name: &str, treatment: Treatment) -> Cluster {
    let speaks_http = treatment.is_http();
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

/// How long a connection to a container may be without a request before Envoy closes it. A client's connections to
/// the container are its own, and Envoy does not close them when the client leaves (envoyproxy/envoy#37617): without
/// this, every client would leave one behind until the application closes it. Requests under way don't count.
const HTTP_IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection to an instance may be silent before it is asked whether anybody is still there, how long it then
/// has for each answer, and how many it may miss. A host that loses its power says nothing, and who waits for an answer
/// from it would wait for minutes; so, a request that may be retried is given to another instance after 15 seconds. Not
/// sooner: connections are to outlive a network that fails for a moment.
const SILENT: u32 = 5;
const ASKED_EVERY: u32 = 2;
const UNANSWERED_MAX: u32 = 5;

/// How many connections to an instance must fail, one after the other, before it is passed over for a while.
const FAILURES: u32 = 3;
/// For how long, and how often Envoy looks whether that time is over. Short: a service that has one instance should not
/// be away for longer than that instance.
const PASSED_OVER: Duration = Duration::from_secs(1);
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Never all of them.
const MOST_PASSED_OVER_PERCENT: u32 = 99;

/// The Envoy cluster of a service port. Nothing in it depends on the instances.
pub(super) fn service_port(name: &str, treatment: Treatment, hops: Option<&Hops>) -> Cluster {
    let balancing = CommonLbConfig {
        // Else Envoy sends to instances that are not alive when it finds too few that are.
        healthy_panic_threshold: Some(Percent { value: 0.0 }),
        // Else a status that changes within a second of another change waits for the rest of that second.
        update_merge_window: never(),
        ..Default::default()
    };
    let http = treatment.is_http().then(|| HttpProtocolOptions {
        http_filters: hops.map(|_| hops::upstream_filters()).unwrap_or_default(),
        ..transparent_http()
    });
    let http = http.map(http_options).unwrap_or_default();
    Cluster {
        connect_timeout: duration(service::CONNECT_TIMEOUT),
        common_lb_config: Some(balancing),
        outlier_detection: Some(unreachable_for_now()),
        circuit_breakers: Some(no_limits_but_on_retries()),
        typed_extension_protocol_options: http,
        upstream_connection_options: Some(UpstreamConnectionOptions {
            tcp_keepalive: Some(TcpKeepalive {
                keepalive_time: number(SILENT),
                keepalive_interval: number(ASKED_EVERY),
                keepalive_probes: number(UNANSWERED_MAX),
            }),
            ..Default::default()
        }),
        ..published_port(name, treatment)
    }
}

/// Instances that cannot be connected to are passed over before their host says so, or is found dead. What an
/// instance answers is no reason, whatever it is.
fn unreachable_for_now() -> OutlierDetection {
    OutlierDetection {
        split_external_local_origin_errors: true,
        consecutive_local_origin_failure: number(FAILURES),
        enforcing_consecutive_local_origin_failure: number(100),
        base_ejection_time: duration(PASSED_OVER),
        max_ejection_time: duration(PASSED_OVER),
        interval: duration(LOOK_INTERVAL),
        max_ejection_percent: number(MOST_PASSED_OVER_PERCENT),
        enforcing_consecutive_5xx: number(0),
        enforcing_consecutive_gateway_failure: number(0),
        enforcing_success_rate: number(0),
        enforcing_local_origin_success_rate: number(0),
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

/// How many of a service port's requests may be on a further try at the same time, so that instances that all fail
/// are not given several times the load that they fail under: this share of those that are under way. More than half,
/// since of two instances one may be gone.
const RETRIES_PERCENT: f64 = 60.0;
/// ... but always as many as this.
const RETRIES_ALWAYS: u32 = 100;

fn no_limits_but_on_retries() -> CircuitBreakers {
    let budget = RetryBudget {
        budget_percent: Some(Percent { value: RETRIES_PERCENT }),
        min_retry_concurrency: number(RETRIES_ALWAYS),
        ..Default::default()
    };
    let mut breakers = no_limits();
    breakers.thresholds.iter_mut().for_each(|thresholds| thresholds.retry_budget = Some(budget));
    breakers
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
            idle_timeout: duration(HTTP_IDLE_TIMEOUT),
            max_headers_count: number(http::MAX_HEADERS),
            max_response_headers_kb: number(http::MAX_HEADERS_KB),
            ..Default::default()
        }),
        upstream_protocol_options: Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(as_downstream)),
        ..Default::default()
    }
}

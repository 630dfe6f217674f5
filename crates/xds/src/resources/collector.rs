//! The Envoy cluster of the trace collector.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, DnsLookupFamily};
use envoy_types::pb::envoy::config::core::v3::Http2ProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, explicit_http_config,
};

use super::names::TRACE_COLLECTOR;
use super::values::{boolean, duration, host_address};
use super::{Tracing, TracingProtocol, cluster, endpoint};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The cluster: static for an address, looked up again and again for a name.
pub(super) fn cluster(tracing: &Tracing) -> Cluster {
    let is_address = tracing.collector_host.parse::<IpAddr>().is_ok();
    let discovery = if is_address { DiscoveryType::Static } else { DiscoveryType::StrictDns };
    let address = host_address(&tracing.collector_host, tracing.collector_port);
    let options = match tracing.protocol {
        TracingProtocol::OtlpGrpc => cluster::http_options(http2_only()),
        TracingProtocol::OtlpHttp | TracingProtocol::Zipkin => HashMap::new(),
    };
    Cluster {
        name: TRACE_COLLECTOR.to_owned(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(discovery.into())),
        dns_lookup_family: DnsLookupFamily::V4Preferred.into(),
        // Else a name server that does not answer would keep Envoy from listening anywhere.
        wait_for_warm_on_init: if is_address { None } else { boolean(false) },
        connect_timeout: duration(CONNECT_TIMEOUT),
        load_assignment: Some(endpoint::to_address(TRACE_COLLECTOR, address)),
        typed_extension_protocol_options: options,
        ..Default::default()
    }
}

pub(super) fn http2_only() -> HttpProtocolOptions {
    let http2 = explicit_http_config::ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions::default());
    let explicit = ExplicitHttpConfig { protocol_config: Some(http2) };
    HttpProtocolOptions {
        upstream_protocol_options: Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)),
        ..Default::default()
    }
}

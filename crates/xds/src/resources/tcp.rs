//! The filter that passes bytes, whatever they are: half-closes and resets too, in both directions.

use envoy_types::pb::envoy::config::listener::v3::{Filter, filter};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_types::util::pack_any;

use super::port::Port;
use super::values::{never, number};
use super::{Settings, access_log, names, service};

pub(super) fn filter(port: &Port<'_>, settings: &Settings) -> Filter {
    filter_of(TcpProxy {
        access_log: access_log::for_port(port, settings.access_log),
        // Only while no connection to an instance came about; afterwards nothing is tried again.
        max_connect_attempts: if port.has_retries { number(service::TRIES) } else { None },
        ..to(&port.cluster)
    })
}

/// Passes everything to this Envoy cluster, and tells nobody.
pub(super) fn to_cluster(cluster: &str) -> Filter {
    filter_of(to(cluster))
}

fn to(cluster: &str) -> TcpProxy {
    TcpProxy {
        stat_prefix: names::stats_prefix(cluster),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        // Envoy's default is an hour.
        idle_timeout: never(),
        ..Default::default()
    }
}

fn filter_of(proxy: TcpProxy) -> Filter {
    Filter {
        name: "envoy.filters.network.tcp_proxy".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pack_any(proxy))),
    }
}

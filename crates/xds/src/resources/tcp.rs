//! The filter that passes bytes, whatever they are: half-closes and resets too, in both directions.

use envoy_types::pb::envoy::config::listener::v3::{Filter, filter};
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::tcp_proxy::ClusterSpecifier;
use envoy_types::util::pack_any;
use model::{ProxiedPort, ProxyMode};

use super::values::never;
use super::{Settings, access_log, names};

pub(super) fn filter(port: &ProxiedPort, cluster: &str, settings: &Settings) -> Filter {
    let proxy = TcpProxy {
        stat_prefix: names::stats_prefix(cluster),
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        // Envoy's default is an hour.
        idle_timeout: never(),
        access_log: access_log::for_port(port, ProxyMode::Tcp, settings.access_log),
        ..Default::default()
    };
    Filter {
        name: "envoy.filters.network.tcp_proxy".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pack_any(proxy))),
    }
}

//! LDS: where Envoy listens, and which of its filters a connection meets.

use std::time::Duration;

use envoy_types::pb::envoy::config::listener::v3::listener::ConnectionBalanceConfig;
use envoy_types::pb::envoy::config::listener::v3::listener::connection_balance_config::{BalanceType, ExactBalance};
use envoy_types::pb::envoy::config::listener::v3::{
    Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, listener_filter,
};
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;
use model::{ProxiedPort, ProxyMode};

use super::values::{duration, socket_address, tcp_keepalive};
use super::{Settings, http, names, tcp};

/// How long `auto` waits for a client's first bytes before it takes the connection for `tcp`.
///
/// This is its price: where the server speaks first (SMTP, MySQL, FTP), each connection begins this much later,
/// and the container does not see it before. `ProxyMode=tcp` costs nothing. Shorter would be cheaper there, but
/// an HTTP client whose first packet is late (lost and sent again, say) would go without spans.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_millis(100);

/// The listener of a published port.
pub(super) fn published_port(name: &str, cluster: &str, port: &ProxiedPort, settings: &Settings) -> Listener {
    let listener = Listener {
        name: name.to_owned(),
        address: Some(socket_address(port.published.socket_address())),
        stat_prefix: names::stats_prefix(cluster),
        // Envoy's workers share what one socket gets: the kernel is told to give all of it to one (see the shim's
        // `steering`), as the number of workers is not known there.
        connection_balance_config: Some(ConnectionBalanceConfig {
            balance_type: Some(BalanceType::ExactBalance(ExactBalance {})),
        }),
        tcp_keepalive: tcp_keepalive(),
        ..Default::default()
    };
    let tcp = || chain(tcp::filter(port, cluster, settings));
    let http = || chain(http::filter(port, cluster, settings));
    match port.mode {
        ProxyMode::Http => Listener { filter_chains: vec![http()], ..listener },
        ProxyMode::Auto => by_first_bytes(listener, http(), tcp()),
        // A port with mode `none` is never given to Envoy. Were it, bytes are what docker-proxy would pass.
        ProxyMode::Tcp | ProxyMode::None => Listener { filter_chains: vec![tcp()], ..listener },
    }
}

fn chain(filter: Filter) -> FilterChain {
    FilterChain { filters: vec![filter], ..Default::default() }
}

fn by_first_bytes(listener: Listener, http: FilterChain, other: FilterChain) -> Listener {
    let is_http = FilterChainMatch {
        transport_protocol: "raw_buffer".to_owned(),
        application_protocols: ["http/1.0", "http/1.1", "h2c"].map(ToOwned::to_owned).to_vec(),
        ..Default::default()
    };
    Listener {
        listener_filters: vec![
            inspector("envoy.filters.listener.tls_inspector", pack_any(TlsInspector::default())),
            inspector("envoy.filters.listener.http_inspector", pack_any(HttpInspector::default())),
        ],
        listener_filters_timeout: duration(FIRST_BYTES_TIMEOUT),
        continue_on_listener_filters_timeout: true,
        filter_chains: vec![FilterChain { filter_chain_match: Some(is_http), ..http }],
        default_filter_chain: Some(other),
        ..listener
    }
}

fn inspector(name: &str, config: Any) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

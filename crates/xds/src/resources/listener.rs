//! LDS: where Envoy listens, and which of its filters a connection meets.

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::listener::v3::listener::ConnectionBalanceConfig;
use envoy_types::pb::envoy::config::listener::v3::listener::connection_balance_config::{BalanceType, ExactBalance};
use envoy_types::pb::envoy::config::listener::v3::{
    AdditionalAddress, Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, listener_filter,
};
use envoy_types::pb::envoy::extensions::filters::listener::http_inspector::v3::HttpInspector;
use envoy_types::pb::envoy::extensions::filters::listener::tls_inspector::v3::TlsInspector;
use envoy_types::pb::google::protobuf::Any;
use envoy_types::util::pack_any;
use model::{ProxiedPort, ProxyMode};

use super::port::Port;
use super::service::{Binding, ServiceSettings};
use super::values::{boolean, duration, socket_address, tcp_keepalive};
use super::{Settings, http, names, tcp};

/// How long `auto` waits for a client's first bytes before it takes the connection for `tcp`.
///
/// This is its price: where the server speaks first (SMTP, MySQL, FTP), each connection begins this much later,
/// and the container does not see it before. `ProxyMode=tcp` costs nothing. Shorter would be cheaper there, but
/// an HTTP client whose first packet is late (lost and sent again, say) would go without spans.
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_millis(100);

/// The listener of a published port.
pub(super) fn published_port(name: &str, published: &ProxiedPort, port: &Port<'_>, settings: &Settings) -> Listener {
    let listener = Listener {
        name: name.to_owned(),
        address: Some(socket_address(published.published.socket_address())),
        bind_to_port: if published.is_bound { None } else { boolean(false) },
        ..Default::default()
    };
    serving(listener, port, settings)
}

/// The listener of a service port, at every service address; `None` where there is no such address.
pub(super) fn service_port(
    name: &str,
    port: &Port<'_>,
    services: &ServiceSettings,
    settings: &Settings,
) -> Option<Listener> {
    let mut addresses = services.addresses.iter().map(|address| socket_address(SocketAddr::new(*address, port.number)));
    let first = addresses.next()?;
    let others = addresses.map(|address| AdditionalAddress { address: Some(address), ..Default::default() });
    let is_bound = services.binding == Binding::Bound;
    let listener = Listener {
        name: name.to_owned(),
        address: Some(first),
        additional_addresses: others.collect(),
        bind_to_port: boolean(is_bound),
        // The service address may come later than Envoy.
        freebind: if is_bound { boolean(true) } else { None },
        ..Default::default()
    };
    Some(serving(listener, port, settings))
}

/// The same with all that does not depend on the address.
fn serving(listener: Listener, port: &Port<'_>, settings: &Settings) -> Listener {
    let listener = Listener {
        stat_prefix: names::stats_prefix(&port.cluster),
        // Envoy's workers share what one socket gets: the kernel is told to give all of it to one (see the shim's
        // `steering`), as the number of workers is not known there.
        connection_balance_config: Some(ConnectionBalanceConfig {
            balance_type: Some(BalanceType::ExactBalance(ExactBalance {})),
        }),
        tcp_keepalive: tcp_keepalive(),
        ..listener
    };
    let tcp = || chain(tcp::filter(port, settings));
    let http = || chain(http::filter(port, settings));
    match port.mode {
        ProxyMode::Http => Listener { filter_chains: vec![http()], ..listener },
        ProxyMode::Auto => by_first_bytes(listener, http(), tcp()),
        // A port with mode `none` is never given to Envoy. Were it, bytes are what docker-proxy would pass.
        ProxyMode::Tcp | ProxyMode::None => Listener { filter_chains: vec![tcp()], ..listener },
    }
}

pub(super) fn chain(filter: Filter) -> FilterChain {
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
            listener_filter("envoy.filters.listener.tls_inspector", pack_any(TlsInspector::default())),
            listener_filter("envoy.filters.listener.http_inspector", pack_any(HttpInspector::default())),
        ],
        listener_filters_timeout: duration(FIRST_BYTES_TIMEOUT),
        continue_on_listener_filters_timeout: true,
        filter_chains: vec![FilterChain { filter_chain_match: Some(is_http), ..http }],
        default_filter_chain: Some(other),
        ..listener
    }
}

pub(super) fn listener_filter(name: &str, config: Any) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

//! LDS: where Envoy listens, and which of its filters a connection meets.
//!
//! Envoy never guesses from a connection's first bytes: it would close a connection whose client ends its side meanwhile.

use std::net::SocketAddr;

use envoy_types::pb::envoy::config::listener::v3::listener::ConnectionBalanceConfig;
use envoy_types::pb::envoy::config::listener::v3::listener::connection_balance_config::{BalanceType, ExactBalance};
use envoy_types::pb::envoy::config::listener::v3::{
    AdditionalAddress, Filter, FilterChain, Listener, ListenerFilter, listener_filter,
};
use envoy_types::pb::google::protobuf::Any;
use model::ProxiedPort;

use super::port::Port;
use super::service::{Binding, ServiceSettings};
use super::values::{boolean, socket_address, tcp_keepalive};
use super::{Settings, http, names, tcp};

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
    let filter = if port.treatment.is_http() { http::filter(port, settings) } else { tcp::filter(port, settings) };
    Listener { filter_chains: vec![chain(filter)], ..listener }
}

pub(super) fn chain(filter: Filter) -> FilterChain {
    FilterChain { filters: vec![filter], ..Default::default() }
}

pub(super) fn listener_filter(name: &str, config: Any) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

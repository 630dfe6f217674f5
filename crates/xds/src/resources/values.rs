//! Short words for Envoy's wrapped values.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, SocketAddress, TcpKeepalive, TypedExtensionConfig, address};
use envoy_types::pb::google::protobuf;
use envoy_types::util::pack_any;
use prost::{Message, Name};

use crate::{Change, ResourceType};

pub(super) fn set(resource_type: ResourceType, name: String, message: &impl Message) -> Change {
    Change { resource_type, name, body: Some(Bytes::from(message.encode_to_vec())) }
}

#[expect(clippy::unnecessary_wraps, reason = "the fields are optional")]
pub(super) fn boolean(value: bool) -> Option<protobuf::BoolValue> {
    Some(protobuf::BoolValue { value })
}

#[expect(clippy::unnecessary_wraps, reason = "the fields are optional")]
pub(super) fn number(value: u32) -> Option<protobuf::UInt32Value> {
    Some(protobuf::UInt32Value { value })
}

pub(super) fn duration(value: Duration) -> Option<protobuf::Duration> {
    let seconds = i64::try_from(value.as_secs()).ok()?;
    let nanos = i32::try_from(value.subsec_nanos()).ok()?;
    Some(protobuf::Duration { seconds, nanos })
}

/// Envoy's word for "no timeout".
pub(super) fn never() -> Option<protobuf::Duration> {
    duration(Duration::ZERO)
}

pub(super) fn extension(name: &str, config: impl Name) -> TypedExtensionConfig {
    TypedExtensionConfig { name: name.to_owned(), typed_config: Some(pack_any(config)) }
}

pub(super) fn socket_address(address: SocketAddr) -> Address {
    host_address(&address.ip().to_string(), address.port())
}

pub(super) fn host_address(host: &str, port: u16) -> Address {
    let socket_address = SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(port.into())),
        ..Default::default()
    };
    Address { address: Some(address::Address::SocketAddress(socket_address)) }
}

/// Finds out about peers that vanished without a word, since no idle timeout does. The times are those that Go,
/// and so docker-proxy, uses on its connections: first after 15 s, then every 15 s, 9 times.
#[expect(clippy::unnecessary_wraps, reason = "the fields are optional")]
pub(super) fn tcp_keepalive() -> Option<TcpKeepalive> {
    Some(TcpKeepalive { keepalive_probes: number(9), keepalive_time: number(15), keepalive_interval: number(15) })
}

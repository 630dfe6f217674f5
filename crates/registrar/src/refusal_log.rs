//! The gRPC access log to which Envoy reports what it refused on learned ports. It turns entries into events; what a
//! refusal means is decided in `refusals`.

use std::net::SocketAddr;
use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::core::v3::{Address, address};
use envoy_types::pb::envoy::data::accesslog::v3::{AccessLogCommon, HttpAccessLogEntry, ResponseFlags};
use envoy_types::pb::envoy::service::accesslog::v3::access_log_service_server::{
    AccessLogService, AccessLogServiceServer,
};
use envoy_types::pb::envoy::service::accesslog::v3::stream_access_logs_message::LogEntries;
use envoy_types::pb::envoy::service::accesslog::v3::{StreamAccessLogsMessage, StreamAccessLogsResponse};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};

use crate::door::Visitor;
use crate::event::Event;
use crate::refusals::{Cause, Refusal};

/// The longest message, in bytes. An entry is sent at once, with the path and headers of one request.
const MESSAGE_MAX: usize = 256 * 1024;

/// The most entries that count of one message.
const ENTRIES_MAX: usize = 64;

/// The most of Envoy's words that are kept, in bytes.
const DETAILS_MAX: usize = 100;

/// Takes Envoy's reports.
#[derive(Clone)]
pub(crate) struct RefusalLog {
    events: mpsc::Sender<Event>,
}

impl RefusalLog {
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self { events }
    }

    pub(crate) fn into_service(self) -> AccessLogServiceServer<Self> {
        AccessLogServiceServer::new(self).max_decoding_message_size(MESSAGE_MAX)
    }
}

#[tonic::async_trait]
impl AccessLogService for RefusalLog {
    async fn stream_access_logs(
        &self,
        request: Request<Streaming<StreamAccessLogsMessage>>,
    ) -> Result<Response<StreamAccessLogsResponse>, Status> {
        let visitor = request.extensions().get::<Visitor>().cloned();
        let _busy = visitor.as_ref().map(Visitor::busy);
        let mut messages = request.into_inner();
        while let Some(message) = messages.message().await? {
            let Some(LogEntries::HttpLogs(entries)) = message.log_entries else { continue };
            for refusal in entries.log_entry.iter().take(ENTRIES_MAX).filter_map(refusal) {
                let sent = self.events.send(Event::Refused(refusal)).await;
                sent.map_err(|_| Status::unavailable("the registrar is stopping"))?;
            }
        }
        Ok(Response::new(StreamAccessLogsResponse {}))
    }
}

/// `None` where the entry does not say whose connection it was, or to where.
fn refusal(entry: &HttpAccessLogEntry) -> Option<Refusal> {
    let common = entry.common_properties.as_ref()?;
    let response = entry.response.as_ref();
    let details = response.map(|response| response.response_code_details.as_str()).unwrap_or_default();
    let flags = common.response_flags.unwrap_or_default();
    Some(Refusal {
        asked: address(common.downstream_local_address.as_ref()?)?,
        client: address(common.downstream_direct_remote_address.as_ref()?)?.ip(),
        cause: cause(&flags),
        duration: duration(common),
        details: details[..details.floor_char_boundary(DETAILS_MAX)].to_owned(),
    })
}

fn cause(flags: &ResponseFlags) -> Cause {
    let refused_here = ResponseFlags {
        downstream_protocol_error: flags.downstream_protocol_error,
        no_route_found: flags.no_route_found,
        ..Default::default()
    };
    if flags.upstream_protocol_error {
        Cause::Answer
    } else if flags.downstream_connection_termination {
        Cause::ClientEnded
    } else if *flags == refused_here {
        Cause::Request
    } else {
        Cause::Other
    }
}

fn duration(common: &AccessLogCommon) -> Duration {
    let duration = common.duration.unwrap_or_default();
    let seconds = u64::try_from(duration.seconds).unwrap_or_default();
    Duration::new(seconds, u32::try_from(duration.nanos).unwrap_or_default())
}

fn address(address: &Address) -> Option<SocketAddr> {
    let address::Address::SocketAddress(socket) = address.address.as_ref()? else { return None };
    let Some(PortSpecifier::PortValue(port)) = socket.port_specifier else { return None };
    // A link-local address comes with its interface.
    let address = socket.address.split('%').next()?.parse().ok()?;
    Some(SocketAddr::new(address, u16::try_from(port).ok()?))
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::config::core::v3::SocketAddress;
    use envoy_types::pb::envoy::data::accesslog::v3::HttpResponseProperties;

    use super::*;

    fn entry(flags: ResponseFlags) -> HttpAccessLogEntry {
        let socket = |address: &str, port| Address {
            address: Some(address::Address::SocketAddress(SocketAddress {
                address: address.to_owned(),
                port_specifier: Some(PortSpecifier::PortValue(port)),
                ..Default::default()
            })),
        };
        HttpAccessLogEntry {
            common_properties: Some(AccessLogCommon {
                downstream_local_address: Some(socket("10.0.0.1", 8080)),
                downstream_direct_remote_address: Some(socket("10.0.0.9", 40_000)),
                response_flags: Some(flags),
                ..Default::default()
            }),
            response: Some(HttpResponseProperties {
                response_code_details: "upgrade_failed".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    fn cause_of(flags: ResponseFlags) -> Option<Cause> {
        let refusal = refusal(&entry(flags))?;
        assert_eq!((refusal.asked, refusal.client), ("10.0.0.1:8080".parse().unwrap(), [10, 0, 0, 9].into()));
        Some(refusal.cause)
    }

    #[test]
    fn envoys_flags_tell_whose_doing_a_refusal_was() {
        let none = ResponseFlags::default();
        assert_eq!(cause_of(none), Some(Cause::Request), "an upgrade that Envoy does not pass has no flag");
        let not_http = ResponseFlags { downstream_protocol_error: true, ..none };
        assert_eq!(cause_of(not_http), Some(Cause::Request));
        let answer = ResponseFlags { upstream_protocol_error: true, ..none };
        assert_eq!(cause_of(answer), Some(Cause::Answer));
        let ended = ResponseFlags { downstream_connection_termination: true, ..none };
        assert_eq!(cause_of(ended), Some(Cause::ClientEnded));
        let unreachable = ResponseFlags { upstream_connection_failure: true, ..none };
        assert_eq!(cause_of(unreachable), Some(Cause::Other), "the application was away");
    }

    #[test]
    fn an_entry_that_names_no_client_is_passed_over() {
        assert_eq!(refusal(&HttpAccessLogEntry::default()), None);
    }
}

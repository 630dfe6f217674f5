//! Access logs: one JSON object a line on Envoy's standard output.

use envoy_types::pb::envoy::config::accesslog::v3::{AccessLog as Logger, access_log};
use envoy_types::pb::google::protobuf::{Any, value};
use prost::{Message, Name};

use envoy_types::pb::envoy::extensions::access_loggers::stream::v3::StdoutAccessLog;
use envoy_types::pb::google::protobuf::Value;

use super::AccessLog;
use super::port::Port;

/// What every line says of the connection or request, in Envoy's format words.
const ALWAYS: [(&str, &str); 7] = [
    ("time", "%START_TIME%"),
    ("client", "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%"),
    ("upstream", "%UPSTREAM_HOST%"),
    ("request_bytes", "%BYTES_RECEIVED%"),
    ("response_bytes", "%BYTES_SENT%"),
    ("duration_ms", "%DURATION%"),
    ("flags", "%RESPONSE_FLAGS%"),
];

/// What a line says of a request besides.
const OF_REQUESTS: [(&str, &str); 7] = [
    ("protocol", "%PROTOCOL%"),
    ("method", "%REQ(:METHOD)%"),
    ("host", "%REQ(:AUTHORITY)%"),
    ("path", "%REQ(:PATH)%"),
    ("status", "%RESPONSE_CODE%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("trace_id", "%TRACE_ID%"),
];

/// The address that the client connected to, before it was captured.
const CONNECTED_TO: &str = "%DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%";

/// The loggers of one filter.
pub(super) fn for_port(port: &Port<'_>, access_log: AccessLog) -> Vec<Logger> {
    match access_log {
        AccessLog::None => Vec::new(),
        AccessLog::Stdout => vec![stdout(&fields(port))],
    }
}

fn fields(port: &Port<'_>) -> Vec<Field> {
    let address = port.address.map_or_else(|| CONNECTED_TO.to_owned(), |address| address.to_string());
    let of_port = [
        ("service", port.service.name.as_str()),
        ("environment", port.service.environment.as_str()),
        ("mode", port.treatment.as_str()),
        ("address", &address),
    ]
    .map(|(key, text)| Field::new(key, value::Kind::StringValue(text.to_owned())));
    let number = Field::new("port", value::Kind::NumberValue(port.number.into()));
    let words = ALWAYS.iter().chain(if port.treatment.is_http() { &OF_REQUESTS[..] } else { &[] });
    let words = words.map(|(key, word)| Field::new(key, value::Kind::StringValue((*word).to_owned())));
    of_port.into_iter().chain([number]).chain(words).collect()
}

fn stdout(fields: &[Field]) -> Logger {
    let json_format = Some(OrderedStruct { fields: fields.to_vec() });
    let config = OrderedStdoutAccessLog { log_format: Some(OrderedFormat { json_format }) };
    let typed_config = Any { type_url: StdoutAccessLog::type_url(), value: config.encode_to_vec() };
    Logger {
        name: "envoy.access_loggers.stdout".to_owned(),
        config_type: Some(access_log::ConfigType::TypedConfig(typed_config)),
        ..Default::default()
    }
}

// The generated `Struct` holds a hash map, which is encoded in another order each time. These are, on the wire,
// `StdoutAccessLog`, `SubstitutionFormatString` and `Struct` with the fields that are used here, in order.

#[derive(Clone, PartialEq, Message)]
struct OrderedStdoutAccessLog {
    #[prost(message, optional, tag = "1")]
    log_format: Option<OrderedFormat>,
}

#[derive(Clone, PartialEq, Message)]
struct OrderedFormat {
    #[prost(message, optional, tag = "2")]
    json_format: Option<OrderedStruct>,
}

#[derive(Clone, PartialEq, Message)]
struct OrderedStruct {
    #[prost(message, repeated, tag = "1")]
    fields: Vec<Field>,
}

#[derive(Clone, PartialEq, Message)]
struct Field {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Value>,
}

impl Field {
    fn new(key: &str, kind: value::Kind) -> Self {
        Self { key: key.to_owned(), value: Some(Value { kind: Some(kind) }) }
    }
}

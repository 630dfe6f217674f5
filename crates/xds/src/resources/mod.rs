//! What Envoy is told of a port: the only place that knows Envoy's messages.

use model::ProxiedPort;

use crate::Change;

pub mod names;

/// What holds for all ports alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Where spans go; `None`: nowhere.
    pub tracing: Option<Tracing>,
    /// Where access logs go.
    pub access_log: AccessLog,
}

/// Where spans go.
#[derive(Clone, Debug, PartialEq)]
pub struct Tracing {
    /// How the collector is spoken to.
    pub protocol: TracingProtocol,
    /// The collector's host name or IP address (IPv6 without brackets).
    pub collector_host: String,
    /// The collector's port.
    pub collector_port: u16,
    /// The share of requests to trace, 0 to 100. A trace that the caller of a service has begun goes on.
    pub sampling_percent: f64,
}

/// How a trace collector is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TracingProtocol {
    /// OpenTelemetry over gRPC, usually port 4317.
    OtlpGrpc,
    /// OpenTelemetry over HTTP, usually port 4318, path `/v1/traces`.
    OtlpHttp,
    /// Zipkin's v2 JSON, usually port 9411, path `/api/v2/spans`.
    Zipkin,
}

/// Where access logs go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AccessLog {
    /// Nowhere.
    #[default]
    None,
    /// Envoy's standard output, one JSON object a line.
    Stdout,
}

/// The changes that do not depend on any port: the trace collector's Envoy cluster. To be applied first.
#[must_use]
pub fn common(settings: &Settings) -> Vec<Change> {
    unimplemented!()
}

/// The changes that make Envoy serve a port: its Envoy cluster, endpoint and listener. For a port that is
/// served already but for another service or container, see [`replace`].
#[must_use]
pub fn set(port: &ProxiedPort, settings: &Settings) -> Vec<Change> {
    unimplemented!()
}

/// The changes that make Envoy let go of a port.
#[must_use]
pub fn remove(port: &ProxiedPort) -> Vec<Change> {
    unimplemented!()
}

/// The changes from one state of a published port to another: [`set`] of the new, and removal of what only
/// the old one had.
#[must_use]
pub fn replace(old: &ProxiedPort, new: &ProxiedPort, settings: &Settings) -> Vec<Change> {
    unimplemented!()
}

//! What Envoy is told of a port: the only place that knows Envoy's messages.

use std::net::IpAddr;

use model::{ProxiedPort, PublishedPort};

use crate::{Change, ResourceType};

use self::port::Port;
pub use self::refusals::ReportTo;

pub use self::hops::Hops;

mod access_log;
mod catch;
mod cluster;
mod collector;
mod endpoint;
mod forwarded_proto;
mod hops;
mod http;
mod listener;
pub mod names;
mod port;
pub mod refusals;
mod retry;
mod sampling;
pub mod service;
mod tcp;
mod tracing;
mod values;

/// What holds for all ports alike.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// Where spans go; `None`: nowhere.
    pub tracing: Option<Tracing>,
    /// Where access logs go.
    pub access_log: AccessLog,
    /// How this host and others know each other's Envoys; `None` where there are no other hosts. Without it a request
    /// that may not be handled twice goes to another instance only where no connection came about.
    pub hops: Option<Hops>,
    /// Where Envoy reports what it refuses on ports of [`model::Treatment::LearnedHttp`]; `None`: nowhere.
    pub refusals: Option<ReportTo>,
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

/// The changes that do not depend on any port: the Envoy clusters of the trace collector, and of the registrar itself.
/// To be applied first.
#[must_use]
pub fn common(settings: &Settings) -> Vec<Change> {
    let collector = settings.tracing.as_ref().map(collector::cluster);
    let refusals = settings.refusals.as_ref().map(refusals::cluster);
    [(names::TRACE_COLLECTOR, collector), (names::REFUSAL_LOG, refusals)]
        .map(|(name, cluster)| match cluster {
            Some(cluster) => values::set(ResourceType::Cluster, name.to_owned(), &cluster),
            None => Change { resource_type: ResourceType::Cluster, name: name.to_owned(), body: None },
        })
        .into()
}

/// The changes that make Envoy take the connections to ports that it does not listen on itself
/// ([`ProxiedPort::is_bound`]): listeners at these addresses, each at any of its family, and an Envoy cluster without
/// instances for what is meant for no port. `catch_port`: `capture::UNPROXIED_CATCH_PORT`.
#[must_use]
pub fn unproxied(addresses: &[IpAddr], catch_port: u16) -> Vec<Change> {
    catch::changes(names::CATCH_UNPROXIED, addresses, Some(catch_port))
}

/// The changes that make Envoy serve a port: its Envoy cluster, endpoint and listener. For a port that is
/// served already, but for another service, see [`replace`].
#[must_use]
pub fn set(port: &ProxiedPort, settings: &Settings) -> Vec<Change> {
    let listener = names::listener(port);
    let cluster = names::port_cluster(&port.published, &port.service);
    vec![
        values::set(ResourceType::Cluster, cluster.clone(), &cluster::published_port(&cluster, port.treatment)),
        values::set(ResourceType::Endpoint, cluster.clone(), &endpoint::assignment(&cluster, port.container)),
        values::set(
            ResourceType::Listener,
            listener.clone(),
            &listener::published_port(&listener, port, &Port::from(port), settings),
        ),
    ]
}

/// The changes that make Envoy let go of a port.
#[must_use]
pub fn remove(port: &ProxiedPort) -> Vec<Change> {
    let cluster = names::port_cluster(&port.published, &port.service);
    let resources = [
        (ResourceType::Listener, names::listener(port)),
        (ResourceType::Cluster, cluster.clone()),
        (ResourceType::Endpoint, cluster),
    ];
    resources.into_iter().map(|(resource_type, name)| Change { resource_type, name, body: None }).collect()
}

/// The change that takes a port's listener from Envoy and leaves its Envoy cluster: it is to be given anew.
#[must_use]
pub fn withdraw_listener(port: &PublishedPort) -> Change {
    Change { resource_type: ResourceType::Listener, name: names::port_listener(port), body: None }
}

/// The changes from one state of a published port to another: [`set`] of the new, and removal of what only
/// the old one had.
#[must_use]
pub fn replace(old: &ProxiedPort, new: &ProxiedPort, settings: &Settings) -> Vec<Change> {
    changes_between(remove(old), set(new, settings))
}

/// What is set, and the removal of what is not set.
fn changes_between(removed: Vec<Change>, set: Vec<Change>) -> Vec<Change> {
    let mut changes = set;
    let stays = |gone: &Change| {
        changes.iter().any(|change| (change.resource_type, &change.name) == (gone.resource_type, &gone.name))
    };
    let gone: Vec<Change> = removed.into_iter().filter(|gone| !stays(gone)).collect();
    changes.extend(gone);
    changes
}

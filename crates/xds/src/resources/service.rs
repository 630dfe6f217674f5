//! What Envoy is told of a service port: the cluster-wide port of a service, served at every service address.
//!
//! Two ways to come by its connections, see [`Binding`]. Either way the port has one listener and one Envoy cluster of
//! the same name, [`names::service_port`]. What happens to an instance is a change of endpoints only.
//!
//! Not here: which service gets a port, and which instances can be reached (the catalogue); which connections are
//! captured (the crate `capture`). A port that is published at a service address by the same number must be left
//! out by the caller: Envoy refuses two listeners at one address.

use std::net::IpAddr;
use std::time::Duration;

use model::ProxiedServicePort;

use super::port::Port;
use super::{Settings, catch, changes_between, cluster, endpoint, listener, names, values};
use crate::{Change, ResourceType};

/// How long a connection to an instance may take: long enough for another host, short enough to try the next. An Envoy
/// cluster has one time for all of its instances.
pub const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// To how many instances a connection or request is offered at most.
pub const TRIES: u32 = 4;

/// How Envoy comes by the connections to service ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// The kernel sends them to one port of Envoy's, which asks it for the address that was meant. No service port is
    /// held on the host, so Docker can publish the same number.
    Captured {
        /// Where the kernel sends them: `capture::CATCH_PORT`.
        catch_port: u16,
    },
    /// Envoy listens at every service address. Where something else does already, Envoy rejects that one service port,
    /// and the hub offers it again. An address that the host does not have (yet) is no reason to.
    Bound,
}

/// What holds for all service ports alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Where service ports are served. Without any there are no service ports: every function here removes.
    pub addresses: Vec<IpAddr>,
    /// How Envoy comes by their connections.
    pub binding: Binding,
    /// Whether instances of this host are preferred. Others are used for what is beyond them: with half of the host's
    /// instances alive they get everything, with fewer alive the other hosts get a share.
    pub prefer_local: bool,
}

/// The changes that do not depend on any service port: the listeners that catch captured connections, and the Envoy
/// cluster without instances where those end that were meant for nobody. To be applied before any [`set`].
#[must_use]
pub fn common(services: &ServiceSettings) -> Vec<Change> {
    let port = match services.binding {
        Binding::Captured { catch_port } => Some(catch_port),
        Binding::Bound => None,
    };
    catch::changes(names::CATCH, &services.addresses, port)
}

/// The changes that make Envoy serve a service port: its Envoy cluster, endpoints and listener.
///
/// What depends on the endpoints is the endpoints alone: set again with others, nothing else has other bytes.
#[must_use]
pub fn set(port: &ProxiedServicePort, services: &ServiceSettings, settings: &Settings) -> Vec<Change> {
    let name = names::service_port(port.port, &port.service);
    let Some(listener) = listener::service_port(&name, &Port::from(port), services, settings) else {
        return remove(port);
    };
    let hops = settings.hops.as_ref().filter(|_| port.treatment.is_http());
    vec![
        values::set(ResourceType::Cluster, name.clone(), &cluster::service_port(&name, port.treatment, hops)),
        values::set(
            ResourceType::Endpoint,
            name.clone(),
            &endpoint::of_service(&name, &port.endpoints, services.prefer_local, hops),
        ),
        values::set(ResourceType::Listener, name, &listener),
    ]
}

/// The changes that make Envoy let go of a service port.
#[must_use]
pub fn remove(port: &ProxiedServicePort) -> Vec<Change> {
    let name = names::service_port(port.port, &port.service);
    let kinds = [ResourceType::Listener, ResourceType::Cluster, ResourceType::Endpoint];
    kinds.map(|resource_type| Change { resource_type, name: name.clone(), body: None }).into()
}

/// The changes from one state of a service port to another: [`set`] of the new, and removal of what only the old one
/// had. To be applied in one step: the port may have changed hands, and both listeners have the same address.
#[must_use]
pub fn replace(
    old: &ProxiedServicePort,
    new: &ProxiedServicePort,
    services: &ServiceSettings,
    settings: &Settings,
) -> Vec<Change> {
    changes_between(remove(old), set(new, services, settings))
}

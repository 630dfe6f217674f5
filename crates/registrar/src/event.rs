//! Everything that can happen to the registrar.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use catalog::{PortRow, RegistrationId, ServiceRow};
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use health::{Outcome, ProbeId};
use model::{InstanceId, PublishedPort};
use shim_wire::{FromRegistrar, Register};
use sock_diag::Listener;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tonic::Status;
use xds::{StreamId, Variant};

use crate::docker::DockerEvent;
use crate::drains;
use crate::gossip_net::GossipEvent;
use crate::metrics::Numbers;
use crate::readiness::Waiting;
use crate::refusals::Refusal;
use crate::static_services::StaticList;
use crate::watch::View;

/// How many events may wait for the loop before its sources have to. Enough for every shim of a busy host to
/// come back at once without a round of waiting.
pub(crate) const EVENT_QUEUE: usize = 1024;

/// What the loop reacts to.
#[derive(Debug)]
pub(crate) enum Event {
    Shim {
        id: RegistrationId,
        event: ShimEvent,
    },
    Docker(DockerEvent),
    Xds {
        id: StreamId,
        event: XdsEvent,
    },
    /// Who listens on this host, and how many connections wait for each.
    Listeners(Vec<Listener>),
    /// Which addresses this host has.
    Addresses(BTreeSet<IpAddr>),
    Gossip(GossipEvent),
    /// What came of a health check.
    CheckFinished(ProbeId, Outcome),
    StaticServices(StaticList),
    /// How a listener fares now: what is wrong with it, if anything.
    Listener {
        listener: String,
        problem: Option<String>,
    },
    /// Other programs changed the firewall's rules.
    Firewall(capture::Notice),
    /// Envoy refused something on a learned port.
    Refused(Refusal),
    Query(Query),
    Order(Order),
}

/// What a shim's connection brought.
#[derive(Debug)]
pub(crate) enum ShimEvent {
    Register {
        register: Register,
        pid: u32,
        replies: mpsc::Sender<FromRegistrar>,
    },
    Release,
    /// What the shim saw in the bytes that it forwarded: a code of the crate `evidence`.
    Seen {
        finding: u8,
    },
    Gone,
}

/// A stream's request is with the loop until this is dropped; the stream's next one is not read before.
pub(crate) type Turn = OwnedSemaphorePermit;

/// What an Envoy's stream brought.
#[derive(Debug)]
pub(crate) enum XdsEvent {
    Opened { variant: Variant, responses: mpsc::Sender<Result<xds::Response, Status>> },
    Delta(Box<DeltaDiscoveryRequest>, Turn),
    Sotw(Box<DiscoveryRequest>, Turn),
    Closed,
}

/// What somebody wants to know. An answer that nobody waits for any longer is dropped.
#[derive(Debug)]
pub(crate) enum Query {
    Ports(oneshot::Sender<PortsReport>),
    Envoy(oneshot::Sender<admin_api::Envoy>),
    Readiness(oneshot::Sender<Waiting>),
    Services(oneshot::Sender<Vec<ServiceRow>>),
    Hosts(oneshot::Sender<Vec<admin_api::Host>>),
    Gossip(oneshot::Sender<admin_api::gossip::Gossip>),
    View(oneshot::Sender<View>),
    Metrics(oneshot::Sender<Numbers>),
    /// To which instances a connection that was meant for this address may go, in this order.
    Instances {
        meant: SocketAddr,
        answer: oneshot::Sender<Vec<SocketAddr>>,
    },
}

/// What an operator wants to be done.
#[derive(Debug)]
pub(crate) enum Order {
    /// Leave for good. The answer says what could not be undone.
    Leave(oneshot::Sender<Result<(), String>>),
    /// Serve the hosts no longer that were lost at once. The answer says how many they are.
    BelieveLosses(oneshot::Sender<usize>),
    /// Take an instance of any host out of service, or back.
    Drain { instance: InstanceId, drains: bool, answer: drains::Waiter },
}

/// What the loop knows of the ports. Who serves each of them now is the kernel's to say.
#[derive(Debug, Default)]
pub(crate) struct PortsReport {
    pub(crate) ports: Vec<(PortRow, EnvoysWord)>,
    /// The clients that go past Envoy, by port.
    pub(crate) bypassed: HashMap<PublishedPort, Vec<IpAddr>>,
    pub(crate) envoy_connected: bool,
    /// Whether Envoy is to serve the ports that no shim holds.
    pub(crate) serves_unproxied: bool,
    /// Why no traffic is diverted, if so: there may be no need to.
    pub(crate) not_diverted: Option<String>,
    /// Why traffic from elsewhere does not come to Envoy, if so.
    pub(crate) not_captured: Option<String>,
    /// Why Docker can't be asked, if so.
    pub(crate) docker_problem: Option<String>,
}

/// What Envoy said of a port's listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EnvoysWord {
    Nothing,
    Accepted,
    Rejected(String),
    /// It accepted the port, but takes no connections.
    Stuck,
    /// It accepted the port, which no shim holds, and is given the port's connections.
    Caught,
}

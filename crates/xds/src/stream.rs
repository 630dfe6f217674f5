//! One stream of one Envoy: its kinds of resources, and the order between them.

use std::time::{Duration, Instant};

use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};

use crate::ledger::{Told, Verdict};
use crate::resource_type::PerType;
use crate::store::{Name, Store};
use crate::substream::{Part, Substream, Why};
use crate::weight::{NAME_COST, PLACES_OF_SERVED};
use crate::{ResourceType, StreamError, delta, sotw};

/// Which of the two xDS protocols a stream speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variant {
    /// Incremental: only what changed is sent.
    Delta,
    /// State of the world.
    Sotw,
}

/// What may be asked for on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Services {
    /// Everything, on one stream.
    Ads,
    /// One kind only: the service CDS, EDS or LDS.
    Only(ResourceType),
}

/// What is to be written to a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// For a stream of [`Variant::Delta`].
    Delta(DeltaDiscoveryResponse),
    /// For a stream of [`Variant::Sotw`].
    Sotw(DiscoveryResponse),
}

/// How long listeners wait for clusters to be asked for first. An Envoy that reconnects asks for all kinds at once
/// but in any order; a client that wants listeners alone gets them after this time.
const CLUSTERS_FIRST: Duration = Duration::from_millis(300);

/// The order of sending: make before break. Envoy takes responses in this order, so none waits for an answer;
/// it even must not, as Envoy answers for a cluster only when that has its endpoints.
const STEPS: [(ResourceType, Part); 5] = [
    (ResourceType::Cluster, Part::Upserts),
    (ResourceType::Endpoint, Part::Upserts),
    (ResourceType::Listener, Part::Both),
    (ResourceType::Cluster, Part::Removals),
    (ResourceType::Endpoint, Part::Removals),
];

/// One stream of one Envoy.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) variant: Variant,
    pub(crate) services: Services,
    /// `node.id`; empty until the first request.
    pub(crate) node_id: String,
    pub(crate) envoy_version: String,
    pub(crate) substreams: PerType<Substream>,
    last_nonce: u64,
    /// Until when listeners are held back.
    listeners_wait: Option<Instant>,
}

/// A response, and which Envoy clusters it tells of.
pub(crate) type Sent = (Response, Vec<(Name, Told)>);

impl Stream {
    pub(crate) fn new(variant: Variant, services: Services) -> Self {
        Self {
            variant,
            services,
            node_id: String::new(),
            envoy_version: String::new(),
            substreams: PerType::new(Substream::new),
            last_nonce: 0,
            listeners_wait: None,
        }
    }

    /// What a request with this `type_url` is about; `None` for a kind that is not served.
    pub(crate) fn resource_type(&self, type_url: &str) -> Result<Option<ResourceType>, StreamError> {
        match self.services {
            Services::Ads if type_url.is_empty() => Err(StreamError::MissingTypeUrl),
            Services::Ads => Ok(ResourceType::from_type_url(type_url)),
            Services::Only(resource_type) if type_url.is_empty() || type_url == resource_type.type_url() => {
                Ok(Some(resource_type))
            }
            Services::Only(resource_type) => Err(StreamError::WrongTypeUrl(resource_type)),
        }
    }

    /// Remembers who is at the other end: only the first request of a stream says so for sure.
    pub(crate) fn introduce(&mut self, node: Option<Node>) {
        let Some(node) = node.filter(|_| self.node_id.is_empty()) else { return };
        self.envoy_version = envoy_version(&node);
        self.node_id = node.id;
    }

    /// Takes in a request of a delta stream. Returns what it rejects, if it does.
    pub(crate) fn handle_delta(
        &mut self,
        store: &Store,
        resource_type: ResourceType,
        request: DeltaDiscoveryRequest,
        now: Instant,
    ) -> Result<Option<Verdict>, StreamError> {
        let listened = self.asks_for(ResourceType::Listener);
        let verdict = delta::handle(&mut self.substreams[resource_type], store, request, now)?;
        self.order_kinds(listened, now);
        Ok(verdict)
    }

    /// The same for a state-of-the-world stream.
    pub(crate) fn handle_sotw(
        &mut self,
        store: &Store,
        resource_type: ResourceType,
        request: DiscoveryRequest,
        now: Instant,
    ) -> Result<Option<Verdict>, StreamError> {
        let listened = self.asks_for(ResourceType::Listener);
        let verdict = sotw::handle(&mut self.substreams[resource_type], store, request, now)?;
        self.order_kinds(listened, now);
        Ok(verdict)
    }

    fn asks_for(&self, resource_type: ResourceType) -> bool {
        self.substreams[resource_type].requested
    }

    /// Sees to the order between kinds when the client may have asked for one more.
    fn order_kinds(&mut self, listened: bool, now: Instant) {
        if self.asks_for(ResourceType::Cluster) || self.services != Services::Ads {
            self.listeners_wait = None;
        } else if self.asks_for(ResourceType::Listener) && !listened {
            self.listeners_wait = Some(now + CLUSTERS_FIRST);
        }
    }

    /// A resource changed.
    pub(crate) fn touch(&mut self, store: &Store, resource_type: ResourceType, name: &Name) {
        self.substreams[resource_type].touch(store, name, Why::Changed);
    }

    /// All is known now.
    pub(crate) fn release_withheld(&mut self, store: &Store) {
        self.substreams.iter_mut().for_each(|substream| substream.release_withheld(store));
    }

    /// The next response.
    pub(crate) fn poll(&mut self, store: &Store) -> Option<Sent> {
        if self.substreams.iter().any(|substream| substream.ledger.is_full()) {
            return None;
        }
        self.supply_endpoints(store);
        STEPS.into_iter().find_map(|(resource_type, part)| self.step(store, resource_type, part))
    }

    fn step(&mut self, store: &Store, resource_type: ResourceType, part: Part) -> Option<Sent> {
        if resource_type == ResourceType::Listener && self.listeners_wait.is_some() {
            return None;
        }
        let nonce = self.last_nonce + 1;
        let substream = &mut self.substreams[resource_type];
        let (response, told) = match self.variant {
            Variant::Delta => {
                let (response, told) = delta::response(substream, store, part, nonce)?;
                (Response::Delta(response), told)
            }
            Variant::Sotw => {
                let (response, told) = sotw::response(substream, store, part, nonce)?;
                (Response::Sotw(response), told)
            }
        };
        self.last_nonce = nonce;
        let clusters = if resource_type == ResourceType::Cluster { told } else { Vec::new() };
        for (name, _) in clusters.iter().filter(|(_, told)| matches!(told, Told::Absent)) {
            // Envoy drops the endpoints of a removed cluster by itself.
            self.substreams[ResourceType::Endpoint].cancel(name);
        }
        Some((response, clusters))
    }

    /// Sees to it that the endpoints of clusters that the client may not have yet follow these at once. A cluster
    /// that is changed waits for its endpoints, and Envoy, which has them, does not ask (delta); a new one gets them
    /// before a listener leads to it. While Envoy loads its first clusters it does not listen for endpoints yet.
    fn supply_endpoints(&mut self, store: &Store) {
        if !self.asks_for(ResourceType::Endpoint) && !self.asks_for(ResourceType::Listener) {
            return;
        }
        let endpoints = &self.substreams[ResourceType::Endpoint].ledger;
        let clusters = self.substreams[ResourceType::Cluster].ledger.under_way();
        let lacking = clusters.filter(|(name, since)| endpoints.told_at(name) < *since);
        let lacking: Vec<Name> = lacking.map(|(name, _)| Name::clone(name)).collect();
        for name in lacking {
            self.anticipate_endpoints(store, &name);
        }
    }

    /// Sends the endpoints of this cluster, though they may be unchanged or not asked for.
    pub(crate) fn anticipate_endpoints(&mut self, store: &Store, cluster: &Name) {
        self.substreams[ResourceType::Endpoint].anticipate(store, cluster);
    }

    pub(crate) fn handle_timeout(&mut self, store: &Store, now: Instant) {
        self.listeners_wait = self.listeners_wait.filter(|end| *end > now);
        self.substreams.iter_mut().for_each(|substream| substream.handle_timeout(store, now));
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let retries = self.substreams.iter().filter_map(|substream| substream.ledger.next_retry());
        retries.chain(self.listeners_wait).min()
    }

    /// How much memory it takes beyond what the resources that are served account for, about.
    pub(crate) fn excess(&self, store: &Store) -> usize {
        let of = |substream: &Substream| {
            let served = store.len(substream.resource_type) * PLACES_OF_SERVED * NAME_COST;
            substream.weight().saturating_sub(served)
        };
        self.substreams.iter().map(of).sum()
    }

    /// Whether it asks for all listeners, as Envoy does.
    pub(crate) fn listens(&self) -> bool {
        self.substreams[ResourceType::Listener].subscription.wants_all()
    }

    pub(crate) fn is_in_sync(&self) -> bool {
        self.substreams.iter().all(Substream::is_in_sync)
    }
}

fn envoy_version(node: &Node) -> String {
    match &node.user_agent_version_type {
        Some(UserAgentVersionType::UserAgentVersion(version)) => version.clone(),
        Some(UserAgentVersionType::UserAgentBuildVersion(build)) => {
            let version = build.version.unwrap_or_default();
            format!("{}.{}.{}", version.major_number, version.minor_number, version.patch)
        }
        None => String::new(),
    }
}

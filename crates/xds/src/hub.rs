//! The store and all streams of all Envoys: what the registrar talks to.

use std::collections::BTreeMap;
use std::time::Instant;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};

use crate::ledger::{Told, Verdict};
use crate::nack;
use crate::store::{Knowledge, Name, Store};
use crate::stream::{Response, Services, Stream, Variant};
use crate::subscription::{MAX_NAME_LENGTH, MAX_SUBSCRIBED_NAMES};
use crate::weight::{EXCESS_MAX, STREAM_EXCESS_MAX};
use crate::{Change, Nack, ResourceCounts, ResourceType, Status, StreamStatus};

/// The most streams that may be open: far more than the Envoys of one host open, even while some of their old
/// connections have not been noticed to be dead.
pub const MAX_STREAMS: usize = 64;

/// A stream's number, given by the caller and never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

/// Why a stream can't go on. The caller ends it with the status that [`Self::is_for_want`] stands for and calls [`Hub::close`]; other streams
/// and the resources are as they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// On ADS every request must say what it asks for.
    #[error("a request on the aggregated stream has no type_url")]
    MissingTypeUrl,
    /// A service of one kind was asked for another.
    #[error("this stream serves {} only", .0.type_url())]
    WrongTypeUrl(ResourceType),
    /// More than [`MAX_SUBSCRIBED_NAMES`] of one kind.
    #[error("a subscription to more than {MAX_SUBSCRIBED_NAMES} names of one kind")]
    TooManyNames,
    /// A name longer than [`MAX_NAME_LENGTH`]; its beginning is given.
    #[error("the name {0:?}… is longer than {MAX_NAME_LENGTH} bytes")]
    NameTooLong(String),
    /// It brings more names than there is memory for: more than [`STREAM_EXCESS_MAX`], or the most of all while all bring
    /// more than [`EXCESS_MAX`].
    #[error("too many names of resources that do not exist: there is no memory for them")]
    TooMuch,
    /// More than [`MAX_STREAMS`] are open.
    #[error("more than {MAX_STREAMS} streams are open")]
    TooManyStreams,
    /// The stream was never opened, was closed, or speaks the other protocol: a mistake of the caller's.
    #[error("stream {} is not open for such requests", .0.0)]
    NotOpen(StreamId),
}

/// Which streams are answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Answers {
    /// Requests are taken in only.
    #[default]
    Nobody,
    /// Those on which what is new can be told without what is not known.
    Delta,
    All,
}

impl StreamError {
    /// Whether there is no room for it (RESOURCE_EXHAUSTED); else it breaks the protocol (INVALID_ARGUMENT).
    #[must_use]
    pub const fn is_for_want(&self) -> bool {
        matches!(self, Self::TooManyNames | Self::TooMuch | Self::TooManyStreams)
    }
}

/// Serves any number of Envoys from one store.
#[derive(Debug, Default)]
pub struct Hub {
    store: Store,
    streams: BTreeMap<StreamId, Stream>,
    answers: Answers,
    last_nack: Option<Nack>,
    nack_count: u64,
}

impl Hub {
    /// A hub without resources that answers nothing yet: see [`Self::start_adding`] and [`Self::start_serving`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on Envoys are told what is new. What an Envoy says that it has is neither changed nor removed: its
    /// resource may be there, and only not be known yet; see also [`Self::withdraw`]. State-of-the-world streams are not answered, because their answers would be complete.
    pub fn start_adding(&mut self) {
        self.answers = Answers::Delta;
    }

    /// From now on all that there is to know is known, and every request is answered. Before, requests are only taken in:
    /// a registrar that was started anew must not show Envoy a half-rebuilt world.
    pub fn start_serving(&mut self) {
        self.answers = Answers::All;
        self.store.complete();
        self.streams.values_mut().for_each(|stream| stream.release_withheld(&self.store));
    }

    /// Adds a stream that an Envoy opened.
    ///
    /// # Errors
    /// There are too many streams; nothing was added.
    pub fn open(&mut self, id: StreamId, variant: Variant, services: Services) -> Result<(), StreamError> {
        if self.streams.len() >= MAX_STREAMS {
            return Err(StreamError::TooManyStreams);
        }
        self.streams.insert(id, Stream::new(variant, services));
        Ok(())
    }

    /// Takes in one request of a delta stream. Afterwards [`Self::poll_response`] may have something.
    ///
    /// # Errors
    /// The request breaks the protocol or a bound; the stream must be ended.
    pub fn handle_delta(
        &mut self,
        id: StreamId,
        mut request: DeltaDiscoveryRequest,
        now: Instant,
    ) -> Result<(), StreamError> {
        let stream = open_stream(&mut self.streams, id, Variant::Delta)?;
        stream.introduce(request.node.take());
        let Some(resource_type) = stream.resource_type(&request.type_url)? else { return Ok(()) };
        let message = request.error_detail.as_ref().map(|error| nack::truncated(&error.message).to_owned());
        let verdict = stream.handle_delta(&self.store, resource_type, request, now)?;
        self.note_nack(resource_type, verdict, message, now);
        self.check_excess(id)
    }

    /// Takes in one request of a state-of-the-world stream. Afterwards [`Self::poll_response`] may have something.
    ///
    /// # Errors
    /// The request breaks the protocol or a bound; the stream must be ended.
    pub fn handle_sotw(
        &mut self,
        id: StreamId,
        mut request: DiscoveryRequest,
        now: Instant,
    ) -> Result<(), StreamError> {
        let stream = open_stream(&mut self.streams, id, Variant::Sotw)?;
        stream.introduce(request.node.take());
        let Some(resource_type) = stream.resource_type(&request.type_url)? else { return Ok(()) };
        let message = request.error_detail.as_ref().map(|error| nack::truncated(&error.message).to_owned());
        let verdict = stream.handle_sotw(&self.store, resource_type, request, now)?;
        self.note_nack(resource_type, verdict, message, now);
        self.check_excess(id)
    }

    fn check_excess(&self, id: StreamId) -> Result<(), StreamError> {
        let own = self.streams.get(&id).map_or(0, |stream| stream.excess(&self.store));
        if own > STREAM_EXCESS_MAX { Err(StreamError::TooMuch) } else { Ok(()) }
    }

    /// A stream that has to be ended with [`StreamError::TooMuch`], since all together bring too much: the one that brings
    /// the most. To be called after each request until there is none.
    #[must_use]
    pub fn too_much(&self) -> Option<StreamId> {
        let excess = || self.streams.iter().map(|(id, stream)| (stream.excess(&self.store), *id));
        let all: usize = excess().map(|(excess, _)| excess).sum();
        if all <= EXCESS_MAX { None } else { excess().max().map(|(_, id)| id) }
    }

    fn note_nack(
        &mut self,
        resource_type: ResourceType,
        verdict: Option<Verdict>,
        message: Option<String>,
        time: Instant,
    ) {
        let (Some(verdict), Some(message)) = (verdict, message) else { return };
        let resource = verdict.rejected.first().map(ToString::to_string).unwrap_or_default();
        self.nack_count += 1;
        self.last_nack = Some(Nack { resource_type, resource, message, time });
    }

    /// Forgets a stream that has ended. An unknown one is ignored.
    pub fn close(&mut self, id: StreamId) {
        self.streams.remove(&id);
    }

    /// Changes resources, as one step. What does not differ from what is there is no change. Afterwards
    /// [`Self::poll_response`] of any stream may have something.
    pub fn apply(&mut self, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            let resource_type = change.resource_type;
            let Some(name) = self.store.apply(change) else { continue };
            for stream in self.streams.values_mut() {
                stream.touch(&self.store, resource_type, &name);
            }
        }
    }

    /// The resource is gone for sure, whether or not it was known here: no Envoy keeps it until all is known. To be called
    /// after the resource itself is removed.
    pub fn withdraw(&mut self, resource_type: ResourceType, name: &str) {
        if self.store.knowledge == Knowledge::Partial {
            let name = self.store.note_gone(resource_type, name);
            self.streams.values_mut().for_each(|stream| stream.touch(&self.store, resource_type, &name));
        }
    }

    /// The next response for a stream, `None` when it is up to date for now. To be called again and again
    /// whenever the stream can be written to: an Envoy that reads slowly then gets the latest state only.
    pub fn poll_response(&mut self, id: StreamId) -> Option<Response> {
        let answers = self.answers;
        let is_answered = |stream: &&mut Stream| match answers {
            Answers::Nobody => false,
            Answers::Delta => stream.variant == Variant::Delta,
            Answers::All => true,
        };
        let stream = self.streams.get_mut(&id).filter(is_answered)?;
        let (response, clusters) = stream.poll(&self.store)?;
        if stream.services == Services::Only(ResourceType::Cluster) {
            let node_id = stream.node_id.clone();
            self.anticipate_endpoints(&node_id, &clusters);
        }
        Some(response)
    }

    /// The same Envoy gets its endpoints on another stream.
    fn anticipate_endpoints(&mut self, node_id: &str, clusters: &[(Name, Told)]) {
        let is_sibling = |stream: &&mut Stream| {
            stream.services == Services::Only(ResourceType::Endpoint) && stream.node_id == node_id
        };
        for stream in self.streams.values_mut().filter(is_sibling) {
            for (name, _) in clusters.iter().filter(|(_, told)| matches!(told, Told::Content(_))) {
                stream.anticipate_endpoints(&self.store, name);
            }
        }
    }

    /// When [`Self::handle_timeout`] is to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        self.streams.values().filter_map(Stream::next_timeout).min()
    }

    /// Sends what is due: again, listeners whose address was taken when Envoy tried to bind it, as Envoy does not try
    /// again by itself; and what was held back for the sake of order. Afterwards [`Self::poll_response`] may have something.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.streams.values_mut().for_each(|stream| stream.handle_timeout(&self.store, now));
    }

    /// What operators are shown.
    #[must_use]
    pub fn status(&self) -> Status {
        let of = |(id, stream): (&StreamId, &Stream)| StreamStatus {
            id: *id,
            node_id: stream.node_id.clone(),
            envoy_version: stream.envoy_version.clone(),
            listens: stream.listens(),
            in_sync: self.answers == Answers::All && stream.is_in_sync(),
        };
        Status {
            streams: self.streams.iter().map(of).collect(),
            resources: ResourceCounts {
                clusters: self.store.len(ResourceType::Cluster),
                endpoints: self.store.len(ResourceType::Endpoint),
                listeners: self.store.len(ResourceType::Listener),
            },
            last_nack: self.last_nack.clone(),
            nack_count: self.nack_count,
        }
    }

    /// Whether no open stream has the resource: it was never sent, or its removal is acknowledged.
    #[must_use]
    pub fn is_released(&self, resource_type: ResourceType, name: &str) -> bool {
        !self.streams.values().any(|stream| stream.substreams[resource_type].ledger.has(name))
    }

    /// Whether an open stream was sent content of the resource and has not answered it, even if the resource is gone since:
    /// what follows from it may be still to come.
    #[must_use]
    pub fn is_under_way(&self, resource_type: ResourceType, name: &str) -> bool {
        self.streams.values().any(|stream| stream.substreams[resource_type].ledger.is_under_way(name))
    }

    /// Whether at least one open stream has acknowledged the resource as it now is.
    #[must_use]
    pub fn is_accepted(&self, resource_type: ResourceType, name: &str) -> bool {
        let Some(resource) = self.store.get(resource_type, name) else { return false };
        let has = |stream: &Stream| stream.substreams[resource_type].ledger.has_acknowledged(name, resource.version);
        self.streams.values().any(has)
    }

    /// Why an Envoy does not take the resource as it now is, in Envoy's words.
    #[must_use]
    pub fn rejection(&self, resource_type: ResourceType, name: &str) -> Option<&str> {
        let version = self.store.get(resource_type, name)?.version;
        self.streams.values().find_map(|stream| stream.substreams[resource_type].ledger.rejection(name, version))
    }
}

fn open_stream(
    streams: &mut BTreeMap<StreamId, Stream>,
    id: StreamId,
    variant: Variant,
) -> Result<&mut Stream, StreamError> {
    streams.get_mut(&id).filter(|stream| stream.variant == variant).ok_or(StreamError::NotOpen(id))
}

//! The store and all streams of all Envoys.

use std::time::Instant;

use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};

use crate::{Change, ResourceType, Status};

/// A stream's number, given by the caller and never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u64);

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

/// Why a stream can't go on. The caller ends it with INVALID_ARGUMENT and calls [`Hub::close`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// On ADS every request must say what it asks for.
    #[error("a request on the aggregated stream has no type_url")]
    MissingTypeUrl,
}

/// Serves any number of Envoys from one store.
#[derive(Debug, Default)]
pub struct Hub {}

impl Hub {
    /// A hub without resources that answers nothing yet: see [`Self::start_serving`].
    #[must_use]
    pub fn new() -> Self {
        unimplemented!()
    }

    /// From now on requests are answered. Before, they are only taken in: a registrar that was started anew
    /// must not show Envoy a half-rebuilt world.
    pub fn start_serving(&mut self) {
        unimplemented!()
    }

    /// Adds a stream that an Envoy opened.
    ///
    /// # Errors
    /// There are too many streams; nothing was added.
    pub fn open(&mut self, id: StreamId, variant: Variant, services: Services) -> Result<(), StreamError> {
        unimplemented!()
    }

    /// Takes in one request of a delta stream. Afterwards [`Self::poll_response`] may have something.
    ///
    /// # Errors
    /// The request breaks the protocol or a bound; the stream must be ended.
    pub fn handle_delta(
        &mut self,
        id: StreamId,
        request: DeltaDiscoveryRequest,
        now: Instant,
    ) -> Result<(), StreamError> {
        unimplemented!()
    }

    /// Takes in one request of a state-of-the-world stream. Afterwards [`Self::poll_response`] may have something.
    ///
    /// # Errors
    /// The request breaks the protocol or a bound; the stream must be ended.
    pub fn handle_sotw(&mut self, id: StreamId, request: DiscoveryRequest, now: Instant) -> Result<(), StreamError> {
        unimplemented!()
    }

    /// Forgets a stream that has ended. An unknown one is ignored.
    pub fn close(&mut self, id: StreamId) {
        unimplemented!()
    }

    /// Changes resources, as one step. What does not differ from what is there is no change. Afterwards
    /// [`Self::poll_response`] of any stream may have something.
    pub fn apply(&mut self, changes: Vec<Change>) {
        unimplemented!()
    }

    /// The next response for a stream, `None` when it is up to date for now. To be called again and again
    /// whenever the stream can be written to.
    pub fn poll_response(&mut self, id: StreamId) -> Option<Response> {
        unimplemented!()
    }

    /// When [`Self::handle_timeout`] is to be called next.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// Sends again what is due: listeners that Envoy could not bind.
    pub fn handle_timeout(&mut self, now: Instant) {
        unimplemented!()
    }

    /// What operators are shown.
    #[must_use]
    pub fn status(&self) -> Status {
        unimplemented!()
    }

    /// Whether no open stream has the resource: it was never sent, or its removal is acknowledged.
    #[must_use]
    pub fn is_released(&self, resource_type: ResourceType, name: &str) -> bool {
        unimplemented!()
    }

    /// Whether at least one open stream has acknowledged the resource as it now is.
    #[must_use]
    pub fn is_accepted(&self, resource_type: ResourceType, name: &str) -> bool {
        unimplemented!()
    }

    /// Why an Envoy does not take the resource as it now is, in Envoy's words.
    #[must_use]
    pub fn rejection(&self, resource_type: ResourceType, name: &str) -> Option<&str> {
        unimplemented!()
    }
}

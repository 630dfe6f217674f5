//! What operators are shown of the connected Envoys.

use std::time::Instant;

use crate::{ResourceType, StreamId};

/// All that is known of the connected Envoys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// One entry per open stream that has said who it is.
    pub streams: Vec<StreamStatus>,
    /// How many resources are served.
    pub resources: ResourceCounts,
    /// The latest rejection by any Envoy since start.
    pub last_nack: Option<Nack>,
    /// All rejections by any Envoy since start.
    pub nack_count: u64,
}

/// One open stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamStatus {
    /// The stream.
    pub id: StreamId,
    /// `node.id` of Envoy's bootstrap; empty until the first request.
    pub node_id: String,
    /// Envoy's version such as `1.40.0`; empty where the node does not tell.
    pub envoy_version: String,
    /// Whether it asks for all listeners, as Envoy does.
    pub listens: bool,
    /// Whether all that this Envoy asked for was sent and is acknowledged, and nothing is rejected.
    pub in_sync: bool,
}

/// How many resources of each kind are served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResourceCounts {
    /// Envoy clusters.
    pub clusters: usize,
    /// Endpoint assignments.
    pub endpoints: usize,
    /// Listeners.
    pub listeners: usize,
}

/// Envoy's word that it does not take a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nack {
    /// The kind of the resource.
    pub resource_type: ResourceType,
    /// The resource, or the first of several; empty where Envoy's message names none.
    pub resource: String,
    /// Envoy's message, cut to a readable length.
    pub message: String,
    /// The caller's `now` when it came.
    pub time: Instant,
}

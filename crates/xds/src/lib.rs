//! Envoy's configuration: what Envoy is to serve, and how each connected Envoy learns of it.
//!
//! Two floors, and only the upper one knows what a resource means:
//!
//! ```text
//! ProxiedPort + Settings ──▶ resources ──▶ Change (type, name, bytes)
//!                                             │
//!                                             ▼
//!  DiscoveryRequest ──────▶  Hub: store, streams, what each Envoy has ──▶ DiscoveryResponse
//! ```
//!
//! Everything here is synchronous and decides only: sockets, tasks and the clock belong to the caller, who
//! passes `now` in and calls [`Hub::poll_response`] whenever a stream can be written to. So an Envoy that
//! reads slowly is sent the latest state, never a backlog.

#![expect(clippy::unimplemented, unused_variables, reason = "signatures first")]

mod hub;
mod resource_type;
pub mod resources;
mod status;
mod store;

pub use hub::{Hub, Response, Services, StreamError, StreamId, Variant};
pub use resource_type::ResourceType;
pub use status::{Nack, ResourceCounts, Status, StreamStatus};
pub use store::Change;

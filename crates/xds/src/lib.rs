//! Envoy's configuration: what Envoy is to serve, and how each connected Envoy learns of it.
//!
//! Two floors, and only the upper one knows what a resource means:
//!
//! ```text
//! ProxiedPort + Settings ──▶ resources ──▶ Change (kind, name, bytes)
//!                                             │
//!                                             ▼
//!  requests ─────▶ Hub: store, streams, what each Envoy has and wants ─────▶ responses
//! ```
//!
//! Everything here is synchronous and decides only: sockets, tasks and the clock belong to the caller, who
//! passes `now` in and calls [`Hub::poll_response`] whenever a stream can be written to. So an Envoy that
//! reads slowly is sent the latest state, never a backlog.
//!
//! | question | file |
//! |---|---|
//! | what is served | `store` |
//! | what a client wants | `subscription` |
//! | what it has, has acknowledged, has rejected | `ledger` |
//! | what is to be sent therefore | `substream`, one for each kind of resource |
//! | in which order | `stream` |
//! | in which form | `delta`, `sotw` |
//! | what a rejection says | `nack` |
//! | all of it for all Envoys | `hub`, `status` |
//! | what a port means in Envoy's words | [`resources`] |

#[cfg(test)]
mod conformance;
mod delta;
mod hub;
mod ledger;
mod nack;
mod resource_type;
pub mod resources;
mod sotw;
mod status;
mod store;
mod stream;
mod subscription;
mod substream;
mod weight;

pub use hub::{Hub, MAX_STREAMS, StreamError, StreamId};
pub use resource_type::ResourceType;
pub use status::{Nack, ResourceCounts, Status, StreamStatus};
pub use store::Change;
pub use stream::{Response, Services, Variant};
pub use subscription::{MAX_NAME_LENGTH, MAX_SUBSCRIBED_NAMES};
pub use weight::{EXCESS_MAX, STREAM_EXCESS_MAX};

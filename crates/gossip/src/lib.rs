//! wip
#![allow(dead_code, missing_docs)]
mod catalogue;
mod channel;
mod cluster;
mod delta;
mod envelope;
mod identity;
mod key_ring;
mod message;
mod own;
mod record_wire;
mod refusal;
mod replay;
mod wire;
pub use envelope::VERSION;
pub use key_ring::{KeyRing, generate_key};
pub const HOSTS_MAX: usize = 10_000;
pub mod gossip {}
pub mod exchange {}

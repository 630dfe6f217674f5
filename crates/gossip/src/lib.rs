//! wip
mod addresses;
mod broadcasts;
mod catalogue;
mod channel;
mod cluster;
mod config;
mod delta;
mod envelope;
mod exchange;
mod gossip;
mod hosts;
mod identity;
mod key_ring;
mod local_health;
mod members;
mod message;
mod output;
mod own;
mod record_wire;
mod refusal;
mod replay;
mod settings;
mod timers;
mod wire;

use std::time::Duration;

pub use addresses::{AddressRules, Disbelief};
pub use cluster::{ClusterName, NotAClusterName};
pub use config::Config;
pub use envelope::{DATAGRAM_MAX, VERSION};
pub use gossip::{Gossip, HostView, Problem};
pub use hosts::HostStatus;
pub use key_ring::{KEY_LENGTH, KEYS_MAX, KeyRing, KeyRingError, generate_key};
pub use output::{Output, ProbeId, StreamId};
pub use own::LeftOut;
pub use rand::rngs::StdRng;
pub use record_wire::RECORD_MAX_LENGTH;
pub use refusal::{Counters, Refusal};

/// The most hosts of a cluster.
pub const HOSTS_MAX: usize = 10_000;

/// The most seeds.
pub const SEEDS_MAX: usize = 100;

/// How long the driver tries to connect, for a stream as for a probe.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

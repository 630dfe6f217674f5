//! How the hosts of a cluster find each other and come to know the same.
//!
//! [`Gossip`] is one host's part in it: a state machine without sockets, clock, or randomness of its own. Its
//! documentation says how a driver runs it. It needs no store either: all it knows comes from its peers and
//! from what is announced anew at each start.
//!
//! **What is known.** Each host has one record, which only it writes ([`model::HostRecord`]). A change goes to
//! everybody by broadcast within a second; exchanges on streams, every 10 s with somebody, make good what the
//! broadcasts missed, and carry what is too long for a datagram. Whether a host lives never changes a record:
//! it decides only over what is served.
//!
//! **Who is there.** The library `foca` (SWIM) finds out, and around it stands what its defaults lack, each
//! with the figure measured without it in its file:
//!
//! | trap | what happens instead | file |
//! |---|---|---|
//! | broadcasts miss hosts | passed on at least 12 times, and exchanges | `settings`, `exchange` |
//! | a broadcast that just fits is never sent | a bound that fits beside any header | `delta` |
//! | a full queue slows everything | at most one broadcast of each host waits | `broadcasts` |
//! | who was cut off makes all others renew | silence ends the membership; a fresh one, under one new identity | `gossip::joining` |
//! | who hears badly takes others for dead | a score stretches suspicion; the deaf judge nobody | `local_health` |
//! | a joiner learns members by handfuls | the way in is a stream that carries them all | `gossip::joining` |
//! | taken for dead is final, and spreads | a direct look before anything is withdrawn | `gossip::checking` |
//! | who lets a host in may die before it has told all | everybody is asked until one that was inside has | `gossip::joining` |
//! | a dead registrar is no member, and who starts later never hears of its host | told of as lost, and knocked at | `gossip::checking` |
//! | missed rumours of a death | lists of members are exchanged, and what others lost is looked at | `gossip::streams` |
//! | losing everybody means silence for ever | asks for a way in until there is one | `gossip::joining` |
//! | a clock set back means thousands of renewals | the first words on a stream tell the number to beat | `gossip::greeting` |
//! | two hosts of one name fight for ever | foca never renews by itself; the two find out and one yields | `gossip::greeting` |
//! | a quick restart is only a rename | it counts as the host being up | `members` |
//! | healing a partition takes minutes | the lost are asked every 5 s, and exchanged with | `settings`, `gossip::joining` |
//! | a process that stood still judges by old timers | silence is looked at before them | `gossip::joining` |
//! | most hosts lost at once | are served on: the trouble is likely here | `hosts` |
//! | a renamed host leaves its old name behind | whoever answers at an address has it | `gossip::claims` |
//! | a dead host is forgotten by foca long before its record is | its record is kept for a day, and passed on to nobody | `gossip::expiry` |
//! | silent streams use up all places | a share for each source, a part for known hosts | `gossip::accepting` |
//! | a name used with a life or version that nobody can outdo | lives too far ahead are not believed; the host outlives the rest | `gate`, `gossip::greeting` |
//!
//! **Who may speak.** Every datagram is sealed (`envelope`), every stream is a Noise channel (`channel`), both
//! with keys that the cluster shares ([`KeyRing`]) and bound to its name. What is recorded and sent again is
//! refused (`replay`). Within the cluster hosts trust each other: whoever holds the key is a member, and may also
//! give any host the operator's orders (`order`). There is one exception: an address that can't be a host's own is
//! not believed (`addresses`).
//!
//! **Bounds.** Hosts, instances, records, messages, streams, checks and seeds are bounded by the constants
//! here and in [`model::host_record`]; what goes beyond is refused and counted, or left out and named.
//!
//! **Versions.** [`VERSION`] stands in the clear on every datagram and stream. Hosts of different versions
//! refuse and count each other; `golden/` holds the bytes of this one.

mod addresses;
mod broadcasts;
mod catalogue;
mod channel;
mod cluster;
mod config;
mod delta;
mod envelope;
mod exchange;
mod gate;
#[cfg(test)]
mod golden;
mod gossip;
mod hosts;
mod identity;
mod key_ring;
mod local_health;
mod members;
mod message;
mod order;
mod output;
mod own;
mod record_wire;
mod refusal;
mod replay;
mod seeds;
mod settings;
mod timers;
mod wire;

use std::time::Duration;

pub use addresses::{AddressRules, Disbelief};
pub use cluster::{ClusterName, NotAClusterName};
pub use config::Config;
pub use envelope::{DATAGRAM_MAX, VERSION};
pub use gossip::{Gossip, HostView, ORDER_MAX, OrderError, Part, Problem};
pub use hosts::HostStatus;
pub use key_ring::{KEY_LENGTH, KEYS_MAX, KeyRing, KeyRingError, generate_key};
pub use order::{Answer, Order, REASON_MAX_LENGTH};
pub use output::{OpenFailure, OrderId, Output, ProbeId, StreamId};
pub use own::LeftOut;
/// The generator that [`Gossip`] draws nonces and ephemeral keys from: cryptographically strong, and to be
/// seeded by the operating system.
pub use rand::rngs::StdRng;
pub use record_wire::RECORD_MAX_LENGTH;
pub use refusal::{Counters, Refusal};
pub use seeds::{SeedOutcome, SeedView};

/// The most hosts of a cluster, this one included. Further ones are not taken in.
pub const HOSTS_MAX: usize = 10_000;

/// The most seeds; further ones are ignored.
pub const SEEDS_MAX: usize = 100;

/// How long the driver tries to connect, for a stream as for a probe.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Decodes the bytes as everything that may come from another host, for fuzzing: none of it may panic.
#[doc(hidden)]
pub fn decode_as_anything(bytes: &[u8]) {
    let _ = delta::Broadcast::decode(bytes);
    let _ = message::Message::decode(bytes);
    let _ = identity::IdentityCodec::read_header(&mut wire::Reader::new(bytes));
    let _ = identity::IdentityCodec::read_member(&mut wire::Reader::new(bytes));
    let _ = KeyRing::parse(&String::from_utf8_lossy(bytes));
}

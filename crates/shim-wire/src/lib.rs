//! The bytes between shim and registrar.
//!
//! Both ends use this crate, and an old shim outlives many registrars: dockerd starts it with the container
//! and never replaces it. So what is written here stays: `tests/golden/` holds the bytes of every message.
//!
//! ```text
//! registrar                       shim
//!    │ ── Hello(version, uid) ───▶ │  gives its socket to Envoy's uid
//!    │ ◀─────────────── Register ─ │  again at any time: "announce again"
//!    │ ── Registered | Rejected ─▶ │
//!    │            …                │  the registration lives as long as the connection
//!    │ ── Steer ─────────────────▶ │  Envoy takes no connections, or does again
//!    │ ── Bypass(clients) ───────▶ │  these clients' connections stay with the shim
//!    │ ── Observe ───────────────▶ │  look at the first bytes of connections
//!    │ ◀───────── Seen(finding) ─ │  what they showed
//!    │ ◀──────────────── Release ─ │  dockerd told the shim to stop
//!    │ ── Releasing ─────────────▶ │  heard: Envoy is waited for, for at most RELEASE_LIMIT
//!    │ ── Released ──────────────▶ │  Envoy has let go of the port
//! ```
//!
//! The registrar speaks first because Envoy can only join a socket group of its own uid: a registration says
//! that the socket has been given away already, so that Envoy may be told at once.
//!
//! Rules for later versions: a message gains fields at its end only, and a reader ignores what follows the
//! fields it knows; a message of an unknown kind is skipped. Neither raises [`VERSION`]; it rises when an old
//! peer would misunderstand.
//!
//! Deliberately absent: sockets, waiting, and any meaning of what is said.

use std::time::Duration;

pub mod frame;
pub mod message;

pub use frame::{DecodeError, Decoder, FRAME_MAX_LENGTH, Message};
pub use message::{BYPASS_MAX, FromRegistrar, FromShim, Register};

/// The version of the protocol that this crate speaks.
pub const VERSION: u16 = 1;

/// Within this time the registrar answers `Release`, by `Releasing` or `Released`. A shim that hears nothing for so long
/// takes the registrar for dead, and frees the port itself.
pub const RELEASE_ANSWER: Duration = Duration::from_millis(200);

/// Within this time of `Releasing` the registrar says `Released`, whatever Envoy does. It is long, because a shim that
/// leaves while Envoy has yet to take the port's listener leaves the port to Envoy; only an Envoy that hangs uses it up,
/// and does so once for all shims of a container. A shim gives the registrar [`RELEASE_ANSWER`] more.
pub const RELEASE_LIMIT: Duration = Duration::from_secs(1);

/// Where the registrar listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/envoy-docker-shim/registrar.sock";

/// The environment variable by which a shim is told of another socket.
pub const SOCKET_VARIABLE: &str = "ENVOY_DOCKER_SHIM_SOCKET";

//! A whole cluster in one thread, from a seed: the same seed gives the same run, to the last byte.
//!
//! The hosts are real [`gossip::Gossip`] values, with real encryption; only the network and the clock are
//! made up. It loses, delays, doubles and reorders datagrams, cuts hosts off from each other, kills, stops
//! and restarts them. An [`oracle`] watches at every step that what may never happen does not, and at the end
//! that all hosts know the same.
//!
//! | part | file |
//! |---|---|
//! | the hosts and the events between them | [`cluster`] |
//! | what carries the events, and how badly | [`network`] |
//! | what must hold | [`oracle`] |
//! | how long things took | [`report`] |
//!
//! Deliberately absent: Docker, Envoy and real sockets. What hosts do with what they know is not simulated.

pub mod cluster;
mod host;
pub mod network;
pub mod oracle;
pub mod report;

pub use cluster::{Cluster, Death, Options};
pub use network::Conditions;

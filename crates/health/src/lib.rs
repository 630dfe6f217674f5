//! Decides what is checked of an instance, when, and what follows from it.
//!
//! ```text
//! labels, ports ──▶ plan() ──▶ Check ──▶ Checker ── start() ──▶ what to probe now
//!                                          │ ▲
//!                         StatusChange ◀───┘ └── finished() ◀── Outcome
//! ```
//!
//! All of it is synchronous and takes the time as an argument. Deliberately absent: sockets and processes (the
//! registrar's `probe`), where labels come from, and draining, which is the operator's word and beats every
//! check.

mod check;
mod checker;
mod docker;
mod plan;
mod rise_fall;
mod schedule;
mod target;
mod template;

pub use check::{Check, HttpGet, Outcome, Peer, Probe, REASON_MAX_LENGTH};
pub use checker::{Checker, Health, ProbeId, Started, StatusChange};
pub use docker::DockerHealth;
pub use plan::{CheckedPort, Plan, Policy, Subject, plan};
pub use schedule::{Limits, PATIENT};

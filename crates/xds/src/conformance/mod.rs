//! The protocol's conformance cases, S01 to S25 for state of the world and D01 to D38 for delta, as tests of the
//! [`Hub`](crate::Hub). `lab` lets a test say requests, and read responses, in one line each; `envoy` is a client that
//! does with them what Envoy does.
//!
//! Not here: S01 to S06, D02 to D04, D10 to D12 by themselves are in `subscription`; D16, D33, D38 in `nack`; S25, D35
//! in `store`; D27, D35, D37 in `tests/resources.rs`. D32, the server's end, is the caller's: nothing here is open.

mod cost;
mod delta;
mod envoy;
mod hub;
mod lab;
mod laws;
mod partial;
mod sotw;
mod under_way;

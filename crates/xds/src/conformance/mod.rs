//! The protocol's conformance cases, S01 to S25 for state of the world and D01 to D38 for delta, as tests of the
//! [`Hub`]. Cases that are about one file alone stand beside it: S01 to S06, D02 to D04 and D10 to D12 in
//! `subscription`, D16, D33 and D38 in `nack`, D35 in `store`.
//!
//! `lab` lets a test say requests, and read responses, in one line each; `envoy` is a client that does with them
//! what Envoy does.

mod cost;
mod delta;
mod envoy;
mod hub;
mod lab;
mod laws;
mod sotw;

//! A real Envoy that is told what `xds` says of a few ports, and nothing else: no Docker, no registrar. What a setting
//! does to requests, connections and Envoy's own cost is shown here, in a second or two.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod app;
mod keep_alive;
mod ports;
mod retries;
mod rig;
mod tracing;

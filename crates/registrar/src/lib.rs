//! The daemon, one per host: sockets, Docker, gRPC, HTTP, and the one loop that owns all state.
//!
//! ```text
//!  shim_socket ──┐                        ┌──▶ shims (Registered, Released)
//!  docker ───────┼─▶ Event ─▶ host::Host ─┼──▶ xds_server ──▶ Envoy
//!  xds_server ───┤    (decides with the   └──▶ docker (what to look up)
//!  http ─────────┘     catalogue and xds)
//! ```
//!
//! Every edge is a task that turns its bytes into an `Event` and knows nothing of the others. What is
//! decided is decided in the crates `catalog` and `xds`.

mod admin;
pub mod args;
mod backoff;
mod bypasses;
mod cause;
mod cluster;
pub mod config;
mod disbelieved;
mod docker;
mod door;
mod drains;
mod ended_ports;
mod event;
mod firewall_watch;
mod gossip_net;
mod host;
mod host_addresses;
mod http;
mod lessons_file;
mod listener_watch;
pub mod listeners;
mod lost_host;
mod metrics;
mod missing_listeners;
mod one_request;
mod ports_view;
mod probe;
mod pulse;
mod query;
mod readiness;
mod refusal_log;
mod refusals;
mod releases;
pub mod run;
mod runtime_files;
mod seed_names;
mod served_services;
mod services_view;
mod shim_socket;
mod sidecar;
mod standby;
mod static_services;
mod watch;
mod watchdog;
mod xds_server;
mod yaml;

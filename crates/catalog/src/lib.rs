//! Decides what is known on this host: which published ports there are, whose they are, and which of them
//! Envoy is to serve.
//!
//! ```text
//! shims ── register, release, gone ──┐
//!                                    ▼
//! Docker ── found at address ──▶  Catalog ──▶ what Envoy is to serve (changes only)
//! Docker ── listing ───────────────▶ │  └───▶ every port, for the operator
//! ```
//!
//! All of it is synchronous and takes the time as an argument; the cost of one change does not grow with the
//! number of ports. Deliberately absent: Docker's API, sockets, Envoy's resources, and who the kernel lets
//! answer a port right now, which is looked up when it is asked for.

mod catalog;
mod docker_listing;
mod learning;
mod lessons;
mod own_instance;
mod own_instances;
mod registration;
mod service_ports;

#[cfg(test)]
mod tests;

pub use catalog::{Catalog, Changes, Lookup, PortChange, PortRow};
pub use docker_listing::{ListedContainer, ListedPort};
pub use learning::Learning;
pub use lessons::{LESSONS_MAX, Lessons, ProgramPort};
pub use own_instance::{OwnInstance, OwnSettings};
pub use own_instances::{OwnChange, OwnHost, OwnInstances, StaticInstance};
pub use registration::{Container, Registration, RegistrationId, ShimTarget};
pub use service_ports::{LocalAddresses, ServiceInstance, ServicePortChange, ServicePorts, ServiceRow};

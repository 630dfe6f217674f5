//! Shares the port with Envoy: one socket group, and whom of it the kernel gives new connections.
//!
//! The group's oldest member is number 0: the shim. Number 1 is Envoy's first socket while there is one, and where
//! there is none the shim gets everything. Envoy's own balancer hands connections on to its other workers, so their
//! number is not needed.

use crate::port::{self, Port};

/// Our place in the group.
const SHIM: u32 = 0;
/// Envoy's.
const ENVOY: u32 = 1;

/// Opens the port to others of our uid, and has the kernel prefer them.
///
/// # Errors
/// The kernel refused; in words. The port serves on by itself, and nobody can join it.
pub(crate) fn share(port: &Port) -> Result<(), String> {
    socket_group::found(&port.socket, port.published().socket_address(), ENVOY)
        .map_err(|errno| format!("the port can't be shared with Envoy: {}", port::text(errno)))
}

/// Has the kernel give new connections to Envoy (while it listens), or to us.
///
/// # Errors
/// The kernel refused; in words. It goes on as before.
pub(crate) fn steer(port: &Port, to_envoy: bool) -> Result<(), String> {
    let member = if to_envoy { ENVOY } else { SHIM };
    socket_group::name(&port.socket, member)
        .map_err(|errno| format!("new connections can't be steered: {}", port::text(errno)))
}

//! Shares the port with Envoy: one socket group, and whom of it the kernel gives new connections.
//!
//! The group's oldest member is number 0: the shim. Number 1 is Envoy's first socket while there is one, and where
//! there is none the shim gets everything. Envoy's own balancer hands connections on to its other workers, so their
//! number is not needed.

use std::net::IpAddr;

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

/// Who is to get new connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Steering {
    /// Envoy, while it listens; otherwise we.
    pub(crate) to_envoy: bool,
    /// Clients whose connections we take all the same.
    pub(crate) bypassing: Vec<IpAddr>,
}

impl Steering {
    /// Everything to Envoy: what [`share`] sets.
    pub(crate) const TO_ENVOY: Self = Self { to_envoy: true, bypassing: Vec::new() };

    /// Has the kernel do so.
    ///
    /// # Errors
    /// The kernel refused; in words. It goes on as before.
    pub(crate) fn apply(&self, port: &Port) -> Result<(), String> {
        if self.to_envoy {
            socket_group::name_except(&port.socket, ENVOY, &self.bypassing, SHIM)
        } else {
            socket_group::name(&port.socket, SHIM)
        }
        .map_err(|errno| format!("new connections can't be steered: {}", port::text(errno)))
    }
}

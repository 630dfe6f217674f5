//! Ends Envoy's listening sockets of ports whose container has ended and that no shim holds.
//!
//! Where there is a shim, dockerd waits for it, and it for Envoy. Where it was killed nobody waits: Docker may want the
//! port back at once, for the same container restarted, and Envoy lets go of it only as soon as it comes to that.

use model::PublishedPort;
use tracing::{debug, warn};

/// Ends what listens on these ports now. Without `CAP_NET_ADMIN`, or where the kernel can't, Envoy is left to it.
pub(crate) fn end_listeners(ports: &[PublishedPort], envoy_uid: u32) {
    for port in ports {
        match end(port, envoy_uid) {
            Ok(sockets) => {
                debug!(%port, sockets, "its container has ended, and its shim before it: Envoy's sockets too");
            }
            Err(error) => warn!(%port, %error, "its container has ended; Envoy holds it until it is told so"),
        }
    }
}

fn end(port: &PublishedPort, envoy_uid: u32) -> std::io::Result<usize> {
    let mut listeners = sock_diag::listeners_on(port.socket_address())?;
    listeners.retain(|listener| listener.uid == envoy_uid);
    for listener in &listeners {
        match sock_diag::destroy(listener) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(listeners.len())
}

//! Ends Envoy's listening sockets from outside, where a port has to be free before Envoy comes to letting go of it.

use model::PublishedPort;
use tracing::{debug, warn};

/// Ends what listens on these ports, whose container has ended and whose shims were killed before.
///
/// Where there is a shim, dockerd waits for it, and it for Envoy. Here nobody waits: Docker may want the port back at
/// once, for the same container restarted. Without `CAP_NET_ADMIN`, or where the kernel can't, Envoy is left to it.
pub(crate) fn end_listeners(ports: &[PublishedPort], envoy_uid: u32) {
    for port in ports {
        match end(port, envoy_uid, None) {
            Ok(sockets) => {
                debug!(%port, sockets, "its container has ended, and its shim before it: Envoy's sockets too");
            }
            Err(error) => warn!(%port, %error, "its container has ended; Envoy holds it until it is told so"),
        }
    }
}

/// Ends Envoy's sockets that listen on this port; yields how many there were. The shim's socket, which belongs to Envoy's
/// uid as well, is known by its inode.
///
/// # Errors
/// No `CAP_NET_ADMIN`, or the kernel can't (`CONFIG_INET_DIAG_DESTROY`). Sockets before the one that failed are ended.
pub(crate) fn end(port: &PublishedPort, envoy_uid: u32, shims_inode: Option<u32>) -> std::io::Result<usize> {
    let mut listeners = sock_diag::listeners_on(port.socket_address())?;
    listeners.retain(|listener| listener.uid == envoy_uid && Some(listener.inode) != shims_inode);
    for listener in &listeners {
        match sock_diag::destroy(listener) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(listeners.len())
}

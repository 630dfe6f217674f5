//! What an operator should know, in a line: to stderr, and to syslog, since dockerd gives us /dev/null.

use std::os::unix::net::UnixDatagram;

const SYSLOG_SOCKET: &str = "/dev/log";

/// Facility daemon, severity warning (RFC 5424, 6.2.1).
const PRIORITY: u8 = 3 * 8 + 4;

/// Writes a line. Where nobody takes it, it is lost: a port's service never waits for its log.
pub(crate) fn warn(text: &str) {
    eprintln!("envoy-docker-shim: {text}");
    let _ = to_syslog(text);
}

fn to_syslog(text: &str) -> std::io::Result<usize> {
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let line = format!("<{PRIORITY}>envoy-docker-shim[{}]: {text}", std::process::id());
    socket.send_to(line.as_bytes(), SYSLOG_SOCKET)
}

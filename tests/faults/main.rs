//! Whatever dies, stalls or restarts on one host: a published port is answered as long as its container lives, and it
//! is gone when its container is gone.
//!
//! Each file is a part that fails. What others show already is not repeated: `one_host` (deaths, restarts, churn,
//! resync) and `firewall` (the same faults with Docker's firewall on). `docs/reliability.md` is the table of all.
//! Those that are ignored take minutes: `scripts/test --faults` runs them.

use std::path::Path;
use std::time::Duration;

use lab::Host;
use lab::process::send;
use nix::sys::signal::Signal;

mod containers;
mod docker_socket;
mod dockerd;
mod envoy;
mod exhaustion;
mod many_ports;
mod registrar;
mod removals;
mod rig;
mod shims;
mod truth;
mod udp;
mod unheard;

const SECOND: Duration = Duration::from_secs(1);

/// The shim of this port, by its id as seen from outside.
fn shim_of(host: &Host, address: &str, port: u16) -> u32 {
    let ports = host.ports(port);
    let row = ports.iter().find(|row| row["host_address"] == address && !row["shim_pid"].is_null());
    let id = row.and_then(|row| row["shim_pid"].as_u64());
    host.namespace().outside_id(id.unwrap_or_else(|| panic!("{address}:{port} has no shim: {ports:?}")))
}

fn signal(process: u32, signal: Signal) {
    send(process, signal).unwrap_or_else(|error| panic!("process {process}: {signal}: {error}"));
}

/// Writes a program that dockerd starts for each port, in place of the shim itself.
fn write_program(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let written = std::fs::write(path, script);
    let made = written.and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)));
    made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

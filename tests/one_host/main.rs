//! One host: dockerd starts shims, shims register with the registrar, the registrar programs Envoy.
//!
//! Each file is a theme. Every test makes its own host, so they run beside each other.

use std::path::Path;

use lab::http::{passed_envoy, request_header};
use lab::on_both_dockers;

mod bad_input;
mod churn;
mod deaths;
mod in_containers;
mod lab_itself;
mod learning;
mod memory;
mod ordinary_user;
mod protocols;
mod restarts;
mod resync;
mod serving;
mod taken_port;
mod tracing;
mod transparency;

/// Writes a program that dockerd starts for each port, in place of the shim itself.
fn write_program(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let written = std::fs::write(path, script);
    let made = written.and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)));
    made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

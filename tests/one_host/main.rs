//! One host: dockerd starts shims, shims register with the registrar, the registrar programs Envoy.
//!
//! Each file is a theme. Every test makes its own host, so they run beside each other.

use std::path::Path;

use lab::http::Response;

mod bad_input;
mod churn;
mod deaths;
mod in_containers;
mod lab_itself;
mod memory;
mod ordinary_user;
mod protocols;
mod restarts;
mod resync;
mod serving;
mod taken_port;
mod tracing;
mod transparency;

/// Makes a test of each function for each dockerd: `THEME::docker_20::NAME` and `THEME::docker_current::NAME`.
macro_rules! on_both_dockers {
    ($($name:ident),+ $(,)?) => {
        mod docker_20 {
            $(#[test]
            fn $name() {
                super::$name(lab::Docker::V20);
            })+
        }
        mod docker_current {
            $(#[test]
            fn $name() {
                super::$name(lab::Docker::Current);
            })+
        }
    };
}
pub(crate) use on_both_dockers;

/// Whether a request came to the lab's program through Envoy in `http` mode, which adds this header.
fn passed_envoy(answer: &Response) -> bool {
    request_header(answer, "x-forwarded-for").is_some()
}

/// A header of the request as the lab's program got it.
fn request_header(answer: &Response, name: &str) -> Option<String> {
    let headers = answer.json()["headers"].as_array().cloned().unwrap_or_default();
    let is_it = |header: &serde_json::Value| header[0].as_str().is_some_and(|own| own.eq_ignore_ascii_case(name));
    headers.iter().find(|header| is_it(header)).and_then(|header| header[1].as_str().map(ToOwned::to_owned))
}

/// Writes a program that dockerd starts for each port, in place of the shim itself.
fn write_program(path: &Path, script: &str) {
    use std::os::unix::fs::PermissionsExt;
    let written = std::fs::write(path, script);
    let made = written.and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)));
    made.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

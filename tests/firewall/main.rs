//! Docker's firewall stays on: dockerd is told where the shim is, and nothing else.
//!
//! Each file is a theme. Every test makes its own host, with Envoy as an ordinary user.

use std::io;
use std::time::Duration;

use lab::http::Response;
use lab::{Docker, Host, HostBuilder, Lab, eventually};

mod addresses;
mod changed_setting;
mod faults;
mod iptables_legacy;
mod leave;
mod left_alone;
mod positions;
mod ufw;
mod unproxied;
mod user_rules;
mod without_net_admin;

/// Our table in the kernel, as `nft` names it.
const TABLE: [&str; 3] = ["table", "inet", "envoy-docker-shim"];

/// A host as a user has it who changed the one setting of dockerd's.
fn one_setting<'a>(lab: &'a Lab, name: &str, version: Docker) -> HostBuilder<'a> {
    lab.host(name).docker(version).firewall().envoy_user(lab::host::ORDINARY_USER)
}

/// A host with Docker alone.
fn docker_alone<'a>(lab: &'a Lab, name: &str, version: Docker) -> HostBuilder<'a> {
    lab.host(name).docker(version).firewall().proxy(lab::Proxy::DockerProxy).without_registrar().without_envoy()
}

/// Waits until Envoy serves the port and traffic from other hosts is diverted to it.
#[track_caller]
fn await_diverted(host: &Host, port: u16) {
    host.await_served_by_envoy(port);
    eventually(&format!("port {port} is diverted"), Duration::from_secs(5), || {
        let table = our_table(host);
        if table.contains(&port.to_string()) { Ok(()) } else { Err(format!("{table} {}", host.api("envoy"))) }
    });
}

/// Our table as `nft` prints it; empty where there is none.
fn our_table(host: &Host) -> String {
    let output = host.namespace().output(std::process::Command::new("nft").arg("list").args(TABLE));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until the registrar says that this is done about Docker's firewall, and yields the reason.
#[track_caller]
fn await_capture(host: &Host, mode: &str) -> String {
    eventually(&format!("capture is {mode}"), Duration::from_secs(5), || {
        let envoy = host.api("envoy");
        let reason = envoy["capture_reason"].as_str().unwrap_or_default().to_owned();
        if envoy["capture"] == mode { Ok(reason) } else { Err(envoy) }
    })
}

/// The address, without its port, that the container's program saw as its peer.
fn peer(answer: &Response) -> String {
    let peer = answer.json()["peer"].as_str().unwrap_or_default().to_owned();
    peer.parse::<std::net::SocketAddr>().map(|peer| peer.ip().to_canonical().to_string()).unwrap_or(peer)
}

/// Asserts that a connection was refused, not lost on its way.
#[track_caller]
fn assert_refused(outcome: &io::Result<Response>, what: &str) {
    let kind = outcome.as_ref().map(|answer| answer.status).map_err(io::Error::kind);
    assert_eq!(kind, Err(io::ErrorKind::ConnectionRefused), "{what}: {outcome:?}");
}

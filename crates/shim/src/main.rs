//! Takes docker-proxy's place: one process per published port.
//!
//! It owns the port's socket, forwards what arrives there to the container, tells the registrar that the port exists,
//! and lets Envoy take the traffic over in the kernel. This file is the order of the start (`entry` calls it); `serve`
//! is the loop.
//!
//! Deliberately absent: any knowledge of Docker, labels and services. A shim knows two addresses.

#![cfg_attr(not(test), no_main)]

mod args;
mod connection;
mod datagrams;
mod descriptor;
#[cfg(not(test))]
mod entry;
mod event_loop;
mod findings;
mod forward_tcp;
mod forward_udp;
mod forwarder;
mod log;
mod merging;
mod parent;
mod port;
mod pump;
mod registrar_link;
mod registration;
mod release;
mod reload;
mod sctp;
mod serve;
mod signals;
mod slots;
mod socket_bytes;
mod steering;
mod udp_sessions;
mod watch;

use std::path::PathBuf;

use args::{Command, Mapping};
use model::Protocol;
use parent::Parent;
use port::Port;
use registration::Registration;
use serve::Shim;

const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;

/// Unit tests have an entry of their own; this only tells the compiler that the program is in use.
#[cfg(test)]
fn main() {
    run();
}

/// The program, from its start to its exit code.
fn run() -> u8 {
    // Before anything else opens a descriptor.
    let mut parent = Parent::inherit();
    descriptor::open_standard();
    match args::parse(std::env::args_os().skip(1)) {
        Ok(Command::Serve { mapping, use_listen_fd, problems }) => start(parent, mapping, use_listen_fd, problems),
        Ok(Command::Reload(mapping)) => match reload::reload(mapping) {
            Ok(()) => SUCCESS,
            Err(reason) => {
                eprintln!("envoy-docker-shim: {reason}");
                FAILURE
            }
        },
        Ok(Command::Version) => say(concat!("envoy-docker-shim version ", env!("CARGO_PKG_VERSION"), "\n")),
        Ok(Command::Help) => say(args::HELP),
        Err(error) => fail(&mut parent, &error.reason, error.exit_code),
    }
}

fn say(text: &str) -> u8 {
    print!("{text}");
    SUCCESS
}

fn fail(parent: &mut Parent, reason: &str, exit_code: u8) -> u8 {
    parent.failed(reason);
    log::warn(reason);
    exit_code
}

/// Nobody is asked anything before dockerd has its answer: its API may be waiting for that very answer.
fn start(mut parent: Parent, mapping: Mapping, use_listen_fd: bool, mut problems: Vec<String>) -> u8 {
    if mapping.published.protocol == Protocol::Sctp {
        return fail(&mut parent, &sctp::become_docker_proxy(), FAILURE);
    }
    let port = match listen(&mut parent, mapping, use_listen_fd, &mut problems) {
        Ok(port) => port,
        Err(reason) => return fail(&mut parent, &reason, FAILURE),
    };
    let steerable = match mapping.published.protocol {
        Protocol::Tcp => steering::share(&port).map_err(|problem| problems.push(problem)).is_ok(),
        Protocol::Udp | Protocol::Sctp => false, // not Envoy's
    };
    for problem in &problems {
        log::warn(problem);
    }
    let registration = Registration::new(mapping, problems, steerable, port::socket_inode(&port));
    let shim = match Shim::new(port, mapping, registrar_socket(), registration) {
        Ok(shim) => shim,
        Err(errno) => return fail(&mut parent, &format!("failed to start: {}", port::text(errno)), FAILURE),
    };
    if let Err(error) = parent.succeeded() {
        return fail(&mut parent, &format!("dockerd does not listen on fd 3: {error}"), FAILURE);
    }
    match shim.run() {
        Ok(()) => SUCCESS,
        Err(errno) => fail(&mut parent, &format!("the event loop failed: {}", port::text(errno)), FAILURE),
    }
}

/// dockerd's socket, if it left one, else our own.
fn listen(
    parent: &mut Parent,
    mapping: Mapping,
    use_listen_fd: bool,
    problems: &mut Vec<String>,
) -> Result<Port, String> {
    match parent.socket.take().map(|socket| Port::adopt(socket, mapping.published)) {
        Some(Ok(port)) => return Ok(port),
        // A descriptor that dockerd did not mean for us is no problem.
        Some(Err(problem)) if use_listen_fd => problems.push(problem),
        None if use_listen_fd => problems.push("flag -use-listen-fd was given, and fd 4 is not open".to_owned()),
        Some(Err(_)) | None => {}
    }
    Port::bind(mapping.published)
}

fn registrar_socket() -> PathBuf {
    std::env::var_os(shim_wire::SOCKET_VARIABLE)
        .filter(|path| !path.is_empty())
        .map_or_else(|| PathBuf::from(shim_wire::DEFAULT_SOCKET), PathBuf::from)
}

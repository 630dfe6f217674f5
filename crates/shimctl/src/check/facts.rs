//! What `shimctl check` looks at, before anything is made of it. How it is had: `gather`.

use std::net::SocketAddr;
use std::path::PathBuf;

use admin_api::gossip::Gossip;
use admin_api::{Envoy, Host, Port, Service};

use crate::firewall::{Firewall, Interface};
use crate::process::ShimProcess;

/// Everything that is judged.
#[derive(Debug)]
pub(crate) struct Facts {
    /// Whether `check` runs as root, and so sees other users' processes.
    pub is_root: bool,
    /// What the registrar says.
    pub registrar: Registrar,
    /// The sockets' folder.
    pub folder: File,
    /// Where shims register.
    pub shim_socket: File,
    /// Where orders go.
    pub admin_socket: File,
    /// Where Envoy subscribes.
    pub xds_socket: File,
    /// Processes of this network namespace that matter here.
    pub programs: Vec<Program>,
    /// The running dockerd's settings; `None` where no dockerd is seen.
    pub docker: Option<Docker>,
    /// The kernel's settings.
    pub kernel: Kernel,
    /// Who listens on gossip's usual port: program and process id. Looked for where the registrar is silent.
    pub gossip_port_holder: Option<(String, u32)>,
    /// dockerd's configuration file.
    pub docker_config: ConfigFile,
    /// Whether Docker's socket is there, as where Docker is installed.
    pub has_docker_socket: bool,
    /// Those of our programs and Envoy that are not installed where units look for them.
    pub not_installed: Vec<&'static str>,
    /// Shims that were stopped by a signal, in words.
    pub stopped_shims: Vec<String>,
    /// Why the trace collector can't be reached; `None` where it can, or there is none.
    pub collector_silence: Option<String>,
    /// Instances on other hosts that can't be reached from here.
    pub unreachable: Vec<Unreachable>,
    /// Shims and docker-proxies, and the port that each holds. Looked for where the registrar is silent.
    pub proxies: Vec<ShimProcess>,
    /// This host's rules for packets.
    pub firewall: Firewall,
    /// Its network interfaces.
    pub interfaces: Vec<Interface>,
}

/// What the registrar says.
#[derive(Debug)]
pub(crate) enum Registrar {
    /// Nothing; why, in words.
    Silent(String),
    /// It answers.
    Answers(Box<Answers>),
}

impl Registrar {
    /// Its answers, if it answers.
    pub(crate) fn answers(&self) -> Option<&Answers> {
        match self {
            Self::Answers(answers) => Some(answers),
            Self::Silent(_) => None,
        }
    }
}

/// The registrar's answers.
#[derive(Debug)]
pub(crate) struct Answers {
    /// What `/readyz` waits for; empty when ready.
    pub waiting_for: Vec<String>,
    /// `/api/v1/ports`.
    pub ports: Vec<Port>,
    /// `/api/v1/services`.
    pub services: Vec<Service>,
    /// `/api/v1/hosts`.
    pub hosts: Vec<Host>,
    /// `/api/v1/envoy`.
    pub envoy: Envoy,
    /// `/api/v1/gossip`; `None` from a registrar of an older release.
    pub gossip: Option<Gossip>,
}

/// An instance that Envoy is to use and this host can't reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unreachable {
    /// The host that it runs on.
    pub host: String,
    /// Its service's name.
    pub service: String,
    /// Where it is announced to be.
    pub at: SocketAddr,
    /// Why, in words.
    pub reason: String,
}

/// dockerd's configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigFile {
    /// Where.
    pub path: PathBuf,
    /// Why dockerd would not start with it, in words.
    pub problem: Option<String>,
    /// Whether it was changed since the running dockerd started.
    pub is_newer: bool,
}

/// A file that is to be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    /// Where.
    pub path: PathBuf,
    /// What is there; `None` for nothing, or nothing that may be looked at.
    pub found: Option<Found>,
}

/// Whose a file is, and who may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its owner.
    pub uid: u32,
    /// Its permission bits alone.
    pub mode: u32,
}

/// A running process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Program {
    /// Its program's name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// Its effective user.
    pub uid: u32,
    /// Its effective capabilities, a bit each.
    pub capabilities: u64,
    /// Whether it was stopped by a signal (SIGSTOP) or a debugger.
    pub is_stopped: bool,
    /// Its file descriptors, where they may be looked at.
    pub descriptors: Option<Descriptors>,
}

/// How many file descriptors a process has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// Open now.
    pub open: u64,
    /// The most that it may have open: its soft limit (getrlimit(2), `RLIMIT_NOFILE`).
    pub max: u64,
}

/// What the running dockerd was told, and whether it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Docker {
    /// Its process id.
    pub pid: u32,
    /// What its command line and its configuration file say.
    pub settings: DockerSettings,
    /// Whether it has started a shim that runs now.
    pub has_started_shim: bool,
    /// Whether there is a program at its `userland-proxy-path`.
    pub has_proxy_program: bool,
    /// Why it does not answer, in words; `None` where it does.
    pub silence: Option<String>,
}

/// The settings of dockerd that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DockerSettings {
    /// `userland-proxy`.
    pub userland_proxy: bool,
    /// `userland-proxy-path`.
    pub userland_proxy_path: Option<String>,
    /// `iptables`: whether Docker's firewall is on.
    pub iptables: bool,
}

/// What the kernel is told, and what its firewall holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// `net.ipv4.tcp_migrate_req`; `None` before Linux 5.14.
    pub tcp_migrate_req: Option<u32>,
    /// `net.ipv4.ip_forward`.
    pub ip_forward: Option<u32>,
    /// `net.ipv4.ip_unprivileged_port_start`: the first port that needs no capability.
    pub first_unprivileged_port: Option<u32>,
    /// Whether any rule gives outgoing connections this host's address; `None` where that can't be seen.
    pub masquerades: Option<bool>,
}

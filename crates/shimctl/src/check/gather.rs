//! Gets the facts for `check`: from the registrar, the process table, the kernel, and dockerd's files.
//! Nothing is changed anywhere. What can't be seen is left out of the facts.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, io, thread};

use admin_api::Envoy;

use super::facts::{Answers, ConfigFile, Docker, DockerSettings, Facts, File, Found, Kernel, Program, Registrar};
use super::{ENVOY, REGISTRAR, docker_settings, programs, reachable};
use crate::client::{Client, ClientError};
use crate::process::{ProcessTable, ShimProcess};
use crate::{admin_socket, firewall, show_ports};

/// Where everything that runs here talks.
const FOLDER: &str = "/run/envoy-docker-shim";
/// The programs that matter.
const PROGRAMS: [&str; 4] = [DOCKERD, super::DOCKER_PROXY, ENVOY, REGISTRAR];
const DOCKERD: &str = "dockerd";
const DOCKER_SOCKET: &str = "/var/run/docker.sock";
const GOSSIP_PORT: u16 = 7946;
/// How long dockerd may keep silent. It answers a ping within a millisecond, but a busy host may be slow.
const DOCKER_SILENCE_MAX: Duration = Duration::from_secs(3);
/// How long Envoy may take to acknowledge what it was just sent, before that counts.
const IN_SYNC_WITHIN: Duration = Duration::from_secs(2);
/// How long a registrar may take to become ready, before that counts. It gives its shims 3 s, and its seeds 5.
const READY_WITHIN: Duration = Duration::from_secs(6);
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Looks at everything.
pub(crate) fn facts(client: &Client) -> Facts {
    let table = ProcessTable::default();
    let programs = programs::running(&table, &PROGRAMS).unwrap_or_default();
    let registrar = match answers(client) {
        Ok(answers) => Registrar::Answers(Box::new(answers)),
        Err(error) => Registrar::Silent(error.to_string()),
    };
    let is_silent = matches!(registrar, Registrar::Silent(_));
    let dockerd = programs.iter().find(|program| program.name == DOCKERD);
    let docker = dockerd.map(|dockerd| docker(&table, dockerd));
    Facts {
        is_root: rustix::process::geteuid().is_root(),
        folder: file(FOLDER.into()),
        shim_socket: file(Path::new(FOLDER).join("registrar.sock")),
        admin_socket: file(admin_api::DEFAULT_ADMIN_SOCKET.into()),
        xds_socket: file(Path::new(FOLDER).join("xds.sock")),
        kernel: kernel(),
        gossip_port_holder: is_silent.then(|| programs::listener_on(&table, GOSSIP_PORT)).flatten(),
        docker_config: docker_config(&table, dockerd),
        has_docker_socket: Path::new(DOCKER_SOCKET).exists(),
        not_installed: [ENVOY, REGISTRAR].into_iter().filter(|name| !is_installed(name)).collect(),
        stopped_shims: stopped_shims(&table),
        collector_silence: registrar.answers().and_then(collector_silence),
        unreachable: registrar.answers().map(reachable::unreachable).unwrap_or_default(),
        proxies: if is_silent { table.proxies().unwrap_or_default() } else { Vec::new() },
        firewall: firewall::read(),
        interfaces: firewall::interfaces(),
        docker,
        programs,
        registrar,
    }
}

/// Units name programs by these folders.
fn is_installed(program: &str) -> bool {
    let folders = ["/usr/local/bin", "/usr/bin", "/usr/local/sbin", "/usr/sbin"];
    folders.iter().any(|folder| Path::new(folder).join(program).exists())
}

fn collector_silence(answers: &Answers) -> Option<String> {
    reachable::silence_at(answers.envoy.trace_collector.as_ref()?)
}

fn stopped_shims(table: &ProcessTable) -> Vec<String> {
    let shims = table.shims().map(|found| found.shims).unwrap_or_default();
    let stopped = shims.iter().filter(|shim| table.state(shim).is_some_and(|state| state.starts_with(['T', 't'])));
    let in_words = |shim: &ShimProcess| {
        format!("{} (process {})", show_ports::published(shim.address, shim.port, &shim.protocol), shim.pid)
    };
    stopped.map(in_words).collect()
}

/// dockerd's configuration file, whether it runs or not.
fn docker_config(table: &ProcessTable, dockerd: Option<&Program>) -> ConfigFile {
    let arguments = dockerd.map(|dockerd| programs::arguments(table, dockerd.pid)).unwrap_or_default();
    let path = docker_settings::config_file(&arguments);
    let seen = dockerd.map_or_else(|| path.clone(), |dockerd| seen_by(table, dockerd, &path));
    let changed = fs::metadata(&seen).and_then(|file| file.modified()).ok();
    let started = dockerd.and_then(|dockerd| table.started(dockerd.pid));
    ConfigFile {
        // Without the file it starts with its defaults.
        problem: fs::read_to_string(&seen).ok().and_then(|text| docker_settings::problem(&text)),
        is_newer: changed.zip(started).is_some_and(|(changed, started)| changed > started),
        path,
    }
}

/// Whether a dockerd runs here with its firewall on.
pub(crate) fn docker_has_firewall() -> bool {
    let table = ProcessTable::default();
    let programs = programs::running(&table, &[DOCKERD]).unwrap_or_default();
    programs.first().is_some_and(|dockerd| settings(&table, dockerd).iptables)
}

fn answers(client: &Client) -> Result<Answers, ClientError> {
    Ok(Answers {
        waiting_for: waiting_for(client)?,
        ports: client.get("/api/v1/ports")?.parse()?,
        services: client.get("/api/v1/services")?.parse()?,
        hosts: client.get("/api/v1/hosts")?.parse()?,
        envoy: envoy(client)?,
        gossip: client.get("/api/v1/gossip").and_then(|answer| answer.parse()).ok(),
    })
}

/// A registrar that has just started is given the time to hear everybody.
fn waiting_for(client: &Client) -> Result<Vec<String>, ClientError> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        let readiness = client.readiness()?;
        if readiness.ready || Instant::now() >= deadline {
            return Ok(readiness.waiting_for);
        }
        thread::sleep(ASK_EVERY);
    }
}

/// An Envoy that was just sent something is given the time to take it.
fn envoy(client: &Client) -> Result<Envoy, ClientError> {
    let deadline = Instant::now() + IN_SYNC_WITHIN;
    loop {
        let envoy: Envoy = client.get("/api/v1/envoy")?.parse()?;
        if envoy.in_sync || !envoy.connected || Instant::now() >= deadline {
            return Ok(envoy);
        }
        thread::sleep(ASK_EVERY);
    }
}

fn file(path: PathBuf) -> File {
    let found = fs::metadata(&path).ok().map(|file| Found { uid: file.uid(), mode: file.mode() & 0o777 });
    File { path, found }
}

fn settings(table: &ProcessTable, dockerd: &Program) -> DockerSettings {
    let arguments = programs::arguments(table, dockerd.pid);
    let file = seen_by(table, dockerd, &docker_settings::config_file(&arguments));
    docker_settings::settings(&arguments, &fs::read_to_string(file).unwrap_or_default())
}

/// A file as a process sees it, wherever it lives.
fn seen_by(table: &ProcessTable, program: &Program, path: &Path) -> PathBuf {
    table.file(program.pid, "root").join(path.strip_prefix("/").unwrap_or(path))
}

fn docker(table: &ProcessTable, dockerd: &Program) -> Docker {
    let settings = settings(table, dockerd);
    let path = settings.userland_proxy_path.as_ref();
    let proxy = path.map(|path| fs::metadata(seen_by(table, dockerd, Path::new(path))));
    Docker {
        pid: dockerd.pid,
        // Without a path, it looks for docker-proxy in its own places.
        has_proxy_program: proxy.is_none_or(|proxy| proxy.is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)),
        has_started_shim: table.has_started_shim(dockerd.pid),
        silence: ping(),
        settings,
    }
}

/// Why Docker does not answer. It is asked only where a dockerd runs, since asking may start one. Only a Unix
/// socket is asked.
fn ping() -> Option<String> {
    let host = env::var("DOCKER_HOST").unwrap_or_default();
    let socket = match host.strip_prefix("unix://") {
        Some(socket) => socket,
        None if host.is_empty() => DOCKER_SOCKET,
        None => return None,
    };
    let answer = UnixStream::connect(socket)
        .and_then(|stream| admin_socket::exchange(stream, "GET", "/_ping", DOCKER_SILENCE_MAX));
    match answer {
        Ok(answer) if admin_socket::parse(&answer).is_some_and(|(status, _)| status == 200) => None,
        Ok(_) => Some(format!("what answers at {socket} is no dockerd")),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
        Err(error) => Some(format!("{socket}: {}", admin_socket::in_words(error))),
    }
}

fn kernel() -> Kernel {
    let setting = |name: &str| fs::read_to_string(Path::new("/proc/sys/net/ipv4").join(name)).ok()?.trim().parse().ok();
    Kernel {
        tcp_migrate_req: setting("tcp_migrate_req"),
        ip_forward: setting("ip_forward"),
        first_unprivileged_port: setting("ip_unprivileged_port_start"),
        masquerades: masquerades(),
    }
}

/// As `nft` shows the rules, those of iptables among them, or else as `iptables-save` does.
fn masquerades() -> Option<bool> {
    let rules = printed("nft", &["list", "ruleset"]).or_else(|| printed("iptables-save", &["-t", "nat"]))?;
    let rules = rules.to_lowercase();
    Some(rules.contains("masquerade") || rules.contains("snat"))
}

/// What a program prints; `None` where it is not there or fails.
fn printed(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

//! A Docker host: how it is described, and the programs that run on it.
//!
//! dockerd's side is in [`docker`], Envoy's in [`envoy`], the registrar's in [`registrar`], the machine's own (its power
//! and its cable) in [`power`].

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::cgroup::CgroupParent;
use crate::http::{Request, Response};
use crate::namespace::Namespace;
use crate::process::Process;
use crate::{Lab, network, parts};

pub mod docker;
pub mod envoy;
pub mod power;
pub mod registrar;
mod ufw;

/// The uid of the ordinary user that Envoy runs as on some hosts ("nobody").
pub const ORDINARY_USER: u32 = 65534;

/// Gives a host its own `/run`, `/etc`, `/var`, `/sys` and Docker's data.
///
/// `/etc`, `/var` and `/opt` show the machine's own files; what is written to them stays on this host.
const FURNISH: &str = r"
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/cgroups /run/lab /run/lock
mount --rbind /sys/fs/cgroup /run/cgroups
mount -t sysfs sysfs /sys
mount --move /run/cgroups /sys/fs/cgroup
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
for folder in etc var opt; do
  mkdir -p /run/lab/$folder/upper /run/lab/$folder/work
  mount -t overlay -o lowerdir=/$folder,upperdir=/run/lab/$folder/upper,workdir=/run/lab/$folder/work overlay /$folder
done
mkdir -p /var/lib/docker
mount -t tmpfs tmpfs /var/lib/docker
";

/// Which dockerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Docker {
    /// 20.10: the shim binds the port.
    V20,
    /// 28.5 or later: dockerd binds the port and passes it on.
    Current,
}

/// What dockerd starts for each published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proxy {
    /// Our shim, from `target/dist`.
    Shim,
    /// The docker-proxy that belongs to that dockerd.
    DockerProxy,
    /// Any other program.
    Program(PathBuf),
}

/// A host to be. What is not said: dockerd 28, firewall off, our shim, a registrar, and Envoy as root.
#[derive(Debug)]
pub struct HostBuilder<'a> {
    lab: &'a Lab,
    name: String,
    options: Options,
}

#[derive(Clone, Debug)]
struct Options {
    docker: Option<Docker>,
    firewall: bool,
    ipv6_network: bool,
    live_restore: bool,
    dockerd_arguments: Vec<String>,
    proxy: Proxy,
    registrar: bool,
    registrar_arguments: Vec<String>,
    registrar_has_net_admin: bool,
    envoy: bool,
    envoy_user: u32,
    envoy_bootstrap: Option<PathBuf>,
}

impl<'a> HostBuilder<'a> {
    pub(crate) fn new(lab: &'a Lab, name: &str) -> Self {
        let options = Options {
            docker: Some(Docker::Current),
            firewall: false,
            ipv6_network: false,
            live_restore: false,
            dockerd_arguments: Vec::new(),
            proxy: Proxy::Shim,
            registrar: true,
            registrar_arguments: Vec::new(),
            registrar_has_net_admin: true,
            envoy: true,
            envoy_user: 0,
            envoy_bootstrap: None,
        };
        Self { lab, name: name.to_owned(), options }
    }

    /// Runs this dockerd.
    #[must_use]
    pub fn docker(mut self, version: Docker) -> Self {
        self.options.docker = Some(version);
        self
    }

    /// Runs no Docker, and tells the registrar.
    #[must_use]
    pub fn without_docker(mut self) -> Self {
        self.options.docker = None;
        self.registrar_arguments(&["--docker-host", "none"])
    }

    /// Leaves Docker's firewall on, as it is without any settings.
    #[must_use]
    pub fn firewall(mut self) -> Self {
        self.options.firewall = true;
        self
    }

    /// Gives Docker's default network IPv6 addresses.
    #[must_use]
    pub fn ipv6_network(mut self) -> Self {
        self.options.ipv6_network = true;
        self
    }

    /// Containers survive dockerd.
    #[must_use]
    pub fn live_restore(mut self) -> Self {
        self.options.live_restore = true;
        self
    }

    /// Further arguments for dockerd.
    #[must_use]
    pub fn dockerd_arguments(mut self, arguments: &[&str]) -> Self {
        self.options.dockerd_arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// What dockerd starts for each port.
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.options.proxy = proxy;
        self
    }

    /// Further arguments for the registrar.
    #[must_use]
    pub fn registrar_arguments(mut self, arguments: &[&str]) -> Self {
        self.options.registrar_arguments.extend(arguments.iter().map(|argument| (*argument).to_owned()));
        self
    }

    /// Runs the registrar as root, but without `CAP_NET_ADMIN`.
    #[must_use]
    pub fn registrar_without_net_admin(mut self) -> Self {
        self.options.registrar_has_net_admin = false;
        self
    }

    /// Starts no registrar; [`Host::start_registrar`] can do it later.
    #[must_use]
    pub fn without_registrar(mut self) -> Self {
        self.options.registrar = false;
        self
    }

    /// Runs Envoy as this user, and tells the registrar.
    #[must_use]
    pub fn envoy_user(mut self, uid: u32) -> Self {
        self.options.envoy_user = uid;
        self
    }

    /// Runs Envoy with another bootstrap than `examples/envoy.yaml`.
    #[must_use]
    pub fn envoy_bootstrap(mut self, path: PathBuf) -> Self {
        self.options.envoy_bootstrap = Some(path);
        self
    }

    /// Starts no Envoy; [`Host::start_envoy`] can do it later.
    #[must_use]
    pub fn without_envoy(mut self) -> Self {
        self.options.envoy = false;
        self
    }

    /// Makes the host, starts its programs and waits until they are ready.
    ///
    /// # Panics
    /// A part is missing or does not start; the message says which, and where its log is.
    #[must_use]
    pub fn start(self) -> Host {
        let namespace = Namespace::new(&self.name);
        let number = self.lab.plug(&namespace);
        namespace.run("sh", &["-c", FURNISH]);
        let host = Host {
            cgroup: CgroupParent::new(&format!("{}-{}", self.lab.name(), self.name)),
            logs: self.lab.logs().to_owned(),
            name: self.name,
            options: self.options,
            namespace,
            number,
            dockerd: Mutex::default(),
            registrar: Mutex::default(),
            envoy: Mutex::default(),
        };
        host.start_programs();
        host
    }
}

/// A running host. Dropping it ends everything on it.
#[derive(Debug)]
pub struct Host {
    name: String,
    options: Options,
    logs: PathBuf,
    dockerd: Mutex<Option<Process>>,
    registrar: Mutex<Option<Process>>,
    envoy: Mutex<Option<Process>>,
    number: u8,
    // The order matters: groups can be removed once the processes in them are gone.
    namespace: Namespace,
    cgroup: CgroupParent,
}

impl Host {
    fn start_programs(&self) {
        let options = &self.options;
        if options.registrar {
            self.spawn_registrar();
        }
        if options.envoy {
            self.spawn_envoy();
        }
        if options.docker.is_some() {
            self.spawn_dockerd();
            self.await_dockerd();
            if !options.firewall {
                self.masquerade();
            }
        }
        if options.registrar {
            self.await_registrar();
        }
        if options.envoy {
            self.await_envoy();
        }
    }

    /// The host's name, which is its system's host name too.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespaces.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its IPv4 address on the lab's network.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        network::address(self.number).into()
    }

    /// Its IPv6 address on the lab's network.
    #[must_use]
    pub fn address6(&self) -> IpAddr {
        network::address6(self.number).into()
    }

    /// Sends a request from this host.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn send(&self, request: &Request) -> io::Result<Response> {
        self.namespace.in_network(|| request.send())
    }

    /// Asks for a page from this host.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn get(&self, url: &str) -> io::Result<Response> {
        self.send(&Request::get(url))
    }

    /// A path on this host as it is reached from outside.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.namespace.first_process()))
    }

    /// The processes on this host that run this program, by their ids as seen from outside.
    #[must_use]
    pub fn processes_of(&self, program: &str) -> Vec<u32> {
        let runs = |id: &u32| {
            let path = std::fs::read_link(format!("/proc/{id}/exe")).unwrap_or_default();
            // The kernel says so where the file was replaced since, as by a build.
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.strip_suffix(" (deleted)").unwrap_or(name) == program
        };
        self.namespace.processes().into_iter().filter(runs).collect()
    }

    /// The control groups above those of its containers.
    #[must_use]
    pub fn control_groups(&self) -> Vec<PathBuf> {
        self.cgroup.folders()
    }

    /// The running shims.
    #[must_use]
    pub fn shims(&self) -> Vec<u32> {
        self.processes_of("envoy-docker-shim")
    }

    /// Nothing to wait for where a program has ended.
    fn assert_not_ended(&self, slot: &Mutex<Option<Process>>, program: &str) {
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(status) = slot.as_mut().and_then(Process::ended) {
            panic!("{program} on {} ended: {status}; see its log in {}", self.name, self.logs.display());
        }
    }

    fn start_process(&self, program: &str, command: &mut Command) -> Process {
        let log = self.logs.join(format!("{}-{program}.log", self.name));
        Process::start(&format!("{program} on {}", self.name), &self.namespace, command, &log)
    }

    /// Puts a file of the project where every user of this host can read it, wherever the project lies; yields where.
    ///
    /// # Panics
    /// There is no such file.
    #[must_use]
    pub fn expose(&self, file: &std::path::Path) -> String {
        let name = file.file_name().and_then(|name| name.to_str()).expect("a part has a name");
        let exposed = format!("/run/lab/{name}");
        let script = format!("touch {exposed} && mount --bind {} {exposed}", file.display());
        self.namespace.run("sh", &["-c", &script]);
        exposed
    }
}

/// A program of this host: its name, and the slot that holds it while it runs.
fn running<T>(slot: &Mutex<Option<Process>>, program: &str, work: impl FnOnce(&mut Process) -> T) -> T {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    work(slot.as_mut().unwrap_or_else(|| panic!("{program} was never started")))
}

fn put(slot: &Mutex<Option<Process>>, process: Process) {
    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
}

fn expect_ok(answer: io::Result<Response>) -> Result<(), String> {
    match answer {
        Ok(answer) if answer.status == 200 => Ok(()),
        Ok(answer) => Err(format!("{}: {}", answer.status, answer.text())),
        Err(error) => Err(error.to_string()),
    }
}

/// What a host's programs find in their `PATH`.
fn search_path(docker: Docker) -> String {
    let own = parts::docker_folders(docker).into_iter().map(|folder| folder.display().to_string());
    own.chain(["/usr/sbin:/usr/bin:/sbin:/bin".to_owned()]).collect::<Vec<_>>().join(":")
}

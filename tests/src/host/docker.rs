//! dockerd on a host, and its command line.

use std::io;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Docker, Host, Proxy, put, running, search_path};
use crate::http::{Request, Response};
use crate::namespace::{Network, successful};
use crate::{eventually, image, parts};

/// Docker's own default for its first bridge.
const DEFAULT_NETWORK: &str = "172.17.0.0/16";
/// Long enough for a dockerd that restores many containers.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A label that means nothing: containers with it get none for `ProxyMode`.
const UNLABELLED: &str = "unlabelled";

impl Host {
    /// Runs docker's command line, which must succeed; yields what it printed.
    #[track_caller]
    pub fn docker(&self, arguments: &[&str]) -> String {
        successful("docker", arguments, &self.try_docker(arguments))
    }

    /// Runs docker's command line.
    #[must_use]
    pub fn try_docker(&self, arguments: &[&str]) -> Output {
        self.namespace.output(self.docker_command().args(arguments))
    }

    /// `docker run -d` with the lab's own image, whose program says what it was asked; yields the id once the
    /// program listens.
    #[track_caller]
    pub fn run_web(&self, arguments: &[&str]) -> String {
        self.run_program(arguments, &[])
    }

    /// As [`Self::run_web`], with arguments for the program too: see `bin/echo-app.rs`.
    #[track_caller]
    pub fn run_program(&self, arguments: &[&str], of_program: &[&str]) -> String {
        let id = self.run_at_once(arguments, of_program);
        self.await_program(&id);
        id
    }

    /// As [`Self::run_web`], but yields the id as soon as `docker run` returns, when the program is only starting.
    #[track_caller]
    pub fn run_web_at_once(&self, arguments: &[&str]) -> String {
        self.run_at_once(arguments, &[])
    }

    fn run_at_once(&self, arguments: &[&str], of_program: &[&str]) -> String {
        self.need_web_image();
        // The web program is known to speak HTTP. Where nothing says so, its first connections would be the shim's.
        let is_web = of_program.is_empty() || of_program.iter().any(|mode| mode.starts_with("http:"));
        let is_open = arguments.iter().any(|argument| argument.starts_with("ProxyMode") || *argument == UNLABELLED);
        let label: &[&str] = if is_web && !is_open { &["-l", "ProxyMode=http"] } else { &[] };
        let parts = [&["run", "-d"], label, arguments, &[image::WEB], of_program];
        self.docker(&parts.concat())
    }

    /// As [`Self::run_web`], without a label that says how its ports are treated.
    #[track_caller]
    pub fn run_web_unlabelled(&self, arguments: &[&str]) -> String {
        self.run_web(&[arguments, &["-l", UNLABELLED]].concat())
    }

    /// Waits until a container's program listens for TCP.
    #[track_caller]
    pub fn await_program(&self, container: &str) {
        let process = self.docker(&["inspect", "--format", "{{.State.Pid}}", container]);
        let sockets = self.path(&format!("/proc/{process}/net/tcp6"));
        eventually("the container's program listens", Duration::from_secs(5), || {
            let listed =
                std::fs::read_to_string(&sockets).map_err(|error| format!("{}: {error}", sockets.display()))?;
            // The fourth column is the state, and 0A means "listening".
            let listens = listed.lines().any(|line| line.split_whitespace().nth(3) == Some("0A"));
            if listens { Ok(()) } else { Err(listed) }
        });
    }

    /// The network of a container that runs.
    #[track_caller]
    pub fn network_of(&self, container: &str) -> Network {
        let process = self.docker(&["inspect", "--format", "{{.State.Pid}}", container]);
        Network::open(&self.path(&format!("/proc/{process}/ns/net")))
    }

    /// Asks for a page from inside a container.
    ///
    /// # Errors
    /// As [`Request::send`].
    #[track_caller]
    pub fn get_from(&self, container: &str, url: &str) -> io::Result<Response> {
        let network = self.network_of(container);
        let work = move || {
            network.enter();
            Request::get(url).send()
        };
        std::thread::scope(|scope| scope.spawn(work).join().unwrap_or_else(|panic| resume_unwind(panic)))
    }

    /// Imports the lab's own image, `web`, if it is not there.
    pub fn need_web_image(&self) {
        if self.docker(&["images", "-q", image::WEB]).is_empty() {
            self.import(&image::web(), image::WEB, &image::web_settings());
        }
    }

    /// Imports the image with Debian's programs, `debian`, if it is not there.
    pub fn need_debian_image(&self) {
        if self.docker(&["images", "-q", image::DEBIAN]).is_empty() {
            self.import(&parts::debian_image(), image::DEBIAN, &[]);
        }
    }

    /// `docker import` of a tar file, with Dockerfile lines such as `CMD ["x"]`.
    pub fn import(&self, tar: &std::path::Path, name: &str, settings: &[String]) {
        let tar = tar.display().to_string();
        let changes = settings.iter().flat_map(|setting| ["--change", setting]);
        let all: Vec<_> = ["import"].into_iter().chain(changes).chain([tar.as_str(), name]).collect();
        self.docker(&all);
    }

    /// Starts dockerd and waits until it answers.
    pub fn start_dockerd(&self) {
        self.start_dockerd_with(&[]);
    }

    /// Starts dockerd with further arguments, this time alone, and waits until it answers.
    pub fn start_dockerd_with(&self, arguments: &[&str]) {
        let process = self.start_process("dockerd", self.dockerd_command().args(arguments));
        put(&self.dockerd, process);
        self.await_dockerd();
    }

    /// Sends dockerd a signal and waits for its end.
    pub fn end_dockerd(&self, signal: Signal) {
        running(&self.dockerd, "dockerd", |dockerd| dockerd.end_with(signal));
    }

    /// dockerd's log.
    #[must_use]
    pub fn dockerd_log(&self) -> String {
        running(&self.dockerd, "dockerd", |dockerd| dockerd.log())
    }

    pub(super) fn spawn_dockerd(&self) {
        let process = self.start_process("dockerd", &mut self.dockerd_command());
        put(&self.dockerd, process);
    }

    pub(super) fn await_dockerd(&self) {
        eventually(&format!("dockerd on {} answers", self.name), START_LIMIT, || {
            self.assert_not_ended(&self.dockerd, "dockerd");
            let output = self.try_docker(&["version"]);
            if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
        });
    }

    /// The one rule that gives containers their way out where Docker's firewall is off.
    pub(super) fn masquerade(&self) {
        let rule = ["-t", "nat", "-A", "POSTROUTING", "-s", DEFAULT_NETWORK, "!", "-o", "docker0", "-j", "MASQUERADE"];
        self.namespace.run("iptables", &rule);
    }

    fn docker_version(&self) -> Docker {
        self.options.docker.unwrap_or_else(|| panic!("the host {} has no Docker", self.name))
    }

    fn docker_command(&self) -> Command {
        let mut command = Command::new(parts::docker_folders(Docker::V20)[1].join("docker"));
        command.env_clear().env("PATH", search_path(self.docker_version())).env("HOME", "/run/lab");
        command
    }

    fn dockerd_command(&self) -> Command {
        let options = &self.options;
        let folders = parts::docker_folders(self.docker_version());
        let mut command = Command::new(folders[0].join("dockerd"));
        command.env_clear().env("PATH", search_path(self.docker_version()));
        command.args(["--cgroup-parent", &self.cgroup.argument()]);
        command.arg("--userland-proxy-path").arg(self.proxy_path());
        if !options.firewall {
            command.args(["--iptables=false", "--ip6tables=false"]);
        } else if options.ipv6_network {
            // 20.10 has it, and calls it an experiment.
            command.args(["--experimental", "--ip6tables"]);
        }
        if options.ipv6_network {
            command.args(["--ipv6", "--fixed-cidr-v6", "fd00:d0c::/64"]);
        }
        if options.live_restore {
            command.arg("--live-restore");
        }
        command.args(&options.dockerd_arguments);
        command
    }

    fn proxy_path(&self) -> PathBuf {
        match &self.options.proxy {
            Proxy::Shim => parts::ours("envoy-docker-shim"),
            Proxy::DockerProxy => parts::docker_proxy(self.docker_version()),
            Proxy::Program(path) => path.clone(),
        }
    }
}

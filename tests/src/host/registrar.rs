//! The registrar on a host, its API and `shimctl`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Output};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Host, expect_ok, put, running};
use crate::namespace::successful;
use crate::{Lab, eventually, parts};

/// Where the registrar answers HTTP unless told otherwise.
const API: &str = "http://127.0.0.1:7777";
/// How long a port may take from `docker run` to Envoy on a machine that is busy with other tests.
const SERVED_LIMIT: Duration = Duration::from_secs(5);
const READY_LIMIT: Duration = Duration::from_secs(15);

/// A file of this name with a new key for gossip, among the lab's logs.
///
/// # Panics
/// `shimctl keygen` fails, or the file can't be written.
#[must_use]
pub fn key_file(lab: &Lab, name: &str) -> PathBuf {
    let output = Command::new(parts::ours("shimctl")).arg("keygen").output().expect("shimctl starts");
    let path = lab.logs().join(name);
    fs::write(&path, successful("shimctl", &["keygen"], &output)).expect("the folder of logs can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("our own file");
    path
}

impl Host {
    /// Starts the registrar and waits until it is ready.
    pub fn start_registrar(&self) {
        self.spawn_registrar();
        self.await_registrar();
    }

    /// Starts the registrar.
    pub fn spawn_registrar(&self) {
        let program = parts::ours("envoy-docker-registrar");
        let mut command = if self.options.registrar_has_net_admin {
            Command::new(program)
        } else {
            let mut command = Command::new("setpriv");
            command.args(["--bounding-set", "-net_admin", "--inh-caps", "-net_admin"]).arg(program);
            command
        };
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(["--envoy-user", &self.options.envoy_user.to_string()]);
        command.args(&self.options.registrar_arguments);
        put(&self.registrar, self.start_process("registrar", &mut command));
    }

    /// Waits until the registrar says that it is ready. It may be one that was started in a container.
    pub fn await_registrar(&self) {
        let what = format!("the registrar on {} is ready", self.name);
        eventually(&what, READY_LIMIT, || {
            self.assert_not_ended(&self.registrar, "the registrar");
            expect_ok(self.get(&format!("{API}/readyz")))
        });
    }

    /// Sends the registrar a signal without waiting for anything.
    pub fn signal_registrar(&self, signal: Signal) {
        running(&self.registrar, "the registrar", |registrar| registrar.signal(signal));
    }

    /// Waits until the registrar has ended by itself, and yields how.
    #[must_use]
    pub fn registrar_end(&self) -> ExitStatus {
        running(&self.registrar, "the registrar", |registrar| registrar.wait(READY_LIMIT))
    }

    /// Sends the registrar a signal and waits for its end.
    pub fn end_registrar(&self, signal: Signal) {
        running(&self.registrar, "the registrar", |registrar| registrar.end_with(signal));
    }

    /// The registrar's log.
    #[must_use]
    pub fn registrar_log(&self) -> String {
        running(&self.registrar, "the registrar", |registrar| registrar.log())
    }

    /// What the registrar answers under `/api/v1/NAME`.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    #[track_caller]
    pub fn api(&self, name: &str) -> Value {
        self.try_api(name).unwrap_or_else(|error| panic!("/api/v1/{name}: {error}"))
    }

    /// The registrar's ports with this host port.
    ///
    /// # Panics
    /// It does not answer.
    #[must_use]
    #[track_caller]
    pub fn ports(&self, host_port: u16) -> Vec<Value> {
        with_host_port(&self.api("ports"), host_port)
    }

    fn try_api(&self, name: &str) -> Result<Value, String> {
        let answer = self.get(&format!("{API}/api/v1/{name}")).map_err(|error| error.to_string())?;
        if answer.status == 200 { Ok(answer.json()) } else { Err(format!("{}: {}", answer.status, answer.text())) }
    }

    /// Waits until Envoy has acknowledged all that it is to have.
    #[track_caller]
    pub fn await_envoy_in_sync(&self) {
        eventually("Envoy is in sync", SERVED_LIMIT, || {
            let envoy = self.try_api("envoy")?;
            if envoy["in_sync"] == true { Ok(()) } else { Err(envoy.to_string()) }
        });
    }

    /// Waits until every listing of this TCP port (both address families) says that Envoy serves it.
    #[track_caller]
    pub fn await_served_by_envoy(&self, host_port: u16) -> Vec<Value> {
        self.await_served_by("envoy", host_port)
    }

    /// Waits until every listing of this TCP port (both address families) says who serves it.
    #[track_caller]
    pub fn await_served_by(&self, who: &str, host_port: u16) -> Vec<Value> {
        eventually(&format!("port {host_port} is served by {who}"), SERVED_LIMIT, || {
            let mut ports = with_host_port(&self.try_api("ports")?, host_port);
            ports.retain(|port| port["protocol"] == "tcp");
            let done = ports.len() == 2 && ports.iter().all(|port| port["served_by"] == who);
            if done { Ok(ports) } else { Err(format!("the registrar lists {}", Value::from(ports))) }
        })
    }

    /// Runs `shimctl`, which must succeed, and yields what it printed.
    #[track_caller]
    pub fn shimctl(&self, arguments: &[&str]) -> String {
        successful("shimctl", arguments, &self.try_shimctl(arguments))
    }

    /// Runs `shimctl`.
    #[must_use]
    pub fn try_shimctl(&self, arguments: &[&str]) -> Output {
        self.namespace.output(Command::new(parts::ours("shimctl")).args(arguments))
    }

    /// Runs `shimctl --output json` and yields what it said.
    #[track_caller]
    pub fn shimctl_json(&self, arguments: &[&str]) -> Value {
        let all: Vec<_> = ["--output", "json"].iter().chain(arguments).copied().collect();
        let printed = self.shimctl(&all);
        serde_json::from_str(&printed).unwrap_or_else(|error| panic!("shimctl {arguments:?}: {error}: {printed}"))
    }
}

fn with_host_port(ports: &Value, host_port: u16) -> Vec<Value> {
    let all = ports.as_array().into_iter().flatten();
    all.filter(|port| port["host_port"] == host_port).cloned().collect()
}

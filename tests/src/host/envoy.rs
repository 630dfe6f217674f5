//! Envoy on a host, with the bootstrap that users copy.

use std::net::SocketAddr;
use std::process::{Command, ExitStatus};
use std::sync::PoisonError;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Host, expect_ok, put, running};
use crate::{eventually, parts};

/// Where the bootstrap has Envoy's own interface.
const ADMIN: &str = "http://127.0.0.1:9901";
const START_LIMIT: Duration = Duration::from_secs(20);
/// Envoy's worker threads, unless told otherwise.
const WORKERS: u32 = 2;

impl Host {
    /// Starts Envoy and waits until it is ready, which is after its first configuration came or was given up.
    pub fn start_envoy(&self) {
        self.spawn_envoy();
        self.await_envoy();
    }

    /// Starts Envoy with so many workers, and waits until it is ready.
    pub fn start_envoy_with_workers(&self, workers: u32) {
        self.spawn_envoy_with(workers, &[]);
        self.await_envoy();
    }

    /// Starts another Envoy with so many workers that takes over from the one that runs, as for an upgrade; waits until
    /// it is ready and the old one has ended. `epoch` is 1 the first time, then 2, and so on.
    ///
    /// # Panics
    /// No Envoy runs, or the old one does not end.
    pub fn hot_restart_envoy(&self, epoch: u32, workers: u32) {
        let old = self.envoy.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut old = old.expect("an Envoy runs that can be taken over from");
        let epoch = epoch.to_string();
        let arguments = ["--restart-epoch", &epoch, "--parent-shutdown-time-s", "3", "--drain-time-s", "1"];
        self.spawn_envoy_with(workers, &arguments);
        self.await_envoy();
        old.wait(START_LIMIT);
        self.await_envoy();
    }

    /// Sends Envoy a signal without waiting for anything.
    pub fn signal_envoy(&self, signal: Signal) {
        running(&self.envoy, "Envoy", |envoy| envoy.signal(signal));
    }

    /// Sends Envoy a signal and waits for its end.
    pub fn end_envoy(&self, signal: Signal) {
        running(&self.envoy, "Envoy", |envoy| envoy.end_with(signal));
    }

    /// Waits until Envoy has ended by itself, and yields how.
    #[must_use]
    pub fn envoy_end(&self) -> ExitStatus {
        running(&self.envoy, "Envoy", |envoy| envoy.wait(START_LIMIT))
    }

    /// What Envoy printed, access logs among it.
    #[must_use]
    pub fn envoy_log(&self) -> String {
        running(&self.envoy, "Envoy", |envoy| envoy.log())
    }

    /// The sum of all counters and gauges of Envoy whose names the regular expression finds.
    ///
    /// # Panics
    /// Envoy's own interface does not answer.
    #[must_use]
    pub fn envoy_stat(&self, pattern: &str) -> u64 {
        self.envoy_stats(pattern).iter().map(|(_, value)| value).sum()
    }

    /// All counters and gauges of Envoy whose names the regular expression finds.
    ///
    /// # Panics
    /// Envoy's own interface does not answer.
    #[must_use]
    pub fn envoy_stats(&self, pattern: &str) -> Vec<(String, u64)> {
        let answer = self.get(&format!("{ADMIN}/stats?format=json&filter={}", crate::http::escaped(pattern)));
        let answer = answer.unwrap_or_else(|error| panic!("Envoy's statistics: {error}"));
        let answer = answer.json();
        let stats = answer["stats"].as_array().into_iter().flatten();
        let stat = |stat: &Value| Some((stat["name"].as_str()?.to_owned(), stat["value"].as_u64()?));
        stats.filter_map(stat).collect()
    }

    /// How many connections and requests Envoy has sent to this endpoint so far, in whatever Envoy cluster; `None` where it
    /// has no such endpoint now.
    ///
    /// # Panics
    /// Envoy's own interface does not answer.
    #[must_use]
    pub fn envoy_sent_to(&self, endpoint: SocketAddr) -> Option<u64> {
        let answer = self.get(&format!("{ADMIN}/clusters"));
        let text = answer.unwrap_or_else(|error| panic!("Envoy's endpoints: {error}")).text();
        let own = format!("::{endpoint}::");
        let counts = |line: &str| {
            let (name, count) = line.rsplit_once("::")?;
            let counted = name.ends_with("::cx_total") || name.ends_with("::rq_total");
            (counted && line.contains(&own)).then(|| count.parse::<u64>().ok())?
        };
        let counts: Vec<_> = text.lines().filter_map(counts).collect();
        (!counts.is_empty()).then(|| counts.iter().sum())
    }

    /// Envoy's metrics as Prometheus reads them.
    ///
    /// # Panics
    /// Envoy's own interface does not answer.
    #[must_use]
    pub fn envoy_metrics(&self) -> String {
        let answer = self.get(&format!("{ADMIN}/stats/prometheus"));
        answer.unwrap_or_else(|error| panic!("Envoy's metrics: {error}")).text()
    }

    /// Starts Envoy.
    pub fn spawn_envoy(&self) {
        self.spawn_envoy_with(WORKERS, &[]);
    }

    fn spawn_envoy_with(&self, workers: u32, further: &[&str]) {
        let uid = self.options.envoy_user.to_string();
        let bootstrap = self.options.envoy_bootstrap.clone().unwrap_or_else(parts::envoy_bootstrap);
        let (program, bootstrap) = (self.expose(&parts::envoy()), self.expose(&bootstrap));
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups"]);
        command.args([&program, "--config-path", &bootstrap, "--concurrency", &workers.to_string()]);
        command.args(["--drain-strategy", "immediate"]);
        command.args(if further.is_empty() { &["--drain-time-s", "5"] } else { further });
        put(&self.envoy, self.start_process("envoy", &mut command));
    }

    pub(super) fn await_envoy(&self) {
        eventually(&format!("Envoy on {} is ready", self.name), START_LIMIT, || {
            self.assert_not_ended(&self.envoy, "Envoy");
            expect_ok(self.get(&format!("{ADMIN}/ready")))
        });
    }
}

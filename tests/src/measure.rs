//! What is measured, by tests and by `scripts/bench` alike.

use std::fs;
use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use nix::sys::time::TimeValLike as _;
use nix::time::ClockId;
use nix::unistd::Pid;

use crate::Host;
use crate::http::{Request, Response, passed_envoy};

/// How one round of `docker run`, requests, `docker rm -f` went.
#[derive(Debug)]
pub struct Round {
    /// From when `docker run` returned to the first answer that had passed Envoy.
    pub until_envoy: Duration,
    /// How many connections were refused until then.
    pub refused: u32,
}

/// How long a round waits for Envoy.
const ENVOY_LIMIT: Duration = Duration::from_secs(10);

/// Runs a container, asks it from the moment that `docker run` returns until an answer came through Envoy, and
/// removes it.
///
/// # Panics
/// Envoy never serves the port, or a request fails otherwise than by being refused or for want of the program,
/// which may still be starting.
#[track_caller]
pub fn round(host: &Host, address: &str, port: u16) -> Round {
    let request = Request::get(&format!("http://{address}:{port}/"));
    let name = format!("round-{port}");
    host.run_web_at_once(&["--name", &name, "-p", &format!("{port}:80")]);
    let start = Instant::now();
    let mut refused = 0;
    let until_envoy = loop {
        let outcome = host.send(&request);
        let elapsed = start.elapsed();
        match outcome {
            outcome if program_is_starting(&outcome) => {}
            Ok(answer) if passed_envoy(&answer) => break elapsed,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => refused += 1,
            Err(error) => panic!("a request {elapsed:?} after docker run: {error}"),
        }
        assert!(elapsed < ENVOY_LIMIT, "Envoy does not serve port {port}");
    };
    host.docker(&["rm", "-f", &name]);
    Round { until_envoy, refused }
}

/// Whether it is the container's program that did not take the connection: with docker-proxy and the shim it then
/// ends without an answer, and Envoy says so.
#[must_use]
pub fn program_is_starting(outcome: &io::Result<Response>) -> bool {
    match outcome {
        Ok(answer) => answer.status == 503 && answer.text().contains("remote connection failure"),
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof),
    }
}

/// The value below which `share` (0 to 1) of all values lie.
///
/// # Panics
/// There are no values.
#[must_use]
pub fn quantile(values: &[Duration], share: f64) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort();
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

/// The mean proportional set size of these processes in kilobytes: memory of their own, and their share of what
/// they share.
///
/// # Panics
/// There are none, or one of them is gone.
#[must_use]
pub fn mean_pss_kb(processes: &[u32]) -> u64 {
    assert!(!processes.is_empty(), "there are no processes to measure");
    processes.iter().map(|id| pss_kb(*id)).sum::<u64>() / processes.len() as u64
}

fn pss_kb(process: u32) -> u64 {
    let path = format!("/proc/{process}/smaps_rollup");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"));
    let number = line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{path} has no Pss"))
}

/// CPU time of all of a process's threads so far, in the kernel and outside, in seconds.
///
/// # Panics
/// There is no such process.
#[must_use]
pub fn cpu_seconds(process: u32) -> f64 {
    let id = Pid::from_raw(i32::try_from(process).expect("process ids are small"));
    let time = ClockId::pid_cpu_clock_id(id).and_then(ClockId::now);
    time.unwrap_or_else(|error| panic!("process {process}: {error}")).num_nanoseconds() as f64 / 1e9
}

/// How long `work` takes, `times` times over.
pub fn durations(times: usize, mut work: impl FnMut(usize)) -> Vec<Duration> {
    let timed = |turn| {
        let start = Instant::now();
        work(turn);
        start.elapsed()
    };
    (0..times).map(timed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_values() {
        let values: Vec<_> = (1..=200).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&values, 0.5), Duration::from_millis(100));
        assert_eq!(quantile(&values, 0.99), Duration::from_millis(198));
        assert_eq!(quantile(&values[..1], 0.99), Duration::from_millis(200));
    }
}

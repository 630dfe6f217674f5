//! `shimctl check`, the doctor: finds each broken set-up by name, and says the fix.
//!
//! `facts` is what is looked at, `gather` gets it (with `programs` and `docker_settings`), `judge*` decide: they are pure.

mod docker_settings;
mod facts;
mod gather;
mod judge;
mod judge_cluster;
mod judge_docker;
mod judge_envoy;
mod judge_firewall;
mod passed;
mod programs;
mod reachable;

use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::args::Output;
use crate::client::Client;
use crate::print;
use crate::table::printable;

pub(crate) use gather::docker_has_firewall;

/// Envoy's program.
const ENVOY: &str = "envoy";
/// The registrar's program.
const REGISTRAR: &str = "envoy-docker-registrar";
/// How long something may be wrong until it counts.
const PASSES_WITHIN: Duration = Duration::from_secs(2);
/// Docker's own proxy, whose place the shim takes.
const DOCKER_PROXY: &str = "docker-proxy";

/// What `check` found, as `--output json` prints it.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Report {
    /// What is broken.
    problems: Vec<Finding>,
    /// What works, and could be better or be seen better.
    hints: Vec<Finding>,
    /// What was looked at and is well.
    passed: Vec<Passed>,
}

/// A check that found nothing.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Passed {
    /// The name of the check.
    check: &'static str,
    /// What is so.
    what: &'static str,
}

/// One thing that was found.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// The name of the check.
    check: &'static str,
    /// What is so.
    what: String,
    /// What to do about it; `None` where `what` says it.
    fix: Option<String>,
    /// The fix, or else the problem, under its old name, for scripts.
    mend: String,
}

/// Looks at everything, and prints what it found of the checks that are asked for, or of all. True where nothing is
/// broken.
///
/// # Errors
/// In words: there is no such check, or the outcome can't be printed.
pub(crate) fn run(client: &Client, only: &[String], output: Output) -> Result<bool, String> {
    if let Some(unknown) = only.iter().find(|name| !passed::is_a_check(name)) {
        return Err(format!("there is no check {unknown:?}; there are {}", passed::names()));
    }
    let look = || {
        let mut report = judge::report(&gather::facts(client));
        report.keep(only);
        report
    };
    let mut report = look();
    if !report.problems.is_empty() {
        // What passes by itself, as after a restart of Docker, is no problem.
        thread::sleep(PASSES_WITHIN);
        report = look();
    }
    match output {
        Output::Json => print(&serde_json::to_string(&report).map_err(|error| error.to_string())?)?,
        Output::Table => print(&report.in_words())?,
    };
    Ok(report.problems.is_empty())
}

impl Report {
    /// Drops what is of other checks; of none where all are wanted.
    fn keep(&mut self, only: &[String]) {
        let is_wanted = |check: &str| only.is_empty() || only.iter().any(|name| name == check);
        self.problems.retain(|finding| is_wanted(finding.check));
        self.hints.retain(|finding| is_wanted(finding.check));
        self.passed.retain(|passed| is_wanted(passed.check));
    }

    fn in_words(&self) -> String {
        let lines = |kind: &str, findings: &[Finding]| {
            let line = |finding: &Finding| {
                let fix = finding.fix.as_ref().map(|fix| format!("         fix: {}\n", printable(fix)));
                format!("{kind:<9}{}: {}\n{}", finding.check, printable(&finding.what), fix.unwrap_or_default())
            };
            findings.iter().map(line).collect::<String>()
        };
        let passed = self.passed.iter().map(|passed| format!("ok       {}: {}\n", passed.check, passed.what));
        let summary = match self.problems.len() {
            0 => "no problem found\n".to_owned(),
            1 => "1 problem\n".to_owned(),
            count => format!("{count} problems\n"),
        };
        passed.collect::<String>() + &lines("hint", &self.hints) + &lines("PROBLEM", &self.problems) + &summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_two_lines_that_nobody_can_fake() {
        let report =
            Report { problems: vec![judge::finding("envoy", "it is\nPROBLEM", "start it")], ..Report::default() };
        assert_eq!(report.in_words(), "PROBLEM  envoy: it is PROBLEM\n         fix: start it\n1 problem\n");
        assert_eq!(Report::default().in_words(), "no problem found\n");
    }
}

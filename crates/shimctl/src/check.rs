//! `shimctl check`, the doctor: finds each broken set-up by name, and says the mend.
//!
//! `facts` is what is looked at, `gather` has it (with `programs` and `docker_settings`), `judge` decides.

mod docker_settings;
mod facts;
mod gather;
mod judge;
mod judge_envoy;
mod programs;

use serde::Serialize;

use crate::args::Output;
use crate::client::Client;
use crate::print;
use crate::table::printable;

/// Envoy's program.
const ENVOY: &str = "envoy";
/// The registrar's program.
const REGISTRAR: &str = "envoy-docker-registrar";
/// Docker's own proxy, whose place the shim takes.
const DOCKER_PROXY: &str = "docker-proxy";

/// What `check` found, as `--output json` prints it.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Report {
    /// What is broken.
    problems: Vec<Finding>,
    /// What works, and could be better or be seen better.
    hints: Vec<Finding>,
}

/// One thing that was found.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// The name of the check.
    check: &'static str,
    /// What is so.
    what: String,
    /// What to do about it.
    mend: String,
}

/// Looks at everything, and prints what it found. True where nothing is broken.
///
/// # Errors
/// In words: the outcome can't be printed.
pub(crate) fn run(client: &Client, output: Output) -> Result<bool, String> {
    let report = judge::report(&gather::facts(client));
    match output {
        Output::Json => print(&serde_json::to_string(&report).map_err(|error| error.to_string())?)?,
        Output::Table => print(&report.in_words())?,
    };
    Ok(report.problems.is_empty())
}

impl Report {
    fn in_words(&self) -> String {
        let lines = |kind: &str, findings: &[Finding]| {
            let line = |finding: &Finding| {
                let (what, mend) = (printable(&finding.what), printable(&finding.mend));
                format!("{kind:<9}{}: {what}\n         mend: {mend}\n", finding.check)
            };
            findings.iter().map(line).collect::<String>()
        };
        let summary = match self.problems.len() {
            0 => "no problem found\n".to_owned(),
            1 => "1 problem\n".to_owned(),
            count => format!("{count} problems\n"),
        };
        lines("PROBLEM", &self.problems) + &lines("hint", &self.hints) + &summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_two_lines_that_nobody_can_fake() {
        let finding = Finding { check: "envoy", what: "it is\nPROBLEM".to_owned(), mend: "start it".to_owned() };
        let report = Report { problems: vec![finding], hints: Vec::new() };
        assert_eq!(report.in_words(), "PROBLEM  envoy: it is\\nPROBLEM\n         mend: start it\n1 problem\n");
        assert_eq!(Report::default().in_words(), "no problem found\n");
    }
}

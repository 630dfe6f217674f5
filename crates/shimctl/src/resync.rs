//! `shimctl resync`: every running shim announces its port again, and who did not is named.

use std::thread;
use std::time::{Duration, Instant};

use admin_api::Port;
use serde::Serialize;

use crate::age::now_ms;
use crate::args::Output;
use crate::client::{Client, ClientError, REQUEST_TIMEOUT};
use crate::process::{ProcessTable, ShimProcess};
use crate::reannounced::{Absence, missing};
use crate::{complain, print, show_ports};

/// How often the registrar is asked.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// The outcome, as `--output json` prints it.
#[derive(Debug, Serialize)]
struct Report {
    /// How many shims were found.
    shims: usize,
    /// Those that the registrar did not list in time.
    missing: Vec<Missing>,
    /// Those that could not be signalled, and why.
    unusable: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Missing {
    published: String,
    pid: u32,
    state: String,
    reason: String,
}

/// Does it, within about `timeout`. True when every shim is listed.
///
/// # Errors
/// In words: the process table can't be read, or the registrar did not answer.
pub(crate) fn run(client: &Client, timeout: Duration, output: Output) -> Result<bool, String> {
    let table = ProcessTable::default();
    // Before the search: a shim that starts now and announces itself has done what is asked.
    let since_ms = now_ms();
    let found = table.shims().map_err(|error| format!("can't read the process table in /proc: {error}"))?;
    let mut unusable = found.unusable;
    let mut shims = Vec::new();
    for shim in found.shims {
        match table.hang_up(&shim) {
            Ok(()) => shims.push(shim),
            Err(error) => unusable.push(format!("process {}: can't be signalled: {error}; run this as root", shim.pid)),
        }
    }
    if !shims.is_empty() {
        let address = client.address();
        complain(&format!("{} told to announce again; waiting for the registrar at {address}", count(shims.len())));
    }
    let missing = wait(client, &table, &shims, since_ms, timeout).map_err(|error| error.to_string())?;
    let report = Report { shims: shims.len() + unusable.len(), missing, unusable };
    report.show(output)?;
    Ok(report.missing.is_empty() && report.unusable.is_empty())
}

/// Asks until none is missing, or the time is up.
fn wait(
    client: &Client,
    table: &ProcessTable,
    shims: &[ShimProcess],
    since_ms: u64,
    timeout: Duration,
) -> Result<Vec<Missing>, ClientError> {
    if shims.is_empty() {
        return Ok(Vec::new());
    }
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(ASK_EVERY);
        let ports = client
            .get_within("/api/v1/ports", left.min(REQUEST_TIMEOUT))
            .and_then(|answer| answer.parse::<Vec<Port>>());
        let absent = ports.map(|ports| living(table, missing(shims, &ports, since_ms)));
        let all_are_there = absent.as_ref().is_ok_and(Vec::is_empty);
        // What can't be understood will not be so the next time either.
        if all_are_there || Instant::now() >= deadline || matches!(absent, Err(ClientError::NotUnderstood { .. })) {
            return absent;
        }
        thread::sleep(ASK_EVERY);
    }
}

/// A shim that has ended meanwhile is not missing: its port has gone with it.
fn living(table: &ProcessTable, absent: Vec<(&ShimProcess, Absence)>) -> Vec<Missing> {
    let missing = |(shim, absence): (&ShimProcess, Absence)| {
        let state = table.state(shim)?;
        let published = show_ports::published(shim.address, shim.port, &shim.protocol);
        Some(Missing { published, pid: shim.pid, state, reason: absence.in_words() })
    };
    absent.into_iter().filter_map(missing).collect()
}

impl Report {
    fn show(&self, output: Output) -> Result<bool, String> {
        if output == Output::Json {
            let json = serde_json::to_string(self).map_err(|error| error.to_string())?;
            return print(&json);
        }
        for reason in &self.unusable {
            complain(&format!("failed: {reason}"));
        }
        for Missing { published, pid, state, reason } in &self.missing {
            let fix =
                if state.starts_with("stopped") { format!("; kill -CONT {pid} lets it go on") } else { String::new() };
            complain(&format!("missing: {published}, process {pid}, {state}: the registrar {reason}{fix}"));
        }
        print(&self.summary())
    }

    fn summary(&self) -> String {
        let listed = self.shims - self.missing.len() - self.unusable.len();
        match self.shims {
            0 => "no shim is running here: nothing to do".to_owned(),
            all if listed == all => format!("{} announced again, and the registrar lists them all", count(all)),
            all => format!("{listed} of {} announced again", count(all)),
        }
    }
}

fn count(shims: usize) -> String {
    if shims == 1 { "1 shim".to_owned() } else { format!("{shims} shims") }
}

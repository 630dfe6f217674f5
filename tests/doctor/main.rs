//! `shimctl check` finds each broken set-up by name, and nothing on a host where all is well.
//!
//! Each file breaks another part. What is broken is fixed again where that is quick, and then nothing is found.

use std::time::Duration;

use lab::{Docker, Host, HostBuilder, Lab, eventually};
use serde_json::Value;

mod dockerd;
mod envoy;
mod firewall;
mod others;
mod registrar;
mod uninstall;

/// A host as a user has it who changed the one setting of dockerd's.
fn one_setting<'a>(lab: &'a Lab, name: &str, version: Docker) -> HostBuilder<'a> {
    lab.host(name).docker(version).firewall().envoy_user(lab::host::ORDINARY_USER)
}

/// What `check` says, and whether it exits as it should for that.
fn report(host: &Host) -> Result<Value, String> {
    let output = host.try_shimctl(&["--output", "json", "check"]);
    let report: Value = serde_json::from_slice(&output.stdout).map_err(|error| format!("{error}: {output:?}"))?;
    let is_well = report["problems"].as_array().is_some_and(Vec::is_empty);
    if output.status.code() == Some(i32::from(!is_well)) { Ok(report) } else { Err(format!("{output:?}")) }
}

/// Waits until a problem of this name is found whose words hold all of `words`.
#[track_caller]
fn await_problem(host: &Host, name: &str, words: &[&str]) {
    await_finding(host, "problems", name, words);
}

#[track_caller]
fn await_finding(host: &Host, kind: &str, name: &str, words: &[&str]) {
    eventually(&format!("check finds {name} {words:?}"), Duration::from_secs(20), || {
        let report = report(host)?;
        let is_it = |finding: &Value| {
            let text = finding.to_string();
            finding["check"] == name && words.iter().all(|word| text.contains(word))
        };
        let found = report[kind].as_array().into_iter().flatten().any(is_it);
        if found { Ok(()) } else { Err(report.to_string()) }
    });
    println!("{}", String::from_utf8_lossy(&host.try_shimctl(&["check"]).stdout));
}

/// Waits until nothing is found.
#[track_caller]
fn await_health(host: &Host) {
    eventually("check finds nothing", Duration::from_secs(10), || {
        let report = report(host)?;
        if report["problems"].as_array().is_some_and(Vec::is_empty) { Ok(()) } else { Err(report.to_string()) }
    });
}

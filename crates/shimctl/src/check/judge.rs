//! What is broken, decided from facts alone: the registrar and its sockets. The other parts are in `judge_*`.

use admin_api::Port;

use super::facts::{Answers, Facts, File, Registrar};
use super::{Finding, REGISTRAR, Report, judge_cluster, judge_docker, judge_envoy, judge_firewall, passed};
use crate::show_ports;

/// How many things are named that have the same problem.
const NAMED_MAX: usize = 3;

/// A finding with its fix; see [`Finding`].
pub(super) fn finding(check: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Finding {
    let fix = fix.into();
    Finding { check, what: what.into(), mend: fix.clone(), fix: Some(fix) }
}

/// What something says of itself, in a sentence that holds the fix where there is one.
pub(super) fn said(check: &'static str, of: &str, problem: &str) -> Finding {
    Finding { check, what: format!("{of}: {problem}"), mend: problem.to_owned(), fix: None }
}

/// Everything that was found.
pub(super) fn report(facts: &Facts) -> Report {
    let (closed, hints_of_firewall) = judge_firewall::findings(facts);
    let mut problems = sockets(facts);
    problems.extend(judge_docker::problems(facts));
    match &facts.registrar {
        Registrar::Silent(reason) => problems.insert(0, silent_registrar(reason, facts)),
        Registrar::Answers(answers) => {
            // One cause is told once.
            if answers.envoy.docker_problem.is_none() {
                problems.extend(not_ready(answers));
            }
            problems.extend(judge_envoy::problems(facts, answers));
            problems.extend(judge_docker::problems_of_ports(facts, answers));
            problems.extend(judge_cluster::problems(facts, answers));
        }
    }
    problems.extend(closed);
    let mut hints = hints(facts);
    hints.extend(hints_of_firewall);
    Report { passed: passed::checks(facts, &problems, &hints), problems, hints }
}

fn silent_registrar(reason: &str, facts: &Facts) -> Finding {
    let reason = reason.lines().next().unwrap_or_default();
    match facts.programs.iter().find(|program| program.name == REGISTRAR) {
        Some(registrar) if registrar.is_stopped => finding(
            "registrar",
            format!("it is stopped by a signal (process {})", registrar.pid),
            format!("kill -CONT {}", registrar.pid),
        ),
        Some(registrar) => finding(
            "registrar",
            format!("it runs (process {}), and yet: {reason}", registrar.pid),
            "if its http-listen is another address, give --address; if it hangs, systemctl restart envoy-docker-registrar",
        ),
        None if facts.not_installed.contains(&REGISTRAR) => finding(
            "registrar",
            format!("it does not run, and its program is not installed: {reason}"),
            "deploy/install puts it at /usr/local/bin/envoy-docker-registrar, and says what to do next",
        ),
        None => finding(
            "registrar",
            format!("it does not run: {reason}"),
            "systemctl start envoy-docker-registrar; if it does not stay, `envoy-docker-registrar --check-config` and \
             journalctl -u envoy-docker-registrar say why",
        ),
    }
}

fn not_ready(answers: &Answers) -> Option<Finding> {
    let waits = !answers.waiting_for.is_empty();
    waits.then(|| {
        finding(
            "registrar",
            format!("it is not ready, and waits for {}", answers.waiting_for.join(", and ")),
            "journalctl -u envoy-docker-registrar says more",
        )
    })
}

fn sockets(facts: &Facts) -> Vec<Finding> {
    let Registrar::Answers(answers) = &facts.registrar else { return Vec::new() };
    let mut problems = Vec::new();
    if facts.folder.found.is_some_and(|folder| folder.mode & 0o055 != 0o055) {
        let path = facts.folder.path.display();
        let what = format!("{path} is closed to others, so Envoy can't reach xds.sock unless it is root");
        problems.push(finding("sockets", what, format!("chmod 755 {path}")));
    }
    problems.extend(socket(&facts.shim_socket, "shims can't register", Some(0)));
    problems.extend(socket(&facts.admin_socket, "changes can't be ordered", Some(0)));
    // Whoever subscribes by TCP needs no socket.
    if !answers.envoy.connected || facts.xds_socket.found.is_some() {
        problems.extend(socket(&facts.xds_socket, "Envoy can't subscribe", None));
    }
    problems
}

/// `owner`: whose it has to be, where that is known.
fn socket(socket: &File, without_it: &str, owner: Option<u32>) -> Option<Finding> {
    let path = socket.path.display();
    let restart = "systemctl restart envoy-docker-registrar; nothing is lost by that";
    let Some(found) = socket.found else {
        let what = format!("{path} is not there: {without_it}");
        return Some(finding("sockets", what, format!("{restart} (unless it was given another path)")));
    };
    if found.mode != 0o600 {
        return Some(finding("sockets", format!("{path} has the mode {:03o} instead of 600", found.mode), restart));
    }
    let owner = owner.filter(|owner| *owner != found.uid)?;
    Some(finding("sockets", format!("{path} belongs to uid {} instead of {owner}", found.uid), restart))
}

/// The ports, as far as [`named`] names them.
pub(super) fn names(ports: &[&Port]) -> String {
    named(ports.iter().map(|port| show_ports::published(port.host_address, port.host_port, &port.protocol)))
}

/// The first ones by name, and how many more there are.
pub(super) fn named(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMED_MAX);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    names.take(NAMED_MAX).collect::<Vec<_>>().join(", ") + &more
}

/// Whether this port's TCP connections should come to Envoy.
pub(super) fn is_envoys(port: &Port) -> bool {
    port.protocol == "tcp" && port.proxy_mode.as_deref().is_some_and(|mode| mode != "none")
}

fn hints(facts: &Facts) -> Vec<Finding> {
    let mut hints = Vec::new();
    if !facts.is_root {
        hints.push(finding("root", "not everything may be seen by this user", "run this as root"));
    }
    if let Some((program, pid)) = facts.gossip_port_holder.as_ref().filter(|(program, _)| program != REGISTRAR) {
        let swarm = if program == "dockerd" { ", as Swarm needs it" } else { "" };
        hints.push(finding(
            "gossip-port",
            format!("{program} (process {pid}) has gossip's usual port, 7946{swarm}: with gossip on, the registrar can't start"),
            "set gossip-listen to another port, such as 0.0.0.0:7947, on all hosts, with the port in every seed",
        ));
    }
    if let Registrar::Answers(answers) = &facts.registrar {
        hints.extend(judge_envoy::too_old(answers));
        hints.extend(judge_cluster::hints(answers));
    }
    hints.extend(judge_docker::changed_settings(facts));
    hints.extend(judge_envoy::few_descriptors(facts));
    if facts.kernel.tcp_migrate_req == Some(0) {
        hints.push(finding(
            "tcp-migrate-req",
            "connections that wait to be accepted by an Envoy that dies are lost with it",
            "sysctl -w net.ipv4.tcp_migrate_req=1 passes them on to the shim; it holds for the whole host (deploy/install puts it into /etc/sysctl.d)",
        ));
    }
    hints
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

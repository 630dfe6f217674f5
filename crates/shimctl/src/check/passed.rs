//! The names of the checks, and which of them found nothing.

use super::facts::{Facts, Registrar};
use super::{Finding, Passed};

/// What a check has to see.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    Registrar,
    Dockerd,
}

/// Every check: its name, what it has to see, and what is so where it finds nothing.
const CHECKS: [(&str, Needs, &str); 23] = [
    ("registrar", Needs::Registrar, "it answers, and is ready"),
    ("sockets", Needs::Registrar, "its sockets are there, for those alone who need them"),
    ("docker", Needs::Dockerd, "dockerd answers"),
    ("daemon-json", Needs::Dockerd, "dockerd's configuration file is valid, and read"),
    ("userland-proxy", Needs::Dockerd, "dockerd starts the shim for published ports"),
    ("shim", Needs::Registrar, "every published port has the shim that it needs"),
    ("egress", Needs::Dockerd, "containers have a way out"),
    ("envoy", Needs::Registrar, "Envoy is connected"),
    ("envoy-user", Needs::Registrar, "Envoy runs as the registrar's envoy-user"),
    ("envoy-version", Needs::Registrar, "Envoy is one of those that this is tested with"),
    ("envoy-capability", Needs::Registrar, "Envoy may serve the ports that are published"),
    ("envoy-descriptors", Needs::Registrar, "Envoy has file descriptors left"),
    ("envoy-sync", Needs::Registrar, "Envoy took all that it was sent"),
    ("traces", Needs::Registrar, "the trace collector can be reached, if there is one"),
    ("capture", Needs::Registrar, "connections from other hosts come to Envoy"),
    ("firewall", Needs::Nothing, "this host's INPUT rules let others reach its ports"),
    ("port", Needs::Registrar, "no port has a problem"),
    ("service", Needs::Registrar, "no service has a problem"),
    ("cluster", Needs::Registrar, "no host has a problem"),
    ("seed", Needs::Registrar, "the seeds answer, if there are any"),
    ("reach", Needs::Registrar, "other hosts' instances can be reached from here"),
    ("gossip-port", Needs::Nothing, "no other program has gossip's port"),
    ("tcp-migrate-req", Needs::Nothing, "connections that wait for an Envoy that ends go to the shim"),
];

/// Whether there is a check of this name.
pub(super) fn is_a_check(name: &str) -> bool {
    CHECKS.iter().any(|(check, ..)| *check == name)
}

/// All names.
pub(super) fn names() -> String {
    CHECKS.map(|(check, ..)| check).join(", ")
}

/// What is not told since another finding explains it is not well all the same.
fn is_well(check: &str, facts: &Facts) -> bool {
    let Some(answers) = facts.registrar.answers() else { return true };
    match check {
        "registrar" => answers.waiting_for.is_empty(),
        "envoy-sync" => answers.envoy.in_sync,
        "port" => answers.ports.iter().all(|port| port.problem.is_none()),
        _ => true,
    }
}

/// The checks that saw what they have to see, and found nothing.
pub(super) fn checks(facts: &Facts, problems: &[Finding], hints: &[Finding]) -> Vec<Passed> {
    let is_seen = |needs| match needs {
        Needs::Nothing => facts.is_root,
        Needs::Registrar => matches!(facts.registrar, Registrar::Answers(_)),
        Needs::Dockerd => facts.docker.is_some(),
    };
    let found = |check| problems.iter().chain(hints).any(|finding| finding.check == check);
    let passed = CHECKS.iter().filter(|(check, needs, _)| is_seen(*needs) && !found(*check) && is_well(check, facts));
    passed.map(|(check, _, what)| Passed { check, what }).collect()
}

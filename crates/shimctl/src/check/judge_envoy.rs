//! What is broken about Envoy, decided from facts alone.

use admin_api::{Port, ServedBy};

use super::facts::{Answers, Descriptors, Facts, Program};
use super::judge::{finding, is_envoys};
use super::{ENVOY, Finding};

/// The oldest Envoy that this project is tested with, as major and minor version. 1.37 takes all that it is sent, and
/// lacks later repairs; 1.36 does not start with this project's envoy.yaml.
const OLDEST: (u32, u32) = (1, 40);
/// `CAP_NET_BIND_SERVICE`'s bit (capabilities(7)).
const NET_BIND_SERVICE: u64 = 1 << 10;

/// File descriptors below which an Envoy is short of them sooner than of anything else: a connection takes two.
const FEW_DESCRIPTORS: u64 = 4096;
const MORE_DESCRIPTORS: &str = "give it more: LimitNOFILE in its unit, as deploy/systemd/envoy.service has it; an Envoy \
                                that runs gets them by prlimit --nofile=65536 --pid, without a restart";

/// What is broken about Envoy.
pub(super) fn problems(facts: &Facts, answers: &Answers) -> Vec<Finding> {
    let mut problems = Vec::new();
    let others_user = under_another_user(facts);
    let stopped = stopped(facts);
    let capability = without_capability(facts, answers);
    if !answers.envoy.connected && others_user.is_none() && stopped.is_none() {
        problems.push(absent(facts));
    }
    // One cause is told once: an Envoy that is stopped or lacks a right has not taken everything either.
    if stopped.is_none() && capability.is_none() {
        problems.extend(not_in_sync(answers));
    }
    problems.extend(stopped);
    problems.extend(others_user);
    problems.extend(capability);
    problems.extend(short_of_descriptors(facts));
    problems.extend(no_collector(facts, answers));
    problems
}

/// Whether a finding about Envoy says already why this port is not served by it.
pub(super) fn explains(facts: &Facts, answers: &Answers, port: &Port) -> bool {
    if !is_envoys(port) || port.served_by != ServedBy::Shim {
        return false;
    }
    let is_low = facts.kernel.first_unprivileged_port.is_some_and(|first| u32::from(port.host_port) < first);
    !answers.envoy.connected || stopped(facts).is_some() || (is_low && without_capability(facts, answers).is_some())
}

/// A stopped Envoy still has its sockets: the kernel goes on giving it connections until the registrar notices, which it
/// does when the first ones wait.
fn stopped(facts: &Facts) -> Option<Finding> {
    let envoy = envoys(facts).find(|envoy| envoy.is_stopped)?;
    let pid = envoy.pid;
    let what = format!("Envoy (process {pid}) is stopped by a signal: the next connections wait until shims take over");
    Some(finding("envoy", what, format!("kill -CONT {pid}")))
}

fn no_collector(facts: &Facts, answers: &Answers) -> Option<Finding> {
    let (silence, collector) = (facts.collector_silence.as_ref()?, answers.envoy.trace_collector.as_ref()?);
    Some(finding(
        "traces",
        format!("the trace collector at {collector} can't be reached, so spans are lost: {silence}"),
        "start it, or correct trace-collector in registrar.yaml; requests are answered all the same",
    ))
}

/// Less than a quarter of them is left.
fn short_of_descriptors(facts: &Facts) -> Option<Finding> {
    let (envoy, Descriptors { open, max }) = with_descriptors(facts, |it| it.open >= it.max / 4 * 3)?;
    let what = format!(
        "Envoy (process {}) has {open} of its {max} file descriptors in use; without any it fails every request",
        envoy.pid
    );
    Some(finding("envoy-descriptors", what, MORE_DESCRIPTORS))
}

/// An Envoy that was started by hand, say. A hint: it may be enough here.
pub(super) fn few_descriptors(facts: &Facts) -> Option<Finding> {
    let (envoy, Descriptors { max, .. }) = with_descriptors(facts, |it| it.max < FEW_DESCRIPTORS)?;
    let what =
        format!("Envoy (process {}) may have {max} file descriptors: room for some {} connections", envoy.pid, max / 2);
    Some(finding("envoy-descriptors", what, MORE_DESCRIPTORS))
}

fn with_descriptors(facts: &Facts, is_so: impl Fn(&Descriptors) -> bool) -> Option<(&Program, Descriptors)> {
    envoys(facts).find_map(|envoy| Some((envoy, envoy.descriptors.filter(&is_so)?)))
}

fn envoys(facts: &Facts) -> impl Iterator<Item = &Program> {
    facts.programs.iter().filter(|program| program.name == ENVOY)
}

fn absent(facts: &Facts) -> Finding {
    match envoys(facts).next() {
        Some(envoy) => finding(
            "envoy",
            format!("an Envoy runs (process {}), and is not connected to the registrar: shims forward", envoy.pid),
            "start it with this project's envoy.yaml, which names xds.sock; its log says what it can't reach",
        ),
        None if facts.not_installed.contains(&ENVOY) => finding(
            "envoy",
            "no Envoy runs, and its program is not installed: shims forward, unseen",
            "put Envoy (1.40 or later) at /usr/local/bin/envoy, as README.md says; then systemctl enable --now envoy",
        ),
        None => finding(
            "envoy",
            "no Envoy runs: shims forward, unseen",
            "systemctl enable --now envoy; if it does not stay, journalctl -u envoy says why",
        ),
    }
}

/// The kernel shares a port only between sockets of one user.
fn under_another_user(facts: &Facts) -> Option<Finding> {
    let expected = facts.xds_socket.found?.uid;
    let envoy = envoys(facts).next()?;
    envoys(facts).all(|envoy| envoy.uid != expected).then(|| {
        finding(
            "envoy-user",
            format!(
                "Envoy (process {}) runs as uid {}, and the registrar's envoy-user is uid {expected}: Envoy can't serve ports",
                envoy.pid, envoy.uid
            ),
            format!("set envoy-user: {} in registrar.yaml and restart the registrar, or run Envoy as {expected}", envoy.uid),
        )
    })
}

/// An Envoy that is older than those that are tested. A hint: most of it works.
pub(super) fn too_old(answers: &Answers) -> Option<Finding> {
    let version = answers.envoy.version.as_deref().filter(|_| answers.envoy.connected)?;
    let mut numbers = version.split('.').map(|number| number.parse::<u32>().ok());
    let number = (numbers.next()??, numbers.next()??);
    let (major, minor) = OLDEST;
    (number < OLDEST).then(|| {
        finding(
            "envoy-version",
            format!("Envoy {version} is older than those that this is tested with"),
            format!("install Envoy {major}.{minor} or later"),
        )
    })
}

fn without_capability(facts: &Facts, answers: &Answers) -> Option<Finding> {
    let first_free = facts.kernel.first_unprivileged_port?;
    let low = answers.ports.iter().filter(|port| is_envoys(port) && u32::from(port.host_port) < first_free);
    let lowest = low.map(|port| port.host_port).min()?;
    let envoy = envoys(facts).next()?;
    envoys(facts).all(|envoy| envoy.capabilities & NET_BIND_SERVICE == 0).then(|| {
        finding(
            "envoy-capability",
            format!(
                "port {lowest} is published, and Envoy (process {}) may not serve ports below {first_free}",
                envoy.pid
            ),
            "give Envoy the capability CAP_NET_BIND_SERVICE, as the unit deploy/systemd/envoy.service does",
        )
    })
}

fn not_in_sync(answers: &Answers) -> Option<Finding> {
    let envoy = &answers.envoy;
    (envoy.connected && !envoy.in_sync).then(|| {
        let rejected = envoy.last_nack.as_ref().map(|nack| {
            format!("it rejected {}: {}", nack.resource.as_deref().unwrap_or(&nack.resource_type), nack.message)
        });
        finding(
            "envoy-sync",
            format!("Envoy has not taken all that it was sent; {}", rejected.as_deref().unwrap_or("it says nothing")),
            "see `shimctl ports` for what to do about the port; where Envoy hangs, systemctl restart envoy",
        )
    })
}

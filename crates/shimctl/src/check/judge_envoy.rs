//! What is broken about Envoy, decided from facts alone.

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
    if !answers.envoy.connected && others_user.is_none() {
        problems.push(absent(facts));
    }
    problems.extend(others_user);
    problems.extend(without_capability(facts, answers));
    problems.extend(not_in_sync(answers));
    problems.extend(short_of_descriptors(facts));
    problems
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
            "see `shimctl ports` for the port's mend; where Envoy hangs, systemctl restart envoy",
        )
    })
}

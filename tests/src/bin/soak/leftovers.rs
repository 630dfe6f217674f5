//! What there is on the host, and what is left that should not be.

use std::fmt;
use std::fs;

use lab::Host;

/// Memory that a process may gain, in parts of what it had, plus [`SLACK_KB`]: a new one is smaller than an old one.
const GROWTH: u64 = 2;
const SLACK_KB: u64 = 4 << 10;
/// File descriptors that may come and go: connections under way.
const SLACK_DESCRIPTORS: usize = 8;

/// What is counted.
#[derive(Clone, Debug)]
pub(crate) struct Counts {
    processes: usize,
    shims: usize,
    listeners: usize,
    /// Of the registrar.
    descriptors: usize,
    /// Of all shims together.
    shims_descriptors: usize,
    /// Memory of their own, in kB, of the registrar, of Envoy and of all shims together. (What is shared with files
    /// depends on who else runs the same program.)
    registrar_kb: u64,
    envoy_kb: u64,
    shims_kb: u64,
}

impl Counts {
    pub(crate) fn of(host: &Host) -> Self {
        let (registrar, shims) = (host.processes_of("envoy-docker-registrar"), host.shims());
        let memory = |processes: &[u32]| processes.iter().map(|id| anonymous_kb(*id)).sum();
        Self {
            processes: host.namespace().processes().len(),
            shims: shims.len(),
            listeners: listeners(host),
            descriptors: descriptors(&registrar),
            shims_descriptors: descriptors(&shims),
            registrar_kb: memory(&registrar),
            envoy_kb: memory(&host.processes_of("envoy")),
            shims_kb: memory(&shims),
        }
    }

    /// What is more than it was with the same containers.
    pub(crate) fn beyond(&self, before: &Self, when: &str) -> Vec<String> {
        let mut wrong = Vec::new();
        if self.shims != before.shims {
            wrong.push(format!("{when}: {} shims, not {}", self.shims, before.shims));
        }
        let descriptors = [
            ("the registrar has", self.descriptors, before.descriptors, SLACK_DESCRIPTORS),
            ("the shims have", self.shims_descriptors, before.shims_descriptors, SLACK_DESCRIPTORS * before.shims),
        ];
        let more = descriptors.iter().filter(|(_, now, then, slack)| *now > then + slack);
        wrong.extend(more.map(|(who, now, then, _)| format!("{when}: {who} {now} descriptors, not {then}")));
        wrong.extend(self.grown_from(before).map(|what| format!("{when}: {what}")));
        wrong
    }

    fn grown_from(&self, before: &Self) -> impl Iterator<Item = String> {
        let memory = [
            ("registrar", self.registrar_kb, before.registrar_kb),
            ("Envoy", self.envoy_kb, before.envoy_kb),
            ("shims", self.shims_kb, before.shims_kb),
        ];
        let grown = memory.into_iter().filter(|(_, now, then)| *now > then * GROWTH + SLACK_KB);
        grown.map(|(who, now, then)| format!("{who} has {now} kB, not {then}"))
    }

    /// What is left although all containers are gone.
    pub(crate) fn left_of(&self, empty: &Self) -> Vec<String> {
        let counts = [
            ("processes", self.processes, empty.processes),
            ("shims", self.shims, 0),
            ("listening sockets", self.listeners, empty.listeners),
        ];
        let left = counts.iter().filter(|(_, now, then)| now > then);
        let mut wrong: Vec<_> = left.map(|(what, now, then)| format!("{now} {what} are left, not {then}")).collect();
        if self.descriptors > empty.descriptors + SLACK_DESCRIPTORS {
            wrong.push(format!("the registrar has {} descriptors, not {}", self.descriptors, empty.descriptors));
        }
        wrong.extend(self.grown_from(empty));
        wrong
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            to,
            "{} processes, {} shims, {} listeners, descriptors: {} and {} of shims; kB: registrar {}, Envoy {}, shims {}",
            self.processes,
            self.shims,
            self.listeners,
            self.descriptors,
            self.shims_descriptors,
            self.registrar_kb,
            self.envoy_kb,
            self.shims_kb
        )
    }
}

/// Of all these processes together.
fn descriptors(processes: &[u32]) -> usize {
    processes.iter().map(|id| entries(&format!("/proc/{id}/fd"))).sum()
}

fn anonymous_kb(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// TCP listeners, and UDP sockets that are bound to a port.
fn listeners(host: &Host) -> usize {
    host.namespace().run("ss", &["-Hltun"]).lines().count()
}

fn entries(folder: &str) -> usize {
    fs::read_dir(folder).map_or(0, Iterator::count)
}

/// What this program itself has open: descriptors, and the network namespaces that all processes of the system are in.
#[derive(Debug)]
pub(crate) struct Own {
    descriptors: usize,
    namespaces: usize,
    mounts: usize,
}

pub(crate) fn of_this_process() -> Own {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mounts = mounts.lines().filter(|mount| is_of_the_lab(mount)).count();
    Own { descriptors: entries("/proc/self/fd"), namespaces: namespaces_of_children(), mounts }
}

/// Other programs mount and unmount too while this one runs; what a host mounts is under its folder, or Docker's.
fn is_of_the_lab(mount: &str) -> bool {
    ["/target/e2e/", "/docker"].iter().any(|folder| mount.contains(folder))
}

/// Namespaces that were made by this program's descendants, by what their holders run.
fn namespaces_of_children() -> usize {
    let own = std::process::id();
    let entries = fs::read_dir(format!("/proc/{own}/task")).into_iter().flatten().flatten();
    let children = entries.map(|thread| fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    children.map(|children| children.split_whitespace().count()).sum()
}

/// What is left of the lab once it is gone.
pub(crate) fn after_the_lab(before: &Own) -> Vec<String> {
    let after = of_this_process();
    let mut wrong = Vec::new();
    if after.descriptors > before.descriptors + 2
        || after.namespaces > before.namespaces
        || after.mounts > before.mounts
    {
        wrong.push(format!("after the lab: {after:?}, before: {before:?}"));
    }
    if !lab::cgroup::of_process(std::process::id()).is_empty() {
        wrong.push("control groups are left".to_owned());
    }
    wrong
}

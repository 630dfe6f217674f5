//! A program that keeps running on a host, and its log.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::eventually;
use crate::namespace::Namespace;

/// Lines of a log that are shown when something failed.
const SHOWN_LINES: usize = 25;

/// A running program. Dropping it kills it: a namespace can't end while one of our children in it is unwaited for.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in `namespace`, its output appended to `log`.
    #[must_use]
    pub fn start(name: &str, namespace: &Namespace, command: &mut Command, log: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let twin = file.try_clone().expect("a file can be cloned");
        let child = namespace.spawn(command.stdin(Stdio::null()).stdout(file).stderr(twin));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// The process's id, as seen from outside of its namespace.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        send(self.child.id(), signal).unwrap_or_else(|error| panic!("{}: {signal}: {error}", self.name));
    }

    /// Sends it a signal and waits for its end.
    pub fn end_with(&mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.wait(Duration::from_secs(15))
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("end of {}", self.name);
        eventually(&what, limit, || self.ended().ok_or("still running"))
    }

    /// All that it printed so far, and what its predecessors of the same log printed.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process by its id as seen from outside.
///
/// # Errors
/// There is no such process.
pub fn send(id: u32, signal: Signal) -> nix::Result<()> {
    let id = i32::try_from(id).expect("process ids are small");
    kill(Pid::from_raw(id), signal)
}

/// Prints the end of every log in a folder.
pub fn show_logs(folder: &Path) {
    let mut logs: Vec<_> = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    logs.retain(|log| log.extension().is_none_or(|kind| kind != "key"));
    logs.sort();
    for log in logs {
        let text = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned();
        let lines: Vec<_> = text.lines().collect();
        let shown = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        eprintln!("--- {} (last {} of {} lines)\n{}", log.display(), shown.len(), lines.len(), shown.join("\n"));
    }
}

/// Changes a limit of a running process, as `prlimit` names it: `--nofile=100:`.
///
/// # Panics
/// It can't be changed, or there is no such process.
pub fn limit(process: u32, resource: &str) {
    let status = Command::new("prlimit").args(["--pid", &process.to_string(), resource]).status();
    assert!(status.is_ok_and(|status| status.success()), "prlimit {resource} of {process}");
}

/// How many file descriptors a running process has open.
///
/// # Panics
/// There is no such process.
#[must_use]
pub fn open_files(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).expect("the process runs").count()
}

//! The check by a command: a process group of its own, which ends with the check.
//!
//! No shell takes part, and the environment holds nothing but a search path. The group is killed while its
//! leader is not reaped yet: until then no other process can have its number.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::net::unix::pipe::Receiver;
use tokio::process::{Child, Command};
use tokio::signal::unix::{self as unix_signal, SignalKind};
use tokio::time::{sleep, timeout};

use super::{Seen, text, too_long};

/// Where commands are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of the output's end is kept, in bytes: enough for its last line.
const TAIL_MAX: usize = 1024;

/// How much is read at once, in bytes, and how often after the end: all that a pipe can hold.
const CHUNK: usize = 4 * 1024;
const CHUNKS_AFTER_END: usize = 16;

/// How long a killed process is waited for. It can take longer only where the kernel itself is stuck.
const DEATH_WAIT: Duration = Duration::from_secs(1);

/// Healthy if the command exits with 0 within `limit`. The text is how it ended, and its last line of output.
pub(super) async fn run(words: &[String], limit: Duration) -> Seen {
    let mut running = Running::start(words).map_err(|error| not_started(&error))?;
    let ended_itself = running.wait(limit).await.map_err(text)?;
    let status = running.end().await.map_err(text)?;
    let last_line = running.tail.last_line();
    let seen = |how: String| if last_line.is_empty() { how } else { format!("{how}: {last_line}") };
    match status {
        _ if !ended_itself => Err(seen(too_long(limit))),
        Some(status) if status.success() => Ok(seen(described(status))),
        Some(status) => Err(seen(described(status))),
        None => Err(seen("it can't be killed".to_owned())),
    }
}

/// Why a command did not even start. What a unit hides from the registrar is as if it were not there.
fn not_started(error: &io::Error) -> String {
    let what = match error.kind() {
        io::ErrorKind::NotFound => "there is no such command",
        io::ErrorKind::PermissionDenied => "it may not be run",
        _ => return error.to_string(),
    };
    format!(
        "{what}, as far as the registrar can see: its unit hides /root, /home and /tmp, a container has its own files"
    )
}

fn described(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// A command that runs. Dropped, it and all of its group are killed.
struct Running {
    child: Child,
    leader: Pid,
    /// Heard whenever a child of ours ends.
    child_ended: unix_signal::Signal,
    output: Receiver,
    tail: Tail,
}

impl Running {
    fn start(words: &[String]) -> io::Result<Self> {
        let (program, arguments) = words.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        // From before the start, so that no end is missed.
        let child_ended = unix_signal::signal(SignalKind::child())?;
        let (reader, writer) = io::pipe()?;
        let output = Receiver::from_owned_fd(reader.into())?;
        let mut command = Command::new(program);
        command.args(arguments).env_clear().env("PATH", PATH).current_dir("/").process_group(0);
        command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let child = command.spawn()?;
        let gone = || io::Error::other("it was gone at once");
        let leader = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).ok_or_else(gone)?;
        Ok(Self { child, leader, child_ended, output, tail: Tail::default() })
    }

    /// Reads the output until the leader ends, or `limit` has passed; true if it ended by itself.
    async fn wait(&mut self, limit: Duration) -> io::Result<bool> {
        let Self { leader, child_ended, output, tail, .. } = self;
        let read = async {
            let mut chunk = [0; CHUNK];
            loop {
                output.readable().await?;
                match output.try_read(&mut chunk) {
                    // Nobody has it open any longer: there is nothing more to come.
                    Ok(0) => return io::Result::Ok(()),
                    Ok(length) => tail.push(&chunk[..length]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        };
        let end = async {
            while !has_ended(*leader)? {
                child_ended.recv().await;
            }
            io::Result::Ok(())
        };
        tokio::select! {
            ended = end => ended.map(|()| true),
            Err(error) = read => Err(error),
            () = sleep(limit) => Ok(false),
        }
    }

    /// Kills what is left of the group, takes in what it has written, and says how the leader ended; `None`
    /// if it did not even now.
    async fn end(&mut self) -> io::Result<Option<ExitStatus>> {
        kill(self.leader);
        let mut chunk = [0; CHUNK];
        for _ in 0..CHUNKS_AFTER_END {
            // Asked of the kernel itself: the runtime may not have heard yet that there is more to read.
            match nix::unistd::read(&self.output, &mut chunk) {
                Ok(0) | Err(_) => break,
                Ok(length) => self.tail.push(&chunk[..length]),
            }
        }
        timeout(DEATH_WAIT, self.child.wait()).await.ok().transpose()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A leader without a number was reaped, and all of its group killed before.
        if self.child.id().is_some() {
            kill(self.leader);
        }
    }
}

/// Whether the process has ended. It is not reaped by this.
fn has_ended(leader: Pid) -> io::Result<bool> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    Ok(waitid(WaitId::Pid(leader), options)?.is_some())
}

fn kill(leader: Pid) {
    // There is no group where all are dead already.
    let _ = kill_process_group(leader, Signal::KILL);
}

/// The end of an output.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.0.drain(..self.0.len().saturating_sub(TAIL_MAX));
    }

    /// The last line that is not blank, without control characters.
    fn last_line(&self) -> String {
        let text = String::from_utf8_lossy(&self.0);
        let line = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
        line.chars().filter(|c| !c.is_control()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_that_says_something_is_kept_and_little_else() {
        let mut tail = Tail::default();
        assert_eq!(tail.last_line(), "");
        for _ in 0..1000 {
            tail.push(b"a long line of no interest\n");
        }
        assert_eq!(tail.0.len(), TAIL_MAX);
        tail.push(b"first\nno \x1b[31mroute\xff to host\r\n\n  \n");
        assert_eq!(tail.last_line(), "no [31mroute\u{fffd} to host");
    }
}

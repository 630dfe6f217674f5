//! Watches the file: read when it changes, once it has settled, and the last good list kept when it is bad.
//!
//! It is looked at every second. That sees every way in which files are changed, be it written in place, renamed
//! over, on a network or overlay file system, or created later in a folder that does not exist yet.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::{StaticList, parse::parse};

/// How often the file is looked at, and how long it must have been unchanged before it is read: whoever writes
/// it in place may be half-way, and half a list is a list.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The longest file, in bytes.
const FILE_MAX: u64 = 1024 * 1024;

/// Sends the list, as `event` wraps it, first of all and whenever it or its problems are others, until nobody
/// listens any longer.
pub(crate) async fn watch<T>(path: PathBuf, events: mpsc::Sender<T>, event: fn(StaticList) -> T) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut watched = Watched::default();
    loop {
        ticks.tick().await;
        // A file system may keep whoever asks it waiting.
        let place = path.clone();
        let looked = spawn_blocking(move || {
            let news = watched.look(&place, SystemTime::now());
            (watched, news)
        });
        let Ok((back, news)) = looked.await else { return };
        watched = back;
        let Some(list) = news else { continue };
        report(&path, &list);
        if events.send(event(list)).await.is_err() {
            return;
        }
    }
}

/// Whether the file is there and all of it is good.
///
/// # Errors
/// What is wrong, each with the number and the name of its entry.
pub(crate) fn check(path: &Path) -> Result<(), String> {
    let read = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().map_err(|error: io::Error| error.to_string())?;
    let problems = parse(&text(bytes)?)?.problems;
    if problems.is_empty() { Ok(()) } else { Err(problems.join("; ")) }
}

fn report(path: &Path, list: &StaticList) {
    info!(path = %path.display(), services = list.services.len(), "static services");
    for problem in &list.problems {
        warn!(path = %path.display(), problem, "static services");
    }
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Signature {
    device: u64,
    inode: u64,
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Signature {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether nothing has happened to it for as long as it takes to be trusted.
    fn is_old(&self, now: SystemTime) -> bool {
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(LOOK_EVERY);
        let (seconds, nanoseconds) = self.modified.max(self.changed);
        (i128::from(seconds), i128::from(nanoseconds))
            <= (i128::from(since.as_secs()), i128::from(since.subsec_nanos()))
    }
}

/// What is known of the file.
#[derive(Debug, Default)]
struct Watched {
    /// How it was when it was looked at last.
    seen: Option<Signature>,
    /// How it was when it was read last.
    read: Option<Signature>,
    /// What was said last; nothing yet at first.
    said: Option<StaticList>,
}

impl Watched {
    /// Looks at the file, and reads it where it is another one and has settled; the list, if it or its problems
    /// are others than what was said last.
    fn look(&mut self, path: &Path, now: SystemTime) -> Option<StaticList> {
        let list = match self.news(path, now) {
            Ok(None) => return None,
            Ok(Some(list)) => list,
            Err(reason) => self.kept(&reason),
        };
        if self.said.as_ref() == Some(&list) {
            return None;
        }
        self.said = Some(list.clone());
        Some(list)
    }

    fn news(&mut self, path: &Path, now: SystemTime) -> Result<Option<StaticList>, String> {
        let looked = std::fs::metadata(path);
        let before = std::mem::replace(&mut self.seen, looked.as_ref().ok().map(Signature::of));
        // Once it is back, it is read again even if it is the same: what was said of it is gone.
        let metadata = looked.inspect_err(|_| self.read = None).map_err(|error| error.to_string())?;
        let signature = Signature::of(&metadata);
        let is_settled = before == Some(signature) || signature.is_old(now);
        if self.read == Some(signature) || !is_settled {
            return Ok(None);
        }
        if !metadata.is_file() {
            return Err("it is no file".to_owned());
        }
        let Some(bytes) = read_unchanged(path, signature).map_err(|error| error.to_string())? else { return Ok(None) };
        self.read = Some(signature);
        parse(&text(bytes)?).map(Some)
    }

    /// What was last known to be good, and why there is nothing newer.
    fn kept(&self, reason: &str) -> StaticList {
        let services = self.said.as_ref().map(|said| said.services.clone()).unwrap_or_default();
        let problem = format!("{reason}; {} static services are kept until it can be read", services.len());
        StaticList { services, problems: vec![problem] }
    }
}

/// What is in the file, up to one byte too many; `None` if it was changed meanwhile.
fn read_unchanged(path: &Path, expected: Signature) -> io::Result<Option<Vec<u8>>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    (&file).take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    let is_unchanged = Signature::of(&file.metadata()?) == expected;
    Ok(is_unchanged.then_some(bytes))
}

fn text(bytes: Vec<u8>) -> Result<String, String> {
    if bytes.len() as u64 > FILE_MAX {
        return Err(format!("longer than {FILE_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| format!("not UTF-8: {error}"))
}

#[cfg(test)]
#[path = "file_tests.rs"]
mod tests;

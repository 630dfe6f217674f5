//! Control groups: those of containers, and one without memory. They are what outlives its processes, and so must be swept.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ROOT: &str = "/sys/fs/cgroup";
const PREFIX: &str = "envoy-docker-shim-e2e-";

/// The parent of all control groups of one host's containers. Removed when dropped, after the processes.
#[derive(Debug)]
pub struct CgroupParent {
    name: String,
}

impl CgroupParent {
    /// A name that tells whose it is, so that leftovers can be told from what is in use.
    #[must_use]
    pub fn new(host: &str) -> Self {
        Self { name: format!("{PREFIX}{}-{host}", std::process::id()) }
    }

    /// For dockerd's `--cgroup-parent`.
    #[must_use]
    pub fn argument(&self) -> String {
        format!("/{}", self.name)
    }

    /// The groups that exist: one, or one for each controller.
    #[must_use]
    pub fn folders(&self) -> Vec<PathBuf> {
        existing(|name| name == self.name)
    }
}

impl Drop for CgroupParent {
    fn drop(&mut self) {
        remove_all(&self.folders());
    }
}

/// A group that may have no memory: the kernel kills who is in it and asks for more than it has (the OOM killer).
/// Removed when dropped, after the processes.
#[derive(Debug)]
pub struct NoMemory {
    folder: PathBuf,
    /// What the kernel calls its file that counts.
    counts: &'static str,
}

impl NoMemory {
    /// A group with nobody in it.
    ///
    /// # Panics
    /// This machine has no control groups for memory.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let name = format!("{PREFIX}{}-{name}", std::process::id());
        let version_1 = Path::new(ROOT).join("memory");
        let (parent, limit, counts) = if version_1.is_dir() {
            (version_1, "memory.limit_in_bytes", "memory.oom_control")
        } else {
            write(&Path::new(ROOT).join("cgroup.subtree_control"), "+memory");
            (PathBuf::from(ROOT), "memory.max", "memory.events")
        };
        let folder = parent.join(name);
        fs::create_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        write(&folder.join(limit), "0");
        Self { folder, counts }
    }

    /// Puts a process in, by its id as seen from outside. What it has it keeps.
    ///
    /// # Panics
    /// There is no such process.
    pub fn add(&self, process: u32) {
        write(&self.folder.join("cgroup.procs"), &process.to_string());
    }

    /// How many processes the kernel has killed.
    #[must_use]
    pub fn kills(&self) -> u64 {
        let counts = fs::read_to_string(self.folder.join(self.counts)).unwrap_or_default();
        let count = counts.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

impl Drop for NoMemory {
    fn drop(&mut self) {
        remove_all(std::slice::from_ref(&self.folder));
    }
}

fn write(file: &Path, text: &str) {
    fs::write(file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

/// A group is busy for a moment after its last process was killed.
fn remove_all(folders: &[PathBuf]) {
    folders.iter().for_each(|folder| thaw(folder));
    let mut left = folders.to_vec();
    for _ in 0..100 {
        left.retain(|folder| folder.exists() && remove(folder).is_err());
        if left.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    eprintln!("lab: control groups could not be removed: {left:?}");
}

/// Removes the groups that labs left behind whose process is gone.
pub fn sweep() {
    let orphaned = |name: &str| {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
    };
    remove_all(&existing(orphaned));
}

/// The groups that the labs of a process made.
#[must_use]
pub fn of_process(id: u32) -> Vec<PathBuf> {
    let own = format!("{PREFIX}{id}-");
    existing(|name| name.starts_with(&own))
}

/// Groups stand in the hierarchy itself (version 2), or in each controller's (version 1).
fn existing(wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let top = folders(Path::new(ROOT));
    let below = top.iter().flat_map(|folder| folders(folder)).collect::<Vec<_>>();
    let is_wanted = |folder: &PathBuf| folder.file_name().and_then(|name| name.to_str()).is_some_and(&wanted);
    top.into_iter().chain(below).filter(is_wanted).collect()
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// Who was killed while paused dies once it is not any more (version 1).
fn thaw(folder: &Path) {
    let state = folder.join("freezer.state");
    if state.exists() {
        let _ = fs::write(state, "THAWED");
    }
    folders(folder).iter().for_each(|below| thaw(below));
}

fn remove(folder: &Path) -> std::io::Result<()> {
    folders(folder).iter().try_for_each(|below| remove(below))?;
    fs::remove_dir(folder)
}

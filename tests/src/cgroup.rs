//! Control groups of containers: the one thing that outlives its processes, and so must be swept.

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
        // A group is busy for a moment after its last process was killed.
        for _ in 0..100 {
            if self.folders().iter().all(|folder| remove(folder).is_ok()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("lab: control groups named {} could not be removed", self.name);
    }
}

/// Removes the groups that labs left behind whose process is gone.
pub fn sweep() {
    let orphaned = |name: &str| {
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
    };
    for folder in existing(orphaned) {
        if let Err(error) = remove(&folder) {
            eprintln!("lab: {} is left over and can't be removed: {error}", folder.display());
        }
    }
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

fn remove(folder: &Path) -> std::io::Result<()> {
    folders(folder).iter().try_for_each(|below| remove(below))?;
    fs::remove_dir(folder)
}

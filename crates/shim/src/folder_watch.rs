//! Waits for a file to appear, without waking up for anything else: inotify on its folder, or on the nearest folder
//! above that exists.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent};

/// A watch on one folder.
#[derive(Debug)]
pub(crate) struct FolderWatch {
    inotify: Inotify,
    /// The next part of the way to the file.
    awaited: OsString,
}

impl FolderWatch {
    /// Watches for the next part of `path` that does not exist yet, or for the file itself to come anew.
    ///
    /// # Errors
    /// There are no inotify instances or watches left (`fs.inotify.max_user_instances`).
    pub(crate) fn start(path: &Path) -> Result<Self, Errno> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let appears = AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        let vanishes = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
        let mut result = Err(Errno::ENOENT);
        for (folder, awaited) in ways(path) {
            result = inotify.add_watch(folder, appears | vanishes | AddWatchFlags::IN_ONLYDIR).map(|_| awaited);
            if !matches!(result, Err(Errno::ENOENT | Errno::ENOTDIR)) {
                break;
            }
        }
        Ok(Self { awaited: result?.to_owned(), inotify })
    }

    /// Whether something happened that is worth another try. Reads all that happened.
    pub(crate) fn has_changed(&mut self) -> bool {
        let mut changed = false;
        // Too many events at once end in an error or an overflow event: worth a try, too.
        loop {
            match self.inotify.read_events() {
                Ok(events) => changed |= events.iter().any(|event| concerns(event, &self.awaited)),
                Err(Errno::EAGAIN) => return changed,
                Err(Errno::EINTR) => {}
                Err(_) => return true,
            }
        }
    }
}

impl AsFd for FolderWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Every folder above `path`, the nearest first, each with the name in it that leads to `path`.
fn ways(path: &Path) -> impl Iterator<Item = (&Path, &OsStr)> {
    path.ancestors().filter_map(|step| {
        let folder = step.parent()?;
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Some((folder, step.file_name()?))
    })
}

fn concerns(event: &InotifyEvent, awaited: &OsStr) -> bool {
    event.name.as_deref().is_none_or(|name| name == awaited)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("shim-folder-watch-{name}-{}", std::process::id()));
        std::fs::create_dir(&folder).unwrap();
        folder
    }

    #[test]
    fn the_way_to_a_file_begins_at_its_own_folder() {
        let found: Vec<_> = ways(Path::new("/run/a/b.sock")).collect();
        let expected = [("/run/a", "b.sock"), ("/run", "a"), ("/", "run")];
        assert_eq!(found, expected.map(|(folder, name)| (Path::new(folder), OsStr::new(name))));
        assert_eq!(ways(Path::new("b.sock")).next(), Some((Path::new("."), OsStr::new("b.sock"))));
    }

    #[test]
    fn only_the_awaited_name_counts() {
        let folder = scratch("name");
        let mut watch = FolderWatch::start(&folder.join("wanted")).unwrap();
        assert!(!watch.has_changed());
        std::fs::write(folder.join("other"), "").unwrap();
        assert!(!watch.has_changed());
        std::fs::write(folder.join("wanted"), "").unwrap();
        assert!(watch.has_changed());
        assert!(!watch.has_changed());
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(watch.has_changed(), "the folder itself is gone");
    }

    #[test]
    fn a_folder_that_is_missing_is_waited_for_from_above() {
        let folder = scratch("above");
        let mut watch = FolderWatch::start(&folder.join("deep/deeper/wanted")).unwrap();
        std::fs::create_dir(folder.join("other")).unwrap();
        assert!(!watch.has_changed());
        std::fs::create_dir(folder.join("deep")).unwrap();
        assert!(watch.has_changed());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

//! The instances that an operator has drained, in a small file beside the registrar's sockets: a drain outlives a
//! restart of the registrar. All else is told anew by shims, Docker and peers; this nobody else knows.
//!
//! ```text
//! # Instances that an operator has taken out of service, by key.
//! 0123456789ab
//! ```
//! The file lives as long as the runtime folder: until the host restarts, and all containers with it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use model::InstanceKey;
use model::host_record::INSTANCES_MAX;

const HEADING: &str = "# Instances that an operator has taken out of service, by key.\n";

/// The longest file that is read, in bytes: a line of 13 bytes for each instance that a host can have, and room for
/// what an editor adds.
const FILE_MAX: u64 = 64 * 1024;

/// The most bad lines that are named.
const PROBLEMS_MAX: usize = 8;

/// The file, and what stands in it.
#[derive(Debug)]
pub(crate) struct DrainFile {
    path: PathBuf,
    /// What stands in it.
    saved: BTreeSet<InstanceKey>,
}

/// What was read: the keys, and what is wrong with the rest, in words.
pub(crate) type Restored = (BTreeSet<InstanceKey>, Vec<String>);

impl DrainFile {
    /// The file beside the registrar's socket, and what an earlier registrar left there. Whoever calls this holds the
    /// socket's lock.
    pub(crate) fn beside(socket: &Path) -> (Self, Restored) {
        let path = socket.with_extension("drains");
        let (keys, problems) = match read(&path) {
            Ok(text) => parse(&text),
            Err(error) if error.kind() == ErrorKind::NotFound => Restored::default(),
            Err(error) => (BTreeSet::new(), vec![error.to_string()]),
        };
        let name = |problem| format!("{}: {problem}", path.display());
        let problems = problems.into_iter().map(name).collect();
        (Self { path, saved: keys.clone() }, (keys, problems))
    }

    /// Has the file say this, if it does not. It is replaced as a whole, or stays as it was.
    ///
    /// # Errors
    /// In words that name the file: it could not be written.
    pub(crate) fn save(&mut self, keys: &BTreeSet<InstanceKey>) -> Result<(), String> {
        if *keys != self.saved {
            self.write(keys).map_err(|error| format!("{}: {error}", self.path.display()))?;
            self.saved.clone_from(keys);
        }
        Ok(())
    }

    fn write(&self, keys: &BTreeSet<InstanceKey>) -> io::Result<()> {
        if keys.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                removed => removed,
            };
        }
        let lines = keys.iter().take(INSTANCES_MAX).map(|key| format!("{key}\n"));
        let text: String = std::iter::once(HEADING.to_owned()).chain(lines).collect();
        let new = self.path.with_extension("drains.new");
        // No fsync: what matters is that the registrar may die, and the folder does not outlive the system.
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        fs::rename(&new, &self.path)
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("longer than {FILE_MAX} bytes: nothing of it is believed")));
    }
    Ok(text)
}

/// A line that makes no sense is named, and the others count.
fn parse(text: &str) -> Restored {
    let (mut keys, mut problems) = Restored::default();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match line.parse::<InstanceKey>() {
            Ok(key) if keys.len() < INSTANCES_MAX => drop(keys.insert(key)),
            Ok(_) => problems.push(format!("line {}: more than {INSTANCES_MAX} instances", number + 1)),
            Err(error) => problems.push(format!("line {}: {line:.40?}: {error}", number + 1)),
        }
    }
    problems.truncate(PROBLEMS_MAX);
    (keys, problems)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn keys(keys: &[&str]) -> BTreeSet<InstanceKey> {
        keys.iter().map(|key| key.parse().unwrap()).collect()
    }

    #[test]
    fn what_is_saved_is_there_for_the_next_registrar_and_for_root_alone() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("registrar.sock");
        let (mut file, restored) = DrainFile::beside(&socket);
        assert_eq!(restored, Restored::default());
        let saved = keys(&["0123456789ab", "ffffffffffff"]);
        file.save(&saved).unwrap();
        assert_eq!(DrainFile::beside(&socket).1, (saved, vec![]));
        assert_eq!(fs::metadata(folder.path().join("registrar.drains")).unwrap().mode() & 0o777, 0o600);
        file.save(&keys(&[])).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left of it");
        assert_eq!(DrainFile::beside(&socket).1, Restored::default());
    }

    #[test]
    fn a_bad_line_is_named_and_the_others_count() {
        let (found, problems) = parse("# heading\n\n0123456789ab\nrubbish\n 0123456789ac \n0123456789abcd\n");
        assert_eq!(found, keys(&["0123456789ab", "0123456789ac"]));
        assert_eq!(problems.len(), 2);
        assert!(problems[0].starts_with("line 4: \"rubbish\": not an instance"), "{problems:?}");
    }

    #[test]
    fn what_is_too_much_is_not_taken_in() {
        let many: String = (0..INSTANCES_MAX + 100).map(|number| format!("{number:012x}\n")).collect();
        let (found, problems) = parse(&many);
        assert_eq!((found.len(), problems.len()), (INSTANCES_MAX, PROBLEMS_MAX));
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("registrar.drains"), "#".repeat(70_000)).unwrap();
        let (_, (found, problems)) = DrainFile::beside(&folder.path().join("registrar.sock"));
        assert!(found.is_empty() && problems[0].contains("registrar.drains: longer than"), "{problems:?}");
        fs::write(folder.path().join("registrar.drains"), [0xff, 0xfe]).unwrap();
        let (_, (found, problems)) = DrainFile::beside(&folder.path().join("registrar.sock"));
        assert!(found.is_empty() && problems.len() == 1, "{problems:?}");
    }

    #[test]
    fn a_file_that_can_not_be_written_stays_as_it_was_and_is_tried_again() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("registrar.sock");
        let (mut file, _) = DrainFile::beside(&socket);
        let first = keys(&["0123456789ab"]);
        file.save(&first).unwrap();
        // A folder is in the way.
        let in_the_way = folder.path().join("registrar.drains.new");
        fs::create_dir(&in_the_way).unwrap();
        let second = keys(&["0123456789ab", "0123456789ac"]);
        let refused = file.save(&second).unwrap_err();
        assert!(refused.contains("registrar.drains: "), "{refused}");
        assert_eq!(DrainFile::beside(&socket).1.0, first);
        fs::remove_dir(&in_the_way).unwrap();
        file.save(&second).unwrap();
        assert_eq!(DrainFile::beside(&socket).1.0, second);
    }
}

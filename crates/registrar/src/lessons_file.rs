//! What was learned of unlabelled ports, in a small file of the state folder: it outlives restarts of the registrar and of
//! the host. A loss costs one connection for each program: until then its port is forwarded as bytes.
//!
//! The file is JSON, one object for each program (an image's id, and a hash of the command) and container port, the oldest
//! first; `finding` is a code of the crate
//! `evidence`. It may be deleted at any time while the registrar is stopped.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use catalog::{LESSONS_MAX, Lessons, ProgramPort};
use evidence::Finding;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;

const FILE_NAME: &str = "learned.json";

/// The longest file that is read, in bytes: a program has about 90.
const FILE_MAX: u64 = LESSONS_MAX as u64 * 400;

/// How long further news are waited for before the file is written.
const SETTLE: Duration = Duration::from_millis(500);

#[derive(Deserialize, Serialize)]
struct Entry {
    program: String,
    container_port: u16,
    finding: u8,
}

/// The file in the state folder.
#[derive(Clone, Debug)]
pub(crate) struct LessonsFile {
    path: PathBuf,
}

impl LessonsFile {
    /// The file in this folder, whether it is there or not.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self { path: folder.join(FILE_NAME) }
    }

    /// What stands in it. A file that is not there says nothing; one that can't be read is named in the log, and says
    /// nothing either.
    pub(crate) fn load(&self) -> Lessons {
        match self.read() {
            Ok(lessons) => lessons,
            Err(error) if error.kind() == ErrorKind::NotFound => Lessons::default(),
            Err(error) => {
                warn!(file = %self.path.display(), %error, "what was learned before is lost, and learned anew");
                Lessons::default()
            }
        }
    }

    fn read(&self) -> io::Result<Lessons> {
        let mut text = String::new();
        File::open(&self.path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > FILE_MAX {
            return Err(io::Error::other(format!("longer than {FILE_MAX} bytes")));
        }
        let entries: Vec<Entry> = serde_json::from_str(&text)?;
        let mut lessons = Lessons::default();
        for entry in entries {
            // A code that a later release wrote is passed over.
            if let Some(finding) = Finding::from_code(entry.finding) {
                lessons.learn(ProgramPort { program: entry.program, container_port: entry.container_port }, finding);
            }
        }
        Ok(lessons)
    }

    /// Replaces the file as a whole, or leaves it as it was.
    fn save(&self, lessons: &Lessons) -> io::Result<()> {
        let entry = |(subject, finding): (&ProgramPort, Finding)| Entry {
            program: subject.program.clone(),
            container_port: subject.container_port,
            finding: finding.code(),
        };
        let entries: Vec<_> = lessons.iter().map(entry).collect();
        if let Some(folder) = self.path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        }
        let new = self.path.with_extension("json.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&entries)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)
    }

    /// Writes what is learned from now on, until the sender is gone.
    pub(crate) async fn keep(self, mut lessons: watch::Receiver<Lessons>) {
        while lessons.changed().await.is_ok() {
            tokio::time::sleep(SETTLE).await;
            let latest = lessons.borrow_and_update().clone();
            let file = self.clone();
            let saved = tokio::task::spawn_blocking(move || file.save(&latest)).await;
            if let Ok(Err(error)) = saved {
                warn!(
                    file = %self.path.display(), %error,
                    "what was learned of unlabelled ports can't be kept over a restart: check --state-folder"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use evidence::Reason;

    use super::*;

    fn subject(image: &str) -> ProgramPort {
        ProgramPort { program: image.to_owned(), container_port: 80 }
    }

    #[test]
    fn what_was_learned_is_read_back_in_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let file = LessonsFile::in_folder(&folder.path().join("new"));
        assert_eq!(file.load().iter().count(), 0, "there is no file yet");
        let mut lessons = Lessons::default();
        lessons.learn(subject("redis"), Finding::Tcp(Reason::NotHttp));
        lessons.learn(subject("nginx"), Finding::Http);
        file.save(&lessons).unwrap();
        let read = file.load();
        let images: Vec<_> = read.iter().map(|(subject, _)| subject.program.as_str()).collect();
        assert_eq!(images, ["redis", "nginx"]);
        assert_eq!(read.get(&subject("nginx")), Some(Finding::Http));
    }

    #[test]
    fn a_broken_file_and_an_unknown_finding_cost_no_more_than_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let file = LessonsFile::in_folder(folder.path());
        fs::write(&file.path, "[{").unwrap();
        assert_eq!(file.load().iter().count(), 0);
        let text =
            r#"[{"program":"a","container_port":80,"finding":250},{"program":"b","container_port":80,"finding":1}]"#;
        fs::write(&file.path, text).unwrap();
        let read = file.load();
        assert_eq!((read.get(&subject("a")), read.get(&subject("b"))), (None, Some(Finding::Http)));
    }

    #[tokio::test]
    async fn news_are_written_down() {
        let folder = tempfile::tempdir().unwrap();
        let file = LessonsFile::in_folder(folder.path());
        let (sender, receiver) = watch::channel(Lessons::default());
        let keeper = tokio::spawn(file.clone().keep(receiver));
        sender.send_modify(|lessons| {
            lessons.learn(subject("nginx"), Finding::Http);
        });
        tokio::time::sleep(SETTLE * 3).await;
        drop(sender);
        keeper.await.unwrap();
        assert_eq!(file.load().get(&subject("nginx")), Some(Finding::Http));
    }
}

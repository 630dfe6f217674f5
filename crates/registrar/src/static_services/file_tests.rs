//! How the file is followed, each rule as a sentence, on real files.

use std::fs;

use super::*;

const ONE: &str = "- {name: one, ports: [{port: 1}]}\n";
const TWO: &str = "- {name: one, ports: [{port: 1}]}\n- {name: two, ports: [{port: 2}]}\n";

/// A file, and a clock that stands still beside it.
struct Bench {
    folder: tempfile::TempDir,
    path: PathBuf,
    watched: Watched,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("static.yaml");
        Self { folder, path, watched: Watched::default() }
    }

    /// Looks while the file is young: the names of the services and the problems, if they are others now.
    fn look(&mut self) -> Option<(Vec<String>, Vec<String>)> {
        self.look_at(SystemTime::now())
    }

    /// Looks when the file is old.
    fn look_later(&mut self) -> Option<(Vec<String>, Vec<String>)> {
        self.look_at(SystemTime::now() + Duration::from_secs(60))
    }

    fn look_at(&mut self, now: SystemTime) -> Option<(Vec<String>, Vec<String>)> {
        let list = self.watched.look(&self.path, now)?;
        Some((list.services.iter().map(|entry| entry.service.name.to_string()).collect(), list.problems))
    }

    fn write(&self, text: &str) {
        fs::write(&self.path, text).unwrap();
    }
}

fn names(names: &[&str]) -> Option<(Vec<String>, Vec<String>)> {
    Some((names.iter().map(|name| (*name).to_owned()).collect(), vec![]))
}

#[test]
fn a_file_that_is_there_is_read_at_once_and_once() {
    let mut bench = Bench::new();
    bench.write(ONE);
    assert_eq!(bench.look_later(), names(&["one"]));
    assert_eq!(bench.look_later(), None);
}

#[test]
fn a_file_that_was_just_written_is_read_when_it_has_settled() {
    let mut bench = Bench::new();
    bench.write(ONE);
    assert_eq!(bench.look(), None, "it may be half of it");
    bench.write(TWO);
    assert_eq!(bench.look(), None, "it was");
    assert_eq!(bench.look(), names(&["one", "two"]));
}

#[test]
fn a_file_of_the_future_is_read_as_well() {
    let mut bench = Bench::new();
    bench.write(ONE);
    let future = SystemTime::now() + Duration::from_secs(3600);
    File::options().write(true).open(&bench.path).unwrap().set_modified(future).unwrap();
    assert_eq!((bench.look(), bench.look()), (None, names(&["one"])));
}

#[test]
fn a_missing_file_is_said_once_and_waited_for() {
    let mut bench = Bench::new();
    bench.path = bench.folder.path().join("later/static.yaml");
    let (services, problems) = bench.look().unwrap();
    assert!(services.is_empty() && problems[0].contains("No such file"), "{problems:?}");
    assert_eq!(bench.look(), None);
    fs::create_dir(bench.folder.path().join("later")).unwrap();
    bench.write(ONE);
    assert_eq!(bench.look_later(), names(&["one"]));
}

#[test]
fn a_file_that_is_renamed_over_is_read() {
    let mut bench = Bench::new();
    bench.write(ONE);
    assert_eq!(bench.look_later(), names(&["one"]));
    // The same length and time: the file is another one all the same.
    let modified = fs::metadata(&bench.path).unwrap().modified().unwrap();
    let new = bench.folder.path().join("new");
    fs::write(&new, ONE.replace("one", "neo")).unwrap();
    File::options().write(true).open(&new).unwrap().set_modified(modified).unwrap();
    fs::rename(&new, &bench.path).unwrap();
    assert_eq!(bench.look_later(), names(&["neo"]));
}

#[test]
fn what_is_bad_or_gone_changes_nothing_but_is_said() {
    let mut bench = Bench::new();
    bench.write(TWO);
    assert_eq!(bench.look_later(), names(&["one", "two"]));
    for bad in ["- {name: one, ports: [", "", "name: one", "- a\u{0}"] {
        bench.write(bad);
        let (services, problems) = bench.look_later().unwrap();
        assert_eq!((services.len(), problems.len()), (2, 1), "{bad:?}");
        assert!(problems[0].ends_with("; 2 static services are kept until it can be read"), "{problems:?}");
    }
    bench.write("\u{feff}");
    fs::write(&bench.path, b"- \xff").unwrap();
    assert!(bench.look_later().unwrap().1[0].contains("UTF-8"));
    fs::write(&bench.path, vec![b' '; 1024 * 1024 + 1]).unwrap();
    assert!(bench.look_later().unwrap().1[0].contains("longer than 1048576 bytes"));
    fs::remove_file(&bench.path).unwrap();
    assert!(bench.look_later().unwrap().1[0].contains("No such file"));
    fs::create_dir(&bench.path).unwrap();
    assert!(bench.look_later().unwrap().1[0].contains("no file"));
    fs::remove_dir(&bench.path).unwrap();
    bench.look_later();
    bench.write(TWO);
    assert_eq!(bench.look_later(), names(&["one", "two"]), "and the problem is gone");
    bench.write("[]");
    assert_eq!(bench.look_later(), names(&[]));
}

#[test]
fn a_file_that_comes_back_as_it_was_is_good_again() {
    let mut bench = Bench::new();
    bench.write(ONE);
    assert_eq!(bench.look_later(), names(&["one"]));
    let aside = bench.folder.path().join("aside");
    fs::rename(&bench.path, &aside).unwrap();
    assert_eq!(bench.look_later().unwrap().1.len(), 1);
    fs::rename(&aside, &bench.path).unwrap();
    assert_eq!(bench.look_later(), names(&["one"]));
}

#[test]
fn a_bad_entry_is_left_out_of_a_good_file() {
    let mut bench = Bench::new();
    bench.write(&format!("{ONE}- {{name: bad}}\n"));
    let (services, problems) = bench.look_later().unwrap();
    assert_eq!(services, ["one"]);
    assert!(problems.len() == 1 && problems[0].starts_with("entry 2 (bad) is left out: "), "{problems:?}");
}

#[tokio::test]
async fn the_watch_sends_what_changes_and_ends_with_its_listener() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("static.yaml");
    let (sender, mut lists) = mpsc::channel(1);
    let task = tokio::spawn(watch(path.clone(), sender, |list| list));
    assert_eq!(lists.recv().await.unwrap().services, []);
    fs::write(&path, ONE).unwrap();
    assert_eq!(lists.recv().await.unwrap().services.len(), 1);
    fs::write(&path, TWO).unwrap();
    assert_eq!(lists.recv().await.unwrap().services.len(), 2);
    drop(lists);
    fs::write(&path, ONE).unwrap();
    tokio::time::timeout(Duration::from_secs(10), task).await.expect("it ends").unwrap();
}

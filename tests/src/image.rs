//! Images for containers, made locally: there is no registry in the lab.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::parts;

/// The name of the image whose program says what it was asked; see `bin/echo-app.rs`.
pub const WEB: &str = "web";
/// The name of the image with Debian's programs.
pub const DEBIAN: &str = "debian";

/// The tar file of [`WEB`]: busybox as `/bin/sh` and all the rest, and our `echo-app`.
#[must_use]
pub fn web() -> PathBuf {
    static TAR: OnceLock<PathBuf> = OnceLock::new();
    TAR.get_or_init(make_web).clone()
}

/// How [`WEB`] is started unless told otherwise: HTTP on port 80.
#[must_use]
pub fn web_settings() -> Vec<String> {
    ["ENV PATH=/bin", r#"ENTRYPOINT ["/echo-app"]"#, r#"CMD ["http:80"]"#].map(str::to_owned).to_vec()
}

/// A tar file with these programs at these paths, each with the libraries that it loads.
///
/// # Panics
/// A program does not exist or a file can't be written.
#[must_use]
pub fn of_programs(name: &str, programs: &[(&Path, &str)]) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let unique = format!("{name}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let folder = folder().join(unique);
    for (program, path) in programs {
        copy(program, &folder, Path::new(path));
        for library in libraries(program) {
            copy(&library, &folder, &library);
        }
    }
    for empty in ["tmp", "run", "etc", "proc", "sys", "dev"] {
        fs::create_dir_all(folder.join(empty)).expect("a folder that was just made can be written");
    }
    let tar = folder.with_extension("tar");
    let status = Command::new("tar").arg("-cf").arg(&tar).arg("-C").arg(&folder).arg(".").status();
    assert!(status.is_ok_and(|status| status.success()), "tar could not write {}", tar.display());
    fs::remove_dir_all(&folder).expect("a folder that was just made can be removed");
    tar
}

fn folder() -> PathBuf {
    parts::project().join("target/e2e/images")
}

/// Removes the images of labs whose process is gone.
pub(crate) fn sweep() {
    for image in fs::read_dir(folder()).into_iter().flatten().flatten() {
        let name = image.file_name().to_string_lossy().into_owned();
        let process = name.rsplit('-').nth(1).unwrap_or_default();
        if !Path::new("/proc").join(process).exists() {
            let _ = fs::remove_file(image.path()).or_else(|_| fs::remove_dir_all(image.path()));
        }
    }
}

fn make_web() -> PathBuf {
    let (busybox, echo) = (parts::busybox(), parts::own_binary("echo-app"));
    let tools = ["busybox", "sh", "sleep", "wget", "nc", "cat", "ip"].map(|tool| format!("/bin/{tool}"));
    let mut programs: Vec<_> = tools.iter().map(|tool| (busybox.as_path(), tool.as_str())).collect();
    programs.push((&echo, "/echo-app"));
    of_programs(WEB, &programs)
}

fn copy(from: &Path, folder: &Path, to: &Path) {
    let to = folder.join(to.strip_prefix("/").expect("a path in an image begins with a slash"));
    let parent = to.parent().expect("a file has a folder");
    let copied = fs::create_dir_all(parent).and_then(|()| fs::copy(from, &to));
    copied.unwrap_or_else(|error| panic!("{} could not be copied to {}: {error}", from.display(), to.display()));
    fs::set_permissions(&to, fs::Permissions::from_mode(0o755)).expect("our own file");
}

/// The libraries that a program loads; none where it is static.
fn libraries(program: &Path) -> Vec<PathBuf> {
    let output = Command::new("ldd").arg(program).output().expect("ldd comes with libc");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    printed.lines().filter_map(path).collect()
}

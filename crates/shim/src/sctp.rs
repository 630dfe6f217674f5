//! SCTP: docker-proxy does it, so it is handed over to it, with all that dockerd gave us.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const NAME: &str = "docker-proxy";

/// Where packages put it, besides `PATH` (which dockerd may have been started without).
const FOLDERS: [&str; 6] =
    ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/usr/libexec/docker", "/usr/lib/docker"];

/// Becomes docker-proxy. Returns only why that failed, in words.
pub(crate) fn become_docker_proxy() -> String {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let Some(program) = find(std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from))) else {
        return format!(
            "SCTP ports are forwarded by {NAME}, which is neither on the PATH nor in {}: install it there",
            FOLDERS.join(", ")
        );
    };
    let error = Command::new(&program).args(std::env::args_os().skip(1)).exec();
    format!("{} can't be run to forward an SCTP port: {error}", program.display())
}

/// The first docker-proxy in these folders that is not the shim itself, installed under that name.
fn find(mut folders: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    let own = identity(Path::new("/proc/self/exe"));
    folders.find_map(|folder| Some(folder.join(NAME)).filter(|program| program.is_file() && identity(program) != own))
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    path.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shim_under_docker_proxys_name_is_passed_over() {
        let scratch = std::env::temp_dir().join(format!("shim-sctp-{}", std::process::id()));
        let folders = ["missing", "ourselves", "real"].map(|name| scratch.join(name));
        std::fs::create_dir_all(&folders[1]).unwrap();
        std::fs::create_dir_all(&folders[2]).unwrap();
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), folders[1].join(NAME)).unwrap();
        assert_eq!(find(folders.iter().cloned()), None);
        std::fs::write(folders[2].join(NAME), "").unwrap();
        assert_eq!(find(folders.iter().cloned()), Some(folders[2].join(NAME)));
        std::fs::remove_dir_all(&scratch).unwrap();
    }
}

//! What is left after the tour: a host to play with, and the way into it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use lab::{Docker, Host, parts};

/// Relative to the project's top folder, where the tour is started.
const ENTER: &str = "target/demo/enter";

/// A program that runs commands on the host. Removed when dropped.
#[derive(Debug)]
pub(crate) struct WayIn;

impl WayIn {
    /// Writes it.
    pub(crate) fn new(host: &Host, docker: Docker) -> Self {
        let path = parts::project().join(ENTER);
        fs::create_dir_all(path.parent().expect("it is in a folder")).expect("target can be written");
        fs::write(&path, script(host.namespace().first_process(), docker)).expect("target can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
        Self
    }

    /// What to try.
    pub(crate) fn hints(&self, host: &Host) -> String {
        let address = host.address();
        format!(
            "{ENTER} runs a command on this host, or a shell:\n\n\
             {ENTER} shimctl ports\n\
             {ENTER} docker ps\n\
             {ENTER} docker run -d -p 8081:80 -l ServiceName=mine -l EnvironmentName=demo web\n\
             {ENTER} curl -s http://{address}:8081/hello\n\
             {ENTER} curl -s '127.0.0.1:9901/stats?filter=local/mine'\n\
             {ENTER} env IMAGE=web deploy/run-services"
        )
    }
}

impl Drop for WayIn {
    fn drop(&mut self) {
        let _ = fs::remove_file(parts::project().join(ENTER));
    }
}

fn script(first_process: u32, docker: Docker) -> String {
    let folders = [parts::project().join("target/dist")].into_iter().chain(parts::docker_folders(docker));
    let path: Vec<_> = folders.map(|folder| quoted(&folder)).collect();
    format!(
        "#!/bin/sh\n\
         # Runs a command, or a shell, on the demo's host.\n\
         [ \"$(id -u)\" = 0 ] || exec sudo \"$0\" \"$@\"\n\
         [ $# -gt 0 ] || set -- /bin/bash\n\
         PATH={}:$PATH:/usr/sbin:/sbin\n\
         export PATH\n\
         # Docker of this host, whatever the caller's settings say.\n\
         unset DOCKER_HOST DOCKER_CONTEXT DOCKER_TLS_VERIFY\n\
         exec nsenter --target {first_process} --mount --net --pid --uts -- \\\n  \
         /bin/sh -c 'cd \"$1\" && shift && exec \"$@\"' sh \"$PWD\" \"$@\"\n",
        path.join(":")
    )
}

/// A path as one word of a shell's.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

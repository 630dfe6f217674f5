//! `-reload`: finds the running shim of the same mapping, and asks it to announce itself again.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::args::{self, Command, Mapping};
use crate::port;

/// What the kernel appends to the name of an executable that was replaced since.
const REPLACED: &[u8] = b" (deleted)";

/// Sends SIGHUP to the shim of `mapping`.
///
/// # Errors
/// There is none, or it belongs to somebody else; in words.
pub(crate) fn reload(mapping: Mapping) -> Result<(), String> {
    let pid = find(mapping).ok_or_else(|| format!("no shim is running for {}", mapping.published))?;
    kill(Pid::from_raw(pid), Signal::SIGHUP).map_err(|errno| format!("the shim {pid}: {}", port::text(errno)))
}

fn find(mapping: Mapping) -> Option<i32> {
    let own_pid = i32::try_from(std::process::id()).ok()?;
    let own_name = executable_name(Path::new("/proc/self/exe"))?;
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let found = pid != own_pid
            && executable_name(&entry.path().join("exe")).is_some_and(|name| name == own_name)
            && std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| serves(&line, mapping));
        found.then_some(pid)
    })
}

/// The file name behind a link to an executable, of before it was replaced.
fn executable_name(link: &Path) -> Option<OsString> {
    let target = std::fs::read_link(link).ok()?;
    let name = target.file_name()?.as_bytes();
    Some(OsStr::from_bytes(name.strip_suffix(REPLACED).unwrap_or(name)).to_owned())
}

/// Whether a command line, its arguments ended by zeros, is that of a shim that serves `mapping`.
fn serves(line: &[u8], mapping: Mapping) -> bool {
    let arguments = line.split(|byte| *byte == 0).skip(1).filter(|argument| !argument.is_empty());
    let command = args::parse(arguments.map(|argument| OsStr::from_bytes(argument).to_owned()));
    matches!(command, Ok(Command::Serve { mapping: served, .. }) if served == mapping)
}

#[cfg(test)]
mod tests {
    use model::{Protocol, PublishedPort};

    use super::*;

    #[test]
    fn a_shim_is_known_by_its_mapping_not_by_the_look_of_its_flags() {
        let published = PublishedPort { address: [0, 0, 0, 0].into(), port: 8080, protocol: Protocol::Tcp };
        let mapping = Mapping { published, container: "172.17.0.2:80".parse().unwrap() };
        let line = "shim -proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 -container-port 80 ";
        let is = |line: &str| serves(line.replace(' ', "\0").as_bytes(), mapping);
        assert!(is(line));
        assert!(is(&format!("{line}-use-listen-fd ")));
        assert!(is("s --host-ip=0.0.0.0 --host-port=8080 --container-ip=172.17.0.2 --container-port=80 "));
        assert!(!is(&line.replace("tcp", "udp")));
        assert!(!is(&line.replace("8080", "8081")));
        assert!(!is(&format!("{line}-reload ")), "one who asks is not one who serves");
        assert!(!is(""));
    }
}

//! The processes that matter for `check`: who runs them, with which rights, and who listens on a port.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::facts::{Descriptors, Program};
use crate::process::{ProcessTable, program_name};

/// A listening socket's state in `/proc/net/tcp`.
const LISTENS: &str = "0A";

/// All processes of this network namespace that run one of `names`. Those that may not be looked at are left out.
///
/// # Errors
/// The table itself can't be read.
pub(crate) fn running(table: &ProcessTable, names: &[&str]) -> io::Result<Vec<Program>> {
    let here = table.network_namespace()?;
    let program = |pid: u32| {
        let exe = fs::read_link(table.file(pid, "exe")).ok()?;
        let name = names.iter().find(|name| program_name(&exe) == name.as_bytes())?;
        let is_here = fs::read_link(table.file(pid, "ns/net")).is_ok_and(|namespace| namespace == here);
        let status = fs::read_to_string(table.file(pid, "status")).ok().filter(|_| is_here)?;
        let (uid, capabilities) = rights(&status)?;
        let is_stopped = field(&status, "State").is_some_and(|state| state.starts_with(['T', 't']));
        Some(Program {
            name: (*name).to_owned(),
            pid,
            uid,
            capabilities,
            is_stopped,
            descriptors: descriptors(table, pid),
        })
    };
    Ok(table.pids()?.into_iter().filter_map(program).collect())
}

/// A process's command line, in words.
pub(crate) fn arguments(table: &ProcessTable, pid: u32) -> Vec<String> {
    let line = fs::read(table.file(pid, "cmdline")).unwrap_or_default();
    let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// Who listens on this TCP port: the program's name and its process id. `None` for nobody, or nobody who may be
/// looked at.
pub(crate) fn listener_on(table: &ProcessTable, port: u16) -> Option<(String, u32)> {
    let read = |name: &str| fs::read_to_string(table.0.join("self/net").join(name)).unwrap_or_default();
    let inodes = listening_inodes(&(read("tcp") + &read("tcp6")), port);
    let links: Vec<_> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    let holds = |pid: &u32| open_files(table, *pid).any(|file| links.iter().any(|link| file == Path::new(link)));
    let pid = table.pids().ok()?.into_iter().find(holds).filter(|_| !links.is_empty())?;
    let exe = fs::read_link(table.file(pid, "exe")).ok()?;
    Some((String::from_utf8_lossy(program_name(&exe)).into_owned(), pid))
}

fn open_files(table: &ProcessTable, pid: u32) -> impl Iterator<Item = PathBuf> {
    let descriptors = fs::read_dir(table.file(pid, "fd")).into_iter().flatten().flatten();
    descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok())
}

fn descriptors(table: &ProcessTable, pid: u32) -> Option<Descriptors> {
    let open = fs::read_dir(table.file(pid, "fd")).ok()?.count() as u64;
    let max = most_open_files(&fs::read_to_string(table.file(pid, "limits")).ok()?)?;
    Some(Descriptors { open, max })
}

/// The soft limit of open files out of `/proc/PID/limits` (proc(5)).
fn most_open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// A field of `/proc/PID/status` (proc(5)).
pub(crate) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// Effective uid and capabilities out of `/proc/PID/status` (proc(5)).
fn rights(status: &str) -> Option<(u32, u64)> {
    let uid = field(status, "Uid")?.split_whitespace().nth(1)?.parse().ok()?;
    let capabilities = u64::from_str_radix(field(status, "CapEff")?, 16).ok()?;
    Some((uid, capabilities))
}

/// Inodes of the sockets that listen on `port`, out of `/proc/net/tcp` and `tcp6` (proc(5)).
fn listening_inodes(sockets: &str, port: u16) -> Vec<u64> {
    let inode = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let local_port = u16::from_str_radix(fields.get(1)?.rsplit_once(':')?.1, 16).ok()?;
        let is_it = local_port == port && *fields.get(3)? == LISTENS;
        is_it.then(|| fields.get(9)?.parse().ok()).flatten()
    };
    sockets.lines().filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_process_is_found_by_its_program_with_its_rights() {
        let own = std::env::current_exe().unwrap();
        let name = String::from_utf8_lossy(program_name(&own)).into_owned();
        let found = running(&ProcessTable::default(), &[&name]).unwrap();
        let uid = rustix::process::geteuid().as_raw();
        assert!(found.iter().any(|program| program.pid == std::process::id() && program.uid == uid), "{found:?}");
        assert_eq!(running(&ProcessTable::default(), &["no-such-program"]).unwrap(), []);
    }

    #[test]
    fn rights_are_the_effective_ones() {
        let status = "Name:\tenvoy\nUid:\t1\t101\t1\t1\nCapPrm:\t0000000000000001\nCapEff:\t0000000000000400\n";
        assert_eq!(rights(status), Some((101, 0x400)));
        assert_eq!(rights("Name:\tenvoy\n"), None);
    }

    #[test]
    fn open_files_and_their_limit_are_counted() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 4096                 files     \n";
        assert_eq!(most_open_files(limits), Some(1024));
        assert_eq!(most_open_files("Max open files  unlimited  unlimited  files"), Some(u64::MAX));
        assert_eq!(most_open_files("Max processes  1  1"), None);
        let own = descriptors(&ProcessTable::default(), std::process::id()).unwrap();
        assert!(own.open >= 3 && own.max >= own.open, "{own:?}");
    }

    #[test]
    fn whoever_listens_on_a_port_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let found = listener_on(&ProcessTable::default(), port);
        assert_eq!(found.map(|(_, pid)| pid), Some(std::process::id()));
        drop(listener);
        assert_eq!(listener_on(&ProcessTable::default(), port), None);
    }

    #[test]
    fn a_connection_to_the_port_is_not_its_listener() {
        let sockets = "  sl  local_address rem_address   st\n   0: 0100007F:1F0A 00000000:0000 0A 0:0 0:0 0 0 0 71 1\n\
                          1: 0100007F:1F0A 0100007F:9999 01 0:0 0:0 0 0 0 72 1\n   2: broken\n";
        assert_eq!(listening_inodes(sockets, 7946), [71]);
    }
}

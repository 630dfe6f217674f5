//! Running shims, as the process table shows them: which port each serves, its state, and a signal to it.
//!
//! A process is named by its id and its start time, so that a later process of the same id is never taken for it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// The name of the shim's program, by which it is found.
const PROGRAM: &str = "envoy-docker-shim";
/// The program whose place it takes.
const DOCKER_PROXY: &str = "docker-proxy";

/// What the kernel adds to the program's path when the file was replaced, as an upgrade does.
const REPLACED: &str = " (deleted)";

/// The kernel's clock ticks as `/proc` counts them, on every machine that Linux runs on today (`USER_HZ`).
const TICKS_PER_SECOND: u64 = 100;

/// A running shim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShimProcess {
    /// Its process id.
    pub pid: u32,
    /// When it started, in clock ticks since the system did.
    pub start_time: u64,
    /// The host's address of the published port.
    pub address: IpAddr,
    /// The host's port.
    pub port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// The shims of this network namespace, and processes that could not be judged.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// In the order of their process ids.
    pub shims: Vec<ShimProcess>,
    /// Shims that can't be told what to do, and why, in words.
    pub unusable: Vec<String>,
}

/// The process table at a folder, which is `/proc` but in tests.
#[derive(Clone, Debug)]
pub(crate) struct ProcessTable(pub(crate) PathBuf);

impl Default for ProcessTable {
    fn default() -> Self {
        Self(PathBuf::from("/proc"))
    }
}

impl ProcessTable {
    /// All shims that run in this process's network namespace: other hosts may live on the same machine.
    ///
    /// # Errors
    /// The table itself can't be read. A process that ends meanwhile is none.
    pub(crate) fn shims(&self) -> io::Result<Found> {
        self.holders(&[PROGRAM])
    }

    /// As [`Self::shims`], and Docker's own docker-proxy, which takes the same arguments; those alone that can be judged.
    ///
    /// # Errors
    /// As [`Self::shims`].
    pub(crate) fn proxies(&self) -> io::Result<Vec<ShimProcess>> {
        Ok(self.holders(&[PROGRAM, DOCKER_PROXY])?.shims)
    }

    /// The processes of these programs, each of which holds a port.
    fn holders(&self, programs: &[&str]) -> io::Result<Found> {
        let here = self.network_namespace()?;
        let mut found = Found::default();
        for pid in self.pids()? {
            match self.shim(pid, &here, programs) {
                Ok(Some(shim)) => found.shims.push(shim),
                Ok(None) => {}
                Err(reason) => found.unusable.push(format!("process {pid}: {reason}")),
            }
        }
        Ok(found)
    }

    /// This process's network namespace.
    pub(crate) fn network_namespace(&self) -> io::Result<PathBuf> {
        fs::read_link(self.0.join("self/ns/net"))
    }

    /// All process ids, in their order.
    pub(crate) fn pids(&self) -> io::Result<Vec<u32>> {
        let mut pids: Vec<u32> =
            fs::read_dir(&self.0)?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        pids.sort_unstable();
        Ok(pids)
    }

    /// The state of `shim` in the kernel's letter and word, such as `T (stopped)`; `None` when it has ended.
    pub(crate) fn state(&self, shim: &ShimProcess) -> Option<String> {
        let stat = Stat::parse(&fs::read_to_string(self.file(shim.pid, "stat")).ok()?)?;
        // A zombie has ended: it waits for dockerd to take note.
        let lives = stat.start_time == shim.start_time && !matches!(stat.state, 'Z' | 'X');
        lives.then(|| state_in_words(stat.state))
    }

    /// Sends SIGHUP to `shim`. Whoever has its process id by now is not touched, nor is a shim that has only
    /// just started: without its handler the signal would end it, and it is about to announce itself anyway.
    ///
    /// # Errors
    /// The kernel refuses, as it does where one is not root.
    pub(crate) fn hang_up(&self, shim: &ShimProcess) -> io::Result<()> {
        let Some(pid) = i32::try_from(shim.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
        let process = match pidfd_open(pid, PidfdFlags::empty()) {
            Err(rustix::io::Errno::SRCH) => return Ok(()),
            other => other?,
        };
        // From here on the process is held: what is read of it now is what the signal goes to.
        let status = fs::read_to_string(self.file(shim.pid, "status")).unwrap_or_default();
        if self.state(shim).is_none() || !minds_hang_up(&status) {
            return Ok(());
        }
        match pidfd_send_signal(process, Signal::HUP) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }

    /// When a process started; `None` where that can't be read.
    pub(crate) fn started(&self, pid: u32) -> Option<SystemTime> {
        let stat = Stat::parse(&fs::read_to_string(self.file(pid, "stat")).ok()?)?;
        let uptime: f64 = fs::read_to_string(self.0.join("uptime")).ok()?.split_whitespace().next()?.parse().ok()?;
        let system_start = SystemTime::now().checked_sub(Duration::try_from_secs_f64(uptime).ok()?)?;
        system_start.checked_add(Duration::from_millis(stat.start_time.checked_mul(1000 / TICKS_PER_SECOND)?))
    }

    /// Whether a running shim is a child of this process.
    pub(crate) fn has_started_shim(&self, parent: u32) -> bool {
        let shims = self.shims().map(|found| found.shims).unwrap_or_default();
        shims.iter().any(|shim| {
            let status = fs::read_to_string(self.file(shim.pid, "status")).unwrap_or_default();
            status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|id| id.trim() == parent.to_string()))
        })
    }

    /// A file of a process.
    pub(crate) fn file(&self, pid: u32, name: &str) -> PathBuf {
        self.0.join(pid.to_string()).join(name)
    }

    fn shim(&self, pid: u32, here: &Path, programs: &[&str]) -> Result<Option<ShimProcess>, String> {
        // A process that has gone, or a kernel's own, has no command line.
        let command_line = fs::read(self.file(pid, "cmdline")).unwrap_or_default();
        let words: Vec<_> = command_line.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let is_shim = match fs::read_link(self.file(pid, "exe")) {
            Ok(program) => is_one_of(&program, programs),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                let named_so = words.first().is_some_and(|name| is_one_of(Path::new(name.as_ref()), programs));
                return if named_so { Err("may not be looked at: run this as root".to_owned()) } else { Ok(None) };
            }
            Err(_) => false,
        };
        if !is_shim || fs::read_link(self.file(pid, "ns/net")).is_ok_and(|namespace| namespace != here) {
            return Ok(None);
        }
        let Some(stat) = fs::read_to_string(self.file(pid, "stat")).ok().and_then(|text| Stat::parse(&text)) else {
            return Ok(None);
        };
        let mapping = Mapping::parse(words.iter().skip(1).map(AsRef::as_ref));
        mapping.shim(pid, stat.start_time)
    }
}

fn is_one_of(path: &Path, programs: &[&str]) -> bool {
    programs.iter().any(|program| program_name(path) == program.as_bytes())
}

/// The name of the program that a process runs.
pub(crate) fn program_name(exe: &Path) -> &[u8] {
    let name = exe.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    name.strip_suffix(REPLACED.as_bytes()).unwrap_or(name)
}

/// What a shim's command line says of its port; the rest is no matter here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Mapping<'a> {
    address: Option<&'a str>,
    port: Option<&'a str>,
    protocol: Option<&'a str>,
    serves_no_port: bool,
}

impl<'a> Mapping<'a> {
    /// Reads flags in Go's style: one dash or two, the value after `=` or as the next word.
    fn parse(mut words: impl Iterator<Item = &'a str>) -> Self {
        let mut mapping = Self::default();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
            let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            let place = match name {
                "host-ip" => &mut mapping.address,
                "host-port" => &mut mapping.port,
                "proto" => &mut mapping.protocol,
                "reload" | "version" | "v" => {
                    mapping.serves_no_port = true;
                    continue;
                }
                _ => continue,
            };
            *place = value.or_else(|| words.next());
        }
        mapping
    }

    fn shim(&self, pid: u32, start_time: u64) -> Result<Option<ShimProcess>, String> {
        if self.serves_no_port {
            return Ok(None);
        }
        let address = self.address.unwrap_or_default();
        let address = address.parse().map_err(|_| format!("its -host-ip is {address:?}, which is no address"))?;
        let port = self.port.unwrap_or_default();
        let port = port.parse().map_err(|_| format!("its -host-port is {port:?}, which is no port"))?;
        let protocol = self.protocol.unwrap_or("tcp").to_owned();
        Ok(Some(ShimProcess { pid, start_time, address, port, protocol }))
    }
}

/// What is needed of `/proc/PID/stat` (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    start_time: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The program's name stands in parentheses, and may itself hold spaces and parentheses.
        let mut fields = text.rsplit_once(") ")?.1.split(' ');
        let state = fields.next()?.chars().next()?;
        // State is field 3 of proc(5), the start time is field 22.
        Some(Self { state, start_time: fields.nth(18)?.trim_end().parse().ok()? })
    }
}

fn state_in_words(state: char) -> String {
    let word = match state {
        'R' | 'S' | 'I' => "running",
        'D' => "waits for the kernel",
        'T' => "stopped",
        't' => "stopped by a debugger",
        _ => return state.to_string(),
    };
    format!("{word} ({state})")
}

/// Whether a process of this `/proc/PID/status` handles, ignores or blocks SIGHUP; else the signal ends it.
fn minds_hang_up(status: &str) -> bool {
    let has_bit = |name: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        // SIGHUP is signal 1, so bit 0.
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
    };
    ["SigCgt", "SigIgn", "SigBlk"].into_iter().any(has_bit)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::{Command, Stdio};

    use super::*;

    /// A process table with this process in the namespace `net:[1]`.
    fn process_table() -> (tempfile::TempDir, ProcessTable) {
        let folder = tempfile::tempdir().unwrap();
        let table = ProcessTable(folder.path().to_owned());
        fs::create_dir_all(folder.path().join("self/ns")).unwrap();
        symlink("net:[1]", folder.path().join("self/ns/net")).unwrap();
        (folder, table)
    }

    fn add(table: &ProcessTable, pid: u32, exe: &str, net: &str, words: &[&str]) {
        fs::create_dir_all(table.file(pid, "ns")).unwrap();
        symlink(net, table.file(pid, "ns/net")).unwrap();
        symlink(exe, table.file(pid, "exe")).unwrap();
        fs::write(table.file(pid, "cmdline"), words.join("\0") + "\0").unwrap();
        fs::write(table.file(pid, "stat"), stat("envoy-docker-sh", 'S', 4711)).unwrap();
    }

    fn stat(name: &str, state: char, start_time: u64) -> String {
        format!("7 ({name}) {state} 1 7 7 0 -1 4194560 90 0 0 0 0 0 0 0 20 0 1 0 {start_time} 1 1\n")
    }

    const WORDS: [&str; 7] = ["shim", "-proto", "udp", "--host-ip", "::", "-host-port=53", "-container-port"];

    #[test]
    fn shims_are_found_by_their_program_in_this_namespace_only() {
        let (_folder, table) = process_table();
        add(&table, 20, "/usr/local/bin/envoy-docker-shim", "net:[1]", &WORDS);
        add(&table, 3, "/usr/local/bin/envoy-docker-shim (deleted)", "net:[1]", &WORDS);
        add(&table, 4, "/usr/local/bin/envoy-docker-shim", "net:[2]", &WORDS);
        add(&table, 5, "/usr/bin/docker-proxy", "net:[1]", &WORDS);
        add(&table, 6, "/usr/local/bin/envoy-docker-shim", "net:[1]", &["shim", "-reload", "-host-ip", "::"]);
        let found = table.shims().unwrap();
        assert_eq!(found.shims.iter().map(|shim| shim.pid).collect::<Vec<_>>(), [3, 20]);
        let address = "::".parse().unwrap();
        let protocol = "udp".to_owned();
        assert_eq!(found.shims[0], ShimProcess { pid: 3, start_time: 4711, address, port: 53, protocol });
        assert!(found.unusable.is_empty(), "{:?}", found.unusable);
    }

    #[test]
    fn a_shim_whose_port_cannot_be_read_is_named() {
        let (_folder, table) = process_table();
        add(&table, 8, "/envoy-docker-shim", "net:[1]", &["shim", "-host-ip", "0.0.0.0", "-host-port", "http"]);
        let found = table.shims().unwrap();
        assert_eq!(found.unusable, ["process 8: its -host-port is \"http\", which is no port"]);
    }

    #[test]
    fn a_flag_without_a_value_and_an_unknown_flag_do_no_harm() {
        let parsed =
            Mapping::parse(["-later-flag", "x", "--host-ip=1.2.3.4", "-use-listen-fd", "-host-port"].into_iter());
        assert_eq!(parsed, Mapping { address: Some("1.2.3.4"), ..Mapping::default() });
    }

    #[test]
    fn a_process_that_took_over_the_id_is_not_the_shim() {
        let (_folder, table) = process_table();
        add(&table, 9, "/envoy-docker-shim", "net:[1]", &WORDS);
        let shim = table.shims().unwrap().shims.remove(0);
        assert_eq!(table.state(&shim).as_deref(), Some("running (S)"));
        for (state, start_time) in [('S', 4712), ('Z', 4711)] {
            fs::write(table.file(9, "stat"), stat("x", state, start_time)).unwrap();
            assert_eq!(table.state(&shim), None);
        }
        fs::write(table.file(9, "stat"), stat("x", 'T', 4711)).unwrap();
        assert_eq!(table.state(&shim).as_deref(), Some("stopped (T)"));
    }

    #[test]
    fn a_programs_name_may_look_like_the_rest_of_the_line() {
        assert_eq!(Stat::parse(&stat("a) T 1 (b", 'S', 5)), Some(Stat { state: 'S', start_time: 5 }));
        for broken in ["", "7 (x) ", "7 (x) S 1", "7 (x"] {
            assert_eq!(Stat::parse(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_process_without_a_handler_is_not_signalled() {
        assert!(minds_hang_up("SigBlk:\t0000000000000001\nSigCgt:\t0000000000000000\n"));
        assert!(minds_hang_up("SigCgt:\t0000000000004003\n"));
        assert!(!minds_hang_up("SigCgt:\t0000000000004002\nSigIgn:\t0000000000000000\n"));
        assert!(!minds_hang_up(""));
    }

    #[test]
    fn the_signal_reaches_a_process_that_handles_it_and_spares_one_that_does_not() {
        for (script, ends_with) in
            [("trap 'exit 3' HUP; echo ready; sleep 5 & wait", Some(3)), ("echo ready; sleep 5 & wait", None)]
        {
            let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
            let mut ready = [0; 6];
            io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
            let table = ProcessTable::default();
            let stat = fs::read_to_string(table.file(child.id(), "stat")).unwrap();
            let start_time = Stat::parse(&stat).unwrap().start_time;
            let address = "::".parse().unwrap();
            let shim = ShimProcess { pid: child.id(), start_time, address, port: 1, protocol: "tcp".to_owned() };

            table.hang_up(&shim).unwrap();
            // Another process that happens to have the id is left alone.
            table.hang_up(&ShimProcess { start_time: start_time + 1, ..shim }).unwrap();
            if ends_with.is_none() {
                child.kill().unwrap();
            }
            assert_eq!(child.wait().unwrap().code(), ends_with);
        }
    }
}

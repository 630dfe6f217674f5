//! Namespaces: a place that programs and threads can be put into, and that ends as a whole.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::Signal;

use crate::{eventually, parts};

/// The namespaces of one machine of the lab: mount, network, processes, host name.
///
/// Dropping it kills every process in it, and with them go its mounts and its network.
#[derive(Debug)]
pub struct Namespace {
    holder: Child,
    first_process: u32,
    mount: File,
    network: File,
    processes: File,
    host_name: File,
}

impl Namespace {
    /// Makes the namespaces. Inside there is a network with nothing but `lo`, which is up.
    #[must_use]
    pub fn new(host_name: &str) -> Self {
        let mut holder = spawn_holder();
        let first_process =
            eventually("a namespace's first process", Duration::from_secs(5), || first_child(&mut holder));
        let open = |kind: &str| {
            let path = format!("/proc/{first_process}/ns/{kind}");
            File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
        };
        let (mount, network, processes, host_name_file) = (open("mnt"), open("net"), open("pid"), open("uts"));
        let this = Self { holder, first_process, mount, network, processes, host_name: host_name_file };
        this.run("ip", &["link", "set", "lo", "up"]);
        this.run("hostname", &[host_name]);
        this
    }

    /// The first process's id as seen from outside; `ip link … netns PID` takes it.
    #[must_use]
    pub fn first_process(&self) -> u32 {
        self.first_process
    }

    /// Runs `work` with this network: every socket it makes is of this machine.
    pub fn in_network<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.in_thread(|this| enter_network(&this.network), work)
    }

    /// Its network, for a thread of its own.
    #[must_use]
    pub fn network(&self) -> Network {
        Network(self.network.try_clone().expect("a file can be cloned"))
    }

    /// Starts a program in all of the namespaces. Its id is that seen from outside.
    pub fn spawn(&self, command: &mut Command) -> Child {
        let spawned = self.in_thread(Self::enter, || apart(command).spawn());
        spawned.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"))
    }

    /// Runs a program in all of the namespaces to its end.
    pub fn output(&self, command: &mut Command) -> Output {
        command.stdin(Stdio::null());
        let output = self.in_thread(Self::enter, || apart(command).output());
        output.unwrap_or_else(|error| panic!("{command:?} does not start: {error}"))
    }

    /// Runs a program that must succeed, and yields what it printed.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        successful(program, arguments, &self.output(Command::new(program).args(arguments)))
    }

    /// The bytes that this machine has sent to the lab's network so far, frames' headers included.
    ///
    /// # Panics
    /// It is not joined to a network.
    #[must_use]
    pub fn bytes_sent(&self) -> u64 {
        let path = format!("/proc/{}/net/dev", self.first_process);
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let counts = text.lines().find_map(|line| line.trim().strip_prefix("eth0:"));
        let sent = counts.and_then(|counts| counts.split_whitespace().nth(8)).and_then(|sent| sent.parse().ok());
        sent.unwrap_or_else(|| panic!("{path} has no eth0: {text}"))
    }

    /// The processes in here, as seen from outside.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let Some(own) = link(&self.first_process.to_string()) else { return Vec::new() };
        let entries = fs::read_dir("/proc").expect("/proc is mounted").flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter(|name| link(name).as_ref() == Some(&own)).filter_map(|name| name.parse().ok()).collect()
    }

    /// A process of this namespace by its id as seen from inside.
    ///
    /// # Panics
    /// There is none with this id.
    #[must_use]
    pub fn outside_id(&self, inside: u64) -> u32 {
        let inside = inside.to_string();
        let is_it = |id: &u32| {
            let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
            ids.split_whitespace().last() == Some(&inside)
        };
        let found = self.processes().into_iter().find(is_it);
        found.unwrap_or_else(|| panic!("no process has the id {inside} there"))
    }

    /// Kills every process in here and in the namespaces within (containers), but for the two that keep the namespace.
    ///
    /// Those that the caller started have to be waited for by the caller.
    pub fn kill_all(&self) {
        let ids = self.inside_ids();
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        if !ids.is_empty() {
            // One may have ended by itself.
            self.output(Command::new("sh").args(["-c", &format!("kill -9 {}", ids.join(" "))]));
        }
    }

    /// The processes in here and in the namespaces within, by their ids as seen from here, but for the two that keep it.
    #[must_use]
    pub fn inside_ids(&self) -> Vec<u32> {
        let folder = format!("/proc/{}/root/proc", self.first_process);
        let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder}: {error}")).flatten();
        let mut ids: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        ids.sort_unstable();
        let sleeps = |id: &&u32| fs::read_to_string(format!("{folder}/{id}/comm")).is_ok_and(|name| name == "sleep\n");
        // The first process and its own child, see `holder_command`.
        let kept = [Some(1), ids.iter().find(sleeps).copied()];
        ids.retain(|id| !kept.contains(&Some(*id)));
        ids
    }

    fn enter(&self) {
        // Threads share their working folder, and one that does can't change its mounts.
        unshare(CloneFlags::CLONE_FS).expect("a thread can have a working folder of its own");
        enter_network(&self.network);
        setns(&self.host_name, CloneFlags::CLONE_NEWUTS).expect("the lab runs as root");
        setns(&self.processes, CloneFlags::CLONE_NEWPID).expect("the lab runs as root");
        setns(&self.mount, CloneFlags::CLONE_NEWNS).expect("the lab runs as root");
    }

    /// Namespaces belong to threads: one that only does this one thing keeps them apart.
    fn in_thread<T: Send>(&self, enter: impl FnOnce(&Self) + Send, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(self);
                work()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The kernel kills all others with the first, before that one counts as ended; its parent then ends too.
        if crate::process::send(self.first_process, Signal::SIGKILL).is_err() {
            let _ = self.holder.kill();
        }
        let _ = self.holder.wait();
    }
}

/// Not in the terminal's process group: Ctrl-C is for this process alone, which then cleans up.
fn apart(command: &mut Command) -> &mut Command {
    command.process_group(0)
}

/// A namespace's network alone.
#[derive(Debug)]
pub struct Network(File);

impl Network {
    /// The network at this path, such as `/proc/PID/ns/net`.
    ///
    /// # Panics
    /// There is none.
    #[must_use]
    pub fn open(path: &Path) -> Self {
        Self(File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// The same once more, for another thread.
    #[must_use]
    pub(crate) fn again(&self) -> Self {
        Self(self.0.try_clone().expect("a file can be cloned"))
    }

    /// Puts the calling thread into this network, for good.
    pub fn enter(&self) {
        enter_network(&self.0);
    }
}

fn enter_network(network: &File) {
    setns(network, CloneFlags::CLONE_NEWNET).expect("the lab runs as root");
}

/// What a program printed, if it succeeded.
///
/// # Panics
/// It failed: with all that it printed.
#[track_caller]
pub(crate) fn successful(program: &str, arguments: &[&str], output: &Output) -> String {
    let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {}: {printed} {complaint}", output.status);
    printed
}

/// Starts a process that holds new namespaces open, and ends with this process, however it ends.
fn spawn_holder() -> Child {
    type Reply = mpsc::Sender<std::io::Result<Child>>;
    static KEEPER: OnceLock<Mutex<mpsc::Sender<Reply>>> = OnceLock::new();
    // The kernel's "parent" of a death signal is a thread, so one that never ends must start the holders.
    let keeper = KEEPER.get_or_init(|| {
        let (sender, requests) = mpsc::channel::<Reply>();
        std::thread::spawn(move || {
            for reply in requests {
                let _ = reply.send(holder_command().spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, holder) = mpsc::channel();
    keeper.lock().expect("nobody panics with it").send(reply).expect("the keeper never ends");
    let holder = holder.recv().expect("the keeper answers");
    holder.unwrap_or_else(|error| panic!("setpriv (of util-linux) does not start: {error}"))
}

fn holder_command() -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    command.args(["unshare", "--mount", "--net", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(parts::init()).args(["-s", "--", "sleep", "infinity"]);
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command
}

/// The holder's child, once it runs the init (which is after everything was set up).
fn first_child(holder: &mut Child) -> Result<u32, String> {
    if let Ok(Some(status)) = holder.try_wait() {
        let complaint = holder.stderr.take().map(std::io::read_to_string);
        panic!("namespaces can't be made: {status}: {}", complaint.and_then(Result::ok).unwrap_or_default());
    }
    let id = holder.id();
    let read = |path: String| fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"));
    let children = read(format!("/proc/{id}/task/{id}/children"))?;
    let child = children.trim().parse().map_err(|_| format!("no child yet: {children:?}"))?;
    match read(format!("/proc/{child}/comm"))?.trim() {
        "tini-static" => Ok(child),
        other => Err(format!("it still runs {other}")),
    }
}

//! A registrar as a process, on a host without Docker.

#![allow(dead_code, reason = "each test program uses its own part of this")]
#![allow(unreachable_pub, reason = "used by the test programs beside it")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

const BINARY: &str = env!("CARGO_BIN_EXE_envoy-docker-registrar");
pub const PATIENCE: Duration = Duration::from_secs(10);

/// A running registrar in a folder of its own.
pub struct Registrar {
    pub folder: tempfile::TempDir,
    pub process: Child,
    pub http: String,
}

impl Registrar {
    pub fn start(options: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), options)
    }

    /// Kills it and starts another in its place.
    pub fn restart(mut self, options: &[&str]) -> Self {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        Self::start_in(folder, options)
    }

    pub fn start_in(folder: tempfile::TempDir, options: &[&str]) -> Self {
        let process = command(&folder).args(options).stderr(Stdio::piped()).spawn().unwrap();
        Self::started(folder, process)
    }

    /// One that may open no more than so many files.
    pub fn start_with_descriptors(most: u64, options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ours = command(&folder);
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--nofile={most}:{most}")).arg(ours.get_program()).args(ours.get_args());
        let process = limited.args(options).stderr(Stdio::piped()).spawn().unwrap();
        Self::started(folder, process)
    }

    fn started(folder: tempfile::TempDir, mut process: Child) -> Self {
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        let started = log.by_ref().map_while(Result::ok).find(|line| line.contains("the registrar runs")).unwrap();
        let http = started.split_whitespace().find_map(|word| word.strip_prefix("http=")).unwrap().to_owned();
        // The pipe must not fill up.
        thread::spawn(move || log.for_each(drop));
        Self { folder, process, http }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("registrar.sock")
    }

    /// Status and body.
    pub fn get(&self, path: &str, host: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.http).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        in_parts(&answer)
    }

    /// An order on the admin socket; yields status and body.
    pub fn order(&self, method: &str, path: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(self.folder.path().join("admin.sock")).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        in_parts(&answer)
    }
}

/// Status and body of an HTTP answer.
fn in_parts(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

impl Drop for Registrar {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn command(folder: &tempfile::TempDir) -> Command {
    let path = |name: &str| folder.path().join(name).into_os_string().into_string().unwrap();
    let mut command = Command::new(BINARY);
    // It runs in this machine's own network: nothing may come of its service ports there.
    command.args(["--docker-host", "none", "--capture", "none", "--http-listen", "127.0.0.1:0"]);
    command.args(["--shim-socket", &path("registrar.sock"), "--xds-listen", &format!("unix:{}", path("xds.sock"))]);
    command.args(["--admin-socket", &path("admin.sock"), "--state-folder", &path("state")]);
    command
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(10));
    }
}

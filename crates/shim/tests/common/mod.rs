//! Runs the real binary as dockerd would: a pipe on fd 3, a socket on fd 4.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    reason = "shared by tests that each need a part; a test ends at a surprise"
)]

pub mod registrar;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Longer than anything takes on a busy machine; nothing waits for it to pass.
pub const PATIENCE: Duration = Duration::from_secs(20);

static COUNTER: AtomicU8 = AtomicU8::new(1);

/// An address of the loopback network that no other test uses, so that ports need not be sought.
pub fn own_address() -> IpAddr {
    let process = std::process::id();
    let (high, low) = ((process >> 8) as u8, process as u8);
    Ipv4Addr::new(127, high | 1, low, COUNTER.fetch_add(1, Ordering::Relaxed)).into()
}

/// Waits for something to become true.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A folder that is gone when the test is.
pub struct Folder(pub PathBuf);

impl Folder {
    pub fn new() -> Self {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("shim-test-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// How a shim is to be started.
pub struct Start {
    pub protocol: &'static str,
    pub host: SocketAddr,
    pub container: SocketAddr,
    pub socket: Option<OwnedFd>,
    pub extra: Vec<String>,
    pub registrar: PathBuf,
    /// Its limit of open files, if it is to have one of its own.
    pub open_files: Option<u32>,
    /// What becomes of its standard descriptors, in the shell's language.
    pub redirect: &'static str,
    /// Further environment variables.
    pub environment: Vec<(&'static str, PathBuf)>,
}

impl Start {
    /// A TCP port on an address of its own, to a container; no registrar.
    pub fn new(container: SocketAddr) -> Self {
        Self {
            protocol: "tcp",
            host: SocketAddr::new(own_address(), 8080),
            container,
            socket: None,
            extra: Vec::new(),
            registrar: PathBuf::from("/nonexistent/registrar.sock"),
            open_files: None,
            redirect: "</dev/null >/dev/null",
            environment: Vec::new(),
        }
    }

    pub fn arguments(&self) -> Vec<String> {
        let flags = [
            ("-proto", self.protocol.to_owned()),
            ("-host-ip", self.host.ip().to_string()),
            ("-host-port", self.host.port().to_string()),
            ("-container-ip", self.container.ip().to_string()),
            ("-container-port", self.container.port().to_string()),
        ];
        let flags = flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        flags.chain(self.extra.iter().cloned()).collect()
    }

    /// Starts the shim and waits for its word on fd 3.
    pub fn spawn(self) -> Shim {
        let folder = Folder::new();
        let stderr = folder.join("stderr");
        let mut child = self
            .command()
            .stdin(self.socket.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::piped())
            .stderr(File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        let mut word = String::new();
        child.stdout.take().unwrap().read_to_string(&mut word).unwrap();
        Shim { child, address: self.host, word, stderr, _folder: folder }
    }

    fn command(&self) -> Command {
        let limit = self.open_files.map(|limit| format!("ulimit -n {limit}; ")).unwrap_or_default();
        let fd_4 = if self.socket.is_some() { "4<&0" } else { "4<&-" };
        // The shell moves what a command can be given (0 and 1) to where dockerd leaves it (4 and 3).
        let script = format!("{limit}exec \"$@\" 3>&1 {fd_4} {}", self.redirect);
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", &script, "sh", env!("CARGO_BIN_EXE_envoy-docker-shim")])
            .args(self.arguments())
            .envs(self.environment.iter().map(|(name, value)| (*name, value)))
            .env(shim_wire::SOCKET_VARIABLE, &self.registrar);
        command
    }

    /// [`Self::spawn`], which must succeed.
    pub fn serve(self) -> Shim {
        let shim = self.spawn();
        assert_eq!(shim.word, "0\n", "{}", shim.log());
        shim
    }
}

/// A running shim; killed at the end of the test.
pub struct Shim {
    pub child: Child,
    pub address: SocketAddr,
    /// What it said on fd 3.
    pub word: String,
    stderr: PathBuf,
    _folder: Folder,
}

impl Shim {
    /// What it wrote to stderr so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Waits for its end.
    pub fn exit(&mut self) -> ExitStatus {
        eventually("the shim exits", || self.child.try_wait().unwrap())
    }

    /// Connects to the published port.
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Asks for the name of whoever answers.
    pub fn ask(&self) -> String {
        let mut answer = String::new();
        self.connect().read_to_string(&mut answer).unwrap();
        answer
    }

    /// File descriptors that it holds.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A container on loopback: hands each connection to `serve`, in a thread of its own.
pub fn container(serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) -> SocketAddr {
    let listener = TcpListener::bind((own_address(), 80)).unwrap();
    let address = listener.local_addr().unwrap();
    serve_on(listener, serve);
    address
}

/// Serves connections of a listener until the test ends.
pub fn serve_on(listener: TcpListener, serve: impl Fn(TcpStream) + Send + Sync + Clone + 'static) {
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = serve.clone();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            std::thread::spawn(move || serve(stream));
        }
    });
}

/// A container that says who it is and hangs up.
pub fn container_named(name: &'static str) -> SocketAddr {
    container(move |mut stream| {
        let _ = stream.write_all(name.as_bytes());
    })
}

/// A container that sends back what it gets.
pub fn echo_container() -> SocketAddr {
    container(|mut stream| {
        let mut back = stream.try_clone().unwrap();
        let _ = std::io::copy(&mut stream, &mut back);
        let _ = back.shutdown(std::net::Shutdown::Write);
    })
}

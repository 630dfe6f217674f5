//! Hosts for the tests: network namespaces that end with the test, however it ends.
//!
//! A namespace lives as long as its file is open or a thread is in it, so there is nothing to clean up.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sched::{CloneFlags, setns, unshare};

/// Long enough for a first packet that is lost while neighbours get to know each other, and sent again after 1 s.
const PATIENCE: Duration = Duration::from_secs(4);

/// A network of its own; `lo` is up.
pub(crate) struct Namespace(File);

impl Namespace {
    pub(crate) fn new() -> Self {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("these tests run as root");
            run("ip", "link set lo up");
            // Else addresses are of no use for a second or two.
            std::fs::write("/proc/sys/net/ipv6/conf/default/dad_transmits", "0").unwrap();
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        Self(std::thread::scope(|scope| scope.spawn(make).join().unwrap()))
    }

    /// Runs a test's steps in here.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let enter_and_work = || {
            setns(&self.0, CloneFlags::CLONE_NEWNET).expect("these tests run as root");
            work()
        };
        let joined = std::thread::scope(|scope| scope.spawn(enter_and_work).join());
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A cable to another namespace, with an address of each family on both ends: `.1` here, `.2` there.
    pub(crate) fn connect(&self, device: &str, other: &Self, other_device: &str, net4: &str, net6: &str) {
        let other_file = format!("/proc/{}/fd/{}", std::process::id(), other.0.as_raw_fd());
        self.within(|| {
            run("ip", &format!("link add {device} type veth peer name {other_device} netns {other_file}"));
            give_addresses(device, net4, net6, 1);
        });
        other.within(|| give_addresses(other_device, net4, net6, 2));
    }

    /// Serves a port until the namespace's file is closed: says its name to whoever connects, and who that was.
    pub(crate) fn serve(&self, address: SocketAddr, name: &'static str) {
        let listener = self.within(|| TcpListener::bind(address).unwrap());
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let peer = stream.peer_addr().unwrap().ip().to_canonical();
                let _ = stream.write_all(format!("{name} {peer}").as_bytes());
            }
        });
    }

    /// Who answers: what [`Self::serve`] says, or how the connection failed.
    pub(crate) fn ask(&self, address: IpAddr, port: u16) -> String {
        let answer = self.within(|| {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address, port), PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).map(|_| answer)
        });
        answer.unwrap_or_else(|error| format!("{:?}", error.kind()))
    }
}

fn give_addresses(device: &str, net4: &str, net6: &str, number: u8) {
    run("ip", &format!("addr add {net4}.{number}/24 dev {device}"));
    run("ip", &format!("addr add {net6}::{number}/64 dev {device} nodad"));
    run("ip", &format!("link set {device} up"));
}

/// Runs a program in the calling thread's namespace; its arguments have no blanks in them.
#[track_caller]
pub(crate) fn run(program: &str, arguments: &str) -> String {
    feed(program, arguments, "")
}

/// Runs a program that reads `input`.
#[track_caller]
pub(crate) fn feed(program: &str, arguments: &str, input: &str) -> String {
    let mut command = Command::new(program);
    command.args(arguments.split_whitespace()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (printed, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments}: {printed}{complaint}");
    printed.into_owned()
}

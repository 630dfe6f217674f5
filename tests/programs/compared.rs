//! Runs a program's client on each way to its server, and compares what it prints.

use std::fmt::Write;
use std::time::Duration;

use lab::{Host, Lab, Proxy, eventually, parts};

use crate::known::{KNOWN_DIFFERENCES, REFUSED_ONCE};
use crate::program::Program;

const IMAGE: &str = "programs";
/// Docker's bridge, by which a container reaches the host's published ports.
const BRIDGE: &str = "172.17.0.1";
/// How long a server may take to start.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long a port may take to draw its conclusions from a conversation.
const SETTLE: Duration = Duration::from_millis(500);
/// Longer than any client takes; one that hangs ends then.
const CLIENT_SECONDS: &str = "30";
const FIRST_PORT: u16 = 20_000;
const FIRST_RANGE: u16 = 30_000;
const RANGE: u16 = 4;

/// A way from a client to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Through docker-proxy.
    DockerProxy,
    /// With `ProxyMode=tcp`.
    Tcp,
    /// With `ProxyMode=http`.
    Http,
    /// Without a label, for the first time.
    Auto,
    /// Without a label, once more on the same port.
    AutoAgain,
    /// Without a label, with a new container of the same image.
    Remembered,
}

/// A host with our shim and one with docker-proxy, and a container for clients on each.
pub(crate) struct Hosts {
    ours: Host,
    theirs: Host,
}

impl Hosts {
    pub(crate) fn start(lab: &Lab) -> Self {
        let theirs = lab.host("theirs").proxy(Proxy::DockerProxy).without_registrar().without_envoy().start();
        let ours = lab.host("ours").registrar_arguments(&["--trace-collector", "127.0.0.1:4317"]).start();
        for host in [&theirs, &ours] {
            host.import(&parts::programs_image(), IMAGE, &[]);
            let docker = format!("{}:/docker:ro", parts::docker_folders(lab::Docker::V20)[1].display());
            // A browser wants much shared memory.
            host.docker(&[
                "run",
                "-d",
                "--name",
                "client",
                "--shm-size",
                "256m",
                "-v",
                &docker,
                IMAGE,
                "sleep",
                "infinity",
            ]);
        }
        Self { ours, theirs }
    }

    /// All that is not as expected, as texts.
    pub(crate) fn compare(&self, program: &Program, index: u16) -> Vec<String> {
        let server = Server::start(&self.theirs, program, index, Way::DockerProxy);
        let plain = server.ask_directly();
        let mut problems = Vec::new();
        let mut judge = |way: Way, printed: &str| problems.extend(judged(program, way, &plain, printed));
        judge(Way::DockerProxy, &server.ask());
        drop(server);
        for way in [Way::Tcp, Way::Http, Way::Auto, Way::Remembered] {
            if way == Way::Http && !program.is_http {
                continue;
            }
            let server = Server::start(&self.ours, program, index, way);
            // It has started when it answers, and its published port has seen nothing of that.
            server.ask_directly();
            let mut printed = server.ask();
            if way == Way::Remembered {
                printed = server.ask_after_refusal(printed, &plain);
            }
            judge(way, &printed);
            if way == Way::Auto {
                std::thread::sleep(SETTLE);
                judge(Way::AutoAgain, &server.ask_after_refusal(server.ask(), &plain));
            }
        }
        problems
    }
}

fn judged(program: &Program, way: Way, plain: &str, printed: &str) -> Option<String> {
    let known = KNOWN_DIFFERENCES.iter().find(|known| known.0 == way && known.1 == program.name);
    let mut problem = match (plain == printed, known) {
        (true, None) | (false, Some(_)) => return None,
        (true, Some((_, _, reason))) => format!("{way:?}: {}: is the same now, in spite of: {reason}\n", program.name),
        (false, None) => format!("{way:?}: {}: differs\n", program.name),
    };
    let _ = writeln!(problem, "  without us: {plain:?}\n  with us:    {printed:?}");
    Some(problem)
}

/// A server in a container, which goes with it.
struct Server<'a> {
    host: &'a Host,
    program: &'a Program,
    id: String,
    address: String,
    port: u16,
}

impl<'a> Server<'a> {
    fn start(host: &'a Host, program: &'a Program, index: u16, way: Way) -> Self {
        let port = FIRST_PORT + 10 * index + way as u16;
        let low = FIRST_RANGE + 10 * way as u16;
        let (published, range) = (format!("{port}:{}", program.port), format!("{low}-{0}:{low}-{0}", low + RANGE));
        let (low, high) = (format!("LOW={low}"), format!("HIGH={}", low + RANGE));
        let mut arguments = vec!["run", "-d", "-p", &published, "-e", &low, "-e", &high];
        arguments.extend(["-v", "/var/run/docker.sock:/docker.sock"]);
        if program.has_range {
            arguments.extend(["-p", &range]);
        }
        match way {
            Way::Tcp => arguments.extend(["-l", "ProxyMode=tcp"]),
            Way::Http => arguments.extend(["-l", "ProxyMode=http"]),
            Way::DockerProxy | Way::Auto | Way::AutoAgain | Way::Remembered => {}
        }
        // What is learned of a port is remembered by its image's name, and each program is a stranger.
        let image = format!("{IMAGE}-{index}");
        host.docker(&["tag", IMAGE, &image]);
        arguments.extend([&image, "sh", "-c", program.server]);
        let id = host.docker(&arguments);
        let address = host.docker(&["inspect", "--format", "{{.NetworkSettings.IPAddress}}", &id]);
        if matches!(way, Way::Tcp | Way::Http) {
            host.await_served_by_envoy(port);
        }
        Self { host, program, id, address, port }
    }

    /// What the client prints when it asks the container itself, as soon as it does.
    fn ask_directly(&self) -> String {
        let what = format!("{} answers in its container", self.program.name);
        eventually(&what, START_LIMIT, || {
            let (is_ok, printed) = self.client(&self.address, self.program.port);
            if is_ok {
                return Ok(printed);
            }
            let log = self.host.try_docker(&["logs", &self.id]);
            let texts = [&log.stdout, &log.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
            Err(format!("{printed}\n{}", texts.concat()))
        })
    }

    /// What it prints when it asks the published port.
    fn ask(&self) -> String {
        self.client(BRIDGE, self.port).1
    }

    /// What it prints the next time, where it may be refused once.
    fn ask_after_refusal(&self, printed: String, plain: &str) -> String {
        if printed == plain || !REFUSED_ONCE.contains(&self.program.name) {
            return printed;
        }
        std::thread::sleep(SETTLE);
        self.ask()
    }

    fn client(&self, address: &str, port: u16) -> (bool, String) {
        let (a, p) = (format!("A={address}"), format!("P={port}"));
        let run = [
            "exec",
            "-e",
            &a,
            "-e",
            &p,
            "client",
            "timeout",
            CLIENT_SECONDS,
            "bash",
            "-eo",
            "pipefail",
            "-c",
            self.program.client,
        ];
        let output = self.host.try_docker(&run);
        // Where it was asked is another place on each way.
        let anywhere = |text: &[u8]| {
            let text = String::from_utf8_lossy(text).replace(&format!("{address}:{port}"), "A:P");
            text.replace(address, "A")
        };
        let (printed, complaint) = (anywhere(&output.stdout), anywhere(&output.stderr));
        if !output.status.success() {
            // Its complaint is what it says.
            return (false, format!("{printed}[{}] {complaint}", output.status));
        }
        let arrived = match self.program.then {
            "" => String::new(),
            then => self.host.docker(&["exec", &self.id, "sh", "-c", then]),
        };
        (true, printed + &arrived)
    }
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        let _ = self.host.try_docker(&["rm", "-f", "-v", &self.id]);
    }
}

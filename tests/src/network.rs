//! The lab itself: a network between machines, and clients on it.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU8, Ordering};

use crate::http::{Request, Response};
use crate::namespace::{Namespace, successful};
use crate::{HostBuilder, cgroup, image, parts, process};

const BRIDGE: &str = "fabric";
/// The last part of the bridge's own address, which is everybody's default route.
const BRIDGE_NUMBER: u8 = 254;

/// One network with machines on it: `10.77.0.0/24` and `fd77::/64`, apart from all other labs.
#[derive(Debug)]
pub struct Lab {
    name: String,
    logs: PathBuf,
    fabric: Namespace,
    machines: AtomicU8,
}

impl Lab {
    /// An empty network. `name` names the folder of its logs, `target/e2e/NAME`, which is emptied.
    #[must_use]
    pub fn new(name: &str) -> Self {
        static SWEEP: Once = Once::new();
        assert!(nix::unistd::geteuid().is_root(), "the lab makes namespaces: run it as root");
        SWEEP.call_once(|| {
            cgroup::sweep();
            image::sweep();
        });
        let logs = parts::project().join("target/e2e").join(name);
        let _ = fs::remove_dir_all(&logs);
        fs::create_dir_all(&logs).unwrap_or_else(|error| panic!("{}: {error}", logs.display()));
        let fabric = Namespace::new("fabric");
        fabric.run("ip", &["link", "add", BRIDGE, "type", "bridge"]);
        fabric.run("ip", &["link", "set", BRIDGE, "up"]);
        give_address(&fabric, BRIDGE, BRIDGE_NUMBER);
        Self { name: name.to_owned(), logs, fabric, machines: AtomicU8::new(0) }
    }

    /// A lab named after the running test.
    #[must_use]
    pub fn of_this_test() -> Self {
        let thread = std::thread::current();
        Self::new(&thread.name().expect("a test's thread has its name").replace("::", "-"))
    }

    /// Describes a Docker host; [`HostBuilder::start`] makes it.
    #[must_use]
    pub fn host(&self, name: &str) -> HostBuilder<'_> {
        HostBuilder::new(self, name)
    }

    /// A machine that has nothing but the network.
    #[must_use]
    pub fn client(&self, name: &str) -> Client {
        let namespace = Namespace::new(name);
        let number = self.plug(&namespace);
        Client { namespace, number }
    }

    /// Where logs of this lab go.
    #[must_use]
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// The lab's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The processes that hold the network itself; for a test that nothing is left.
    #[must_use]
    pub fn processes(&self) -> Vec<u32> {
        self.fabric.processes()
    }

    /// Joins a machine to the network as `eth0`; yields the last part of its addresses.
    pub(crate) fn plug(&self, machine: &Namespace) -> u8 {
        let number = self.machines.fetch_add(1, Ordering::Relaxed) + 1;
        assert!(number < BRIDGE_NUMBER, "a lab has at most {} machines", BRIDGE_NUMBER - 1);
        let (port, id) = (format!("machine{number}"), machine.first_process().to_string());
        let arguments = ["link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &id];
        // The process id is one of outside, so only the network may be the fabric's.
        let output = self.fabric.in_network(|| Command::new("ip").args(arguments).output());
        successful("ip", &arguments, &output.expect("ip is installed"));
        self.fabric.run("ip", &["link", "set", &port, "master", BRIDGE, "up"]);
        plug_cable_in(machine, number);
        number
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            process::show_logs(&self.logs);
        }
    }
}

/// A machine on the network that only asks.
#[derive(Debug)]
pub struct Client {
    namespace: Namespace,
    number: u8,
}

impl Client {
    /// Its namespaces.
    #[must_use]
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Sends a request from this machine.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn send(&self, request: &Request) -> io::Result<Response> {
        self.namespace.in_network(|| request.send())
    }

    /// Asks for a page from this machine.
    ///
    /// # Errors
    /// As [`Request::send`].
    pub fn get(&self, url: &str) -> io::Result<Response> {
        self.send(&Request::get(url))
    }

    /// Its IPv4 address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        address(self.number).into()
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn address6(&self) -> IpAddr {
        address6(self.number).into()
    }
}

pub(crate) fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, number)
}

pub(crate) fn address6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(number))
}

/// Cuts a machine off from all others without a word to anybody.
pub(crate) fn pull_cable(machine: &Namespace) {
    machine.run("ip", &["link", "set", "eth0", "down"]);
}

/// Joins it again. What the kernel forgot with the link is told anew.
pub(crate) fn plug_cable_in(machine: &Namespace, number: u8) {
    machine.run("ip", &["link", "set", "eth0", "up"]);
    give_address(machine, "eth0", number);
    let (gateway, gateway6) = (address(BRIDGE_NUMBER), address6(BRIDGE_NUMBER));
    machine.run("ip", &["route", "replace", "default", "via", &gateway.to_string()]);
    machine.run("ip", &["-6", "route", "replace", "default", "via", &gateway6.to_string()]);
}

fn give_address(machine: &Namespace, interface: &str, number: u8) {
    machine.run("ip", &["addr", "replace", &format!("{}/24", address(number)), "dev", interface]);
    machine.run("ip", &["addr", "replace", &format!("{}/64", address6(number)), "dev", interface, "nodad"]);
}

//! A UDP proxy alone, and what a load costs it: no dockerd, one proxy, a server that answers. The loads are in
//! `datagram_loads`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

pub use crate::datagram_loads::{KINDS, Kind};
use crate::datagram_loads::{question, run, serve};
use crate::measure::cpu_seconds;
use crate::namespace::Namespace;
use crate::process::Process;

/// Where the proxy listens.
pub(crate) const PUBLISHED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5300);
/// What it forwards to.
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 53);
/// What may wait at the server, in bytes.
const SERVER_BUFFER: usize = 4 << 20;

/// What a load cost its proxy.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Datagrams that came through: answers, or in a stream to the server those that it received.
    pub delivered: u64,
    /// Datagrams that did not.
    pub lost: u64,
    /// Delivered datagrams for each second of the proxy's CPU time.
    pub per_cpu_second: f64,
    /// Delivered datagrams for each second.
    pub per_second: f64,
    /// How long half of the answers took at most.
    pub median: Duration,
    /// How long all but a hundredth of the answers took at most.
    pub slowest: Duration,
}

/// A running proxy with its server, in a network of its own.
#[derive(Debug)]
pub struct UdpProxy {
    // The order matters: a namespace ends once those of our children in it are waited for.
    proxy: Process,
    namespace: Namespace,
}

impl UdpProxy {
    /// Starts this program as dockerd would start it.
    ///
    /// # Panics
    /// It does not start.
    #[must_use]
    pub fn start(program: &Path, log: &Path) -> Self {
        let namespace = Namespace::new("datagrams");
        let server = namespace.in_network(|| UdpSocket::bind(SERVER)).expect("the network is new");
        // What is lost is to be the proxy's doing.
        setsockopt(&server, RcvBufForce, &SERVER_BUFFER).expect("the lab runs as root");
        std::thread::spawn(move || serve(&server));
        let mut command = Command::new("sh");
        let arguments = "-proto udp -host-ip 127.0.0.1 -host-port 5300 -container-ip 127.0.0.2 -container-port 53";
        command.args(["-c", &format!("exec {} {arguments} 3>/dev/null", program.display())]);
        let proxy = Process::start("the proxy", &namespace, &mut command, log);
        let this = Self { namespace, proxy };
        crate::eventually("the proxy forwards", Duration::from_secs(5), || match this.ask_once() {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        });
        this
    }

    /// Lets the load run once.
    ///
    /// # Panics
    /// There are no sockets, or the proxy has ended.
    #[must_use]
    pub fn cost(&self, kind: Kind) -> Cost {
        let before = cpu_seconds(self.proxy.id());
        let outcome = self.namespace.in_network(|| run(kind)).expect("sockets can be had");
        let cpu = cpu_seconds(self.proxy.id()) - before;
        let mut took = outcome.took;
        took.sort_unstable();
        let at_most = |hundredths: usize| took.get(took.len() * hundredths / 100).copied().unwrap_or_default();
        let delivered = outcome.delivered;
        Cost {
            delivered,
            lost: outcome.expected.saturating_sub(delivered),
            per_cpu_second: delivered as f64 / cpu,
            per_second: delivered as f64 / outcome.elapsed.as_secs_f64(),
            median: at_most(50),
            slowest: at_most(99),
        }
    }

    fn ask_once(&self) -> std::io::Result<usize> {
        let socket = self.namespace.in_network(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        socket.send_to(&question(0, 8, 1), PUBLISHED)?;
        socket.recv(&mut [0; 8])
    }
}

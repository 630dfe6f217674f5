//! UDP loads for a proxy alone, and what they cost it: no dockerd, one proxy, a server that echoes.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::measure::cpu_seconds;
use crate::namespace::Namespace;
use crate::process::Process;

/// Where the proxy listens.
const PUBLISHED: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1)), 5300);
/// What it forwards to.
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), 53);
/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_millis(500);

/// How datagrams come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each question from a client of its own, of 60 bytes: resolvers with a port for each question.
    ManyClients,
    /// 50 clients that ask one question of 60 bytes after the other.
    SteadyClients,
    /// One client with 64 datagrams of 1,200 bytes under way.
    Bulk,
}

/// All of them.
pub const KINDS: [Kind; 3] = [Kind::ManyClients, Kind::SteadyClients, Kind::Bulk];

/// What a load cost its proxy.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Datagrams that came back.
    pub answered: u64,
    /// Datagrams that did not.
    pub lost: u64,
    /// Answered datagrams for each second of the proxy's CPU time.
    pub per_cpu_second: f64,
    /// Answered datagrams for each second.
    pub per_second: f64,
}

/// A running proxy with its server, in a network of its own.
#[derive(Debug)]
pub struct UdpProxy {
    namespace: Namespace,
    proxy: Process,
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
        std::thread::spawn(move || echo(&server));
        let mut command = Command::new("sh");
        let arguments = "-proto udp -host-ip 127.0.0.1 -host-port 5300 -container-ip 127.0.0.2 -container-port 53";
        command.args(["-c", &format!("exec {} {arguments} 3>/dev/null", program.display())]);
        let proxy = Process::start("the proxy", &namespace, &mut command, log);
        let this = Self { namespace, proxy };
        crate::eventually("the proxy forwards", Duration::from_secs(5), || {
            match this.namespace.in_network(client).and_then(|socket| exchange(&socket, &[0; 60], 1)) {
                Ok(1) => Ok(()),
                Ok(_) => Err("no answer".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        });
        this
    }

    /// Lets the load run for about `duration`.
    ///
    /// # Panics
    /// There are no sockets, or the proxy has ended.
    #[must_use]
    pub fn cost(&self, kind: Kind, duration: Duration) -> Cost {
        let (before, begun) = (cpu_seconds(self.proxy.id()), Instant::now());
        let [answered, sent] = self.namespace.in_network(|| run(kind, begun + duration)).expect("sockets can be had");
        let (elapsed, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds(self.proxy.id()) - before);
        Cost {
            answered,
            lost: sent - answered,
            per_cpu_second: answered as f64 / cpu.max(0.01),
            per_second: answered as f64 / elapsed,
        }
    }
}

fn echo(socket: &UdpSocket) {
    let mut buffer = [0; 2048];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(&buffer[..length], peer);
    }
}

fn client() -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(PUBLISHED)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}

/// Sends `count` datagrams and takes as many answers as come; yields their number.
fn exchange(socket: &UdpSocket, datagram: &[u8], count: u64) -> io::Result<u64> {
    for _ in 0..count {
        socket.send(datagram)?;
    }
    let mut buffer = [0; 2048];
    let mut answered = 0;
    while answered < count && socket.recv(&mut buffer).is_ok() {
        answered += 1;
    }
    Ok(answered)
}

/// How many were answered, of how many.
fn run(kind: Kind, until: Instant) -> io::Result<[u64; 2]> {
    let mut totals = [0, 0];
    let mut add = |answered: u64, sent: u64| totals = [totals[0] + answered, totals[1] + sent];
    let sockets: Vec<_> = (0..50).map(|_| client()).collect::<io::Result<_>>()?;
    while Instant::now() < until {
        match kind {
            Kind::Bulk => add(exchange(&sockets[0], &[1; 1200], 64)?, 64),
            Kind::SteadyClients => {
                let (answered, sent) = round(&sockets)?;
                add(answered, sent);
            }
            Kind::ManyClients => {
                let new: Vec<_> = (0..50).map(|_| client()).collect::<io::Result<_>>()?;
                let (answered, sent) = round(&new)?;
                add(answered, sent);
            }
        }
    }
    Ok(totals)
}

/// One question from each client.
fn round(sockets: &[UdpSocket]) -> io::Result<(u64, u64)> {
    sockets.iter().try_for_each(|socket| socket.send(&[2; 60]).map(drop))?;
    let mut buffer = [0; 2048];
    let answered = sockets.iter().filter(|socket| socket.recv(&mut buffer).is_ok()).count();
    Ok((answered as u64, sockets.len() as u64))
}

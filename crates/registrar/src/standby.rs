//! Answers service ports while Envoy does not: dead, restarting, or stuck.
//!
//! Where Envoy listens for service ports (at the port that captured connections are sent to, or at each service port
//! where nothing can be captured), we listen too, in one group with it. The kernel gives new connections to Envoy while
//! it is there, and all of them to us while it is not, without a message to anybody. What comes to us is passed on as
//! bytes to an instance that is alive, as Envoy would have chosen it.
//!
//! The loop owns the sockets and says whom the kernel is to prefer; connections are tasks of their own.

mod acceptor;
mod choice;
mod connection;
mod place;
mod socket;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use admin_api::{ServiceAddress, ServiceServer};
use model::{Protocol, ProxiedServicePort, PublishedPort};
use rand::Rng;
use rand::rngs::StdRng;
use sock_diag::Listener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use self::acceptor::Slots;
use self::place::{Finding, Others};
use self::socket::Socket;
use crate::backoff::Backoff;
use crate::door::shares::Share;
use crate::event::Event;
use crate::watchdog::{Queues, Steering, Watchdog};

/// How long a place where no socket could be had is left alone, at first and at most. Each try may take connections that
/// it then resets, and keeps Envoy out for as long as it lasts.
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LIMIT: Duration = Duration::from_secs(8);

/// Every standby socket of this host.
pub(crate) struct Standby {
    envoy_uid: u32,
    seats: BTreeMap<SocketAddr, Seat>,
    watchdog: Watchdog,
    slots: Slots,
    rng: StdRng,
    events: mpsc::Sender<Event>,
    answers: bool,
}

/// One place where we stand by, or would.
struct Seat {
    socket: Option<Socket>,
    acceptor: Option<JoinHandle<()>>,
    /// Envoy's sockets at the last look.
    others: Others,
    is_stuck: bool,
    /// Why there is no socket of ours.
    problem: Option<String>,
    retry: Backoff,
    /// When the next try is due after one that failed.
    next_try: Option<Instant>,
}

impl Standby {
    /// Stands by nowhere yet. Envoy's sockets belong to `envoy_uid`.
    pub(crate) fn new(envoy_uid: u32, share: Share, rng: StdRng, events: mpsc::Sender<Event>) -> Self {
        Self {
            envoy_uid,
            seats: BTreeMap::new(),
            watchdog: Watchdog::default(),
            slots: Slots::of(share),
            rng,
            events,
            answers: false,
        }
    }

    /// Stands by here. To be called before Envoy is told to listen at this address.
    pub(crate) fn add(&mut self, address: SocketAddr, now: Instant) {
        let mut seat = Seat::new();
        self.take(address, &mut seat, now);
        self.seats.insert(address, seat);
    }

    /// Stands by here no longer.
    pub(crate) fn remove(&mut self, address: SocketAddr) {
        if let Some(mut seat) = self.seats.remove(&address) {
            seat.leave();
        }
    }

    /// Takes connections from now on: where they may go is known. Those that came before waited.
    pub(crate) fn start(&mut self) {
        self.answers = true;
        let mut seats = std::mem::take(&mut self.seats);
        for seat in seats.values_mut() {
            if let Some(socket) = &seat.socket {
                seat.acceptor = self.accept(socket).inspect_err(|error| warn!(error, "service ports")).ok();
            }
        }
        self.seats = seats;
    }

    /// Takes in who listens, and has the kernel prefer Envoy where it takes connections, and us where it does not.
    pub(crate) fn look(&mut self, listeners: &[Listener], now: Instant) {
        let mut seats = std::mem::take(&mut self.seats);
        let mut queues = Queues::new();
        for (address, seat) in &mut seats {
            let own = seat.socket.as_ref().map(Socket::inode);
            let others = || listeners.iter().filter(|one| Some(one.inode) != own && self.is_envoys(one, *address));
            seat.others = others().map(|other| other.inode).collect();
            if !seat.others.is_empty() {
                queues.insert(port_at(*address), others().map(|other| other.accept_queue).sum());
            }
        }
        self.watch_over(&queues);
        for (address, seat) in &mut seats {
            self.follow(*address, seat, now);
        }
        self.seats = seats;
    }

    /// To which instances a connection to this service port may go, in this order.
    pub(crate) fn instances(&mut self, port: Option<&ProxiedServicePort>, prefer_local: bool) -> Vec<SocketAddr> {
        port.map(|port| choice::instances(port, prefer_local, self.rng.next_u64())).unwrap_or_default()
    }

    /// At how many places Envoy listened at the last look.
    pub(crate) fn served_by_envoy(&self) -> usize {
        self.seats.values().filter(|seat| !seat.others.is_empty()).count()
    }

    /// Who serves at each service address, for the operator.
    pub(crate) fn report(&self) -> Vec<ServiceAddress> {
        let mut report: BTreeMap<IpAddr, ServiceAddress> = BTreeMap::new();
        for (address, seat) in &self.seats {
            let row = report.entry(address.ip()).or_insert_with(|| ServiceAddress {
                address: address.ip(),
                served_by: ServiceServer::Envoy,
                problem: None,
            });
            row.served_by = row.served_by.max(seat.server());
            row.problem = row.problem.take().or_else(|| seat.problem_in_words());
        }
        report.into_values().collect()
    }

    /// How many connections wait for Envoy is looked at as at published ports.
    fn watch_over(&mut self, queues: &Queues) {
        for (port, steering) in self.watchdog.look(queues) {
            match steering {
                Steering::Standby => warn!(%port, "Envoy takes no connections to service ports: they are forwarded"),
                Steering::Envoy => info!(%port, "Envoy takes connections to service ports again, or is gone"),
            }
        }
    }

    fn is_envoys(&self, listener: &Listener, address: SocketAddr) -> bool {
        socket::is_envoys(listener, address, self.envoy_uid)
    }

    /// Does what follows from who else is there.
    fn follow(&self, address: SocketAddr, seat: &mut Seat, now: Instant) {
        let is_lost = |socket: &mut Socket| socket.place().look(&seat.others) == Finding::Lost;
        if seat.socket.as_mut().is_some_and(is_lost) {
            debug!(%address, others = ?seat.others, "the place among Envoy's sockets is not known any longer: joining anew");
            seat.leave();
        }
        if seat.socket.is_none() && seat.next_try.is_none_or(|next| next <= now) {
            self.take(address, seat, now);
        }
        seat.is_stuck = self.watchdog.is_stuck(&port_at(address));
        let steering = if seat.is_stuck { Steering::Standby } else { Steering::Envoy };
        if let Some(Err(problem)) = seat.socket.as_mut().map(|socket| socket.steer(steering)) {
            warn!(problem, "service ports");
        }
    }

    fn take(&self, address: SocketAddr, seat: &mut Seat, now: Instant) {
        let taken = Socket::open(address, self.envoy_uid).and_then(|socket| {
            let acceptor = if self.answers { Some(self.accept(&socket)?) } else { None };
            Ok((socket, acceptor))
        });
        match taken {
            Ok((socket, acceptor)) => {
                debug!(%address, ?socket, "standing by");
                (seat.socket, seat.acceptor) = (Some(socket), acceptor);
                seat.retry.reset();
                seat.next_try = None;
                if seat.problem.take().is_some() {
                    info!(%address, "service ports are answered while Envoy is away");
                }
            }
            Err(problem) => {
                if seat.problem.as_ref() != Some(&problem) {
                    warn!(%address, problem, "service ports are refused while Envoy is away");
                }
                seat.problem = Some(problem);
                seat.next_try = Some(now + seat.retry.next_delay());
            }
        }
    }

    fn accept(&self, socket: &Socket) -> Result<JoinHandle<()>, String> {
        let listener = socket.listener().map_err(|error| format!("connections can't be accepted: {error}"))?;
        Ok(tokio::spawn(acceptor::run(listener, self.slots.clone(), self.events.clone())))
    }
}

impl Seat {
    fn new() -> Self {
        Self {
            socket: None,
            acceptor: None,
            others: Others::new(),
            is_stuck: false,
            problem: None,
            retry: Backoff::new(RETRY_FIRST, RETRY_LIMIT),
            next_try: None,
        }
    }

    fn leave(&mut self) {
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.abort();
        }
        if let Some(socket) = self.socket.take() {
            socket.close();
        }
    }

    fn server(&self) -> ServiceServer {
        match (self.others.is_empty() || self.is_stuck, &self.socket) {
            (false, _) => ServiceServer::Envoy,
            (true, Some(_)) => ServiceServer::Registrar,
            (true, None) => ServiceServer::Nobody,
        }
    }

    fn problem_in_words(&self) -> Option<String> {
        let refused = || self.problem.as_ref().map(|problem| format!("refused while Envoy is away: {problem}"));
        let stuck =
            "Envoy takes no connections (is it stopped, or overloaded?): the registrar forwards new ones until it does";
        if self.is_stuck { Some(stuck.to_owned()) } else { refused() }
    }
}

fn port_at(address: SocketAddr) -> PublishedPort {
    PublishedPort { address: address.ip(), port: address.port(), protocol: Protocol::Tcp }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    use nix::sys::socket::sockopt::ReusePort;
    use nix::sys::socket::{Backlog, SockaddrStorage, bind, listen, setsockopt};
    use rand::SeedableRng;

    use super::*;
    use crate::event::Query;

    const SHARE: Share = Share { listener: "test", most: 64 };

    fn standby() -> (Standby, mpsc::Receiver<Event>, SocketAddr) {
        let (events, incoming) = mpsc::channel(8);
        let uid = nix::unistd::geteuid().as_raw();
        let mut standby = Standby::new(uid, SHARE, StdRng::seed_from_u64(1), events);
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        standby.add(address, Instant::now());
        standby.start();
        (standby, incoming, address)
    }

    /// An Envoy that listens and takes no connections.
    fn envoy(address: SocketAddr) -> std::net::TcpListener {
        let envoy = socket_group::open(address).unwrap();
        setsockopt(&envoy, ReusePort, &true).unwrap();
        bind(envoy.as_raw_fd(), &SockaddrStorage::from(address)).unwrap();
        listen(&envoy, Backlog::new(128).unwrap()).unwrap();
        envoy.into()
    }

    fn look(standby: &mut Standby, address: SocketAddr) -> ServiceServer {
        standby.look(&sock_diag::listeners_on(address).unwrap(), Instant::now());
        standby.report()[0].served_by
    }

    /// What was meant by the next connection that comes to us.
    async fn meant(incoming: &mut mpsc::Receiver<Event>) -> Option<SocketAddr> {
        match tokio::time::timeout(Duration::from_millis(300), incoming.recv()).await {
            Ok(Some(Event::Query(Query::Instances { meant, .. }))) => Some(meant),
            Ok(other) => panic!("{other:?}"),
            Err(_) => None,
        }
    }

    #[tokio::test]
    async fn envoy_gets_connections_while_it_takes_them_and_we_get_them_else() {
        let (mut standby, mut incoming, address) = standby();
        assert_eq!(look(&mut standby, address), ServiceServer::Registrar);
        let _first = TcpStream::connect(address).unwrap();
        assert_eq!(meant(&mut incoming).await, Some(address));

        let envoy = envoy(address);
        assert_eq!(look(&mut standby, address), ServiceServer::Envoy);
        let _waits = TcpStream::connect(address).unwrap();
        assert_eq!(meant(&mut incoming).await, None);

        let looks: Vec<_> = (0..5).map(|_| look(&mut standby, address)).collect();
        assert_eq!((looks[0], looks[4]), (ServiceServer::Envoy, ServiceServer::Registrar), "it is stuck");
        assert!(standby.report()[0].problem.as_ref().is_some_and(|problem| problem.contains("takes no connections")));
        let _ours = TcpStream::connect(address).unwrap();
        assert_eq!(meant(&mut incoming).await, Some(address));

        envoy.accept().unwrap();
        assert_eq!(look(&mut standby, address), ServiceServer::Envoy, "it takes connections again");
        drop(envoy);
        let _ours = TcpStream::connect(address).unwrap();
        assert_eq!(meant(&mut incoming).await, Some(address), "without a look");
    }

    #[tokio::test]
    async fn a_place_that_is_given_up_is_closed() {
        let (mut standby, _incoming, address) = standby();
        standby.remove(address);
        assert!(TcpStream::connect(address).is_err() && standby.report().is_empty());
    }

    #[tokio::test]
    async fn a_place_that_another_program_holds_is_tried_ever_more_rarely() {
        let (events, _incoming) = mpsc::channel(8);
        let mut standby = Standby::new(nix::unistd::geteuid().as_raw(), SHARE, StdRng::seed_from_u64(1), events);
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, start) = (holder.local_addr().unwrap(), Instant::now());
        standby.add(address, start);
        // It is given up before the first look, so that each try would succeed.
        drop(holder);
        let mut looked_at = |after| {
            standby.look(&[], start + after);
            standby.report()[0].served_by
        };
        assert_eq!(looked_at(RETRY_FIRST / 2), ServiceServer::Nobody);
        assert_eq!(looked_at(RETRY_FIRST), ServiceServer::Registrar);

        let holder = std::net::TcpListener::bind("127.0.0.2:0").unwrap();
        let address = holder.local_addr().unwrap();
        standby.add(address, start);
        let tries = |standby: &Standby| standby.seats[&address].next_try.unwrap() - start;
        let mut delays = Vec::new();
        for _ in 0..7 {
            let next = start + tries(&standby);
            standby.look(&[], next);
            delays.push(tries(&standby) - (next - start));
        }
        assert_eq!(delays, [2, 4, 8, 16, 16, 16, 16].map(|halves| RETRY_FIRST * halves));
    }
}

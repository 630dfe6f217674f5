//! Loads of UDP: how clients send, and what comes back to them. The proxy under load is in `datagrams`.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_timerslack;

use crate::datagrams::PUBLISHED;

/// An answer that takes longer is lost.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long clients look away when there is nothing to send: what a network card would gather, too.
const PAUSE: Duration = Duration::from_micros(30);
/// How late clients may be. What they owe beyond that, for want of CPU, they do not send.
const LATE_MAX: Duration = Duration::from_millis(1);

/// How datagrams come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A DNS server's: 500 clients, 20,000 questions of 60 bytes a second, whether they are answered or not.
    Dns,
    /// 500 clients, 50 questions of 60 bytes under way all the time: as many as can be answered.
    DnsBusy,
    /// Each question from a client of its own, of 60 bytes, 5,000 a second: resolvers with a port for each question.
    NewClients,
    /// One client with 64 datagrams of 1,200 bytes under way.
    Bulk,
}

/// All of them.
pub const KINDS: [Kind; 4] = [Kind::Dns, Kind::DnsBusy, Kind::NewClients, Kind::Bulk];

struct Load {
    /// How many sockets take turns; none: a new one for each question.
    clients: Option<usize>,
    /// Bytes of a question.
    length: usize,
    /// How many questions are sent.
    questions: u32,
    /// How long after another.
    interval: Duration,
    /// How many may wait for an answer at a time.
    under_way: usize,
}

impl Kind {
    const fn load(self) -> Load {
        let every = Duration::from_micros;
        match self {
            Self::Dns => {
                Load { clients: Some(500), length: 60, questions: 40_000, interval: every(50), under_way: 5000 }
            }
            Self::DnsBusy => {
                Load { clients: Some(500), length: 60, questions: 100_000, interval: every(0), under_way: 50 }
            }
            Self::NewClients => {
                Load { clients: None, length: 60, questions: 1500, interval: every(200), under_way: 500 }
            }
            Self::Bulk => {
                Load { clients: Some(1), length: 1200, questions: 100_000, interval: every(0), under_way: 64 }
            }
        }
    }
}

/// What came of a load.
pub(crate) struct Outcome {
    pub(crate) sent: u64,
    pub(crate) elapsed: Duration,
    /// How long each answer took.
    pub(crate) took: Vec<Duration>,
}

/// Lets the load run to its end.
pub(crate) fn run(kind: Kind) -> io::Result<Outcome> {
    // Otherwise each pause takes 50 µs more.
    set_timerslack(1)?;
    let load = kind.load();
    let mut clients = Clients::new();
    (0..load.clients.unwrap_or(0)).try_for_each(|_| clients.add())?;
    let begun = Instant::now();
    let (mut sent, mut due) = (0, begun);
    while sent < load.questions || !clients.waiting.is_empty() {
        due = due.max(Instant::now() - LATE_MAX);
        while sent < load.questions && clients.waiting.len() < load.under_way && due <= Instant::now() {
            if load.clients.is_none() {
                clients.add()?;
            }
            clients.ask(sent, load.length)?;
            sent += 1;
            due += load.interval;
        }
        if !clients.hear() {
            std::thread::sleep(PAUSE);
        }
    }
    Ok(Outcome { sent: sent.into(), elapsed: begun.elapsed(), took: clients.took })
}

/// A question that waits for its answer.
struct Question {
    number: u32,
    client: usize,
    asked: Instant,
}

struct Clients {
    address: Ipv4Addr,
    sockets: Vec<UdpSocket>,
    waiting: VecDeque<Question>,
    took: Vec<Duration>,
}

impl Clients {
    fn new() -> Self {
        // Of its own in each run: to the proxy, these are clients that it never saw.
        static RUNS: AtomicU8 = AtomicU8::new(1);
        let address = Ipv4Addr::new(127, 1, 1, RUNS.fetch_add(1, Ordering::Relaxed));
        Self { address, sockets: Vec::new(), waiting: VecDeque::new(), took: Vec::new() }
    }

    fn add(&mut self) -> io::Result<()> {
        let socket = UdpSocket::bind((self.address, 0))?;
        socket.connect(PUBLISHED)?;
        socket.set_nonblocking(true)?;
        self.sockets.push(socket);
        Ok(())
    }

    /// Each client in turn.
    fn ask(&mut self, number: u32, length: usize) -> io::Result<()> {
        let mut question = vec![0; length];
        question[..4].copy_from_slice(&number.to_ne_bytes());
        let client = number as usize % self.sockets.len();
        self.waiting.push_back(Question { number, client, asked: Instant::now() });
        self.sockets[client].send(&question).map(drop)
    }

    /// Takes the answers that are there; yields whether there was any.
    fn hear(&mut self) -> bool {
        let mut answer = [0; 4];
        let before = self.took.len();
        let mut i = 0;
        while let Some(question) = self.waiting.get(i) {
            // It may be another answer to this client, which is then found in its place.
            match self.sockets[question.client].recv(&mut answer) {
                Ok(_) => {
                    let number = u32::from_ne_bytes(answer);
                    let position = self.waiting.iter().position(|question| question.number == number);
                    let question = position.and_then(|position| self.waiting.remove(position));
                    self.took.extend(question.map(|question| question.asked.elapsed()));
                }
                Err(_) if question.asked.elapsed() > PATIENCE => drop(self.waiting.remove(i)),
                Err(_) => i += 1,
            }
        }
        self.took.len() > before
    }
}

//! Loads of UDP: how clients send, and what comes back to them. The proxy under load is in `datagrams`.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_timerslack;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGsoSegment;

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
    /// One client with 64 datagrams of 1,200 bytes under way, each answered by another.
    Bulk,
    /// One client that sends datagrams of 1,200 bytes, 32 with one system call, as QUIC's do. Each 32nd is answered.
    Upload,
    /// The same with a system call for each.
    PlainUpload,
    /// As [`Kind::Upload`] from the server to the client, which asks for 32 at a time.
    Download,
}

/// All of them.
pub const KINDS: [Kind; 7] =
    [Kind::Dns, Kind::DnsBusy, Kind::NewClients, Kind::Bulk, Kind::Upload, Kind::PlainUpload, Kind::Download];

/// Datagrams that a stream sends at once.
const RUN: u32 = 32;
/// Bytes of a long datagram.
const LONG: usize = 1200;

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
    /// Datagrams of a question.
    run: u32,
    /// Whether these are sent with one system call.
    at_once: bool,
    /// Datagrams of an answer.
    answers: u32,
}

impl Kind {
    const fn load(self) -> Load {
        let every = Duration::from_micros;
        let some = Load {
            clients: Some(500),
            length: 60,
            questions: 100_000,
            interval: Duration::ZERO,
            under_way: 50,
            run: 1,
            at_once: true,
            answers: 1,
        };
        let bulk = Load { clients: Some(1), length: LONG, under_way: 64, ..some };
        let stream = Load { questions: 10_000, under_way: 2, ..bulk };
        match self {
            Self::Dns => Load { questions: 40_000, interval: every(50), under_way: 5000, ..some },
            Self::DnsBusy => some,
            Self::NewClients => Load { clients: None, questions: 1500, interval: every(200), under_way: 500, ..some },
            Self::Bulk => bulk,
            Self::Upload => Load { run: RUN, ..stream },
            Self::PlainUpload => Load { run: RUN, at_once: false, ..stream },
            Self::Download => Load { length: 60, answers: RUN, ..stream },
        }
    }
}

/// What came of a load.
pub(crate) struct Outcome {
    /// Datagrams that should have come through.
    pub(crate) expected: u64,
    /// Datagrams that came through: answers, or of an upload what the server received.
    pub(crate) delivered: u64,
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
            clients.ask(sent, &load)?;
            sent += 1;
            due += load.interval;
        }
        if !clients.hear() {
            std::thread::sleep(PAUSE);
        }
    }
    let delivered = if load.run > 1 { clients.received_by_server } else { clients.took.len() as u64 };
    let expected = u64::from(sent) * u64::from(load.run.max(load.answers));
    Ok(Outcome { expected, delivered, elapsed: begun.elapsed(), took: clients.took })
}

/// The server's part, until its socket fails: answers as each question asks for.
pub(crate) fn serve(socket: &UdpSocket) {
    cut_what_is_long(socket);
    let mut bytes = [0; 2048];
    let mut received: u32 = 0;
    while let Ok((length, peer)) = socket.recv_from(&mut bytes) {
        received += 1;
        let copies = bytes[COPIES];
        if copies > 0 {
            bytes[RECEIVED].copy_from_slice(&received.to_ne_bytes());
            received = 0;
        }
        match copies {
            0 => {}
            1 => drop(socket.send_to(&bytes[..length], peer)),
            _ => drop(socket.send_to(&bytes[..LONG].repeat(copies.into()), peer)),
        }
    }
}

/// The kernel makes datagrams of [`LONG`] bytes of what is longer.
fn cut_what_is_long(socket: &UdpSocket) {
    setsockopt(socket, UdpGsoSegment, &(LONG as i32)).expect("Linux has this since 4.18");
}

/// Bytes of a datagram with the question's number.
const NUMBER: Range<usize> = 0..4;
/// Byte of a question that says how many answers it is to have.
const COPIES: usize = 4;
/// Bytes of an answer that say how many questions the server has received since its last one.
const RECEIVED: Range<usize> = 4..8;

/// A question of so many bytes.
pub(crate) fn question(number: u32, length: usize, copies: u32) -> Vec<u8> {
    let mut bytes = vec![0; length];
    bytes[NUMBER].copy_from_slice(&number.to_ne_bytes());
    bytes[COPIES] = copies as u8;
    bytes
}

/// A question that waits for its answers.
struct Question {
    number: u32,
    client: usize,
    asked: Instant,
    missing: u32,
}

struct Clients {
    address: Ipv4Addr,
    sockets: Vec<UdpSocket>,
    waiting: VecDeque<Question>,
    took: Vec<Duration>,
    received_by_server: u64,
}

impl Clients {
    fn new() -> Self {
        // Of its own in each run: to the proxy, these are clients that it never saw.
        static RUNS: AtomicU8 = AtomicU8::new(1);
        let address = Ipv4Addr::new(127, 1, 1, RUNS.fetch_add(1, Ordering::Relaxed));
        Self { address, sockets: Vec::new(), waiting: VecDeque::new(), took: Vec::new(), received_by_server: 0 }
    }

    fn add(&mut self) -> io::Result<()> {
        let socket = UdpSocket::bind((self.address, 0))?;
        socket.connect(PUBLISHED)?;
        socket.set_nonblocking(true)?;
        cut_what_is_long(&socket);
        self.sockets.push(socket);
        Ok(())
    }

    /// Each client in turn.
    fn ask(&mut self, number: u32, load: &Load) -> io::Result<()> {
        let client = number as usize % self.sockets.len();
        self.waiting.push_back(Question { number, client, asked: Instant::now(), missing: load.answers });
        let copies = |i| if i == load.run { load.answers } else { 0 };
        let datagrams: Vec<_> = (1..=load.run).map(|i| question(number, load.length, copies(i))).collect();
        let calls = if load.at_once { vec![datagrams.concat()] } else { datagrams };
        calls.iter().try_for_each(|bytes| self.sockets[client].send(bytes).map(drop))
    }

    /// Takes the answers that are there; yields whether there was any.
    fn hear(&mut self) -> bool {
        let mut answer = [0; RECEIVED.end];
        let before = self.took.len();
        let mut i = 0;
        while let Some(question) = self.waiting.get(i) {
            match self.sockets[question.client].recv(&mut answer) {
                Ok(_) => self.count(&answer),
                Err(_) if question.asked.elapsed() > PATIENCE => drop(self.waiting.remove(i)),
                Err(_) => i += 1,
            }
        }
        self.took.len() > before
    }

    /// It may be the answer to another question of the same client, which is then found in its place.
    fn count(&mut self, answer: &[u8; RECEIVED.end]) {
        let number = |bytes: Range<usize>| u32::from_ne_bytes(std::array::from_fn(|i| answer[bytes.start + i]));
        let Some(position) = self.waiting.iter().position(|question| question.number == number(NUMBER)) else { return };
        let question = &mut self.waiting[position];
        self.took.push(question.asked.elapsed());
        self.received_by_server += u64::from(number(RECEIVED));
        question.missing -= 1;
        if question.missing == 0 {
            self.waiting.remove(position);
        }
    }
}

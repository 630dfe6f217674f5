//! Steady load: so many new connections per second, and what became of each.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::http::{Request, Response};
use crate::namespace::{Namespace, Network};

/// Connections that wait at the same time, unless told otherwise.
const WORKERS: u32 = 8;
/// From when on an answer counts as slow.
pub const SLOW: Duration = Duration::from_secs(1);
/// A load that was forgotten ends by itself.
const LONGEST: Duration = Duration::from_secs(120);

/// What became of the connections of a load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Answered with status 200.
    pub ok: u64,
    /// Refused by the kernel: nobody listened.
    pub refused: u64,
    /// Reset after they were accepted.
    pub reset: u64,
    /// Ended without a whole answer.
    pub empty: u64,
    /// Not answered in time.
    pub timed_out: u64,
    /// Whatever else, by its message.
    pub other: BTreeMap<String, u64>,
    /// The longest time without any answer with status 200.
    pub longest_gap: Duration,
    /// Answered with status 200, but later than [`SLOW`].
    pub slow: u64,
    /// The longest wait for an answer with status 200.
    pub slowest: Duration,
}

impl Outcomes {
    /// All connections that were not answered with status 200.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.refused + self.reset + self.empty + self.timed_out + self.other.values().sum::<u64>()
    }
}

/// Outcomes so far, and when the last good one was.
#[derive(Debug, Default)]
struct Tally {
    outcomes: Outcomes,
    last_ok: Option<Instant>,
}

impl Tally {
    fn count(&mut self, outcome: &io::Result<Response>, took: Duration) {
        let counts = &mut self.outcomes;
        match outcome {
            Ok(answer) if answer.status == 200 => {
                counts.ok += 1;
                counts.slow += u64::from(took > SLOW);
                counts.slowest = counts.slowest.max(took);
                self.end_gap();
                self.last_ok = Some(Instant::now());
            }
            Ok(answer) => *counts.other.entry(format!("status {}", answer.status)).or_default() += 1,
            Err(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => counts.refused += 1,
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => counts.reset += 1,
                io::ErrorKind::UnexpectedEof => counts.empty += 1,
                io::ErrorKind::TimedOut => counts.timed_out += 1,
                _ => *counts.other.entry(error.to_string()).or_default() += 1,
            },
        }
    }

    fn end_gap(&mut self) {
        let gap = self.last_ok.map_or(Duration::ZERO, |last| last.elapsed());
        self.outcomes.longest_gap = self.outcomes.longest_gap.max(gap);
    }
}

/// A load that runs until [`Load::stop`].
#[derive(Debug)]
pub struct Load {
    over: Arc<AtomicBool>,
    tally: Arc<Mutex<Tally>>,
    workers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Sends `request` from the namespace's network, `per_second` times a second, each over its own connection.
    #[must_use]
    pub fn start(namespace: &Namespace, request: &Request, per_second: u32) -> Self {
        Self::with_workers(namespace, request, per_second, WORKERS)
    }

    /// As [`Self::start`], with so many connections that may wait at the same time. Where that is as many as begin
    /// within the request's time limit, the load goes on at its pace whatever becomes of it.
    #[must_use]
    pub fn with_workers(namespace: &Namespace, request: &Request, per_second: u32, workers: u32) -> Self {
        Self::from_network(&namespace.network(), request, per_second, workers)
    }

    /// As [`Self::with_workers`], from any network, such as a container's.
    #[must_use]
    pub fn from_network(network: &Network, request: &Request, per_second: u32, workers: u32) -> Self {
        Self::start_workers(network, request, per_second, workers, |request, _| request.send())
    }

    /// As [`Self::with_workers`], each worker asking over one connection for as long as that lasts.
    #[must_use]
    pub fn over_kept_connections(namespace: &Namespace, request: &Request, per_second: u32, workers: u32) -> Self {
        Self::start_workers(&namespace.network(), request, per_second, workers, Request::send_over)
    }

    fn start_workers(network: &Network, request: &Request, per_second: u32, workers: u32, send: Send) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let tally = Arc::new(Mutex::new(Tally::default()));
        let pause = Duration::from_secs(1) * workers / per_second;
        let worker = |number| {
            let (over, tally, request) = (Arc::clone(&over), Arc::clone(&tally), request.clone());
            let network = network.again();
            std::thread::spawn(move || {
                network.enter();
                // One after the other.
                std::thread::park_timeout(pause * number / workers);
                work(|kept| send(&request, kept), pause, &over, &tally);
            })
        };
        let workers = (0..workers).map(worker).collect();
        Self { over, tally, workers }
    }

    /// What became of the connections so far.
    #[must_use]
    pub fn outcomes(&self) -> Outcomes {
        self.tally.lock().expect("counting does not panic").outcomes.clone()
    }

    /// How long ago the last answer with status 200 was; zero before the first.
    #[must_use]
    pub fn silence(&self) -> Duration {
        let last_ok = self.tally.lock().expect("counting does not panic").last_ok;
        last_ok.map_or(Duration::ZERO, |last| last.elapsed())
    }

    /// Ends the load.
    ///
    /// # Panics
    /// A worker panicked.
    #[must_use]
    pub fn stop(self) -> Outcomes {
        self.over.store(true, Ordering::Relaxed);
        self.tally.lock().expect("counting does not panic").end_gap();
        for worker in self.workers {
            worker.thread().unpark();
            worker.join().expect("a load's worker does not panic");
        }
        self.tally.lock().expect("counting does not panic").outcomes.clone()
    }
}

/// How a worker sends a request, with the connection that it may keep.
type Send = fn(&Request, &mut Option<TcpStream>) -> io::Result<Response>;

fn work(
    send: impl Fn(&mut Option<TcpStream>) -> io::Result<Response>,
    pause: Duration,
    over: &AtomicBool,
    tally: &Mutex<Tally>,
) {
    let start = Instant::now();
    let mut kept = None;
    let mut next = start;
    while !over.load(Ordering::Relaxed) && start.elapsed() < LONGEST {
        let begun = Instant::now();
        let outcome = send(&mut kept);
        tally.lock().expect("counting does not panic").count(&outcome, begun.elapsed());
        // A slow answer is not made up for: the load is bounded.
        next = (next + pause).max(Instant::now());
        std::thread::park_timeout(next.duration_since(Instant::now()));
    }
}

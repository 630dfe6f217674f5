//! Plays a script on a connection and records what comes from the other end.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};

use crate::script::{Script, Step};
use crate::seen::{End, Half};

/// How long an end waits for what its script says. Far longer than anything takes, since it costs time only where
/// something is lost.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a byte that is sent alone waits for the next one.
const BETWEEN_BYTES: Duration = Duration::from_millis(1);

/// What an end has seen so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Record {
    half: Arc<Mutex<Half>>,
    is_done: Arc<AtomicBool>,
}

impl Record {
    /// A copy of it.
    pub(crate) fn half(&self) -> Half {
        self.lock().clone()
    }

    /// Whether its script has been played to the end.
    pub(crate) fn is_done(&self) -> bool {
        self.is_done.load(Ordering::Acquire)
    }

    fn lock(&self) -> MutexGuard<'_, Half> {
        self.half.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Plays all steps, then closes the connection. What comes is in `record` at once.
pub(crate) fn play(stream: TcpStream, script: &Script, record: &Record) {
    // Fails where the other end has reset the connection already; then the first step sees it.
    let _ = stream.set_nodelay(true).and_then(|()| stream.set_write_timeout(Some(PATIENCE)));
    let player = Player { stream, seen: record.clone(), mark: 0 };
    player.play(script);
    record.is_done.store(true, Ordering::Release);
}

struct Player {
    stream: TcpStream,
    seen: Record,
    /// How many of the bytes that came earlier steps have waited for.
    mark: usize,
}

impl Player {
    fn play(mut self, script: &Script) {
        std::thread::scope(|scope| {
            for step in &script.0 {
                if self.seen.lock().end == End::Silent {
                    break;
                }
                if *step == Step::Reset {
                    return self.reset();
                }
                match step {
                    Step::SendMeanwhile(bytes) => {
                        let mut writer = self.stream.try_clone().expect("a socket can be cloned");
                        scope.spawn(move || writer.write_all(bytes));
                    }
                    other => self.take(other),
                }
            }
        });
    }

    fn take(&mut self, step: &Step) {
        match step {
            // Where the other end is gone, what is read next says so.
            Step::Send(bytes) => drop(self.stream.write_all(bytes)),
            Step::SendSlowly(bytes) => self.send_slowly(bytes),
            Step::SendMeanwhile(_) | Step::Reset => unreachable!("see `Self::play`"),
            Step::Until(bytes) => self.read_until(|new| find(new, bytes).map(|start| start + bytes.len())),
            Step::Count(length) => self.read_until(|new| (new.len() >= *length).then_some(*length)),
            Step::End => {
                self.read_until(|_| None);
                self.mark = self.seen.lock().bytes.len();
            }
            Step::HalfClose => drop(self.stream.shutdown(Shutdown::Write)),
            Step::Pause(time) => std::thread::sleep(*time),
        }
    }

    fn send_slowly(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if self.stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(BETWEEN_BYTES);
        }
    }

    /// Closing a socket with a linger of zero resets its connection. Nothing more is seen on it.
    fn reset(self) {
        let at_once = linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&self.stream.as_fd(), sockopt::Linger, &at_once).expect("any socket can linger");
    }

    /// Reads until `found` says how many of the new bytes are what was waited for.
    fn read_until(&mut self, found: impl Fn(&[u8]) -> Option<usize>) {
        let start = Instant::now();
        loop {
            let mut seen = self.seen.lock();
            if let Some(length) = found(&seen.bytes[self.mark..]) {
                self.mark += length;
                return;
            }
            if seen.end != End::Open {
                return;
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            if left.is_zero() {
                seen.end = End::Silent;
                return;
            }
            drop(seen);
            self.read(left);
        }
    }

    fn read(&mut self, limit: Duration) {
        let mut buffer = [0; 65536];
        let _ = self.stream.set_read_timeout(Some(limit));
        let came = self.stream.read(&mut buffer);
        let mut seen = self.seen.lock();
        match came {
            Ok(0) => seen.end = End::Finished,
            Ok(length) => seen.bytes.extend(&buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => seen.end = End::Reset,
        }
    }
}

/// Where the first of these bytes in `all` begins.
pub(crate) fn find(all: &[u8], bytes: &[u8]) -> Option<usize> {
    all.windows(bytes.len()).position(|window| window == bytes)
}

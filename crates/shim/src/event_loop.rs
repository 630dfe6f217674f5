//! Waits for whatever happens next: epoll, and names for what it watches.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::slots::Key;

/// Events taken from the kernel at once.
pub(crate) const BATCH: usize = 64;

/// Which end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one who connected to the published port.
    Client,
    /// The container.
    Container,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    /// The published port's socket.
    Port,
    /// A signal.
    Signal,
    /// The connection to the registrar.
    Registrar,
    /// One end of a connection, or a UDP session (whose end is the container's).
    Flow(Side, Key),
}

impl Token {
    /// Bits 0 to 31: slot; 32 to 59: generation; 60 to 63: kind.
    fn encode(self) -> u64 {
        let (kind, key) = match self {
            Self::Port => (0, 0),
            Self::Signal => (1, 0),
            Self::Registrar => (2, 0),
            Self::Flow(Side::Client, key) => (3, key.to_bits()),
            Self::Flow(Side::Container, key) => (4, key.to_bits()),
        };
        kind << Key::BITS | key
    }

    fn decode(bits: u64) -> Option<Self> {
        let key = Key::from_bits(bits & ((1 << Key::BITS) - 1));
        Some(match bits >> Key::BITS {
            0 => Self::Port,
            1 => Self::Signal,
            2 => Self::Registrar,
            3 => Self::Flow(Side::Client, key),
            4 => Self::Flow(Side::Container, key),
            _ => return None,
        })
    }
}

/// The set of descriptors that are watched.
#[derive(Debug)]
pub(crate) struct EventLoop(Epoll);

impl EventLoop {
    /// An empty set.
    ///
    /// # Errors
    /// No file descriptors or memory left.
    pub(crate) fn new() -> Result<Self, Errno> {
        Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map(Self)
    }

    /// Watches `descriptor`; closing it ends that.
    ///
    /// # Errors
    /// No memory left, or `fs.epoll.max_user_watches` reached.
    pub(crate) fn watch(&self, descriptor: impl AsFd, token: Token, flags: EpollFlags) -> Result<(), Errno> {
        self.0.add(descriptor, EpollEvent::new(flags, token.encode()))
    }

    /// Watches for something else than before.
    ///
    /// # Errors
    /// It was not watched.
    pub(crate) fn change(&self, descriptor: impl AsFd, token: Token, flags: EpollFlags) -> Result<(), Errno> {
        self.0.modify(descriptor, &mut EpollEvent::new(flags, token.encode()))
    }

    /// Waits until something happens or `deadline` has come; yields how many of `events` are filled.
    ///
    /// # Errors
    /// None in a working program; a signal is not one.
    pub(crate) fn wait(&self, events: &mut [EpollEvent; BATCH], deadline: Option<Instant>) -> Result<usize, Errno> {
        let timeout =
            deadline.map_or(EpollTimeout::NONE, |deadline| timeout(deadline.saturating_duration_since(Instant::now())));
        match self.0.wait(events, timeout) {
            Err(Errno::EINTR) => Ok(0),
            result => result,
        }
    }
}

/// Whole milliseconds, never less than asked for, so that what is due is due when the kernel returns.
fn timeout(remaining: Duration) -> EpollTimeout {
    let milliseconds = remaining.as_nanos().div_ceil(1_000_000);
    EpollTimeout::try_from(milliseconds.min(i32::MAX.unsigned_abs().into()) as i32).unwrap_or(EpollTimeout::MAX)
}

/// What an event says, if it is about anything we know.
#[must_use]
pub(crate) fn read(event: &EpollEvent) -> Option<(Token, EpollFlags)> {
    Token::decode(event.data()).map(|token| (token, event.events()))
}

/// The earlier of two deadlines.
#[must_use]
pub(crate) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_survives_the_way_through_the_kernel() {
        let key = Key::from_bits(0x0fed_cba9_8765_4321);
        for token in [
            Token::Port,
            Token::Signal,
            Token::Registrar,
            Token::Flow(Side::Client, key),
            Token::Flow(Side::Container, key),
        ] {
            assert_eq!(Token::decode(token.encode()), Some(token));
        }
        assert_eq!(Token::decode(u64::MAX), None);
    }

    #[test]
    fn a_wait_is_rounded_up() {
        assert_eq!(timeout(Duration::ZERO), EpollTimeout::ZERO);
        assert_eq!(timeout(Duration::from_nanos(1_000_001)), EpollTimeout::try_from(2).unwrap());
        assert_eq!(timeout(Duration::from_secs(u64::MAX)), EpollTimeout::try_from(i32::MAX).unwrap());
    }
}

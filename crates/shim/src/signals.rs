//! Signals, as events: they are blocked, and read from a descriptor.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// End: SIGINT from dockerd, SIGTERM when dockerd dies.
    Stop,
    /// Announce the port again: SIGHUP.
    Announce,
}

/// The signals that were sent to us.
#[derive(Debug)]
pub(crate) struct Signals(SignalFd);

impl Signals {
    /// Blocks the signals that have a meaning here; from now on they wait to be read.
    ///
    /// # Errors
    /// No file descriptors or memory left.
    pub(crate) fn block() -> Result<Self, Errno> {
        let mask: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        mask.thread_block()?;
        SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).map(Self)
    }

    /// The next signal, if there is one.
    pub(crate) fn next_wish(&mut self) -> Option<Wish> {
        let signal = self.0.read_signal().ok()??;
        Some(if signal.ssi_signo == libc::SIGHUP.unsigned_abs() { Wish::Announce } else { Wish::Stop })
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

//! One direction of a TCP connection: the kernel moves the bytes through a pipe, they never come to us.
//!
//! While a connection is watched, its bytes are looked at where they lie, and exactly those are moved then: nothing is
//! held back.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use nix::unistd::pipe2;

use crate::watch::{PEEK, View};

/// The most that is moved at once, and what a pipe is asked to hold; where the kernel gives less (a bound per user),
/// less is moved.
const CHUNK: usize = 256 * 1024;
/// Steps that one direction makes before others get their turn: half of them in, half of them out.
const TURN: u32 = 16;
/// Pipes that wait for the next bytes of any connection.
const SPARE_PIPES: usize = 4;

/// A pipe, always empty while it waits in [`Pipes`].
#[derive(Debug)]
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

/// Pipes to be used again. A connection holds one only while bytes are in it.
#[derive(Debug, Default)]
pub(crate) struct Pipes {
    spare: Vec<Pipe>,
}

impl Pipes {
    fn take(&mut self) -> Option<Pipe> {
        self.spare.pop().or_else(|| {
            let (out, into) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).ok()?;
            let _ = fcntl(&into, FcntlArg::F_SETPIPE_SZ(CHUNK as i32));
            Some(Pipe { out, into })
        })
    }

    fn give_back(&mut self, pipe: Pipe) {
        if self.spare.len() < SPARE_PIPES {
            self.spare.push(pipe);
        }
    }
}

/// How far a pump came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing to do until the kernel reports a change at either socket.
    Waiting,
    /// There is more to do, after the others had their turn.
    Unfinished,
    /// No pipe is to be had at the moment.
    Starved,
    /// The sender failed. All that it sent before was passed on.
    SenderFailed,
    /// The receiver failed; what was in the pipe is lost.
    ReceiverFailed,
}

/// Moves bytes from one socket to another until the end of the stream, and passes that on.
#[derive(Debug, Default)]
pub(crate) struct Pump {
    /// Held while it holds bytes.
    pipe: Option<Pipe>,
    /// Bytes in it.
    pending: usize,
    finished: bool,
}

impl Pump {
    /// Whether the end of the stream was passed on.
    #[must_use]
    pub(crate) const fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether bytes wait for the receiver.
    #[must_use]
    pub(crate) const fn is_blocked(&self) -> bool {
        self.pending > 0
    }

    /// Moves what can be moved without waiting.
    ///
    /// The pipe is filled only when it is empty. So "would block" has one meaning each time: on the way in there is
    /// nothing to read, on the way out the receiver's buffer is full. `pass_end`: whether the receiver is to see the
    /// end of the stream, once it comes. `view`: the watch on this direction, if there is one.
    pub(crate) fn run(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        pass_end: bool,
        pipes: &mut Pipes,
        mut view: Option<View<'_>>,
    ) -> Progress {
        for _ in 0..TURN {
            if self.finished {
                return Progress::Waiting;
            }
            let draining = self.is_blocked();
            match if draining { self.drain(to, pipes) } else { self.fill(from, pipes, view.as_mut()) } {
                Ok(()) if self.finished => {
                    if let Some(view) = &mut view {
                        view.ended();
                    }
                    if pass_end {
                        // Fails where the receiver has failed, which will be noticed.
                        let _ = shutdown(to.as_raw_fd(), Shutdown::Write);
                    }
                }
                Ok(()) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Progress::Waiting,
                Err(Errno::EMFILE) => return Progress::Starved,
                Err(_) if draining => return Progress::ReceiverFailed,
                Err(_) => return Progress::SenderFailed,
            }
        }
        Progress::Unfinished
    }

    fn fill(&mut self, from: BorrowedFd<'_>, pipes: &mut Pipes, view: Option<&mut View<'_>>) -> Result<(), Errno> {
        match view.filter(|view| view.wants_more()) {
            None => self.fill_with(CHUNK, from, pipes),
            Some(view) => self.look_and_fill(from, pipes, view),
        }
    }

    /// Apart from [`Self::fill`], so that its buffer is on the stack only while it is needed.
    #[inline(never)]
    fn look_and_fill(&mut self, from: BorrowedFd<'_>, pipes: &mut Pipes, view: &mut View<'_>) -> Result<(), Errno> {
        let mut bytes = [0; PEEK];
        let length = recv(from.as_raw_fd(), &mut bytes, MsgFlags::MSG_PEEK)?;
        // The end of the stream moves nothing, which takes an attempt.
        self.fill_with(length.max(1), from, pipes)?;
        view.forwarded(&bytes[..self.pending.min(length)]);
        Ok(())
    }

    fn fill_with(&mut self, most: usize, from: BorrowedFd<'_>, pipes: &mut Pipes) -> Result<(), Errno> {
        let pipe = pipes.take().ok_or(Errno::EMFILE)?;
        match move_bytes(from, &pipe.into, most) {
            Ok(count) if count > 0 => {
                self.pending = count;
                self.pipe = Some(pipe);
                Ok(())
            }
            result => {
                pipes.give_back(pipe);
                self.finished = result? == 0;
                Ok(())
            }
        }
    }

    fn drain(&mut self, to: BorrowedFd<'_>, pipes: &mut Pipes) -> Result<(), Errno> {
        let Some(pipe) = &self.pipe else { return Err(Errno::EPIPE) };
        self.pending -= move_bytes(&pipe.out, to, self.pending)?.min(self.pending);
        if self.pending == 0
            && let Some(pipe) = self.pipe.take()
        {
            pipes.give_back(pipe);
        }
        Ok(())
    }
}

fn move_bytes(from: impl std::os::fd::AsFd, to: impl std::os::fd::AsFd, most: usize) -> Result<usize, Errno> {
    splice(from, None, to, None, most, SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK)
}

//! File descriptors where the safe wrappers end: those that a parent left open, and `accept4`.

#![expect(unsafe_code, reason = "a number becomes an owned descriptor here and nowhere else")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::socket::{SockFlag, accept4};

mod ioctl {
    use nix::libc;
    nix::ioctl_read_bad!(unsent, libc::TIOCOUTQ, libc::c_int);
}

/// Takes over a descriptor that the process was started with; `None` where it is not open.
///
/// To be called once per number, and before the process opens any descriptor of its own.
pub(crate) fn inherit(number: RawFd) -> Option<OwnedFd> {
    // SAFETY: used for one call only, which fails where the number is not open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    // Stays open over `exec`, for docker-proxy.
    fcntl(borrowed, FcntlArg::F_GETFD).ok()?;
    // SAFETY: open, as was just seen, and nobody else in this process owns it (see above).
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Opens `/dev/null` where standard input, output or error is closed, so that no socket takes its number and gets what
/// is meant for an operator.
pub(crate) fn open_standard() {
    const STANDARD: RawFd = 2;
    while let Ok(file) = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null") {
        if file.as_raw_fd() > STANDARD {
            return;
        }
        std::mem::forget(file);
    }
}

/// Accepts a connection, non-blocking from the start.
///
/// # Errors
/// Those of `accept4`; `EAGAIN` where none waits.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let number = accept4(listener.as_raw_fd(), SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Bytes that were written to a TCP socket and that its peer has not acknowledged.
///
/// # Errors
/// Those of `ioctl`: not a socket.
pub(crate) fn unsent(socket: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int, to where we point it.
    unsafe { ioctl::unsent(socket.as_raw_fd(), &raw mut bytes) }?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Makes a descriptor non-blocking.
///
/// # Errors
/// Those of `fcntl`.
pub(crate) fn set_nonblocking(descriptor: impl AsFd) -> Result<(), Errno> {
    let flags = OFlag::from_bits_retain(fcntl(&descriptor, FcntlArg::F_GETFL)?);
    fcntl(&descriptor, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

//! Where the C library enters, in place of Rust's own start-up.
//!
//! That one reads `/proc/self/maps` to learn the bounds of the stack, for a message at its overflow, and leaves 11 kB
//! of dirty memory behind: a sixth of all that an idle shim has. What else it does and is needed is done here.

#![expect(unsafe_code, reason = "the C library calls `main` by that name; a signal's disposition is process-wide")]

use std::ffi::{c_char, c_int};

use nix::sys::signal::{SigHandler, Signal, signal};

/// The program. Its arguments are had from the standard library.
#[unsafe(no_mangle)]
extern "C" fn main(_count: c_int, _arguments: *const *const c_char) -> c_int {
    // A peer that is gone is an error of the call (EPIPE), not the end of the process.
    // SAFETY: no handler of ours is involved.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
    c_int::from(crate::run())
}

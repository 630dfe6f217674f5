//! dockerd's end: the pipe on fd 3 that hears how the start went, and the socket on fd 4.
//!
//! Whether fd 4 is the right socket is decided in `port`.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use crate::descriptor;

const PARENT_PIPE: i32 = 3;
const LISTENING_SOCKET: i32 = 4;

/// What dockerd left open for us.
#[derive(Debug)]
pub(crate) struct Parent {
    pipe: Option<File>,
    /// fd 4, whatever it is; Docker 28 and later give a socket.
    pub(crate) socket: Option<OwnedFd>,
}

impl Parent {
    /// Takes both over. To be called once, before anything else opens a descriptor.
    #[must_use]
    pub(crate) fn inherit() -> Self {
        Self { pipe: descriptor::inherit(PARENT_PIPE).map(File::from), socket: descriptor::inherit(LISTENING_SOCKET) }
    }

    /// Says that the port is served, and closes the pipe.
    ///
    /// # Errors
    /// Nobody listens: dockerd gave up, or this was started by hand.
    pub(crate) fn succeeded(&mut self) -> io::Result<()> {
        self.say("0\n")
    }

    /// Says why the port can't be served. dockerd shows it to whoever called `docker run`.
    pub(crate) fn failed(&mut self, reason: &str) {
        // Where dockerd is gone nobody is left to be told; the caller logs it, too.
        let _ = self.say(&format!("1\n{reason}"));
    }

    fn say(&mut self, text: &str) -> io::Result<()> {
        let mut pipe = self.pipe.take().ok_or_else(|| io::Error::from_raw_os_error(nix::libc::EBADF))?;
        pipe.write_all(text.as_bytes())
    }
}

//! Hears of changes to the firewall's rules, by whomever, and tells the loop. On a thread of its own: it waits
//! for the kernel.

use std::io;
use std::os::fd::AsFd;

use capture::Watch;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::sync::mpsc;
use tracing::warn;

use crate::event::Event;

/// Listens until the registrar ends, or the kernel no longer tells.
pub(crate) fn spawn(watch: Watch, events: mpsc::Sender<Event>) -> io::Result<()> {
    let listen = move || {
        if let Err(error) = listen(&watch, &events) {
            warn!(%error, "changes of the firewall are no longer heard of at once, but found within seconds");
        }
    };
    std::thread::Builder::new().name("firewall-watch".to_owned()).spawn(listen).map(drop)
}

fn listen(watch: &Watch, events: &mpsc::Sender<Event>) -> io::Result<()> {
    loop {
        match poll(&mut [PollFd::new(watch.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        match watch.read() {
            Ok(notice) if notice.is_empty() => {}
            Ok(notice) => {
                if events.blocking_send(Event::Firewall(notice)).is_err() {
                    return Ok(());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

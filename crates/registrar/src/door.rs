//! Lets clients in at a listener: as many as its share allows, and none that stays silent.
//!
//! Every listener of the registrar has a door of its own, so that none of them takes what another one needs. Each
//! client begins silent, and is again between two requests. One that is silent for [`SILENCE_MAX`] is shown out. Where a
//! share is used up, the client that has been silent for the longest makes room for the next one, so that those who do
//! nothing never keep out those who do something. After an accept that failed the door stays closed for a moment.

mod guarded;
mod listens;
pub(crate) mod shares;

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::sys::socket::{Shutdown, shutdown};
use tokio::time::{sleep, timeout};
use tracing::warn;

pub(crate) use self::guarded::Guarded;
pub(crate) use self::listens::{Listens, Source};
use self::shares::Share;

/// How long a client may take to ask for something that makes sense: to say all of a request's head, to register, to
/// open a stream.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How often silent clients are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The wait after an accept that failed, mostly for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);
/// How often the same complaint is logged at most.
const COMPLAIN_EVERY: Duration = Duration::from_secs(10);

/// One listener's door.
#[derive(Debug)]
pub(crate) struct Door {
    share: Share,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    last_number: u64,
    present: BTreeMap<u64, Guest>,
    complained: Option<Instant>,
    swept: Option<Instant>,
}

#[derive(Debug)]
struct Guest {
    source: Source,
    /// What can be shut down to show it out; `None` for one that is never shown out.
    socket: Option<RawFd>,
    /// How many things are being done for it.
    busy: usize,
    /// Since when nothing is, and nothing was taken by it.
    silent_since: Instant,
}

/// The share is used up, and nobody in it is silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Door {
    pub(crate) fn new(share: Share) -> Arc<Self> {
        Arc::new(Self { share, guests: Mutex::default() })
    }

    /// The next client. It waits for as long as there is none.
    pub(crate) async fn accept<L: Listens>(self: &Arc<Self>, listener: &L) -> Guarded<L::Stream> {
        loop {
            self.sweep(Instant::now());
            let Ok(accepted) = timeout(SWEEP_EVERY, listener.take()).await else { continue };
            match accepted {
                Ok((stream, source)) => {
                    L::watch_over(&stream);
                    match self.enter(source, Some(L::socket(&stream)), Instant::now()) {
                        Ok(visitor) => return Guarded::new(stream, visitor),
                        Err(Full) => self.complain(|listener| {
                            warn!(listener, ?source, "a client was turned away: there are too many");
                        }),
                    }
                }
                Err(error) => {
                    self.complain(|listener| {
                        warn!(listener, %error, "a client could not be accepted; raise LimitNOFILE if this stays");
                    });
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Lets a client in, and shows another out where that makes room for it.
    pub(crate) fn enter(
        self: &Arc<Self>,
        source: Source,
        socket: Option<RawFd>,
        now: Instant,
    ) -> Result<Visitor, Full> {
        let mut guests = self.guests();
        guests.make_room(&self.share, source)?;
        guests.last_number += 1;
        let number = guests.last_number;
        guests.present.insert(number, Guest { source, socket, busy: 0, silent_since: now });
        Ok(Visitor(Arc::new(Entry { door: Arc::clone(self), number })))
    }

    /// Shows out those who have been silent for too long.
    fn sweep(&self, now: Instant) {
        let mut guests = self.guests();
        if guests.swept.is_some_and(|last| now < last + SWEEP_EVERY) {
            return;
        }
        guests.swept = Some(now);
        let is_over = |guest: &Guest| guest.is_silent() && now >= guest.silent_since + SILENCE_MAX;
        let over: Vec<_> =
            guests.present.iter().filter(|(_, guest)| is_over(guest)).map(|(number, _)| *number).collect();
        over.into_iter().for_each(|number| guests.show_out(number));
    }

    fn complain(&self, say: impl FnOnce(&'static str)) {
        let now = Instant::now();
        let mut guests = self.guests();
        if guests.complained.is_none_or(|last| now >= last + COMPLAIN_EVERY) {
            guests.complained = Some(now);
            say(self.share.listener);
        }
    }

    fn guests(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Guest {
    const fn is_silent(&self) -> bool {
        self.busy == 0 && self.socket.is_some()
    }
}

impl Guests {
    fn make_room(&mut self, share: &Share, source: Source) -> Result<(), Full> {
        let of_source = |guest: &Guest| guest.source == source;
        let remote = |guest: &Guest| guest.source != Source::Local;
        let count = |of: &dyn Fn(&Guest) -> bool| self.present.values().filter(|guest| of(guest)).count();
        let leaver = if source != Source::Local && count(&of_source) >= share.of_one_source() {
            self.longest_silent(of_source)
        } else if source != Source::Local && count(&remote) >= share.of_others() {
            self.longest_silent(remote)
        } else if self.present.len() >= share.most {
            self.longest_silent(remote).or_else(|| self.longest_silent(|_| true))
        } else {
            return Ok(());
        };
        self.show_out(leaver.ok_or(Full)?);
        Ok(())
    }

    fn longest_silent(&self, of: impl Fn(&Guest) -> bool) -> Option<u64> {
        let silent = self.present.iter().filter(|(_, guest)| guest.is_silent() && of(guest));
        silent.min_by_key(|(_, guest)| guest.silent_since).map(|(number, _)| *number)
    }

    /// Its socket is still open: a guest leaves before that is closed.
    fn show_out(&mut self, number: u64) {
        if let Some(socket) = self.present.remove(&number).and_then(|guest| guest.socket) {
            // A client that has gone already needs no showing out.
            let _ = shutdown(socket, Shutdown::Both);
        }
    }
}

/// A client that was let in.
#[derive(Clone, Debug)]
pub(crate) struct Visitor(Arc<Entry>);

#[derive(Debug)]
struct Entry {
    door: Arc<Door>,
    number: u64,
}

impl Visitor {
    /// Something is done for it, until what is returned is dropped.
    pub(crate) fn busy(&self) -> Busy {
        if let Some(guest) = self.0.door.guests().present.get_mut(&self.0.number) {
            guest.busy += 1;
        }
        Busy(self.clone())
    }

    /// It has taken something of what is sent to it.
    fn took(&self) {
        if let Some(guest) = self.0.door.guests().present.get_mut(&self.0.number) {
            guest.silent_since = Instant::now();
        }
    }

    /// Its socket is about to be closed.
    fn leaves(&self) {
        self.0.door.guests().present.remove(&self.0.number);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.door.guests().present.remove(&self.number);
    }
}

/// Something is done for a client.
#[derive(Debug)]
pub(crate) struct Busy(Visitor);

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some(guest) = self.0.0.door.guests().present.get_mut(&self.0.0.number) {
            guest.busy = guest.busy.saturating_sub(1);
            guest.silent_since = Instant::now();
        }
    }
}

#[cfg(test)]
#[path = "door/tests.rs"]
mod tests;

//! Shims that were told to stop and wait for Envoy to let go of their port: who may be told what, and when. Decisions
//! only; Envoy's acknowledgements are counted in `xds`, its sockets are ended in `ended_ports`.
//!
//! dockerd waits for one shim after the other, and whoever called `docker stop` for dockerd. So Envoy is not waited for
//! without a limit: an Envoy that hangs, or has just been given hundreds of listeners, has its sockets ended instead.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use catalog::RegistrationId;
use model::PublishedPort;
use tracing::{debug, warn};

/// How long Envoy is waited for, from the moment at which the first of a container's shims was told to stop. It takes 6
/// to 25 ms to let go of 50 listeners where it has nothing else to do.
const PATIENCE: Duration = Duration::from_millis(25);
/// The wait between two looks where Envoy may be about to listen.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long an Envoy that may be about to listen is waited for, from the same moment. Each shim would wait 200 ms by
/// itself; this is for all of a container together.
const PATIENCE_WITH_NEW: Duration = Duration::from_millis(150);

/// What Envoy has said of a port's listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has let go of it, or never had it.
    Free,
    /// It has it: it has begun to listen, and may have stopped since.
    Taken,
    /// It was sent it: it may be about to listen.
    New,
    /// No Envoy is connected. One that hangs, or was not found again yet, may have it all the same.
    Away,
}

/// The shims that wait.
#[derive(Debug, Default)]
pub(crate) struct Releases {
    waiting: HashMap<RegistrationId, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    port: PublishedPort,
    /// The inode of the shim's own socket.
    shims_inode: u32,
    /// When the first of its container's shims was told to stop.
    since: Instant,
    /// When Envoy's sockets are ended; never, if that has failed.
    end_at: Option<Instant>,
}

impl Releases {
    /// A shim waits for its port, where its own socket has the inode `shims_inode`. `since`: when the first of its
    /// container's shims was told to stop.
    pub(crate) fn begin(&mut self, id: RegistrationId, port: PublishedPort, shims_inode: u32, since: Instant) {
        self.waiting.insert(id, Waiting { port, shims_inode, since, end_at: Some(since + PATIENCE) });
    }

    /// A shim no longer waits.
    pub(crate) fn forget(&mut self, id: RegistrationId) {
        self.waiting.remove(&id);
    }

    /// The shims whose port is free now; they no longer wait.
    ///
    /// `standing` is what Envoy has said. `end` ends its sockets, which are all but the shim's own (whose inode it is
    /// given), and yields their number; it is asked only for ports that were waited for long enough, or whose Envoy is
    /// away.
    pub(crate) fn take_finished(
        &mut self,
        now: Instant,
        standing: impl Fn(&PublishedPort) -> Standing,
        end: impl Fn(&PublishedPort, u32) -> io::Result<usize>,
    ) -> Vec<RegistrationId> {
        let is_done = |_: &RegistrationId, waiting: &mut Waiting| match standing(&waiting.port) {
            Standing::Free => true,
            Standing::Taken | Standing::New if waiting.end_at.is_none_or(|at| now < at) => false,
            standing => waiting.ended(now, standing, &end),
        };
        self.waiting.extract_if(is_done).map(|(id, _)| id).collect()
    }

    /// When [`Self::take_finished`] is to be asked again even if nothing happens.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.waiting.values().filter_map(|waiting| waiting.end_at).min()
    }
}

impl Waiting {
    /// Ends Envoy's sockets; says whether the port is as free as it can be made.
    fn ended(
        &mut self,
        now: Instant,
        standing: Standing,
        end: impl Fn(&PublishedPort, u32) -> io::Result<usize>,
    ) -> bool {
        match end(&self.port, self.shims_inode) {
            // A shim that left now would leave the port to Envoy.
            Ok(0) if standing == Standing::New && now < self.since + PATIENCE_WITH_NEW => {
                self.end_at = Some(now + LOOK_AGAIN);
                false
            }
            Ok(0) => true,
            Ok(sockets) => {
                debug!(port = %self.port, sockets, "Envoy is late to let go, or away: its sockets were ended");
                true
            }
            Err(error) => {
                warn!(port = %self.port, %error, "Envoy is late to let go, and its sockets can't be ended from here");
                self.end_at = None;
                standing == Standing::Away
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use model::Protocol;

    use super::*;

    const FIRST: RegistrationId = RegistrationId(1);
    const SECOND: RegistrationId = RegistrationId(2);
    const INODE: u32 = 7;
    const TAKEN: Standing = Standing::Taken;
    const NEW: Standing = Standing::New;

    fn port(port: u16) -> PublishedPort {
        PublishedPort { address: [0, 0, 0, 0].into(), port, protocol: Protocol::Tcp }
    }

    fn not_yet(_: &PublishedPort, _: u32) -> io::Result<usize> {
        panic!("nothing is to be ended yet");
    }

    fn both_wait(since: Instant) -> Releases {
        let mut releases = Releases::default();
        releases.begin(FIRST, port(1), INODE, since);
        releases.begin(SECOND, port(2), INODE, since);
        releases
    }

    #[test]
    fn who_is_free_of_envoy_is_told_once() {
        let now = Instant::now();
        let mut releases = both_wait(now);
        let first_is_free = |of: &PublishedPort| if *of == port(1) { Standing::Free } else { TAKEN };
        assert_eq!(releases.take_finished(now, |_| TAKEN, not_yet), vec![]);
        assert_eq!(releases.take_finished(now, first_is_free, not_yet), vec![FIRST]);
        assert_eq!(releases.take_finished(now, first_is_free, not_yet), vec![]);
        assert_eq!(releases.next_timeout(), Some(now + PATIENCE), "the other waits");
        releases.forget(SECOND);
        assert_eq!(releases.next_timeout(), None);
    }

    #[test]
    fn a_late_envoys_sockets_are_ended_at_once_for_whoever_of_the_container_comes_later() {
        let now = Instant::now();
        let mut releases = Releases::default();
        releases.begin(FIRST, port(1), INODE, now);
        assert_eq!(releases.take_finished(now + PATIENCE, |_| TAKEN, |_, _| Ok(2)), vec![FIRST]);
        releases.begin(SECOND, port(2), INODE, now);
        assert_eq!(releases.take_finished(now + PATIENCE, |_| TAKEN, |_, _| Ok(2)), vec![SECOND]);
    }

    #[test]
    fn a_listener_that_does_not_listen_yet_is_waited_for() {
        let now = Instant::now();
        let mut releases = both_wait(now);
        releases.forget(SECOND);
        let late = now + PATIENCE;
        assert_eq!(releases.take_finished(late, |_| NEW, |_, _| Ok(0)), vec![]);
        assert_eq!(releases.next_timeout(), Some(late + LOOK_AGAIN));
        assert_eq!(releases.take_finished(late, |_| NEW, not_yet), vec![]);
        assert_eq!(releases.take_finished(late + LOOK_AGAIN, |_| NEW, |_, _| Ok(1)), vec![FIRST]);
    }

    #[test]
    fn an_envoy_that_never_listens_holds_a_container_up_once_and_not_for_each_port() {
        let now = Instant::now();
        let mut releases = both_wait(now);
        let later = now + PATIENCE_WITH_NEW;
        let mut told = releases.take_finished(later, |_| NEW, |_, _| Ok(0));
        told.sort_unstable();
        assert_eq!(told, vec![FIRST, SECOND]);
    }

    #[test]
    fn a_listener_that_no_longer_listens_is_not_waited_for() {
        let now = Instant::now();
        let mut releases = both_wait(now);
        releases.forget(SECOND);
        assert_eq!(releases.take_finished(now + PATIENCE, |_| TAKEN, |_, _| Ok(0)), vec![FIRST]);
    }

    #[test]
    fn an_envoy_that_is_not_connected_is_not_waited_for() {
        let now = Instant::now();
        for outcome in [Some(0), Some(2), None] {
            let mut releases = both_wait(now);
            releases.forget(SECOND);
            let end = |_: &PublishedPort, _: u32| outcome.ok_or_else(|| io::ErrorKind::PermissionDenied.into());
            assert_eq!(releases.take_finished(now, |_| Standing::Away, end), vec![FIRST], "{outcome:?}");
        }
    }

    #[test]
    fn where_the_kernel_refuses_it_is_not_asked_again() {
        let now = Instant::now();
        let mut releases = both_wait(now);
        releases.forget(SECOND);
        let asked = Cell::new(0);
        let refuse = |_: &PublishedPort, _: u32| {
            asked.set(asked.get() + 1);
            Err(io::ErrorKind::PermissionDenied.into())
        };
        for _ in 0..2 {
            assert_eq!(releases.take_finished(now + PATIENCE, |_| TAKEN, refuse), vec![]);
        }
        assert_eq!((asked.get(), releases.next_timeout()), (1, None));
        assert_eq!(releases.take_finished(now + PATIENCE, |_| Standing::Free, refuse), vec![FIRST], "Envoy came to it");
    }
}

//! Shims that were told to stop and wait for Envoy to let go of their port: who may be told what, and when. Decisions
//! only; Envoy's acknowledgements are counted in `xds`, its sockets are ended in `ended_ports`.
//!
//! dockerd waits for one shim after the other, and whoever called `docker stop` for dockerd. So Envoy is not waited for
//! without a limit: where it hangs or is busy, its sockets are ended instead. A listener that Envoy was sent and has not
//! answered is another matter: no socket of it can be ended, because there may be none yet. `xds` sends only a few of
//! these at a time, so the answer is near.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use catalog::RegistrationId;
use model::PublishedPort;
use shim_wire::RELEASE_LIMIT;
use tracing::{debug, warn};

/// How long Envoy is waited for where it listens, from the moment at which the first of a container's shims was told to
/// stop. It takes 6 to 25 ms to let go of 50 listeners where it has nothing else to do.
const PATIENCE: Duration = Duration::from_millis(25);

/// What Envoy has said of a port's listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has let go of it, or never had it.
    Free,
    /// It has it: it has begun to listen, and may have stopped since.
    Taken,
    /// It was sent it and has not answered: it may be about to listen.
    UnderWay,
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
    /// When it is to be looked at again even if Envoy says nothing.
    look_at: Instant,
    /// Whether the shim knows that it was heard.
    is_told: bool,
    /// The kernel refused to end Envoy's sockets.
    cannot_end: bool,
}

impl Releases {
    /// A shim waits for its port, where its own socket has the inode `shims_inode`. `since`: when the first of its
    /// container's shims was told to stop.
    pub(crate) fn begin(&mut self, id: RegistrationId, port: PublishedPort, shims_inode: u32, since: Instant) {
        let look_at = since + PATIENCE;
        let waiting = Waiting { port, shims_inode, since, look_at, is_told: false, cannot_end: false };
        self.waiting.insert(id, waiting);
    }

    /// A shim no longer waits.
    pub(crate) fn forget(&mut self, id: RegistrationId) {
        self.waiting.remove(&id);
    }

    /// The ports that shims wait for.
    pub(crate) fn ports(&self) -> impl Iterator<Item = &PublishedPort> {
        self.waiting.values().map(|waiting| &waiting.port)
    }

    /// The shims whose port is free now, or as free as it can be made; they no longer wait.
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
        let is_done = |_: &RegistrationId, waiting: &mut Waiting| {
            let standing = standing(&waiting.port);
            standing == Standing::Free || waiting.is_over(now, standing, &end)
        };
        self.waiting.extract_if(is_done).map(|(id, _)| id).collect()
    }

    /// The shims that wait and were not told yet that they were heard. To be asked for after [`Self::take_finished`].
    pub(crate) fn take_unanswered(&mut self) -> Vec<RegistrationId> {
        let unanswered = self.waiting.iter_mut().filter(|(_, waiting)| !waiting.is_told);
        unanswered.map(|(id, waiting)| (*id, waiting.is_told = true).0).collect()
    }

    /// When [`Self::take_finished`] is to be asked again even if nothing happens.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.waiting.values().map(|waiting| waiting.look_at).min()
    }
}

impl Waiting {
    /// Ends Envoy's sockets if it is time; says whether there is nothing more to wait for.
    fn is_over(
        &mut self,
        now: Instant,
        standing: Standing,
        end: impl Fn(&PublishedPort, u32) -> io::Result<usize>,
    ) -> bool {
        let limit = self.since + RELEASE_LIMIT;
        self.look_at = match standing {
            Standing::Taken if !self.cannot_end => self.since + PATIENCE,
            Standing::Taken | Standing::UnderWay => limit,
            Standing::Free | Standing::Away => now,
        };
        if now < self.look_at {
            return false;
        }
        match end(&self.port, self.shims_inode) {
            Ok(0) => true,
            Ok(sockets) => {
                debug!(port = %self.port, sockets, "Envoy is late to let go, or away: its sockets were ended");
                true
            }
            Err(error) => {
                warn!(port = %self.port, %error, "Envoy is late to let go, and its sockets can't be ended from here");
                (self.cannot_end, self.look_at) = (true, limit);
                standing == Standing::Away || now >= limit
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
    const UNDER_WAY: Standing = Standing::UnderWay;

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
    fn no_shim_leaves_while_envoy_has_yet_to_answer_for_its_listener_and_no_socket_is_ended_before() {
        let now = Instant::now();
        let mut releases = both_wait(now);
        releases.forget(SECOND);
        assert_eq!(releases.take_finished(now + PATIENCE, |_| UNDER_WAY, not_yet), vec![]);
        assert_eq!(releases.next_timeout(), Some(now + RELEASE_LIMIT));
        let answered = now + 2 * PATIENCE;
        assert_eq!(releases.take_finished(answered, |_| TAKEN, |_, _| Ok(1)), vec![FIRST], "it listens, and is late");
    }

    #[test]
    fn an_envoy_that_hangs_with_a_listener_on_its_way_holds_a_container_up_once_and_not_for_each_port() {
        let now = Instant::now();
        let mut releases = both_wait(now);
        let mut told = releases.take_finished(now + RELEASE_LIMIT, |_| UNDER_WAY, |_, _| Ok(0));
        told.sort_unstable();
        assert_eq!(told, vec![FIRST, SECOND]);
    }

    #[test]
    fn a_shim_that_waits_is_told_once_that_it_was_heard() {
        let now = Instant::now();
        let mut releases = both_wait(now);
        let first_is_free = |of: &PublishedPort| if *of == port(1) { Standing::Free } else { TAKEN };
        assert_eq!(releases.take_finished(now, first_is_free, not_yet), vec![FIRST]);
        assert_eq!(releases.take_unanswered(), vec![SECOND]);
        assert_eq!(releases.take_unanswered(), vec![]);
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
        assert_eq!((asked.get(), releases.next_timeout()), (1, Some(now + RELEASE_LIMIT)));
        assert_eq!(releases.take_finished(now + PATIENCE, |_| Standing::Free, refuse), vec![FIRST], "Envoy came to it");
    }

    #[test]
    fn where_the_kernel_refuses_and_envoy_hangs_a_container_is_held_up_once() {
        let now = Instant::now();
        let mut releases = both_wait(now);
        let refuse = |_: &PublishedPort, _: u32| Err(io::ErrorKind::PermissionDenied.into());
        assert_eq!(releases.take_finished(now + PATIENCE, |_| TAKEN, refuse), vec![]);
        assert_eq!(releases.take_finished(now + RELEASE_LIMIT, |_| TAKEN, refuse).len(), 2);
    }
}

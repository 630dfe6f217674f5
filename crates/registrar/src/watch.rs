//! The newest state of services and hosts, for those who watch: HTTP's watchers and listeners.
//!
//! One task asks the loop and publishes what it hears; nobody keeps a queue. Who watches compares what it told last
//! with what is published now, so that a slow one misses what lay between, and costs no memory for it. While nobody
//! watches, nothing is asked.

pub(crate) mod state;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use catalog::ServiceRow;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::sleep;

use self::state::State;
use crate::event::{Event, Query};
use crate::listeners::Target;
use crate::query;

/// The least time between two states: a busy cluster is told of in steps, so that the loop is not asked all the time.
const SPACING: Duration = Duration::from_millis(100);

/// How often is asked although nothing was said: some problems are found only by looking.
const REFRESH: Duration = Duration::from_secs(10);

/// What the loop answers: all that is told to watchers.
#[derive(Debug, Default)]
pub(crate) struct View {
    pub(crate) services: Vec<ServiceRow>,
    pub(crate) hosts: Vec<admin_api::Host>,
    /// False while the registrar has just started, and does not know the world yet.
    pub(crate) is_whole: bool,
}

/// How the loop says that there is something to be told, and to which of this host's own instances.
#[derive(Debug)]
pub(crate) struct Audience {
    pub(crate) changed: Arc<Notify>,
    pub(crate) listeners: watch::Sender<Vec<Target>>,
}

/// Where to watch.
#[derive(Clone)]
pub(crate) struct Watching {
    states: Arc<watch::Sender<Arc<State>>>,
    wake: Arc<Notify>,
    places: Arc<Semaphore>,
    most: usize,
}

/// There are as many already as there may be.
#[derive(Debug, thiserror::Error)]
#[error("there are {0} watchers already: end one of them, or ask again and again instead")]
pub(crate) struct TooManyWatchers(usize);

impl Watching {
    /// Begins to publish, to so many watchers over HTTP at a time. `changed` says that something differs in the loop.
    pub(crate) fn start(most: usize, changed: Arc<Notify>, events: mpsc::Sender<Event>) -> Self {
        let states = Arc::new(watch::Sender::new(Arc::new(State::default())));
        tokio::spawn(publish(Arc::clone(&states), Arc::clone(&changed), events));
        Self { states, wake: changed, places: Arc::new(Semaphore::new(most)), most }
    }

    /// Follows all states from now on: the first is yet to come. For listeners, whose number has its own bound.
    pub(crate) fn follow(&self) -> watch::Receiver<Arc<State>> {
        let mut states = self.states.subscribe();
        states.mark_unchanged();
        self.wake.notify_one();
        states
    }

    /// As [`Self::follow`], for one of a bounded number.
    pub(crate) fn watch(&self) -> Result<Watcher, TooManyWatchers> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| TooManyWatchers(self.most))?;
        Ok(Watcher { states: self.follow(), told: None, _place: place })
    }

    /// The state now, whole or not; `None` when the registrar is stopping.
    pub(crate) async fn newest(&self) -> Option<Arc<State>> {
        let mut states = self.follow();
        states.changed().await.ok()?;
        Some(Arc::clone(&states.borrow_and_update()))
    }
}

/// One who watches over HTTP.
pub(crate) struct Watcher {
    states: watch::Receiver<Arc<State>>,
    told: Option<Arc<State>>,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    /// What was told last, `None` at first, and what is to be told now. `None`: the registrar is stopping. Nothing is
    /// told while the registrar does not know the world yet: who watched before it started anew would take it that all
    /// is gone.
    pub(crate) async fn next(&mut self) -> Option<(Option<Arc<State>>, Arc<State>)> {
        loop {
            self.states.changed().await.ok()?;
            let now = Arc::clone(&self.states.borrow_and_update());
            if now.is_whole {
                return Some((self.told.replace(Arc::clone(&now)), now));
            }
        }
    }
}

async fn publish(states: Arc<watch::Sender<Arc<State>>>, changed: Arc<Notify>, events: mpsc::Sender<Event>) {
    loop {
        tokio::select! {
            () = changed.notified() => {}
            () = sleep(REFRESH) => {}
        }
        if states.receiver_count() == 0 {
            continue;
        }
        let Ok(view) = query::ask(&events, |answer| Event::Query(Query::View(answer))).await else { return };
        let next = State::next(&states.borrow(), &view, SystemTime::now());
        states.send_replace(Arc::new(next));
        sleep(SPACING).await;
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::time::timeout;

    use super::*;

    /// A loop that answers so, the first time with 1, then with 2, and so on.
    pub(crate) fn loop_that_answers(view: impl Fn(usize) -> View + Send + 'static) -> mpsc::Sender<Event> {
        let (events, mut asked) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut times = 0;
            while let Some(Event::Query(Query::View(answer))) = asked.recv().await {
                times += 1;
                let _ = answer.send(view(times));
            }
        });
        events
    }

    fn hosts(count: usize) -> Vec<admin_api::Host> {
        (0..count).map(|number| state::tests::host(&format!("host-{number}"))).collect()
    }

    /// A loop that knows of one more host each time it is asked.
    fn counting_loop() -> mpsc::Sender<Event> {
        loop_that_answers(|times| View { hosts: hosts(times), is_whole: true, ..View::default() })
    }

    #[tokio::test]
    async fn a_slow_watcher_is_told_of_the_newest_state_and_a_new_one_of_no_old_one() {
        let changed = Arc::new(Notify::new());
        let watching = Watching::start(2, Arc::clone(&changed), counting_loop());
        let mut slow = watching.watch().unwrap();
        let (before, first) = slow.next().await.unwrap();
        assert!(before.is_none());
        assert_eq!(first.hosts.len(), 1);
        for _ in 0..5 {
            changed.notify_one();
            sleep(2 * SPACING).await;
        }
        let (before, newest) = slow.next().await.unwrap();
        assert_eq!((before.unwrap().hosts.len(), newest.hosts.len()), (1, 6));
        drop(slow);
        changed.notify_one();
        sleep(2 * SPACING).await;
        assert_eq!(watching.newest().await.unwrap().hosts.len(), 7, "nobody watched, and nobody asked");
    }

    #[tokio::test]
    async fn a_watcher_is_told_nothing_until_the_world_is_known() {
        let changed = Arc::new(Notify::new());
        let view = |times| View { hosts: hosts(times), is_whole: times > 2, ..View::default() };
        let watching = Watching::start(2, Arc::clone(&changed), loop_that_answers(view));
        let mut watcher = watching.watch().unwrap();
        assert!(timeout(3 * SPACING, watcher.next()).await.is_err(), "one host of three is known");
        assert!(!watching.newest().await.unwrap().is_whole);
        changed.notify_one();
        let (before, first) = timeout(Duration::from_secs(5), watcher.next()).await.unwrap().unwrap();
        assert_eq!((before.is_none(), first.hosts.len()), (true, 3));
    }

    #[tokio::test]
    async fn watchers_are_bounded_and_make_room_when_they_go() {
        let watching = Watching::start(2, Arc::new(Notify::new()), counting_loop());
        let mut watchers: Vec<_> = (0..2).map(|_| watching.watch().unwrap()).collect();
        assert!(watching.watch().is_err());
        watchers.pop();
        let mut another = watching.watch().unwrap();
        assert!(timeout(Duration::from_secs(1), another.next()).await.unwrap().is_some());
    }
}

//! What a listener is posted next, and when it is tried again. Pure.
//!
//! A listener is told of each instance that differs from what it was told last, one post each with the newest state in
//! it, as Sidecar does. One that was never told anything, gets one post for all. While it is slow or away, nothing is
//! kept for it: what differs is seen when its turn comes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use model::InstanceId;

use crate::backoff::Backoff;
use crate::sidecar::Change;
use crate::watch::state::{Known, State, TICK};

/// Where more instances than this differ, a post covers all of one service name: a host that dies with hundreds of
/// instances must not cost hundreds of posts, each with the whole state.
const SINGLE_POSTS_MAX: usize = 32;

/// Between tries, times a half to one: so that those that failed together do not come back together.
const DELAYS: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// After how many failures in a row it is a problem: a container that starts is not, for some seconds.
const PROBLEM_AFTER: u32 = 5;

/// One listener's side of it.
#[derive(Debug)]
pub(super) struct Delivery {
    /// `None` until it took its first post.
    told: Option<BTreeMap<InstanceId, Arc<Known>>>,
    last_changed: SystemTime,
    backoff: Backoff,
    failures: u32,
}

/// What is to be posted.
#[derive(Debug)]
pub(super) struct Post {
    /// `None`: there is no instance at all.
    pub(super) change: Option<Change>,
    /// The state's time. Readers of Sidecar's take no state twice, so it is another one for each post.
    pub(super) last_changed: SystemTime,
    covers: Covers,
}

#[derive(Debug, PartialEq, Eq)]
enum Covers {
    All,
    Instances(Vec<InstanceId>),
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            told: None,
            last_changed: SystemTime::UNIX_EPOCH,
            backoff: Backoff::new(DELAYS.0, DELAYS.1),
            failures: 0,
        }
    }
}

impl Delivery {
    /// What the listener is to be posted now, if anything. Nothing while the registrar does not know the world yet:
    /// the listener would take it that all is gone.
    pub(super) fn next(&mut self, now: &State) -> Option<Post> {
        if !now.is_whole {
            return None;
        }
        let (change, covers) = match &self.told {
            None => (newest(now), Covers::All),
            Some(told) => first_of(&changes(told, &now.instances))?,
        };
        self.last_changed = now.changed_at.max(self.last_changed + TICK);
        Some(Post { change, last_changed: self.last_changed, covers })
    }

    /// The listener has taken the post, which was made from this state; says whether that ends a problem.
    pub(super) fn succeeded(&mut self, post: &Post, now: &State) -> bool {
        let told = self.told.get_or_insert_default();
        match &post.covers {
            Covers::All => told.clone_from(&now.instances),
            Covers::Instances(ids) => {
                for id in ids {
                    match now.instances.get(id) {
                        Some(known) => told.insert(id.clone(), Arc::clone(known)),
                        None => told.remove(id),
                    };
                }
            }
        }
        self.backoff.reset();
        std::mem::take(&mut self.failures) >= PROBLEM_AFTER
    }

    /// The listener has not taken it. `jitter` is 0 to 1. Yields how long to wait, and whether it is a problem from
    /// now on.
    pub(super) fn failed(&mut self, jitter: f64) -> (Duration, bool) {
        self.failures = self.failures.saturating_add(1);
        (self.backoff.next_delay().mul_f64(0.5 + jitter / 2.0), self.failures == PROBLEM_AFTER)
    }
}

/// What stands for all of it: what changed last.
fn newest(now: &State) -> Option<Change> {
    let known = now.instances.values().max_by_key(|known| known.changed_at)?;
    Some(Change { known: Arc::clone(known), is_gone: false, before: None })
}

/// Each instance that differs: those that are gone first, then in the order in which they changed.
fn changes(told: &BTreeMap<InstanceId, Arc<Known>>, now: &BTreeMap<InstanceId, Arc<Known>>) -> Vec<Change> {
    let gone = told.values().filter(|known| !now.contains_key(&known.id)).map(|known| Change {
        known: Arc::clone(known),
        is_gone: true,
        before: Some(known.instance.status),
    });
    let mut changes: Vec<_> = gone.collect();
    let first_new = changes.len();
    for (id, known) in now {
        let before = told.get(id).map(|known| &known.instance);
        if before != Some(&known.instance) {
            let before = before.map(|instance| instance.status);
            changes.push(Change { known: Arc::clone(known), is_gone: false, before });
        }
    }
    changes[first_new..].sort_by_key(|change| change.known.changed_at);
    changes
}

/// The first, and which of the others its post covers.
fn first_of(changes: &[Change]) -> Option<(Option<Change>, Covers)> {
    let name = |change: &Change| change.known.instance.service.name.clone();
    let first = changes.first()?.clone();
    let is_covered = |change: &&Change| {
        change.known.id == first.known.id || (changes.len() > SINGLE_POSTS_MAX && name(change) == name(&first))
    };
    let covers = changes.iter().filter(is_covered).map(|change| change.known.id.clone()).collect();
    Some((Some(first), Covers::Instances(covers)))
}

#[cfg(test)]
mod tests {
    use model::{Instance, Status};

    use super::*;
    use crate::watch::state::tests::{at, instance, view};

    fn next_state(before: &State, instances: &[(&str, Arc<Instance>)], seconds: u64) -> State {
        State::next(before, &view(instances), at(seconds))
    }

    /// What is posted until nothing differs: name, whether it is gone, and the status before.
    fn posts(delivery: &mut Delivery, now: &State) -> Vec<(String, bool, Option<Status>)> {
        let mut posts = Vec::new();
        while let Some(post) = delivery.next(now) {
            delivery.succeeded(&post, now);
            let change = post.change.unwrap();
            posts.push((change.known.instance.service.name.to_string(), change.is_gone, change.before));
            assert!(posts.len() < 1000, "it does not end");
        }
        posts
    }

    #[test]
    fn the_first_post_is_for_all_and_each_change_has_one_after_that() {
        let web = instance("web", 1, Status::Alive);
        let db = instance("db", 2, Status::Alive);
        let first = next_state(&State::default(), &[("a", Arc::clone(&web)), ("b", Arc::clone(&db))], 1);
        let mut delivery = Delivery::default();
        assert_eq!(posts(&mut delivery, &first).len(), 1);

        let sick = instance("web", 1, Status::Unhealthy);
        let second = next_state(&first, &[("a", sick), ("b", instance("cache", 3, Status::Unknown))], 2);
        let expected = [
            ("db".to_owned(), true, Some(Status::Alive)),
            ("web".to_owned(), false, Some(Status::Alive)),
            ("cache".to_owned(), false, None),
        ];
        assert_eq!(posts(&mut delivery, &second), expected);
    }

    #[test]
    fn nothing_is_posted_before_the_world_is_known_nor_for_what_came_and_went() {
        let mut unknown = view(&[]);
        unknown.is_whole = false;
        let starting = State::next(&State::default(), &unknown, at(1));
        let mut delivery = Delivery::default();
        assert!(delivery.next(&starting).is_none());

        let first = next_state(&starting, &[("a", instance("web", 1, Status::Alive))], 2);
        posts(&mut delivery, &first);
        let away = next_state(&first, &[("a", instance("web", 1, Status::Unhealthy))], 3);
        let post = delivery.next(&away).unwrap();
        delivery.failed(0.0);
        let back = next_state(&away, &[("a", instance("web", 1, Status::Alive))], 4);
        assert!(delivery.next(&back).is_none(), "{post:?} is no longer true");
    }

    #[test]
    fn an_empty_world_is_told_too() {
        let nothing = next_state(&State::default(), &[], 1);
        let mut delivery = Delivery::default();
        let post = delivery.next(&nothing).unwrap();
        assert!(post.change.is_none());
        delivery.succeeded(&post, &nothing);
        assert!(delivery.next(&nothing).is_none());
    }

    #[test]
    fn every_post_has_a_later_time_than_the_one_before() {
        let first = next_state(&State::default(), &[("a", instance("web", 1, Status::Alive))], 1);
        let mut delivery = Delivery::default();
        let times: Vec<_> = (0..3).map(|_| delivery.next(&first).unwrap().last_changed).collect();
        assert!(times.windows(2).all(|pair| pair[0] < pair[1]) && times[0] >= first.changed_at, "{times:?}");
    }

    #[test]
    fn many_changes_at_once_cost_one_post_a_service() {
        let all: Vec<_> = (0..SINGLE_POSTS_MAX + 8)
            .map(|number| {
                let service = if number % 2 == 0 { "web" } else { "db" };
                ("b", instance(service, u8::try_from(number).unwrap(), Status::Alive))
            })
            .collect();
        let first = next_state(&State::default(), &all, 1);
        let mut delivery = Delivery::default();
        posts(&mut delivery, &first);
        let all_gone = next_state(&first, &[], 2);
        let names: Vec<_> = posts(&mut delivery, &all_gone).into_iter().map(|(name, ..)| name).collect();
        assert_eq!(names[0], "web");
        // Once only few are left, each has its own again.
        assert_eq!(names.len(), 1 + (SINGLE_POSTS_MAX + 8) / 2);
    }

    #[test]
    fn tries_back_off_and_become_a_problem_once() {
        let mut delivery = Delivery::default();
        let tries: Vec<_> = (0..8).map(|_| delivery.failed(1.0)).collect();
        assert_eq!(tries[0].0, DELAYS.0);
        assert_eq!(tries[7].0, DELAYS.1);
        let problems: Vec<_> = tries.iter().map(|(_, is_problem)| *is_problem).collect();
        assert_eq!(problems, [false, false, false, false, true, false, false, false]);
        assert_eq!(Delivery::default().failed(0.0).0, DELAYS.0 / 2);
        let state = next_state(&State::default(), &[], 1);
        let post = delivery.next(&state).unwrap();
        assert!(delivery.succeeded(&post, &state), "that ends the problem");
        assert!(!delivery.succeeded(&post, &state));
    }
}

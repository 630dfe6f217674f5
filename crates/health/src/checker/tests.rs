//! The laws of the checker, each as a sentence.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::{DockerHealth, HttpGet, Peer};

fn key(number: u8) -> InstanceKey {
    InstanceKey::from_bytes([0, 0, 0, 0, 0, number])
}

fn tcp(port: u16) -> Check {
    tcp_with(port, Timing::default())
}

fn tcp_with(port: u16, timing: Timing) -> Check {
    Check::Probed(Probe::Tcp(Peer::Address(([172, 17, 0, 2], port).into())), timing)
}

fn external() -> Check {
    Check::Probed(Probe::External(vec!["check".to_owned()]), Timing::default())
}

fn outcome(healthy: bool) -> Outcome {
    Outcome { healthy, reason: Text::cut(if healthy { "accepted" } else { "refused" }) }
}

/// A checker and a clock.
struct Bench {
    checker: Checker,
    start: Instant,
    now: Instant,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        let start = Instant::now();
        Self { checker: Checker::new(limits, 7), start, now: start }
    }

    fn set(&mut self, number: u8, check: Check) -> Option<Status> {
        self.checker.set(key(number), check, self.now).map(|change| change.status)
    }

    fn pass(&mut self, ms: u64) {
        self.now += Duration::from_millis(ms);
    }

    /// Waits for the next check, makes it, and says when it was and what followed.
    fn check(&mut self, healthy: bool) -> (u128, Option<Status>) {
        self.now = self.now.max(self.checker.next_due().unwrap());
        let started = self.checker.start(self.now);
        assert_eq!(started.len(), 1);
        let change = self.checker.finished(started[0].id, outcome(healthy), self.now);
        ((self.now - self.start).as_millis(), change.map(|change| change.status))
    }

    fn status(&self, number: u8) -> Status {
        self.checker.health(key(number)).unwrap().status
    }
}

#[test]
fn a_new_instance_is_checked_at_once_and_alive_with_its_first_success() {
    let mut bench = Bench::new(Limits::default());
    assert_eq!(bench.set(1, tcp(80)), None, "unknown is what it was");
    assert_eq!(bench.check(true), (0, Some(Status::Alive)));
    let health = bench.checker.health(key(1)).unwrap();
    assert_eq!((health.status, health.reason), (Status::Alive, "accepted"));
}

#[test]
fn an_instance_that_is_slow_to_start_is_asked_often_and_not_blamed() {
    let mut bench = Bench::new(Limits::default());
    bench.set(1, tcp(80));
    for ms in [0, 100, 300, 700, 1500] {
        assert_eq!(bench.check(false), (ms, None));
    }
    assert_eq!(bench.check(true), (3100, Some(Status::Alive)));
}

#[test]
fn an_instance_that_never_answers_is_unhealthy_once_its_failures_count() {
    let mut bench = Bench::new(Limits::default());
    bench.set(1, tcp(80));
    let changes: Vec<_> = (0..7).map(|_| bench.check(false).1).collect();
    assert_eq!(changes, [None, None, None, None, None, None, Some(Status::Unhealthy)]);
    let (first, _) = bench.check(false);
    assert_eq!(bench.check(false).0 - first, 3000, "from then on at its interval");
}

#[test]
fn a_checks_interval_is_kept_from_start_to_start_and_never_caught_up() {
    let mut bench = Bench::new(Limits::default());
    bench.set(1, tcp(80));
    bench.check(true);
    bench.check(true);
    let (second, _) = bench.check(true);
    let started = {
        bench.now = bench.checker.next_due().unwrap();
        bench.checker.start(bench.now)
    };
    assert_eq!((bench.now - bench.start).as_millis() - second, 3000);
    bench.pass(1000);
    bench.checker.finished(started[0].id, outcome(true), bench.now);
    assert_eq!(bench.checker.next_due(), Some(bench.now + Duration::from_millis(2000)));
    bench.pass(60_000);
    bench.check(true);
    assert_eq!(bench.checker.next_due(), Some(bench.now + Duration::from_millis(3000)), "one check, not twenty");
}

#[test]
fn two_failures_make_it_unhealthy_and_one_success_alive_again() {
    let mut bench = Bench::new(Limits::default());
    bench.set(1, tcp(80));
    let statuses: Vec<_> = [true, false, true, false, false, true].map(|healthy| bench.check(healthy).1).to_vec();
    let (alive, unhealthy) = (Some(Status::Alive), Some(Status::Unhealthy));
    assert_eq!(statuses, [alive, None, None, None, unhealthy, alive]);
}

#[test]
fn a_late_result_of_a_removed_or_changed_instance_means_nothing() {
    let mut bench = Bench::new(Limits::default());
    bench.set(1, tcp(80));
    let old = bench.checker.start(bench.now).remove(0).id;
    bench.set(1, tcp(81));
    let new = bench.checker.start(bench.now).remove(0).id;
    assert_eq!(bench.checker.finished(old, outcome(true), bench.now), None);
    assert_eq!(bench.status(1), Status::Unknown);
    bench.checker.remove(key(1));
    bench.set(1, tcp(81));
    assert_eq!(bench.checker.finished(new, outcome(true), bench.now), None, "another life");
    assert_eq!(bench.checker.finished(new, outcome(true), bench.now), None, "told twice");
    assert_eq!(bench.check(true).1, Some(Status::Alive));
    bench.checker.remove(key(1));
    assert_eq!((bench.checker.health(key(1)), bench.checker.next_due()), (None, None));
}

#[test]
fn a_changed_target_is_checked_at_once_and_the_status_stays_until_then() {
    let mut bench = Bench::new(Limits::default());
    bench.set(1, tcp(80));
    bench.check(true);
    bench.pass(500);
    assert_eq!(bench.set(1, tcp(81)), None);
    assert_eq!(bench.status(1), Status::Alive);
    assert_eq!(bench.checker.next_due(), Some(bench.now));
    assert_eq!(bench.set(1, tcp(81)), None);
    assert_eq!(bench.check(false).1, None);
    assert_eq!(bench.check(false).1, Some(Status::Unhealthy));
}

#[test]
fn what_runs_without_a_check_is_alive_and_unknown_once_there_is_one() {
    let mut bench = Bench::new(Limits::default());
    assert_eq!(bench.set(1, Check::Running), Some(Status::Alive));
    assert_eq!(bench.set(2, Check::AlwaysSuccessful), Some(Status::Alive));
    assert_eq!(bench.checker.next_due(), None);
    assert_eq!(bench.set(1, tcp(80)), Some(Status::Unknown));
    assert_eq!(bench.check(true).1, Some(Status::Alive));
    assert_eq!(bench.set(1, Check::Running), None, "alive it is already");
}

#[test]
fn dockers_word_is_the_status() {
    let mut bench = Bench::new(Limits::default());
    let statuses = [DockerHealth::Starting, DockerHealth::Healthy, DockerHealth::Healthy, DockerHealth::Unhealthy]
        .map(|word| bench.set(1, Check::Docker(word)));
    assert_eq!(statuses, [None, Some(Status::Alive), None, Some(Status::Unhealthy)]);
    assert_eq!(bench.set(1, Check::Docker(DockerHealth::Starting)), Some(Status::Unknown));
}

#[test]
fn no_more_checks_than_allowed_are_made_at_once_and_everybody_has_their_turn() {
    let mut bench = Bench::new(Limits { network: 2, processes: 1, ..Limits::default() });
    for number in 0..6 {
        bench.set(number, if number < 4 { tcp(80) } else { external() });
    }
    let mut checked = Vec::new();
    for _ in 0..10 {
        let started = bench.checker.start(bench.now);
        if started.is_empty() {
            break;
        }
        assert!(started.len() <= 3, "{started:?}");
        assert_eq!(bench.checker.next_due(), None, "all places are taken");
        for probe in started {
            checked.extend(bench.checker.finished(probe.id, outcome(true), bench.now).map(|change| change.key));
        }
    }
    assert_eq!(checked.iter().collect::<HashSet<_>>().len(), 6, "{checked:?}");
}

#[test]
fn an_abandoned_check_holds_its_place_until_it_has_ended() {
    let mut bench = Bench::new(Limits { network: 1, processes: 1, ..Limits::default() });
    bench.set(1, tcp(80));
    let old = bench.checker.start(bench.now).remove(0).id;
    bench.checker.remove(key(1));
    bench.set(2, tcp(80));
    assert_eq!((bench.checker.start(bench.now), bench.checker.next_due()), (vec![], None));
    bench.checker.finished(old, outcome(false), bench.now);
    assert_eq!(bench.checker.start(bench.now).len(), 1);
}

#[test]
fn checks_that_began_together_part() {
    let mut bench = Bench::new(Limits::default());
    for number in 0..100 {
        bench.set(number, tcp(80));
    }
    let started = bench.checker.start(bench.now);
    assert_eq!(started.len(), 100);
    for probe in started {
        bench.checker.finished(probe.id, outcome(true), bench.now);
    }
    bench.pass(1500);
    let half = bench.checker.start(bench.now).len();
    assert!((25..75).contains(&half), "{half} of 100 within the first half of the interval");
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, Check),
    Remove(u8),
    Pass(u64),
    Start,
    Finish(usize, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let get = HttpGet { peer: Peer::Name("a".to_owned(), 1), authority: String::new(), path_and_query: "/".to_owned() };
    let quick = Timing { interval: FIRST_RETRY, timeout: FIRST_RETRY, rise: 2, fall: 1 };
    let checks = vec![
        tcp(80),
        tcp(81),
        tcp_with(80, quick),
        external(),
        Check::Probed(Probe::HttpGet(get), quick),
        Check::Running,
        Check::AlwaysSuccessful,
        Check::Docker(DockerHealth::Starting),
        Check::Docker(DockerHealth::Unhealthy),
    ];
    let number = 0..6u8;
    prop_oneof![
        3 => (number.clone(), prop::sample::select(checks)).prop_map(|(number, check)| Step::Set(number, check)),
        1 => number.prop_map(Step::Remove),
        3 => (0..4000u64).prop_map(Step::Pass),
        4 => Just(Step::Start),
        4 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(at, healthy)| Step::Finish(at.index(1000), healthy)),
    ]
}

#[test]
fn checks_that_may_take_a_minute_keep_nobody_else_waiting() {
    let mut bench = Bench::new(Limits::default());
    let patient = Timing { timeout: Duration::from_secs(60), ..Timing::default() };
    (0..200).for_each(|number| assert_eq!(bench.set(number, tcp_with(80, patient)), None));
    bench.set(200, Check::Probed(Probe::External(vec!["check".to_owned()]), patient));
    let held = bench.checker.start(bench.now);
    assert_eq!(held.len(), Limits::default().patient_network + 1, "their places are bounded");
    bench.set(201, tcp(80));
    bench.set(202, external());
    assert_eq!(bench.checker.start(bench.now).len(), 2, "two more are checked at once");
    bench.checker.finished(held[0].id, outcome(true), bench.now);
    assert_eq!(bench.checker.start(bench.now).len(), 1, "and the next one that is patient when one has ended");
}

proptest! {
    #[test]
    fn whatever_happens_limits_hold_changes_are_true_and_no_instance_is_forgotten(
        steps in prop::collection::vec(step(), 0..120),
    ) {
        let limits = Limits { network: 3, processes: 1, ..Limits::default() };
        let mut bench = Bench::new(limits);
        let mut known: HashMap<InstanceKey, Status> = HashMap::new();
        let mut running: Vec<Started> = Vec::new();
        for step in steps {
            let change = match step {
                Step::Set(number, check) => {
                    known.entry(key(number)).or_default();
                    bench.checker.set(key(number), check, bench.now)
                }
                Step::Remove(number) => {
                    bench.checker.remove(key(number));
                    known.remove(&key(number));
                    None
                }
                Step::Pass(ms) => {
                    bench.pass(ms);
                    None
                }
                Step::Start => {
                    running.extend(bench.checker.start(bench.now));
                    None
                }
                Step::Finish(at, healthy) if !running.is_empty() => {
                    let probe = running.swap_remove(at % running.len());
                    bench.checker.finished(probe.id, outcome(healthy), bench.now)
                }
                Step::Finish(..) => None,
            };
            let processes = running.iter().filter(|started| matches!(started.probe, Probe::External(_))).count();
            prop_assert!(processes <= limits.processes && running.len() - processes <= limits.network);
            if let Some(change) = change {
                let before = known.insert(change.key, change.status);
                prop_assert!(before.is_some_and(|before| before != change.status), "only changes are told, of the known");
            }
            for (key, status) in &known {
                prop_assert_eq!(bench.checker.health(*key).map(|health| health.status), Some(*status), "all are told");
            }
        }
        // Once all that runs has ended, everybody who is to be probed is probed within an interval.
        for probe in running {
            let change = bench.checker.finished(probe.id, outcome(true), bench.now);
            known.extend(change.map(|change| (change.key, change.status)));
        }
        let probed = |key: &InstanceKey| matches!(bench.checker.health(*key).unwrap().check, Check::Probed(..));
        let waiting = known.keys().filter(|key| probed(key)).count();
        bench.pass(3000);
        let mut seen = 0;
        loop {
            let started = bench.checker.start(bench.now);
            if started.is_empty() {
                break;
            }
            seen += started.len();
            for probe in started {
                bench.checker.finished(probe.id, outcome(false), bench.now);
            }
        }
        prop_assert_eq!(seen, waiting);
    }
}

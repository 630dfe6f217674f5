//! Containers, registrars and whole hosts start, stop, are killed and restart; every catalogue is equal afterwards, and
//! says what runs.

use std::time::{Duration, Instant};

use lab::{Host, Lab, eventually};
use nix::sys::signal::Signal;

use crate::rig::{await_answers, await_truth, instances, plain, run_web_9500, url};

/// Steps of the random walk, and after how many of them everything is brought back and compared.
const STEPS: u32 = 300;
const STEPS_BETWEEN_LOOKS: u32 = 6;
/// Containers on one host, at most.
const CONTAINERS_MAX: usize = 4;

/// Waits until these hosts list so many instances; for how long that took.
fn await_count(hosts: &[Host], count: usize) -> Duration {
    let start = Instant::now();
    eventually(&format!("{count} instances are left"), Duration::from_secs(30), || {
        let counts: Vec<_> = hosts.iter().map(|host| instances(host, 9500).len()).collect();
        if counts.iter().all(|own| *own == count) { Ok(start.elapsed()) } else { Err(format!("{counts:?}")) }
    })
}

#[test]
fn three_hosts_agree_on_what_became_of_containers_registrars_and_hosts() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b", "c"]);
    let [a, b, c] = &hosts[..] else { unreachable!("three hosts were started") };
    let ids: Vec<_> = hosts.iter().map(run_web_9500).collect();
    await_truth(&hosts);
    for action in ["stop", "start", "kill", "start", "restart"] {
        a.docker(&[action, &ids[0]]);
        await_truth(&hosts);
    }
    // What happens while a registrar is away.
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        b.end_registrar(signal);
        b.docker(&["kill", &ids[1]]);
        let new = run_web_9500(b);
        a.docker(&["restart", &ids[0]]);
        b.start_registrar();
        await_truth(&hosts);
        b.docker(&["start", &ids[1]]);
        b.docker(&["rm", "-f", &new]);
        await_truth(&hosts);
    }
    c.cut_power();
    println!("a host without power is withdrawn after {:?}", await_count(&hosts[..2], 2));
    let new = run_web_9500(a);
    c.boot();
    await_truth(&hosts);
    // Faster than anybody notices, and with a kernel that tells.
    b.cut_power();
    b.boot();
    await_truth(&hosts);
    a.crash();
    a.boot();
    await_truth(&hosts);
    let all: Vec<_> = ids.iter().chain([&new]).map(String::as_str).collect();
    hosts.iter().for_each(|host| await_answers(host, &url(9500), &all));
}

#[test]
fn five_hosts_agree_after_two_and_after_all_of_them_lost_their_power() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b", "c", "d", "e"]);
    let ids: Vec<_> = hosts.iter().map(run_web_9500).collect();
    await_truth(&hosts);
    let (stay, go) = hosts.split_at(3);
    at_once(go, Host::cut_power);
    println!("two of five without power are withdrawn after {:?}", await_count(stay, 3));
    let own: Vec<_> = ids[..3].iter().map(String::as_str).collect();
    stay.iter().for_each(|host| await_answers(host, &url(9500), &own));
    at_once(go, Host::boot);
    await_truth(&hosts);
    at_once(&hosts, Host::cut_power);
    at_once(&hosts, Host::boot);
    await_truth(&hosts);
    let all: Vec<_> = ids.iter().map(String::as_str).collect();
    hosts.iter().for_each(|host| await_answers(host, &url(9500), &all));
}

/// Does this to all of the hosts at the same time.
fn at_once(hosts: &[Host], work: fn(&Host)) {
    std::thread::scope(|scope| hosts.iter().for_each(|host| drop(scope.spawn(move || work(host)))));
}

/// What a host lacks for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absent {
    Nothing,
    Registrar,
    Envoy,
    Cable,
    Power,
}

/// A host in the random walk.
struct Walker {
    host: Host,
    absent: Absent,
}

impl Walker {
    /// Lets something happen; says what.
    fn step(&mut self, mut random: impl FnMut(usize) -> usize) -> String {
        if self.absent != Absent::Nothing && (self.absent == Absent::Power || random(2) == 0) {
            return self.bring_back();
        }
        if self.absent == Absent::Nothing && random(2) == 0 {
            let kinds = [Absent::Registrar, Absent::Envoy, Absent::Cable, Absent::Power, Absent::Power];
            self.absent = kinds[random(kinds.len())];
            let signal = [Signal::SIGTERM, Signal::SIGKILL][random(2)];
            return self.take_away(signal);
        }
        self.change_container(random)
    }

    fn take_away(&self, signal: Signal) -> String {
        match self.absent {
            Absent::Nothing => {}
            Absent::Registrar => self.host.end_registrar(signal),
            Absent::Envoy => self.host.end_envoy(signal),
            Absent::Cable => self.host.pull_cable(),
            Absent::Power if signal == Signal::SIGTERM => self.host.crash(),
            Absent::Power => self.host.cut_power(),
        }
        format!("without its {:?} ({signal})", self.absent)
    }

    fn bring_back(&mut self) -> String {
        match self.absent {
            Absent::Nothing => {}
            Absent::Registrar => self.host.start_registrar(),
            Absent::Envoy => self.host.start_envoy(),
            Absent::Cable => self.host.plug_cable_in(),
            Absent::Power => self.host.boot(),
        }
        let was = std::mem::replace(&mut self.absent, Absent::Nothing);
        format!("has its {was:?} again")
    }

    fn change_container(&self, mut random: impl FnMut(usize) -> usize) -> String {
        let all = self.host.docker(&["ps", "-aq"]);
        let all: Vec<_> = all.lines().collect();
        if all.is_empty() || (all.len() < CONTAINERS_MAX && random(3) == 0) {
            return format!("run {}", run_web_9500(&self.host));
        }
        let container = all[random(all.len())];
        let actions: [&[&str]; 5] = [&["stop"], &["start"], &["kill"], &["restart"], &["rm", "-f"]];
        let action = actions[random(actions.len())];
        // One that does not run can't be killed.
        let done = self.host.try_docker(&[action, &[container]].concat()).status.success();
        format!("{} {container}: {}", action[0], if done { "done" } else { "refused" })
    }
}

/// Marsaglia's xorshift64: the same seed is the same row.
fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
#[ignore = "takes minutes"]
fn five_hosts_agree_after_each_part_of_a_random_walk() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b", "c", "d", "e"]);
    hosts.iter().for_each(|host| drop(run_web_9500(host)));
    let mut walkers: Vec<_> = hosts.into_iter().map(|host| Walker { host, absent: Absent::Nothing }).collect();
    let mut state = std::process::id().into();
    println!("seed {state}");
    for number in 1..=STEPS {
        let mut random = |below: usize| (xorshift(&mut state) >> 16) as usize % below;
        let place = random(walkers.len());
        let said = walkers[place].step(&mut random);
        println!("{number}: {} {said}", walkers[place].host.name());
        if number % STEPS_BETWEEN_LOOKS == 0 {
            walkers.iter_mut().for_each(|walker| drop(walker.bring_back()));
            let (hosts, begun): (Vec<_>, _) = (walkers.into_iter().map(|walker| walker.host).collect(), Instant::now());
            await_truth(&hosts);
            println!("{number}: all agree after {:?}", begun.elapsed());
            walkers = hosts.into_iter().map(|host| Walker { host, absent: Absent::Nothing }).collect();
        }
    }
}

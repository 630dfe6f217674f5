//! `scripts/soak`: random faults on one host for a time, and then a look at what they left behind.
//!
//! What can happen is in `faults`, what is counted in `leftovers`, and a closer look at a stall in `witness`. The seed
//! decides everything but the timing.

mod faults;
mod leftovers;
mod witness;

use std::fmt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lab::http::Request;
use lab::load::{Load, Outcomes};
use lab::{Docker, Host, Lab};

use faults::{FAULTS, Fault};
use leftovers::Counts;

/// New connections per second to the container that no fault is meant for.
const PER_SECOND: u32 = 50;
/// Its port.
const STEADY: u16 = 8000;

/// Numbers that follow from a seed alone: splitmix64, by Sebastiano Vigna (public domain).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % sides as u64) as usize
    }
}

fn main() -> ExitCode {
    let Some((minutes, seed)) = arguments() else {
        eprintln!("soak: expected [--minutes N] [--seed N]");
        return ExitCode::from(2);
    };
    println!("soak: {minutes} minutes, seed {seed} (again with: scripts/soak --minutes {minutes} --seed {seed})");
    let own_before = leftovers::of_this_process();
    let mut complaints = soak(Duration::from_secs(60 * minutes), &mut Dice(seed));
    complaints.extend(leftovers::after_the_lab(&own_before));
    for complaint in &complaints {
        println!("WRONG: {complaint}");
    }
    println!("soak: seed {seed}: {}", if complaints.is_empty() { "nothing is wrong" } else { "something is wrong" });
    if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn arguments() -> Option<(u64, u64)> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
    let (mut minutes, mut seed) = (60, time);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next()?.parse().ok()?;
        match name.as_str() {
            "--minutes" => minutes = value,
            "--seed" => seed = value,
            _ => return None,
        }
    }
    Some((minutes, seed))
}

fn soak(duration: Duration, dice: &mut Dice) -> Vec<String> {
    let lab = Lab::new("soak");
    let host = lab.host("a").docker(Docker::Current).live_restore().start();
    let empty = Counts::of(&host);
    host.run_web(&["--name", "steady", "--restart", "always", "-p", &format!("{STEADY}:80")]);
    faults::VICTIMS.iter().for_each(|victim| faults::run(&host, victim));
    faults::settle(&host);
    let (start, full) = (Instant::now(), Counts::of(&host));
    println!("{:>7}  {:<34} {:>8} {:>7} {:>5} {:>8}  {full}", "", "", "answered", "refused", "lost", "gap");
    let mut complaints = Vec::new();
    let mut totals = Totals::default();
    while start.elapsed() < duration {
        let fault = &FAULTS[dice.roll(FAULTS.len())];
        let victim = &faults::VICTIMS[dice.roll(faults::VICTIMS.len())];
        let outcomes = under_load(&host, fault, victim, dice.roll(4000) as u64);
        let now = Counts::of(&host);
        print_round(start.elapsed(), &format!("{} ({})", fault.name, victim.name), &outcomes, &now);
        complaints.extend(judge(fault, &outcomes));
        complaints.extend(now.beyond(&full, fault.name));
        totals.add(fault, &outcomes);
    }
    host.docker(&["rm", "-f", "steady"]);
    faults::VICTIMS.iter().for_each(|victim| drop(host.docker(&["rm", "-f", victim.name])));
    std::thread::sleep(Duration::from_secs(6));
    let end = Counts::of(&host);
    println!("{totals}");
    println!("all containers removed: {end}; before there were any: {empty}");
    complaints.extend(end.left_of(&empty));
    complaints
}

/// What became of all connections, but for those of faults in which Docker itself refuses some.
#[derive(Debug, Default)]
struct Totals {
    faults: u32,
    others: u32,
    answered: u64,
    refused: u64,
    lost: u64,
    longest_gap: Duration,
}

impl Totals {
    fn add(&mut self, fault: &Fault, outcomes: &Outcomes) {
        self.faults += 1;
        if fault.may_refuse {
            self.others += 1;
            return;
        }
        self.answered += outcomes.ok;
        self.refused += outcomes.refused;
        self.lost += outcomes.failed() - outcomes.refused;
        self.longest_gap = self.longest_gap.max(outcomes.longest_gap);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { faults, others, answered, refused, lost, longest_gap } = self;
        write!(
            to,
            "{faults} faults; but for {others} restarts of dockerd: {answered} answered, {refused} refused, {lost} lost, \
             nobody answered for {longest_gap:.2?} at most"
        )
    }
}

fn under_load(host: &Host, fault: &Fault, victim: &faults::Victim, milliseconds: u64) -> Outcomes {
    let request = Request::get(&format!("http://127.0.0.1:{STEADY}/")).limit(Duration::from_secs(20));
    let load = Load::with_workers(host.namespace(), &request, PER_SECOND, 100);
    let over = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let witness = scope.spawn(|| witness::watch(host, &load, STEADY, &over));
        let end = SetOnDrop(&over);
        std::thread::sleep(Duration::from_millis(300));
        (fault.happen)(host, victim, Duration::from_millis(milliseconds));
        faults::settle(host);
        drop(end);
        witness.join().expect("a witness does not panic")
    });
    print!("{seen}");
    load.stop()
}

/// A witness ends, also when what it watches panics.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn judge(fault: &Fault, outcomes: &Outcomes) -> Option<String> {
    let lost = outcomes.failed() - outcomes.refused;
    let wrong = (outcomes.refused > 0 && !fault.may_refuse) || (lost > 0 && !fault.may_lose);
    wrong.then(|| format!("{}: {outcomes:?}", fault.name))
}

fn print_round(at: Duration, name: &str, outcomes: &Outcomes, counts: &Counts) {
    let lost = outcomes.failed() - outcomes.refused;
    let gap = outcomes.longest_gap.as_millis();
    println!(
        "{:>5} s  {name:<34} {:>8} {:>7} {lost:>5} {gap:>5} ms  {counts}",
        at.as_secs(),
        outcomes.ok,
        outcomes.refused
    );
}

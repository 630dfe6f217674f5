//! Runs one simulated cluster and prints how it fared.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sim::report::Times;
use sim::{Cluster, Conditions, Death, Options};

/// Simulates a cluster: joins, idles, changes, loses and restarts hosts, and checks that all agree.
#[derive(Debug, Parser)]
struct Args {
    /// Everything follows from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many hosts.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(2..))]
    hosts: u16,
    /// How many instances each host has.
    #[arg(long, default_value_t = 3)]
    instances: usize,
    /// How many datagrams of 100 are lost.
    #[arg(long, default_value_t = 0.0)]
    loss: f64,
    /// How many datagrams of 100 arrive twice.
    #[arg(long, default_value_t = 0.0)]
    duplication: f64,
    /// The longest way, in milliseconds.
    #[arg(long, default_value_t = 1.0)]
    delay: f64,
    /// How many changes are made and watched.
    #[arg(long, default_value_t = 50)]
    changes: usize,
    /// How long between two changes, in milliseconds.
    #[arg(long, default_value_t = 1_000)]
    every: u64,
    /// How many hosts die, one after the other, and are restarted.
    #[arg(long, default_value_t = 2)]
    deaths: usize,
    /// How many seconds the hosts start within.
    #[arg(long, default_value_t = 10)]
    start: u64,
    /// How many seconds the cluster idles.
    #[arg(long, default_value_t = 30)]
    idle: u64,
}

/// How long the cluster is given to agree.
const AGREE_WITHIN: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let args = Args::parse();
    let conditions = Conditions {
        loss: args.loss / 100.0,
        duplication: args.duplication / 100.0,
        delay_max: Duration::from_secs_f64(args.delay / 1_000.0).max(Conditions::default().delay_min),
        ..Conditions::default()
    };
    println!("{args:?}");
    let options = Options { seed: args.seed, hosts: usize::from(args.hosts), instances: args.instances, conditions };
    let mut cluster = Cluster::new(options);
    let mut rng = StdRng::seed_from_u64(args.seed);
    let all_agreed = join(&mut cluster, &args)
        && idle(&mut cluster, &args)
        && change(&mut cluster, &args, &mut rng)
        && die(&mut cluster, &args, &mut rng);
    for broken in cluster.oracle.broken() {
        println!("BROKEN: {broken}");
    }
    if all_agreed && cluster.oracle.broken().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn agree(cluster: &mut Cluster, what: &str) -> bool {
    match cluster.run_until(AGREE_WITHIN, Cluster::agrees) {
        Some(took) => println!("{what}: all agree {:.1} s later", took.as_secs_f64()),
        None => println!("{what}: NO AGREEMENT: {}", cluster.disagreement().unwrap_or_default()),
    }
    cluster.agrees()
}

fn join(cluster: &mut Cluster, args: &Args) -> bool {
    let began = Instant::now();
    cluster.start_all(Duration::from_secs(args.start));
    let agreed = agree(cluster, "start");
    println!("  {:.1} s of this machine's time", began.elapsed().as_secs_f64());
    agreed
}

fn idle(cluster: &mut Cluster, args: &Args) -> bool {
    // What was still being spread is over.
    cluster.run_for(Duration::from_secs(20));
    let (before, began) = (traffic(cluster), Instant::now());
    cluster.run_for(Duration::from_secs(args.idle));
    let host_seconds = f64::from(args.hosts) * Duration::from_secs(args.idle).as_secs_f64();
    let [datagrams, bytes, stream_bytes, streams] = std::array::from_fn(|index| {
        let change = traffic(cluster)[index] - before[index];
        change / host_seconds
    });
    println!(
        "idle, sent by each host each second: {datagrams:.2} datagrams, {bytes:.0} B in datagrams, {stream_bytes:.0} B in {streams:.2} streams; {:.0} us of CPU",
        began.elapsed().as_secs_f64() * 1e6 / host_seconds
    );
    agree(cluster, "idle")
}

#[expect(clippy::cast_precision_loss, reason = "figures for the eye")]
fn traffic(cluster: &Cluster) -> [f64; 4] {
    cluster.running().fold([0.0; 4], |sum, host| {
        let counters = cluster.gossip(host).counters();
        let own = [
            counters.datagrams_sent,
            counters.datagram_bytes_sent,
            counters.stream_bytes_sent,
            counters.streams_opened,
        ];
        std::array::from_fn(|index| sum[index] + own[index] as f64)
    })
}

fn change(cluster: &mut Cluster, args: &Args, rng: &mut StdRng) -> bool {
    cluster.watch_anew();
    let (before, began) = (traffic(cluster), Instant::now());
    for _ in 0..args.changes {
        cluster.change(rng.random_range(0..usize::from(args.hosts)));
        // Not in step with the hosts' own timers.
        cluster.run_for(Duration::from_millis(args.every).mul_f64(rng.random_range(0.5..1.5)));
    }
    // Whatever the broadcasts missed comes with the next exchanges.
    cluster.run_for(Duration::from_secs(30));
    let (each, last, incomplete) = cluster.spread();
    let sent = traffic(cluster)[1] - before[1];
    println!("change known on a host:   {each}");
    println!("change known on all hosts: {last}; {incomplete} incomplete");
    let over = Duration::from_millis(args.every).as_secs_f64() * f64::from(u32::try_from(args.changes).unwrap_or(0));
    println!(
        "  {:.0} B in datagrams by each host each second; {:.1} s of this machine's time",
        sent / f64::from(args.hosts) / (over + 30.0),
        began.elapsed().as_secs_f64()
    );
    agree(cluster, "changes")
}

fn die(cluster: &mut Cluster, args: &Args, rng: &mut StdRng) -> bool {
    let mut withdrawn = Times::default();
    let mut innocent = 0;
    for _ in 0..args.deaths {
        let host = rng.random_range(0..usize::from(args.hosts));
        let name = cluster.name(host).clone();
        cluster.watch_anew();
        cluster.kill(host, Death::Machine);
        let gone = |cluster: &Cluster| {
            cluster.running().all(|other| cluster.gossip(other).status(&name).is_none_or(|(_, served)| !served))
        };
        match cluster.run_until(AGREE_WITHIN, gone) {
            Some(took) => withdrawn.add(took),
            None => println!("host {host} is still served somewhere"),
        }
        innocent += cluster.losses().iter().filter(|(_, subject, ..)| *subject != host).count();
        cluster.start(host);
        if !agree(cluster, "death and restart") {
            return false;
        }
    }
    println!("dead host withdrawn on all: {withdrawn}; {innocent} times another host was doubted");
    true
}

//! `scripts/bench datagrams`: what UDP costs the shim, beside docker-proxy in the same run; `bench-datagrams LOAD…` for
//! some of the loads. Nothing passes or fails.

use lab::datagrams::{Cost, KINDS, UdpProxy};
use lab::{Docker, Lab, parts};

/// How often each is measured.
const TURNS: usize = 7;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let lab = Lab::new("bench-datagrams");
    let programs = [parts::ours("envoy-docker-shim"), parts::docker_proxy(Docker::Current)];
    let proxies = programs.map(|program| UdpProxy::start(&program, &lab.logs().join("proxy.log")));
    println!("delivered datagrams per second of the proxy's CPU; target: 3 times as many; medians of {TURNS}");
    for kind in KINDS.into_iter().filter(|kind| wanted.is_empty() || wanted.contains(&format!("{kind:?}"))) {
        // In turns, so that both meet the same load of the machine.
        let costs: Vec<_> = (0..TURNS).map(|_| proxies.each_ref().map(|proxy| proxy.cost(kind))).collect();
        let ratios = sorted(costs.iter().map(|[shim, proxy]| shim.per_cpu_second / proxy.per_cpu_second));
        println!("{kind:?}: {:.1} times ({:.1} to {:.1})", ratios[TURNS / 2], ratios[0], ratios[TURNS - 1]);
        for (i, name) in ["shim", "docker-proxy"].into_iter().enumerate() {
            print(name, &costs.iter().map(|pair| pair[i]).collect::<Vec<_>>());
        }
    }
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

fn print(name: &str, costs: &[Cost]) {
    let median = |of: fn(&Cost) -> f64| sorted(costs.iter().map(of))[costs.len() / 2];
    println!(
        "  {name}: {:.0} per CPU second, {:.0} per second, {:.0} lost; half of the answers within {:.0} µs, 99 of 100 \
         within {:.0} µs",
        median(|cost| cost.per_cpu_second),
        median(|cost| cost.per_second),
        median(|cost| cost.lost as f64),
        median(|cost| cost.median.as_secs_f64() * 1e6),
        median(|cost| cost.slowest.as_secs_f64() * 1e6),
    );
}

//! `scripts/bench datagrams`: what UDP costs the shim, beside docker-proxy in the same run. Nothing passes or fails.

use std::time::Duration;

use lab::datagrams::{KINDS, UdpProxy};
use lab::{Docker, Lab, parts};

/// How long each load runs, on each.
const TURN: Duration = Duration::from_secs(3);
/// How often each is measured.
const TURNS: usize = 3;

fn main() {
    let lab = Lab::new("bench-datagrams");
    let programs = [parts::ours("envoy-docker-shim"), parts::docker_proxy(Docker::Current)];
    let proxies = programs.map(|program| UdpProxy::start(&program, &lab.logs().join("proxy.log")));
    println!("datagrams per second of CPU; target: 3 times as many");
    for kind in KINDS {
        for _ in 0..TURNS {
            // In turns, so that both meet the same load of the machine.
            let [shim, proxy] = proxies.each_ref().map(|proxy| proxy.cost(kind, TURN));
            let ratio = shim.per_cpu_second / proxy.per_cpu_second;
            println!(
                "  {kind:?}: shim {:.0}, docker-proxy {:.0}: {ratio:.1} times; lost {} and {}",
                shim.per_cpu_second, proxy.per_cpu_second, shim.lost, proxy.lost
            );
        }
    }
}

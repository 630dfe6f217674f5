//! What a shim costs, side by side with docker-proxy.

use lab::{Docker, Lab, Proxy, measure};

use crate::on_both_dockers;

on_both_dockers!(a_shim_takes_at_most_a_tenth_of_docker_proxys_memory);

/// Two processes for each, one for each address family.
const PORTS: usize = 50;

fn a_shim_takes_at_most_a_tenth_of_docker_proxys_memory(version: Docker) {
    let lab = Lab::of_this_test();
    let ours = lab.host("ours").docker(version).start();
    let theirs = lab.host("theirs").docker(version).proxy(Proxy::DockerProxy).without_registrar().without_envoy();
    let theirs = theirs.start();
    let range = format!("9000-{}:80-{}", 9000 + PORTS - 1, 80 + PORTS - 1);
    for host in [&ours, &theirs] {
        host.run_web(&["-p", &range]);
    }
    let last = u16::try_from(9000 + PORTS - 1).expect("a port");
    ours.await_served_by_envoy(last);
    // Each has done some work.
    for host in [&ours, &theirs] {
        host.get("http://127.0.0.1:9000/").expect("the port answers");
    }
    let (shims, proxies) = (ours.shims(), theirs.processes_of("docker-proxy"));
    assert_eq!((shims.len(), proxies.len()), (2 * PORTS, 2 * PORTS));
    let (shim, proxy) = (measure::mean_pss_kb(&shims), measure::mean_pss_kb(&proxies));
    println!("Pss per process over {} processes: shim {shim} kB, docker-proxy {proxy} kB", shims.len());
    assert!(shim * 10 <= proxy, "shim {shim} kB, docker-proxy {proxy} kB");
}

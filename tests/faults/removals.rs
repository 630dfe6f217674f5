//! `docker rm` and then `docker run` of the same ports, without a pause: the ports are free, and it takes hardly longer
//! than with docker-proxy.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use lab::measure::quantile;
use lab::{Docker, Host, Lab, Proxy, on_both_dockers};

on_both_dockers!(
    #[ignore = "takes ten minutes"]
    ports_of_a_removed_container_are_free_50_times_in_a_row,
);

/// Removals for each number of ports.
const ROUNDS: usize = 50;
/// `docker rm` may take so much longer than with docker-proxy, in the median.
const ALLOWANCE: Duration = Duration::from_millis(100);

/// Two programs that take all CPU time that they are given, until they are dropped.
struct Hogs(Vec<Child>);

impl Hogs {
    fn start() -> Self {
        let hog = |_| Command::new("sh").args(["-c", "while :; do :; done"]).spawn().expect("a shell starts");
        Self((0..2).map(hog).collect())
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

fn ports_of_a_removed_container_are_free_50_times_in_a_row(version: Docker) {
    let lab = Lab::of_this_test();
    let theirs = lab.host("theirs").docker(version).proxy(Proxy::DockerProxy).without_registrar().without_envoy();
    let hosts = [lab.host("ours").docker(version).start(), theirs.start()];
    hosts.iter().for_each(Host::need_web_image);
    let mut findings = Vec::new();
    for is_busy in [false, true] {
        let _hogs = is_busy.then(Hogs::start);
        for ports in [1, 10, 50, 200] {
            findings.extend(compare(&hosts, ports, &format!("{version:?}, {ports} ports, busy: {is_busy}")));
        }
    }
    assert!(findings.is_empty(), "{findings:#?}");
}

/// What is wrong with removals of a container with so many ports.
fn compare(hosts: &[Host; 2], ports: u16, case: &str) -> Option<String> {
    let mut times = [Vec::new(), Vec::new()];
    let mut refused = Vec::new();
    // In turns, so that both meet the same load of the machine.
    for _ in 0..ROUNDS {
        for (host, times) in hosts.iter().zip(&mut times) {
            match run(host, ports) {
                Ok(()) => {}
                Err(complaint) => refused.push(complaint),
            }
            let begun = Instant::now();
            host.docker(&["rm", "-f", "many"]);
            times.push(begun.elapsed());
        }
    }
    let [shim, proxy] = times.map(|times| quantile(&times, 0.5));
    println!("{case}: {} of {ROUNDS} refused; docker rm -f: shim {shim:.0?}, docker-proxy {proxy:.0?}", refused.len());
    let is_good = refused.is_empty() && shim < proxy + ALLOWANCE;
    (!is_good).then(|| format!("{case}: {shim:?} against {proxy:?}; refused: {refused:#?}"))
}

fn run(host: &Host, ports: u16) -> Result<(), String> {
    let published = format!("20000-{}:80-{}", 20_000 + ports - 1, 80 + ports - 1);
    let output = host.try_docker(&["run", "-d", "--name", "many", "-p", &published, "web"]);
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

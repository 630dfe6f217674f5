//! `scripts/bench capture`: what it costs that traffic from other hosts comes to Envoy although Docker's firewall is
//! on, side by side with docker-proxy and with Docker's own DNAT, in one run. Nothing here passes or fails.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lab::measure::mean_pss_kb;
use lab::rate::{Counted, per_second};
use lab::{Client, Host, Lab, Proxy, eventually};

/// Each way is measured so often, in turns with the others.
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
/// Ports of the host that has many.
const PORTS: usize = 1000;
const FIRST_PORT: usize = 10000;

/// nginx, with an answer that is as short as can be.
const SERVER: &str = r#"
printf 'events{worker_connections 4096;}http{access_log off;keepalive_requests 1000000000;server{listen 80;location /{return 200 "the end";}}}' >/tmp/nginx.conf
exec nginx -g 'daemon off;' -c /tmp/nginx.conf"#;
const ENDING: &str = "the end";

fn main() {
    let lab = Lab::new("bench-capture");
    throughput(&lab);
    many_ports(&lab);
}

/// A way from a client to a container.
struct Way<'a> {
    name: &'static str,
    host: &'a Host,
    port: u16,
}

fn throughput(lab: &Lab) {
    let client = lab.client("client");
    let user = lab::host::ORDINARY_USER;
    let ours = lab.host("ours").firewall().envoy_user(user).start();
    let shim = lab.host("shim").firewall().without_envoy().start();
    let docker_alone = |name| lab.host(name).proxy(Proxy::DockerProxy).without_registrar().without_envoy();
    let (proxy, dnat) = (docker_alone("proxy").start(), docker_alone("dnat").firewall().start());
    let ways = [
        Way { name: "divert, Envoy, tcp", host: &ours, port: 8081 },
        Way { name: "divert, Envoy, http", host: &ours, port: 8080 },
        Way { name: "divert, the shim alone", host: &shim, port: 8080 },
        Way { name: "docker-proxy", host: &proxy, port: 8080 },
        Way { name: "Docker's DNAT", host: &dnat, port: 8080 },
    ];
    for host in [&ours, &shim, &proxy, &dnat] {
        host.need_debian_image();
    }
    for way in &ways {
        serve(way, &client);
    }
    for host in [&ours, &shim] {
        assert_eq!(host.api("envoy")["capture"], "divert", "{}", host.api("envoy"));
    }
    println!("\nfrom another host, medians of {ROUNDS} rounds    requests/s   connects/s");
    let figures = [Counted::Requests, Counted::Connections].map(|counted| measured(&ways, &client, counted));
    for (place, way) in ways.iter().enumerate() {
        println!("  {:<45} {:>9.0} {:>12.0}", way.name, figures[0][place], figures[1][place]);
    }
}

/// Starts the container, and waits until the way is as it should be.
fn serve(way: &Way<'_>, client: &Client) {
    let mode = if way.name.ends_with("tcp") { "ProxyMode=tcp" } else { "ProxyMode=http" };
    let publish = format!("{}:80", way.port);
    way.host.docker(&["run", "-d", "-p", &publish, "-l", mode, lab::image::DEBIAN, "sh", "-c", SERVER]);
    if way.name.contains("Envoy") {
        way.host.await_served_by_envoy(way.port);
    }
    let url = format!("http://{}:{}/", way.host.address(), way.port);
    eventually(&format!("{}: the server answers", way.name), Duration::from_secs(10), || match client.get(&url) {
        Ok(answer) if answer.text() == ENDING => Ok(()),
        Ok(answer) => Err(answer.text()),
        Err(error) => Err(error.to_string()),
    });
}

/// The median for each way.
fn measured(ways: &[Way<'_>], client: &Client, counted: Counted) -> Vec<f64> {
    let mut figures = vec![Vec::new(); ways.len()];
    for _ in 0..ROUNDS {
        // In turns, so that all meet the same load of the machine.
        for (way, figures) in ways.iter().zip(&mut figures) {
            let target = SocketAddr::new(way.host.address(), way.port);
            figures.push(per_second(client.namespace(), target, counted, ENDING, ROUND));
        }
    }
    for figures in &mut figures {
        figures.sort_by(f64::total_cmp);
    }
    figures.into_iter().map(|figures| figures[figures.len() / 2]).collect()
}

/// Docker's own rules take most of the time: with so many ports each call of `iptables` takes tens of milliseconds.
fn many_ports(lab: &Lab) {
    let ours = lab.host("many").firewall().start();
    let theirs = lab.host("many-docker").firewall().proxy(Proxy::DockerProxy).without_registrar().without_envoy();
    let theirs = theirs.start();
    let range = format!("{FIRST_PORT}-{}:1000-{}", FIRST_PORT + PORTS - 1, 1000 + PORTS - 1);
    println!("\n{PORTS} ports of one container in two address families:");
    for (name, host) in [("divert, Envoy", &ours), ("Docker alone", &theirs)] {
        host.need_web_image();
        let run = timed(|| drop(host.docker(&["run", "-d", "--name", "many", "-p", &range, "web"])));
        if name.starts_with("divert") {
            let last = timed(|| until_diverted(host));
            println!("  {name}: the last port was in the table {last:.1?} after docker run had returned");
            let memory = mean_pss_kb(&host.processes_of("envoy-docker-registrar"));
            println!(
                "  {name}: memory (Pss) of the registrar {memory} kB, of a shim {} kB",
                mean_pss_kb(&host.shims())
            );
        }
        let remove = timed(|| drop(host.docker(&["rm", "-f", "many"])));
        println!("  {name}: docker run {run:.1?}, docker rm -f {remove:.1?}");
    }
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// Every port is in the table, in both of its address families.
fn until_diverted(host: &Host) {
    eventually("all ports are diverted", Duration::from_secs(60), || {
        let table = host.namespace().run("nft", &["list", "table", "inet", "envoy-docker-shim"]);
        let ours = FIRST_PORT..FIRST_PORT + PORTS;
        let numbers = table.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse::<usize>().ok());
        let count = numbers.filter(|number| ours.contains(number)).count();
        if count == 2 * PORTS { Ok(()) } else { Err(format!("{count} elements")) }
    });
}

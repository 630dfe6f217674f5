//! A host under steady load over IPv4, IPv6 and at one address, and what becomes of the load when something fails.

use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::http::{Request, passed_envoy};
use lab::load::{Load, Outcomes};
use lab::{Client, Docker, Host, HostBuilder, Lab, eventually, parts};

use crate::SECOND;

/// New connections per second to each target.
const PER_SECOND: u32 = 200;
/// Published at any address, and so over both families.
pub(crate) const ANYWHERE: u16 = 8080;
/// Published at the host's IPv4 address alone.
pub(crate) const SPECIFIC: u16 = 8081;
/// What the targets are called.
const TARGETS: [&str; 3] = ["IPv4", "IPv6", "one address"];
/// Connections of one target that wait at the same time: enough for the load to keep its pace.
const WORKERS: u32 = 40;
/// Most connections of one target that are in an Envoy's hands at a time. On an idle machine it is a handful.
const IN_FLIGHT: u64 = WORKERS as u64;
/// For how long an Envoy that ends no longer serves the connections that the kernel still gives it: until its sockets
/// are closed, which after a kill is the kernel's last step. Then they are the shim's, or reset if
/// `net.ipv4.tcp_migrate_req` is off.
const ENVOYS_END: Duration = Duration::from_millis(300);

/// A host with a container, and a machine that asks it.
pub(crate) struct Rig {
    pub(crate) host: Host,
    client: Client,
    /// Most connections of one target that wait at the same time.
    workers: u32,
    limit: Duration,
    lab: Lab,
}

/// What may come of a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    /// Connections that are refused.
    pub(crate) refused: u64,
    /// Connections that are lost otherwise.
    pub(crate) lost: u64,
}

impl Allowed {
    /// Nobody notices.
    pub(crate) const NOTHING: Self = Self::in_flight(0);

    /// Those that Envoy itself had accepted at that moment, and none that waited: what arrives in 0.04 s.
    pub(crate) const IN_HANDS: Self = Self::in_hands(1);

    /// [`Self::IN_HANDS`], so many times.
    pub(crate) const fn in_hands(times: u64) -> Self {
        Self { refused: 0, lost: 24 * times }
    }

    /// As many lost as can be in the hands of what fails, so many times.
    pub(crate) const fn in_flight(times: u64) -> Self {
        Self { refused: 0, lost: times * IN_FLIGHT * TARGETS.len() as u64 }
    }

    /// What arrives while an Envoy ends that was told to.
    pub(crate) const fn while_envoy_ends() -> Self {
        let each = PER_SECOND as u64 * ENVOYS_END.as_millis() as u64 / 1000;
        Self { refused: 0, lost: each * TARGETS.len() as u64 }
    }
}

impl Rig {
    /// A host with a container that publishes [`ANYWHERE`] and [`SPECIFIC`], both served by Envoy.
    pub(crate) fn new(version: Docker, settings: fn(HostBuilder<'_>) -> HostBuilder<'_>) -> Self {
        let lab = Lab::of_this_test();
        let (host, client) = (settings(lab.host("a").docker(version)).start(), lab.client("client"));
        // As on a host where `deploy/install` was run.
        let kernel = parts::project().join("deploy/sysctl/60-envoy-docker-shim.conf");
        host.namespace().run("sysctl", &["--quiet", &format!("--load={}", kernel.display())]);
        let this = Self { host, client, workers: WORKERS, limit: Duration::from_secs(5), lab };
        println!("{version:?} {}, {PER_SECOND}/s each over {TARGETS:?}", this.lab.name());
        println!(
            "{:<46} {:>8} {:>7} {:>5} {:>8} {:>9} {:>6} {:>8}",
            "", "answered", "refused", "lost", "gap", "slow", "worst", "took"
        );
        let specific = format!("{}:{SPECIFIC}:80", this.host.address());
        this.host.run_web(&["--name", "web", "--restart", "always", "-p", &format!("{ANYWHERE}:80"), "-p", &specific]);
        this.await_envoy();
        this
    }

    /// So that the load goes on at its pace although many wait, for so long.
    pub(crate) fn patient(mut self, workers: u32, limit: Duration) -> Self {
        (self.workers, self.limit) = (workers, limit);
        self
    }

    fn urls(&self) -> [String; 3] {
        let (host, host6) = (self.host.address(), self.host.address6());
        [
            format!("http://{host}:{ANYWHERE}/"),
            format!("http://[{host6}]:{ANYWHERE}/"),
            format!("http://{host}:{SPECIFIC}/"),
        ]
    }

    /// Waits until Envoy answers at every target.
    pub(crate) fn await_envoy(&self) {
        for url in self.urls() {
            eventually(&format!("{url} is answered by Envoy"), Duration::from_secs(20), || {
                let answer = self.client.get(&url).map_err(|error| error.to_string())?;
                if passed_envoy(&answer) { Ok(()) } else { Err(answer.text()) }
            });
        }
    }

    /// Lets `fault` happen under load, waits until Envoy serves again, and prints what became of the load.
    ///
    /// # Panics
    /// More connections were refused or lost than is allowed.
    pub(crate) fn suffer(&self, name: &str, allowed: Allowed, fault: impl FnOnce(&Host)) -> Vec<Outcomes> {
        let start = |url: &String| {
            let request = Request::get(url).limit(self.limit);
            Load::with_workers(self.client.namespace(), &request, PER_SECOND, self.workers)
        };
        let loads = self.urls().each_ref().map(start);
        sleep(SECOND / 2);
        let begun = Instant::now();
        fault(&self.host);
        self.await_envoy();
        let took = begun.elapsed();
        sleep(SECOND / 2);
        let outcomes: Vec<_> = loads.into_iter().map(Load::stop).collect();
        for (target, one) in TARGETS.into_iter().zip(&outcomes) {
            print_row(&format!("{name}, {target}"), one, took);
        }
        let sum = |what: fn(&Outcomes) -> u64| outcomes.iter().map(what).sum::<u64>();
        let (refused, failed) = (sum(|one| one.refused), sum(Outcomes::failed));
        assert!(refused <= allowed.refused, "{name}: refused {refused}: {outcomes:?}");
        assert!(failed - refused <= allowed.lost, "{name}: lost {}: {outcomes:?}", failed - refused);
        assert!(outcomes.iter().all(|one| one.ok > u64::from(PER_SECOND) / 2), "{name}: {outcomes:?}");
        outcomes
    }
}

fn print_row(name: &str, one: &Outcomes, took: Duration) {
    let lost = one.failed() - one.refused;
    let [gap, slowest] = [one.longest_gap, one.slowest].map(|time| time.as_millis());
    println!(
        "{name:<46} {:>8} {:>7} {lost:>5} {gap:>5} ms {:>9} {slowest:>3} ms {:>6.1} s",
        one.ok,
        one.refused,
        one.slow,
        took.as_secs_f64()
    );
}

//! `scripts/bench hosts`: registrars without Docker beside agents of serf, each in a network namespace of its own, in one
//! run: how long a change takes until all hosts know it, and what a host costs while nothing happens. Nothing passes or
//! fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use lab::host::registrar::key_file;
use lab::measure::{cpu_seconds, mean_pss_kb, quantile};
use lab::namespace::Namespace;
use lab::process::Process;
use lab::{Client, Host, Lab, eventually, parts};

/// Of each kind.
const HOSTS: usize = 20;
/// Hosts that the others are told of.
const SEEDS: usize = 3;
/// How many changes are followed.
const CHANGES: usize = 40;
/// How often each host is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// How long a change may take, and how long the hosts may take to find each other.
const LIMIT: Duration = Duration::from_secs(60);
/// How long nothing happens.
const IDLE: Duration = Duration::from_secs(60);

fn main() {
    let lab = Lab::new("bench-hosts");
    let key = key_file(&lab, "gossip.key");
    let registrars = Registrars::start(&lab, &key);
    let serf = parts::serf().map(|program| Agents::start(&lab, program, &key));
    let mut kinds: Vec<&dyn Kind> = vec![&registrars];
    match &serf {
        Some(agents) => kinds.push(agents),
        None => println!("serf could not be had (see what scripts/parts said): registrars alone"),
    }
    changes(&kinds);
    idle(&kinds);
}

/// One kind of cluster: its machines, and how a change is made and seen.
trait Kind: Sync {
    fn name(&self) -> &str;
    fn machine(&self, host: usize) -> &Namespace;
    fn process(&self, host: usize) -> u32;
    /// Makes a change on the first host.
    fn change(&self, number: usize);
    /// Whether this host knows it.
    fn knows(&self, host: usize, number: usize) -> bool;
}

fn changes(kinds: &[&dyn Kind]) {
    println!("{CHANGES} changes on one of {HOSTS} hosts, from when it is asked for (looked at every {LOOK_EVERY:?}):");
    let mut times = vec![Vec::new(); kinds.len()];
    // In turns, so that all meet the same load of the machine.
    for number in 0..CHANGES {
        kinds.iter().zip(&mut times).for_each(|(kind, times)| times.push(follow(*kind, number)));
    }
    for (kind, times) in kinds.iter().zip(times) {
        let every: Vec<_> = times.iter().flatten().copied().collect();
        let last: Vec<_> = times.iter().map(|times| quantile(times, 1.0)).collect();
        let [own, own_p99] = [0.5, 0.99].map(|share| quantile(&every, share));
        let [all, worst] = [0.5, 1.0].map(|share| quantile(&last, share));
        println!("  {}: known on a host: median {own:.0?}, p99 {own_p99:.0?};", kind.name());
        println!("    on all of them: median {all:.0?}, worst {worst:.0?}");
    }
}

/// How long it takes each host to know a change.
fn follow(kind: &dyn Kind, number: usize) -> Vec<Duration> {
    let start = Instant::now();
    thread::scope(|scope| {
        let watch = |host| {
            while !kind.knows(host, number) {
                assert!(start.elapsed() < LIMIT, "{}: host {host} never knows of change {number}", kind.name());
                thread::sleep(LOOK_EVERY);
            }
            start.elapsed()
        };
        let watchers: Vec<_> = (0..HOSTS).map(|host| scope.spawn(move || watch(host))).collect();
        kind.change(number);
        watchers.into_iter().map(|watcher| watcher.join().expect("every host is told")).collect()
    })
}

fn idle(kinds: &[&dyn Kind]) {
    let totals = |kind: &dyn Kind| {
        let bytes: u64 = (0..HOSTS).map(|host| kind.machine(host).bytes_sent()).sum();
        let seconds: f64 = (0..HOSTS).map(|host| cpu_seconds(kind.process(host))).sum();
        (bytes, seconds)
    };
    let before: Vec<_> = kinds.iter().map(|kind| totals(*kind)).collect();
    let start = Instant::now();
    thread::sleep(IDLE);
    let after: Vec<_> = kinds.iter().map(|kind| totals(*kind)).collect();
    let per_host = start.elapsed().as_secs_f64() * HOSTS as f64;
    println!("nothing happens for {IDLE:?}, each host:");
    for ((kind, before), after) in kinds.iter().zip(before).zip(after) {
        let sent = (after.0 - before.0) as f64 / per_host;
        let cpu = (after.1 - before.1) / per_host * 1000.0;
        let processes: Vec<_> = (0..HOSTS).map(|host| kind.process(host)).collect();
        let memory = mean_pss_kb(&processes);
        println!("  {}: sends {sent:.0} bytes/s, {cpu:.2} ms of CPU per second, memory (Pss) {memory} kB", kind.name());
    }
}

/// Does this for each number of a host, all at once, and yields what came of it in their order.
fn each<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let started: Vec<_> = (0..HOSTS).map(|number| scope.spawn(move || work(number))).collect();
        started.into_iter().map(|one| one.join().expect("it starts")).collect()
    })
}

/// Our registrars. Each offers one static service; the change is that the first one's drains, or no longer does.
struct Registrars {
    hosts: Vec<Host>,
    /// The instance that changes.
    instance: String,
}

impl Registrars {
    fn start(lab: &Lab, key: &Path) -> Self {
        let seeds: Vec<_> = (1..=SEEDS).map(|number| format!("--seed=10.77.0.{number}")).collect();
        let hosts = each(|number| {
            let name = format!("host-{number}");
            let file = lab.logs().join(format!("{name}.yaml"));
            let port = format!("{{port: 80, service-port: {}}}", 9500 + number);
            let entry = format!("- {{name: {name}, check: {{kind: AlwaysSuccessful}}, ports: [{port}]}}\n");
            fs::write(&file, entry).expect("the folder of logs can be written");
            let [key, file] = [key, &file].map(|path| path.display().to_string());
            let mut arguments = vec!["--gossip-key-file", &key, "--static-services", &file];
            arguments.extend(seeds.iter().map(String::as_str));
            lab.host(&name).without_docker().without_envoy().registrar_arguments(&arguments).start()
        });
        for host in &hosts {
            eventually(&format!("{} knows all services", host.name()), LIMIT, || {
                let services = host.api("services");
                let count = services.as_array().map_or(0, Vec::len);
                if count == HOSTS { Ok(()) } else { Err(format!("{count} of {HOSTS}")) }
            });
        }
        let services = hosts[0].api("services");
        let instances = services.as_array().into_iter().flatten().map(|service| &service["instances"][0]);
        let own = instances.filter(|instance| instance["host"] == hosts[0].name()).find_map(|own| own["id"].as_str());
        let instance = own.expect("the first host offers a service").to_owned();
        Self { hosts, instance }
    }
}

impl Kind for Registrars {
    fn name(&self) -> &str {
        "registrars"
    }

    fn machine(&self, host: usize) -> &Namespace {
        self.hosts[host].namespace()
    }

    fn process(&self, host: usize) -> u32 {
        self.hosts[host].processes_of("envoy-docker-registrar")[0]
    }

    fn change(&self, number: usize) {
        let order = if number.is_multiple_of(2) { "drain" } else { "undrain" };
        self.hosts[0].shimctl(&[order, &self.instance]);
    }

    fn knows(&self, host: usize, number: usize) -> bool {
        let expected = if number.is_multiple_of(2) { "draining" } else { "alive" };
        let answer = self.hosts[host].get("http://127.0.0.1:7777/api/v1/services").expect("the registrar answers");
        let text = answer.text();
        // Not parsed: this is asked often, and costs what the registrars should have.
        let own = text.split_once(&self.instance).map(|(_, rest)| rest);
        let status = own.and_then(|rest| rest.split_once(r#""status":""#)).map(|(_, rest)| rest);
        status.is_some_and(|status| status.starts_with(expected))
    }
}

/// Agents of serf, encrypted too. The change is a user event, which is how applications tell each other something there.
struct Agents {
    program: PathBuf,
    logs: PathBuf,
    /// Programs end before their machines do.
    agents: Vec<(Process, Client)>,
}

impl Agents {
    fn start(lab: &Lab, program: PathBuf, key: &Path) -> Self {
        let key = fs::read_to_string(key).expect("our own file");
        let machines = each(|number| lab.client(&format!("serf-{number}")));
        let seeds: Vec<_> = machines[..SEEDS].iter().map(|seed| format!("-retry-join={}", seed.address())).collect();
        let start = |(number, machine): (usize, Client)| {
            let mut command = Command::new(&program);
            command.args(["agent", "-retry-interval=1s", "-log-level=info", &format!("-encrypt={}", key.trim())]);
            command.args([format!("-node=serf-{number}"), format!("-bind={}:7946", machine.address())]).args(&seeds);
            let process = Process::start("serf", machine.namespace(), &mut command, &log(lab.logs(), number));
            (process, machine)
        };
        let agents = machines.into_iter().enumerate().map(start).collect();
        let this = Self { program, logs: lab.logs().to_owned(), agents };
        for (_, machine) in &this.agents {
            eventually("every agent knows all", LIMIT, || {
                let output = machine.namespace().output(Command::new(&this.program).args(["members", "-status=alive"]));
                let count = String::from_utf8_lossy(&output.stdout).lines().count();
                if count == HOSTS { Ok(()) } else { Err(format!("{count} of {HOSTS}")) }
            });
        }
        this
    }
}

fn log(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("serf-{number}.log"))
}

impl Kind for Agents {
    fn name(&self) -> &str {
        "serf"
    }

    fn machine(&self, host: usize) -> &Namespace {
        self.agents[host].1.namespace()
    }

    fn process(&self, host: usize) -> u32 {
        self.agents[host].0.id()
    }

    fn change(&self, number: usize) {
        let event = format!("change-{number}-is-made");
        let namespace = self.machine(0);
        let output = namespace.output(Command::new(&self.program).args(["event", "-coalesce=false", &event]));
        assert!(output.status.success(), "serf event: {}", String::from_utf8_lossy(&output.stderr));
    }

    fn knows(&self, host: usize, number: usize) -> bool {
        let log = fs::read_to_string(log(&self.logs, host)).expect("the agent has a log");
        log.contains(&format!("change-{number}-is-made"))
    }
}

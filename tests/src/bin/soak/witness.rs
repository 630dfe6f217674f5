//! What a host's programs do at the moment when its clients wait for long: for whoever looks for the reason later.

use std::fmt::Write as _;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::Host;
use lab::load::Load;

/// When clients that nobody answers are worth a look: an Envoy that hangs is given up sooner.
const PATIENCE: Duration = Duration::from_millis(1500);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Until it is `over`: looks at the load, and once, should it wait for too long, at the host. Yields what was seen.
pub(crate) fn watch(host: &Host, load: &Load, port: u16, over: &AtomicBool) -> String {
    let mut seen = String::new();
    let mut has_looked = false;
    while !over.load(Ordering::Relaxed) {
        if load.silence() > PATIENCE && !std::mem::replace(&mut has_looked, true) {
            seen.push_str(&look(host, port));
        }
        let before = Instant::now();
        std::thread::sleep(LOOK_EVERY);
        let slept = before.elapsed();
        if slept > PATIENCE {
            // Neither did the clients, then, nor anything else.
            let _ = writeln!(seen, "this program did not run for {slept:.1?}: the machine stood still");
        }
    }
    seen
}

fn look(host: &Host, port: u16) -> String {
    let mut seen = String::from("nobody was answered for long; then:\n");
    for program in ["envoy", "envoy-docker-registrar", "envoy-docker-shim", "echo-app", "dockerd"] {
        for process in host.processes_of(program) {
            let _ = writeln!(seen, "  {program} {process}: {}", threads(process).join(", "));
        }
    }
    for line in host.namespace().run("ss", &["-Htln", &format!("sport = :{port}")]).lines() {
        let _ = writeln!(seen, "  {line}");
    }
    for what in ["cpu", "io", "memory"] {
        let pressure = fs::read_to_string(format!("/proc/pressure/{what}")).unwrap_or_default();
        let _ = writeln!(seen, "  the machine's {what}: {}", pressure.lines().next().unwrap_or("not known"));
    }
    seen
}

/// The state of each thread, and where in the kernel it waits.
fn threads(process: u32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let one = |folder: std::path::PathBuf| {
        let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap_or_default();
        let status = read("stat");
        let state = status.rsplit(')').next().unwrap_or_default().split_whitespace().next().unwrap_or("?").to_owned();
        format!("{state} {}", read("wchan"))
    };
    entries.map(|entry| one(entry.path())).collect()
}

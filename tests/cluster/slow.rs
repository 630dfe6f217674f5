//! A host that is slow: its registrar gets to run only now and then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lab::{Host, Lab};
use nix::sys::signal::Signal;

use crate::requests::{assert_unnoticed, start};
use crate::rig::{await_instances, await_truth, instances, plain, run_web_9500};

/// Ends the pulses, also when what was done meanwhile failed.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Stops the host's registrar for so long and lets it run for so long, again and again, while `work` is done.
fn slowed(host: &Host, stopped: Duration, running: Duration, work: impl FnOnce()) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                host.signal_registrar(Signal::SIGSTOP);
                thread::sleep(stopped);
                host.signal_registrar(Signal::SIGCONT);
                thread::sleep(running);
            }
        });
        let _over = Over(&over);
        work();
    });
}

#[test]
fn a_slow_host_stays_and_learns_every_change() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b", "slow"]);
    let [a, b, slow] = &hosts[..] else { unreachable!("three hosts were started") };
    hosts.iter().for_each(|host| drop(run_web_9500(host)));
    await_truth(&hosts);
    let loads = start([a, b]);
    // It answers nobody at once, but everybody within half a second, in which it has to.
    slowed(slow, Duration::from_millis(350), Duration::from_millis(50), || {
        for host in [a, slow] {
            let id = run_web_9500(host);
            await_instances(&hosts, 9500, 4, "alive");
            host.docker(&["rm", "-f", &id]);
            await_instances(&hosts, 9500, 3, "alive");
        }
    });
    // It keeps everybody waiting for too long, but what runs on it answers: that is no reason to take it out.
    slowed(slow, Duration::from_secs(3), Duration::from_millis(300), || {
        for _ in 0..60 {
            for host in [a, b] {
                let listed = instances(host, 9500);
                assert_eq!(listed.len(), 3, "{}: {listed:?} {}", host.name(), host.api("hosts"));
            }
            thread::sleep(Duration::from_millis(200));
        }
    });
    await_truth(&hosts);
    assert_unnoticed(loads, "a host was slow");
}

//! Instances that an operator takes out of service, from any host, and what a restart of the registrar leaves of it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use lab::{Host, Lab};
use nix::sys::signal::Signal;

use crate::rig::{await_agreement, await_answers, await_instances, instances, plain, run_web_9500, url};

/// Runs a command of `shimctl` that must fail, and yields what it says.
fn refused(host: &Host, arguments: &[&str]) -> String {
    let output = host.try_shimctl(arguments);
    assert!(!output.status.success(), "{arguments:?} must fail");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_instance_is_drained_and_put_back_from_another_host() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b", "c"]);
    let [a, b, c] = &hosts[..] else { unreachable!("three hosts were started") };
    let ids: Vec<_> = hosts.iter().map(run_web_9500).collect();
    await_instances(&hosts, 9500, 3, "alive");
    let on_b = format!("b/{}", &ids[1][..12]);
    a.shimctl(&["drain", &on_b]);
    for host in &hosts {
        await_answers(host, &url(9500), &[&ids[0], &ids[2]]);
        let listed = instances(host, 9500);
        assert!(listed.contains(&(on_b.clone(), "draining".to_owned())), "{}: {listed:?}", host.name());
    }
    // Who took it out does not matter.
    c.shimctl(&["undrain", &on_b]);
    await_instances(&hosts, 9500, 3, "alive");
    let all: Vec<_> = ids.iter().map(String::as_str).collect();
    hosts.iter().for_each(|host| await_answers(host, &url(9500), &all));
    await_agreement(&hosts);

    let said = refused(a, &["drain", "b/0123456789ab"]);
    assert!(said.contains("404") && said.contains("host b has no instance 0123456789ab"), "{said}");
    let said = refused(a, &["drain", "nobody/0123456789ab"]);
    assert!(said.contains("404") && said.contains("no host of this name"), "{said}");
    b.end_registrar(Signal::SIGKILL);
    let said = refused(a, &["drain", &on_b]);
    assert!(said.contains("502") && said.contains("can't be reached"), "{said}");
    b.spawn_registrar();
    b.await_registrar();
    b.signal_registrar(Signal::SIGSTOP);
    let said = refused(a, &["drain", &on_b]);
    b.signal_registrar(Signal::SIGCONT);
    assert!(said.contains("504") && said.contains("no answer within 3 s"), "{said}");
}

#[test]
fn what_is_drained_stays_so_on_all_hosts_when_its_registrar_is_killed_and_starts_again() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b"]);
    let [a, b] = &hosts[..] else { unreachable!("two hosts were started") };
    let (on_a, on_b) = (run_web_9500(a), run_web_9500(b));
    await_instances(&hosts, 9500, 2, "alive");
    let drained = format!("a/{}", &on_a[..12]);
    b.shimctl(&["drain", &drained]);
    hosts.iter().for_each(|host| await_answers(host, &url(9500), &[&on_b]));

    // Every status that any host gives it while its registrar dies and comes back, twice.
    let over = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let watch = |host: &Host| {
            let mut seen = BTreeSet::new();
            while !over.load(Ordering::Relaxed) {
                // While its own registrar is dead there is nobody to ask.
                if let Ok(answer) = host.get("http://127.0.0.1:7777/api/v1/services") {
                    let rows = answer.json();
                    let listed = rows.as_array().into_iter().flatten().flat_map(|row| row["instances"].as_array());
                    let own = listed.flatten().filter(|instance| instance["id"] == *drained);
                    seen.extend(own.map(|instance| instance["status"].as_str().unwrap_or_default().to_owned()));
                }
                thread::sleep(Duration::from_millis(2));
            }
            seen
        };
        let watches: Vec<_> = hosts.iter().map(|host| scope.spawn(move || watch(host))).collect();
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            a.end_registrar(signal);
            a.start_registrar();
            // Long enough for a first round of checks, and for the news to spread.
            thread::sleep(Duration::from_secs(5));
        }
        over.store(true, Ordering::Relaxed);
        watches.into_iter().map(|watch| watch.join().expect("it only asks")).collect::<Vec<_>>()
    });
    let draining = BTreeSet::from(["draining".to_owned()]);
    assert_eq!(seen, [draining.clone(), draining]);
    hosts.iter().for_each(|host| await_answers(host, &url(9500), &[&on_b]));
    await_agreement(&hosts);

    // Its container goes and is started again: the operator's word is over.
    a.docker(&["restart", &on_a]);
    await_instances(&hosts, 9500, 2, "alive");
    a.end_registrar(Signal::SIGKILL);
    a.start_registrar();
    await_instances(&hosts, 9500, 2, "alive");
}

//! A host gets another name: its registrar is restarted under it, and its containers run on.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use lab::{Host, Lab, eventually};
use nix::sys::signal::Signal;

use crate::rig::{SPREAD, answered_by, await_answers, instances, plain, run_web_9500, url};

fn listed(host: &Host) -> BTreeSet<String> {
    instances(host, 9500).into_iter().map(|(id, _)| id).collect()
}

#[test]
fn a_renamed_host_is_counted_once_and_no_request_goes_to_a_wrong_program() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b"]);
    let [a, b] = &hosts[..] else { unreachable!("two hosts were started") };
    let ids = [run_web_9500(a), run_web_9500(b)];
    await_answers(a, &url(9500), &[&ids[0], &ids[1]]);
    b.end_registrar(Signal::SIGTERM);
    b.namespace().run("hostname", &["renamed"]);
    b.start_registrar();
    let expected = BTreeSet::from([format!("a/{}", &ids[0][..12]), format!("renamed/{}", &ids[1][..12])]);
    eventually("each instance is counted once", SPREAD, || {
        let both = [listed(a), listed(b)];
        if both.iter().all(|listed| *listed == expected) { Ok(()) } else { Err(format!("{both:?}")) }
    });
    // The old name's instances used to stay for as long as their ports answer.
    for _ in 0..20 {
        sleep(Duration::from_millis(250));
        assert_eq!(listed(a), expected);
    }
    let hosts = a.api("hosts").to_string();
    assert!(hosts.contains("host renamed answers at its address"), "{hosts}");
    // The port goes to another program.
    let published = b.docker(&["port", &ids[1], "80/tcp"]);
    let port = published.lines().next().and_then(|line| line.rsplit(':').next()).expect("a port is published").trim();
    b.docker(&["rm", "-f", &ids[1]]);
    b.run_web(&["-p", &format!("{port}:80"), "-l", "ServiceName=other"]);
    await_answers(a, &url(9500), &[&ids[0]]);
    for _ in 0..30 {
        assert_eq!(answered_by(a, &url(9500)).as_deref(), Ok(&ids[0][..12]));
    }
}

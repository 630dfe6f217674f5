//! A container that runs anywhere answers everywhere, and what becomes of it is followed.

use lab::{Docker, Lab};

use crate::rig::{await_agreement, await_answers, await_instances, cluster, plain, run_web_9500, url};

#[test]
fn a_container_on_one_host_answers_on_both_and_stop_kill_and_start_are_followed() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b"]);
    let [a, b] = &hosts[..] else { unreachable!("two hosts were started") };
    let first = run_web_9500(a);
    for host in &hosts {
        await_answers(host, &url(9500), &[&first]);
    }
    let second = run_web_9500(b);
    for host in &hosts {
        await_answers(host, &url(9500), &[&first, &second]);
    }
    await_agreement(&hosts);

    a.docker(&["stop", &first]);
    for host in &hosts {
        await_answers(host, &url(9500), &[&second]);
    }
    a.docker(&["start", &first]);
    for host in &hosts {
        await_answers(host, &url(9500), &[&first, &second]);
    }
    b.docker(&["kill", &second]);
    for host in &hosts {
        await_answers(host, &url(9500), &[&first]);
    }
    a.docker(&["rm", "-f", &first]);
    await_instances(&hosts, 9500, 0, "");
    await_agreement(&hosts);
}

#[test]
fn three_hosts_with_dockers_firewall_on_share_the_work_from_hosts_and_containers() {
    let lab = Lab::of_this_test();
    let hosts = cluster(&lab, &["a", "b", "c"], |host, _| {
        host.docker(Docker::Current).firewall().envoy_user(lab::host::ORDINARY_USER)
    });
    let ids: Vec<_> = hosts.iter().map(run_web_9500).collect();
    let all: Vec<_> = ids.iter().map(String::as_str).collect();
    for host in &hosts {
        await_answers(host, &url(9500), &all);
    }
    await_agreement(&hosts);
    // A client in a container, too.
    for (host, id) in hosts.iter().zip(&ids) {
        let answer = host.get_from(id, &url(9500)).expect("a container's request is answered");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
}

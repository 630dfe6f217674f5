//! Strangers, liars, and networks that fail.

use std::fs;
use std::time::{Duration, Instant};

use lab::host::registrar::key_file;
use lab::{Host, Lab, eventually};

use crate::rig::{
    SPREAD, await_agreement, await_answers, await_instances, await_truth, cluster, instances, member, plain,
    run_web_9500, url,
};

/// Names of the hosts that a host lists.
fn known(host: &Host) -> Vec<String> {
    let hosts = host.api("hosts");
    let names = hosts.as_array().into_iter().flatten().filter_map(|host| host["name"].as_str());
    names.map(str::to_owned).collect()
}

/// What a host says is wrong with another.
fn problem(host: &Host, of: &str) -> String {
    let hosts = host.api("hosts");
    let listed = hosts.as_array().into_iter().flatten().find(|listed| listed["name"] == of);
    listed.and_then(|listed| listed["problem"].as_str()).unwrap_or_default().to_owned()
}

#[test]
fn a_host_with_another_key_is_neither_heard_nor_told() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b"]);
    let own = run_web_9500(&hosts[0]);
    let other_key = key_file(&lab, "other.key").display().to_string();
    let stranger = member(&lab, "stranger", &other_key).start();
    let theirs = run_web_9500(&stranger);
    await_instances(&hosts, 9500, 1, "alive");
    await_answers(&stranger, &url(9500), &[&theirs]);
    std::thread::sleep(Duration::from_secs(2));
    for host in &hosts {
        await_answers(host, &url(9500), &[&own]);
        assert_eq!(known(host), ["a", "b"]);
    }
    assert_eq!(known(&stranger), ["stranger"]);
    await_agreement(&hosts);
    let metrics = hosts[0].get("http://127.0.0.1:7777/metrics").expect("the registrar answers").text();
    let counted = metrics
        .lines()
        .find_map(|line| line.strip_prefix(r#"envoy_docker_shim_gossip_refused_total{reason="unknown_key"} "#));
    assert!(counted.and_then(|count| count.parse::<u64>().ok()).is_some_and(|count| count > 0), "{metrics}");
}

#[test]
fn addresses_that_are_not_the_announcers_own_are_not_used_and_named() {
    let lab = Lab::of_this_test();
    let file = lab.logs().join("static.yaml");
    let path = file.display().to_string();
    let hosts = cluster(&lab, &["a", "b", "liar"], |host, name| match name {
        "liar" => host.registrar_arguments(&["--static-services", &path]),
        _ => host,
    });
    let own = run_web_9500(&hosts[2]);
    // Loopback is refused by the announcer itself already.
    let loopback = "127.0.0.1".to_owned();
    let bad = ["192.168.168.168".to_owned(), hosts[0].address().to_string(), hosts[1].address().to_string()];
    let check = "{kind: AlwaysSuccessful}";
    let entry = |(number, address): (usize, &String)| {
        format!(
            "- {{name: web, check: {check}, ports: [{{port: {}, service-port: 9500, address: {address}}}]}}\n",
            7000 + number
        )
    };
    fs::write(&file, bad.iter().chain([&loopback]).enumerate().map(entry).collect::<String>())
        .expect("the folder of logs can be written");
    for host in &hosts[..2] {
        eventually("every bad address is named", SPREAD, || {
            let said = problem(host, "liar");
            let missing = |bad: &&String| !said.contains(&format!("{bad} ("));
            let missing: Vec<_> = bad.iter().filter(missing).collect();
            if missing.is_empty() { Ok(()) } else { Err(format!("{}: {missing:?}: {said}", host.name())) }
        });
        await_answers(host, &url(9500), &[&own]);
        assert_eq!(problem(host, host.name()), "", "nothing is wrong with who does not believe");
        // Once for each change of what is announced; the file was read at most a few times.
        let log = host.registrar_log();
        let lines = log.lines().filter(|line| line.contains("a host announces what can't be its own"));
        assert!((1..=3).contains(&lines.count()), "{log}");
    }
    // The liar alone believes itself, and is told that it does.
    let said = problem(&hosts[2], "liar");
    for host in &hosts[..2] {
        let named = format!("web at {}, the address of host {}", host.address(), host.name());
        assert!(said.contains(&named), "{said}");
    }
    let listed = |host: &Host| host.api("services");
    eventually("those who do not believe it agree", SPREAD, || {
        let lists = [listed(&hosts[0]), listed(&hosts[1])];
        if lists[0] == lists[1] { Ok(()) } else { Err(format!("{lists:?}")) }
    });
}

#[test]
fn both_sides_of_a_partition_serve_what_they_reach_and_heal() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b", "c"]);
    let ids: Vec<_> = hosts.iter().map(run_web_9500).collect();
    let all: Vec<_> = ids.iter().map(String::as_str).collect();
    hosts.iter().for_each(|host| await_answers(host, &url(9500), &all));
    let cut = Instant::now();
    hosts[2].pull_cable();
    eventually("the two withdraw the third", Duration::from_secs(30), || {
        let counts: Vec<_> = hosts[..2].iter().map(|host| instances(host, 9500).len()).collect();
        if counts == [2, 2] { Ok(()) } else { Err(format!("{counts:?}")) }
    });
    let withdrawn = cut.elapsed();
    for host in &hosts[..2] {
        await_answers(host, &url(9500), &all[..2]);
    }
    // The one that is alone goes on with what it knew, and answers with what it reaches.
    await_answers(&hosts[2], &url(9500), &all[2..]);
    hosts[1].docker(&["rm", "-f", &ids[1]]);
    let healed = Instant::now();
    hosts[2].plug_cable_in();
    await_truth(&hosts);
    println!("withdrawn after {withdrawn:?}, healed after {:?}", healed.elapsed());
    hosts.iter().for_each(|host| await_answers(host, &url(9500), &[&ids[0], &ids[2]]));
}

/// Drops all that these hosts send each other, or takes that back.
fn separate(some: &[Host], others: &[Host]) {
    let addresses = others.iter().map(|host| host.address().to_string()).collect::<Vec<_>>().join(",");
    for host in some {
        let rules = format!(
            "table ip apart {{ chain in {{ type filter hook input priority 0; ip saddr {{ {addresses} }} drop; }}; \
             chain out {{ type filter hook output priority 0; ip daddr {{ {addresses} }} drop; }}; }}"
        );
        host.namespace().run("nft", &[&rules]);
    }
}

fn join(hosts: &[Host]) {
    hosts.iter().for_each(|host| drop(host.namespace().run("nft", &["delete", "table", "ip", "apart"])));
}

#[test]
fn five_hosts_in_two_parts_serve_on_both_sides_and_agree_once_they_are_joined() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b", "c", "d", "e"]);
    let ids: Vec<_> = hosts.iter().map(run_web_9500).collect();
    await_truth(&hosts);
    let (few, most) = hosts.split_at(2);
    let (of_few, of_most) = ids.split_at(2);
    let texts = |ids: &[String]| ids.iter().map(|id| id[..12].to_owned()).collect::<Vec<_>>();
    separate(few, most);
    let cut = Instant::now();
    // Those that lost the smaller part take it for dead; those that lost most doubt themselves, and serve on.
    eventually("the three withdraw the two", Duration::from_secs(30), || {
        let counts: Vec<_> = most.iter().map(|host| instances(host, 9500).len()).collect();
        if counts == [3, 3, 3] { Ok(()) } else { Err(format!("{counts:?}")) }
    });
    println!("withdrawn after {:?}", cut.elapsed());
    for (side, own) in [(few, texts(of_few)), (most, texts(of_most))] {
        let own: Vec<_> = own.iter().map(String::as_str).collect();
        side.iter().for_each(|host| await_answers(host, &url(9500), &own));
    }
    println!("each side answers with its own after {:?}", cut.elapsed());
    few[1].docker(&["kill", &of_few[1]]);
    let new = run_web_9500(&most[0]);
    join(few);
    let healed = Instant::now();
    await_truth(&hosts);
    println!("healed after {:?}", healed.elapsed());
    let all = [&ids[0], &ids[2], &ids[3], &ids[4], &new].map(String::as_str);
    hosts.iter().for_each(|host| await_answers(host, &url(9500), &all));
}

fn lose_a_fifth_of_the_datagrams(host: &Host) {
    let nft = |arguments: &[&str]| drop(host.namespace().run("nft", arguments));
    nft(&["add", "table", "ip", "loss"]);
    for hook in ["input", "output"] {
        let chain = format!("{{ type filter hook {hook} priority 0; }}");
        nft(&["add", "chain", "ip", "loss", hook, &chain]);
        let rule = "udp dport 7946 numgen random mod 100 < 20 counter drop";
        nft(&[&["add", "rule", "ip", "loss", hook][..], &rule.split(' ').collect::<Vec<_>>()].concat());
    }
}

#[test]
fn a_host_that_loses_a_fifth_of_its_datagrams_stays_and_learns_every_change() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b", "lossy"]);
    lose_a_fifth_of_the_datagrams(&hosts[2]);
    let own = run_web_9500(&hosts[2]);
    await_instances(&hosts, 9500, 1, "alive");
    for _ in 0..3 {
        let id = run_web_9500(&hosts[0]);
        await_instances(&hosts, 9500, 2, "alive");
        hosts[0].docker(&["rm", "-f", &id]);
        await_instances(&hosts, 9500, 1, "alive");
    }
    for host in &hosts {
        assert_eq!(known(host), ["a", "b", "lossy"]);
        await_answers(host, &url(9500), &[&own]);
    }
    await_agreement(&hosts);
}

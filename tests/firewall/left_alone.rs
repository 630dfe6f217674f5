//! Where diverting would do harm, it is not done, and the reason is said.

use lab::http::passed_envoy;
use lab::{Docker, Lab, on_both_dockers};

use crate::user_rules::is_open;
use crate::{await_capture, await_diverted, one_setting, our_table, peer};

on_both_dockers!(a_host_with_a_rule_in_docker_user_is_left_alone_until_the_rule_is_gone);

fn a_host_with_a_rule_in_docker_user_is_left_alone_until_the_rule_is_gone(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).start(), lab.client("client"));
    let rule = ["DOCKER-USER", "-p", "tcp", "-m", "conntrack", "--ctorigdstport", "8081", "-j", "DROP"];
    let change = |what: &'static str| host.namespace().run("iptables", &[&[what], &rule[..]].concat());
    change("-I");
    host.run_web(&["-p", "8080:80", "-p", "8081:80"]);
    host.await_served_by_envoy(8080);
    host.await_served_by_envoy(8081);
    let reason = await_capture(&host, "left-alone");
    assert!(reason.contains("DOCKER-USER holds 1 rule of yours"), "{reason}");
    assert!(host.shimctl(&["envoy"]).contains(&reason), "shimctl envoy says so: {}", host.shimctl(&["envoy"]));
    let check = String::from_utf8_lossy(&host.try_shimctl(&["check"]).stdout).into_owned();
    assert!(check.contains("DOCKER-USER holds 1 rule of yours"), "{check}");
    let ports = host.ports(8080);
    let problem = ports[0]["problem"].as_str().unwrap_or_default();
    assert!(problem.contains("past Envoy") && problem.contains("DOCKER-USER"), "{problem}");
    assert_eq!(our_table(&host), "", "there is no table of ours");
    let url = format!("http://{}:8080/", host.address());
    let answer = client.get(&url).expect("Docker's own path serves");
    assert_eq!((passed_envoy(&answer), peer(&answer)), (false, client.address().to_string()));
    assert!(!is_open(&host, &client, 8081), "the user's rule holds");

    change("-D");
    await_diverted(&host, 8080);
    assert!(passed_envoy(&client.get(&url).expect("the port answers")), "without the rule it is diverted");

    change("-I");
    await_capture(&host, "left-alone");
    assert!(!is_open(&host, &client, 8081), "the user's rule holds again");
    assert_eq!(our_table(&host), "", "the table is gone");
}

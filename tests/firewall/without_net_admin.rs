//! A registrar that may not touch the firewall: it says so, and all else works.

use lab::http::passed_envoy;
use lab::{Docker, Lab, on_both_dockers};

use crate::{await_capture, one_setting, our_table, peer};

on_both_dockers!(
    without_net_admin_ports_are_served_where_traffic_comes_to_their_sockets_and_the_reason_is_said,
    without_net_admin_nothing_is_missing_where_dockers_firewall_is_off,
);

fn without_net_admin_ports_are_served_where_traffic_comes_to_their_sockets_and_the_reason_is_said(version: Docker) {
    let lab = Lab::of_this_test();
    let (host, client) = (one_setting(&lab, "a", version).registrar_without_net_admin().start(), lab.client("client"));
    host.run_web(&["--name", "web", "-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    let reason = await_capture(&host, "left-alone");
    assert!(reason.contains("CAP_NET_ADMIN"), "{reason}");
    let check = String::from_utf8_lossy(&host.try_shimctl(&["check"]).stdout).into_owned();
    assert!(check.contains("past Envoy") && check.contains("CAP_NET_ADMIN"), "{check}");
    for port in host.ports(8080) {
        assert!(port["problem"].as_str().unwrap_or_default().contains("CAP_NET_ADMIN"), "{port}");
    }
    assert_eq!(our_table(&host), "");

    let (url, url6) = (format!("http://{}:8080/", host.address()), format!("http://[{}]:8080/", host.address6()));
    let answer = client.get(&url).expect("Docker's own path serves");
    assert_eq!((passed_envoy(&answer), peer(&answer)), (false, client.address().to_string()));
    // Docker translates neither IPv6 by default, nor what the host itself sends to its loopback address.
    for (who, outcome) in [("another host", client.get(&url6)), ("the host", host.get("http://127.0.0.1:8080/"))] {
        assert!(passed_envoy(&outcome.unwrap_or_else(|error| panic!("{who}: {error}"))), "{who}");
    }

    host.docker(&["rm", "-f", "web"]);
    assert!(host.get("http://127.0.0.1:8080/").is_err(), "the port is gone with its container");
    host.run_web(&["-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    assert!(passed_envoy(&client.get(&url6).expect("the port is free for the next one")));
}

fn without_net_admin_nothing_is_missing_where_dockers_firewall_is_off(version: Docker) {
    let lab = Lab::of_this_test();
    let builder = lab.host("a").docker(version).envoy_user(lab::host::ORDINARY_USER).registrar_without_net_admin();
    let (host, client) = (builder.start(), lab.client("client"));
    host.run_web(&["-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    for address in [host.address().to_string(), format!("[{}]", host.address6())] {
        let answer = client.get(&format!("http://{address}:8080/")).expect("the port answers");
        assert!(passed_envoy(&answer), "{address}: {}", answer.text());
    }
}

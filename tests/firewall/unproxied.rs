//! dockerd starts no shim for a port: Docker's own path serves, and the port's listing names it.

use lab::http::passed_envoy;
use lab::{Docker, Lab, eventually, on_both_dockers};

use crate::{one_setting, our_table, peer};

on_both_dockers!(with_the_userland_proxy_off_docker_serves_and_the_listing_says_why);

fn with_the_userland_proxy_off_docker_serves_and_the_listing_says_why(version: Docker) {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", version).dockerd_arguments(&["--userland-proxy=false"]).start();
    let client = lab.client("client");
    host.run_web(&["-p", "8080:80"]);
    let ports = eventually("the port is listed", std::time::Duration::from_secs(5), || {
        let ports = host.ports(8080);
        if ports.is_empty() { Err("no such port") } else { Ok(ports) }
    });
    println!("{}", host.shimctl(&["ports"]));
    let check = String::from_utf8_lossy(&host.try_shimctl(&["check"]).stdout).into_owned();
    assert!(check.contains("userland-proxy is off"), "{check}");
    for port in &ports {
        assert_eq!(port["served_by"], "docker", "{port}");
        let problem = port["problem"].as_str().unwrap_or_default();
        assert!(problem.contains("no shim") && problem.contains("--userland-proxy-path"), "{port}");
    }
    let answer = client.get(&format!("http://{}:8080/", host.address())).expect("Docker's own path serves");
    assert_eq!((passed_envoy(&answer), peer(&answer)), (false, client.address().to_string()));
    assert_eq!(our_table(&host), "", "nothing is diverted to nobody");
}

//! Debian's ufw, as it comes, in the host's own file system.

use lab::http::passed_envoy;
use lab::{Docker, Lab, on_both_dockers};

use crate::user_rules::is_open;
use crate::{await_diverted, docker_alone, one_setting};

on_both_dockers!(what_ufw_denies_is_closed_and_what_it_allows_is_open);

fn what_ufw_denies_is_closed_and_what_it_allows_is_open(version: Docker) {
    let lab = Lab::of_this_test();
    let (ours, theirs) = (one_setting(&lab, "ours", version).start(), docker_alone(&lab, "theirs", version).start());
    let client = lab.client("client");
    for host in [&ours, &theirs] {
        host.run_web(&["-p", "8080:80", "-p", "8081:80"]);
        host.install_ufw();
        host.namespace().run("/usr/sbin/ufw", &["allow", "8080/tcp"]);
        host.namespace().run("/usr/sbin/ufw", &["--force", "enable"]);
    }
    await_diverted(&ours, 8080);
    await_diverted(&ours, 8081);
    let status = ours.namespace().run("/usr/sbin/ufw", &["status"]);
    assert!(status.contains("Status: active"), "{status}");
    for url in [format!("http://{}:8080/", ours.address()), format!("http://[{}]:8080/", ours.address6())] {
        assert!(passed_envoy(&client.get(&url).expect("the port that ufw allows is open")));
    }
    assert!(!is_open(&ours, &client, 8081), "ufw denies it by default");
    assert!(is_open(&theirs, &client, 8081), "ufw denies it, and Docker alone does not mind");
    ours.namespace().run("/usr/sbin/ufw", &["deny", "8080/tcp"]);
    assert!(!is_open(&ours, &client, 8080), "ufw denies it explicitly");
}

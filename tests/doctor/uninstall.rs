//! `deploy/install` warns of what the firewall closes; with `--uninstall` it goes only once dockerd does without the shim, and leaves nothing in the kernel.

use std::process::{Command, Output};

use lab::{Docker, Host, Lab, eventually, parts};

use crate::one_setting;

/// A place of the host's own for what is installed.
const FURNISH: &str = "
mount -t tmpfs tmpfs /usr/local/bin
mount -t tmpfs tmpfs /usr/local/share
";

#[test]
fn installing_warns_of_the_firewall_and_uninstalling_waits_for_dockerd_and_takes_the_table_and_the_address_away() {
    let lab = Lab::of_this_test();
    let host = one_setting(&lab, "a", Docker::V20).registrar_arguments(&["--assign-service-address"]).start();
    host.namespace().run("sh", &["-ec", FURNISH]);
    host.run_web(&["-p", "8081:80"]);
    host.await_served_by_envoy(8081);
    let firewall =
        |what| host.namespace().run("iptables", &[what, "INPUT", "-p", "tcp", "--dport", "8081", "-j", "DROP"]);
    firewall("-A");
    let said = install(&host, &[]).expect("it installs");
    assert!(
        said.contains("Warning: this host's firewall") && said.contains("iptables -I INPUT -p tcp --dport 8081"),
        "{said}"
    );
    firewall("-D");
    host.namespace()
        .run("sh", &["-ec", "echo 'assign-service-address: true' >> /etc/envoy-docker-shim/registrar.yaml"]);
    host.run_web(&["-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    eventually("the port is diverted", std::time::Duration::from_secs(5), || {
        let rules = host.namespace().run("nft", &["list", "ruleset"]);
        if rules.contains("inet envoy-docker-shim") { Ok(()) } else { Err(rules) }
    });

    let refused = install(&host, &["--uninstall"]).expect_err("daemon.json names the shim");
    assert!(refused.contains("still names /usr/local/bin/envoy-docker-shim"), "{refused}");
    // The line is out, and dockerd has not read it.
    std::fs::write(host.path("/etc/docker/daemon.json"), "{}").expect("a host's folder can be written");
    let refused = install(&host, &["--uninstall"]).expect_err("dockerd was not restarted");
    assert!(refused.contains("was changed after dockerd") && refused.contains("systemctl restart docker"), "{refused}");
    assert!(host.path("/usr/local/bin/envoy-docker-shim").exists());

    host.end_dockerd(nix::sys::signal::Signal::SIGTERM);
    std::thread::sleep(std::time::Duration::from_secs(2));
    host.start_dockerd();
    let said = install(&host, &["--uninstall"]).expect("dockerd has read its settings");
    assert!(said.contains("left       the registrar"), "{said}");
    assert!(!host.path("/usr/local/bin/envoy-docker-shim").exists());
    let rules = host.namespace().run("nft", &["list", "ruleset"]);
    assert!(!rules.contains("envoy-docker-shim"), "{rules}");
    let addresses = host.namespace().run("ip", &["address", "show", "dev", "lo"]);
    assert!(!addresses.contains("192.168.168.168"), "{addresses}");
}

/// What `deploy/install` says; an error where it fails.
fn install(host: &Host, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(parts::project().join("deploy/install"));
    let Output { status, stdout, stderr } = host.namespace().output(command.args(arguments));
    let said = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    if status.success() { Ok(said) } else { Err(said) }
}

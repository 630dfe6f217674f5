//! What is broken, decided from facts alone. What is about Envoy is in `judge_envoy`.

use std::collections::BTreeMap;

use admin_api::{Port, ServedBy};

use super::facts::{Answers, Docker, Facts, File, Registrar};
use super::{DOCKER_PROXY, Finding, REGISTRAR, Report, judge_envoy};
use crate::show_ports;

/// How many ports are named that have the same problem.
const NAMED_MAX: usize = 3;

/// A finding; see [`Finding`].
pub(super) fn finding(check: &'static str, what: impl Into<String>, mend: impl Into<String>) -> Finding {
    Finding { check, what: what.into(), mend: mend.into() }
}

/// Everything that was found.
pub(super) fn report(facts: &Facts) -> Report {
    let mut problems = sockets(facts);
    problems.extend(facts.docker.iter().flat_map(|docker| docker_settings(docker, facts)));
    problems.extend(egress(facts));
    match &facts.registrar {
        Registrar::Silent(reason) => problems.insert(0, silent_registrar(reason, facts)),
        Registrar::Answers(answers) => {
            problems.extend(not_ready(answers));
            problems.extend(judge_envoy::problems(facts, answers));
            problems.extend(capture(facts, answers));
            problems.extend(without_shim(facts, answers));
            problems.extend(others(answers));
        }
    }
    Report { problems, hints: hints(facts) }
}

fn silent_registrar(reason: &str, facts: &Facts) -> Finding {
    let reason = reason.lines().next().unwrap_or_default();
    match facts.programs.iter().find(|program| program.name == REGISTRAR) {
        Some(registrar) => finding(
            "registrar",
            format!("it runs (process {}), and yet: {reason}", registrar.pid),
            "if its http-listen is another address, give --address; if it hangs, systemctl restart envoy-docker-registrar",
        ),
        None => finding(
            "registrar",
            format!("it does not run: {reason}"),
            "systemctl start envoy-docker-registrar; if it does not stay, `envoy-docker-registrar --check-config` and \
             journalctl -u envoy-docker-registrar say why",
        ),
    }
}

fn not_ready(answers: &Answers) -> Option<Finding> {
    let waits = !answers.waiting_for.is_empty();
    waits.then(|| {
        finding(
            "registrar",
            format!("it is not ready, and waits for {}", answers.waiting_for.join(", and ")),
            "it just started, or Docker does not answer it: systemctl status docker, and its setting docker-host",
        )
    })
}

fn sockets(facts: &Facts) -> Vec<Finding> {
    let Registrar::Answers(answers) = &facts.registrar else { return Vec::new() };
    let mut problems = Vec::new();
    if facts.folder.found.is_some_and(|folder| folder.mode & 0o055 != 0o055) {
        let path = facts.folder.path.display();
        let what = format!("{path} is closed to others, so Envoy can't reach xds.sock unless it is root");
        problems.push(finding("sockets", what, format!("chmod 755 {path}")));
    }
    problems.extend(socket(&facts.shim_socket, "shims can't register", Some(0)));
    problems.extend(socket(&facts.admin_socket, "changes can't be ordered", Some(0)));
    // Whoever subscribes by TCP needs no socket.
    if !answers.envoy.connected || facts.xds_socket.found.is_some() {
        problems.extend(socket(&facts.xds_socket, "Envoy can't subscribe", None));
    }
    problems
}

/// `owner`: whose it has to be, where that is known.
fn socket(socket: &File, without_it: &str, owner: Option<u32>) -> Option<Finding> {
    let path = socket.path.display();
    let restart = "systemctl restart envoy-docker-registrar; nothing is lost by that";
    let Some(found) = socket.found else {
        let what = format!("{path} is not there: {without_it}");
        return Some(finding("sockets", what, format!("{restart} (unless it was given another path)")));
    };
    if found.mode != 0o600 {
        return Some(finding("sockets", format!("{path} has the mode {:03o} instead of 600", found.mode), restart));
    }
    let owner = owner.filter(|owner| *owner != found.uid)?;
    Some(finding("sockets", format!("{path} belongs to uid {} instead of {owner}", found.uid), restart))
}

fn docker_settings(docker: &Docker, facts: &Facts) -> Vec<Finding> {
    const MEND: &str = "put \"userland-proxy-path\": \"/usr/local/bin/envoy-docker-shim\" into /etc/docker/daemon.json, \
                        and nothing about \"userland-proxy\"; then systemctl restart docker, and restart containers; or \
                        set capture-unproxied: true in registrar.yaml, and Envoy serves TCP without a shim";
    let settings = &docker.settings;
    let mut problems = Vec::new();
    if let Some(silence) = &docker.silence {
        let what = format!("dockerd (process {}) does not answer: {silence}", docker.pid);
        problems.push(finding("docker", what, "systemctl status docker; the ports that there are work meanwhile"));
    }
    let path = settings.userland_proxy_path.as_deref();
    match path {
        _ if does_without_shims(facts) => {}
        _ if !settings.userland_proxy => problems.push(finding(
            "userland-proxy",
            "dockerd's userland-proxy is off, so it starts no shim for any port",
            MEND,
        )),
        None => problems.push(finding(
            "userland-proxy",
            "dockerd was not told of the shim, and starts its own docker-proxy",
            MEND,
        )),
        Some(path) if !docker.has_proxy_program => problems.push(finding(
            "userland-proxy",
            format!("dockerd's userland-proxy-path is {path}, and no program is there: no container with a published port starts"),
            "deploy/install puts the shim at /usr/local/bin/envoy-docker-shim; name that path",
        )),
        Some(path) if path.ends_with(DOCKER_PROXY) => {
            problems.push(finding("userland-proxy", format!("dockerd's userland-proxy-path is {path}, not the shim"), MEND));
        }
        Some(_) => problems.extend(old_proxies(facts)),
    }
    problems
}

/// Whether Envoy is to serve ports without a shim; those that it does not are named for themselves.
fn does_without_shims(facts: &Facts) -> bool {
    matches!(&facts.registrar, Registrar::Answers(answers) if answers.envoy.capture_unproxied)
}

/// Proxies that were started before dockerd was told.
fn old_proxies(facts: &Facts) -> Option<Finding> {
    let count = facts.programs.iter().filter(|program| program.name == DOCKER_PROXY).count();
    (count > 0).then(|| {
        finding(
            "userland-proxy",
            format!("dockerd knows the shim, and yet {count} of Docker's own docker-proxy run"),
            "if daemon.json was changed since dockerd started: systemctl restart docker; then restart the containers \
             that `shimctl ports` shows as served by docker",
        )
    })
}

/// Ports that dockerd should have started a shim for.
fn without_shim(facts: &Facts, answers: &Answers) -> Option<Finding> {
    let known = facts
        .docker
        .as_ref()
        .is_some_and(|docker| !docker.settings.userland_proxy || docker.settings.userland_proxy_path.is_none());
    let ports: Vec<_> =
        answers.ports.iter().filter(|port| port.served_by == ServedBy::Docker && port.problem.is_some()).collect();
    (!ports.is_empty() && !known && !answers.envoy.capture_unproxied).then(|| {
        finding(
            "shim",
            format!("no shim serves {}", named(&ports)),
            "dockerd starts a shim when a container starts: restart these containers; if that does not help, see \
             userland-proxy-path in /etc/docker/daemon.json, and systemctl restart docker",
        )
    })
}

fn egress(facts: &Facts) -> Vec<Finding> {
    let Some(docker) = &facts.docker else { return Vec::new() };
    let mut problems = Vec::new();
    if facts.kernel.ip_forward == Some(0) {
        problems.push(finding(
            "egress",
            "net.ipv4.ip_forward is 0: containers can't reach other hosts",
            "sysctl -w net.ipv4.ip_forward=1, and look for who switched it off in /etc/sysctl.d",
        ));
    }
    if !docker.settings.iptables && facts.kernel.masquerades == Some(false) {
        problems.push(finding(
            "egress",
            "Docker's firewall is off (\"iptables\": false), and no rule masquerades containers' connections: they can't reach other hosts",
            "take \"iptables\": false out of /etc/docker/daemon.json, which is not needed, and systemctl restart docker; \
             or systemctl enable --now envoy-docker-egress",
        ));
    }
    problems
}

fn capture(facts: &Facts, answers: &Answers) -> Option<Finding> {
    let envoy = &answers.envoy;
    let has_firewall = facts.docker.as_ref().is_some_and(|docker| docker.settings.iptables);
    let is_past = |port: &&Port| is_envoys(port) && !port.host_address.is_loopback() && port.shim_pid.is_some();
    if let Some(problem) = &envoy.capture_problem {
        return Some(finding("capture", format!("{}: {}", envoy.capture, envoy.capture_reason), problem));
    }
    match envoy.capture.as_str() {
        "left-alone" => Some(finding(
            "capture",
            format!("traffic from other hosts goes past Envoy, by Docker's own path: {}", envoy.capture_reason),
            "as said; or set capture: none where that is how it should be",
        )),
        "off" if has_firewall && answers.ports.iter().any(|port| is_past(&port)) => Some(finding(
            "capture",
            format!("Docker's firewall is on, and traffic from other hosts goes past Envoy: {}", envoy.capture_reason),
            "take the setting capture out of registrar.yaml (it is then auto), and restart the registrar",
        )),
        _ => None,
    }
}

/// Whether this port's TCP connections should come to Envoy.
pub(super) fn is_envoys(port: &Port) -> bool {
    port.protocol == "tcp" && port.proxy_mode.as_deref().is_some_and(|mode| mode != "none")
}

/// What ports, services and hosts say of themselves.
fn others(answers: &Answers) -> Vec<Finding> {
    let is_told_already = |port: &Port| port.served_by == ServedBy::Docker && !answers.envoy.capture_unproxied;
    let ports = answers.ports.iter().filter(|port| !is_told_already(port));
    let mut by_text: BTreeMap<&str, Vec<&Port>> = BTreeMap::new();
    for port in ports {
        if let Some(problem) = &port.problem {
            by_text.entry(problem).or_default().push(port);
        }
    }
    let ports = by_text.into_iter().map(|(problem, ports)| finding("port", named(&ports), problem));
    let services = answers.services.iter().filter_map(|service| {
        let name = format!("{} in the environment {:?}", service.service_name, service.environment_name);
        service.problem.as_ref().map(|problem| finding("service", name, problem))
    });
    let addresses = answers.envoy.service_addresses.iter().filter_map(|at| {
        at.problem.as_ref().map(|problem| finding("service", format!("service ports at {}", at.address), problem))
    });
    let hosts = answers.hosts.iter().filter_map(|host| {
        host.problem.as_ref().map(|problem| finding("cluster", format!("host {}", host.name), problem))
    });
    // A host that left has no instances any more.
    let down = answers.hosts.iter().filter(|host| host.status == "down" && host.instances > 0).map(|host| {
        finding(
            "cluster",
            format!("host {} is down, and {} of its instances with it", host.name, host.instances),
            "if it should be up: does its registrar run, and do UDP and TCP pass between the hosts' gossip ports?",
        )
    });
    ports.chain(services).chain(addresses).chain(hosts).chain(down).collect()
}

fn named(ports: &[&Port]) -> String {
    let name = |port: &&Port| show_ports::published(port.host_address, port.host_port, &port.protocol);
    let names: Vec<_> = ports.iter().take(NAMED_MAX).map(name).collect();
    let more = ports.len().saturating_sub(NAMED_MAX);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    names.join(", ") + &more
}

fn hints(facts: &Facts) -> Vec<Finding> {
    let mut hints = Vec::new();
    if !facts.is_root {
        hints.push(finding("root", "not everything may be seen by this user", "run this as root"));
    }
    if let Some((program, pid)) = facts.gossip_port_holder.as_ref().filter(|(program, _)| program != REGISTRAR) {
        let swarm = if program == "dockerd" { ", as Swarm needs it" } else { "" };
        hints.push(finding(
            "gossip-port",
            format!("{program} (process {pid}) has gossip's usual port, 7946{swarm}: with gossip on, the registrar can't start"),
            "set gossip-listen to another port, such as 0.0.0.0:7947, on all hosts, with the port in every seed",
        ));
    }
    if let Registrar::Answers(answers) = &facts.registrar {
        hints.extend(judge_envoy::too_old(answers));
    }
    hints.extend(judge_envoy::few_descriptors(facts));
    if facts.kernel.tcp_migrate_req == Some(0) {
        hints.push(finding(
            "tcp-migrate-req",
            "connections that wait to be accepted by an Envoy that dies are lost with it",
            "sysctl -w net.ipv4.tcp_migrate_req=1 passes them on to the shim; it holds for the whole host (deploy/install puts it into /etc/sysctl.d)",
        ));
    }
    hints
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

//! What is broken about dockerd, its settings and its firewall, decided from facts alone.

use admin_api::{Port, ServedBy};

use super::facts::{Answers, Docker, Facts, Registrar};
use super::judge::{finding, is_envoys, names};
use super::{DOCKER_PROXY, Finding};

const TELL_DOCKERD: &str = "put \"userland-proxy-path\": \"/usr/local/bin/envoy-docker-shim\" into \
                            /etc/docker/daemon.json, and nothing about \"userland-proxy\"; then systemctl restart docker, \
                            and restart containers; or set capture-unproxied: true in registrar.yaml, and Envoy serves TCP \
                            without a shim";

/// What is broken whether or not the registrar answers.
pub(super) fn problems(facts: &Facts) -> Vec<Finding> {
    let Some(docker) = &facts.docker else { return Vec::new() };
    let mut problems = Vec::new();
    if let Some(silence) = &docker.silence {
        let what = format!("dockerd (process {}) does not answer: {silence}", docker.pid);
        problems.push(finding("docker", what, "systemctl status docker; the ports that there are work meanwhile"));
    }
    if !does_without_shims(facts) {
        problems.extend(proxy(docker, facts));
    }
    problems.extend(egress(docker, facts));
    problems
}

/// What is broken by what the registrar answers.
pub(super) fn problems_of_ports(facts: &Facts, answers: &Answers) -> Vec<Finding> {
    capture(facts, answers).into_iter().chain(without_shim(facts, answers)).collect()
}

/// Whether Docker's firewall is on, as far as is known.
pub(super) fn has_firewall(facts: &Facts) -> bool {
    facts.docker.as_ref().is_some_and(|docker| docker.settings.iptables)
}

/// Why dockerd starts no shim.
fn proxy(docker: &Docker, facts: &Facts) -> Option<Finding> {
    let settings = &docker.settings;
    let wrong = |what: String, fix: &str| Some(finding("userland-proxy", what, fix));
    let path = settings.userland_proxy_path.as_deref();
    match path {
        _ if !settings.userland_proxy => {
            wrong("dockerd's userland-proxy is off, so it starts no shim for any port".to_owned(), TELL_DOCKERD)
        }
        None => wrong("dockerd was not told of the shim, and starts its own docker-proxy".to_owned(), TELL_DOCKERD),
        Some(path) if !docker.has_proxy_program => wrong(
            format!(
                "dockerd's userland-proxy-path is {path}, and no program is there: no container with a published port starts"
            ),
            "deploy/install puts the shim at /usr/local/bin/envoy-docker-shim; name that path",
        ),
        Some(path) if path.ends_with(DOCKER_PROXY) => {
            wrong(format!("dockerd's userland-proxy-path is {path}, not the shim"), TELL_DOCKERD)
        }
        Some(_) => old_proxies(facts),
    }
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
            format!("no shim serves {}", names(&ports)),
            "dockerd starts a shim when a container starts: restart these containers; if that does not help, see \
             userland-proxy-path in /etc/docker/daemon.json, and systemctl restart docker",
        )
    })
}

fn egress(docker: &Docker, facts: &Facts) -> Vec<Finding> {
    let mut problems = Vec::new();
    if facts.kernel.ip_forward == Some(0) {
        problems.push(finding(
            "egress",
            "net.ipv4.ip_forward is 0: containers can't reach other hosts",
            "sysctl -w net.ipv4.ip_forward=1, and look in /etc/sysctl.d for the file that switched it off",
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
        "off" if has_firewall(facts) && answers.ports.iter().any(|port| is_past(&port)) => Some(finding(
            "capture",
            format!("Docker's firewall is on, and traffic from other hosts goes past Envoy: {}", envoy.capture_reason),
            "take the setting capture out of registrar.yaml (it is then auto), and restart the registrar",
        )),
        _ => None,
    }
}

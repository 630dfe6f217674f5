//! What is broken about dockerd, its settings and its firewall, decided from facts alone.

use admin_api::{Envoy, Port, ServedBy};

use super::facts::{Answers, Docker, Facts, Registrar};
use super::judge::{finding, is_envoys, named, names};
use super::{DOCKER_PROXY, Finding};

const TELL_DOCKERD: &str = "put \"userland-proxy-path\": \"/usr/local/bin/envoy-docker-shim\" into \
                            /etc/docker/daemon.json, and nothing about \"userland-proxy\"; then systemctl restart docker, \
                            and restart containers; or set capture-unproxied: true in registrar.yaml, and Envoy serves TCP \
                            without a shim";

/// What is broken whether or not the registrar answers.
pub(super) fn problems(facts: &Facts) -> Vec<Finding> {
    let Some(docker) = &facts.docker else { return not_running(facts).into_iter().collect() };
    let mut problems = Vec::new();
    problems.extend(silent(docker, facts));
    if let Some(problem) = &facts.docker_config.problem {
        let path = facts.docker_config.path.display();
        let what = format!("{path} is not valid: {problem}. dockerd runs on without it, and will not start again");
        problems.push(finding("daemon-json", what, correct(facts)));
    } else if !does_without_shims(facts) {
        problems.extend(proxy(docker, facts).or_else(|| changed(facts).filter(|_| !docker.has_started_shim)));
    }
    problems.extend(egress(docker, facts));
    problems
}

/// Settings that dockerd may not know, although it starts shims. A hint: it may have been told to reload the others.
pub(super) fn changed_settings(facts: &Facts) -> Option<Finding> {
    let docker = facts.docker.as_ref()?;
    changed(facts).filter(|_| docker.has_started_shim && facts.docker_config.problem.is_none())
}

/// Docker is expected, and is not there.
fn not_running(facts: &Facts) -> Option<Finding> {
    let answers = facts.registrar.answers();
    let has_shims = answers.is_some_and(|answers| answers.ports.iter().any(|port| port.shim_pid.is_some()));
    let is_missed = answers.is_some_and(|answers| answers.envoy.docker_problem.is_some());
    if !facts.is_root || !(facts.has_docker_socket || has_shims || is_missed) {
        return None;
    }
    let meanwhile =
        if has_shims { ". The ports that there are work meanwhile, as long as their containers run" } else { "" };
    Some(match &facts.docker_config.problem {
        Some(problem) => {
            let path = facts.docker_config.path.display();
            let what = format!("dockerd does not run, and can't start: {path} is not valid: {problem}{meanwhile}");
            finding("docker", what, format!("{}; then systemctl start docker", correct(facts)))
        }
        None => finding(
            "docker",
            format!("dockerd does not run{meanwhile}"),
            "systemctl start docker; if it does not stay, journalctl -u docker says why",
        ),
    })
}

fn silent(docker: &Docker, facts: &Facts) -> Option<Finding> {
    let pid = docker.pid;
    if facts.programs.iter().any(|program| program.pid == pid && program.is_stopped) {
        let what = format!("dockerd (process {pid}) is stopped by a signal");
        return Some(finding("docker", what, format!("kill -CONT {pid}")));
    }
    if let Some(silence) = &docker.silence {
        let what = format!("dockerd (process {pid}) does not answer: {silence}");
        return Some(finding("docker", what, "systemctl status docker; the ports that there are work meanwhile"));
    }
    let problem = facts.registrar.answers()?.envoy.docker_problem.as_ref()?;
    let what = format!("dockerd (process {pid}) answers, and the registrar does not hear it: {problem}");
    Some(finding("docker", what, "correct docker-host in registrar.yaml, and restart the registrar"))
}

fn correct(facts: &Facts) -> String {
    let path = facts.docker_config.path.display();
    format!("correct it at that place (a comma between two entries, none after the last); `jq . {path}` checks it")
}

/// dockerd reads the settings that matter here when it starts, and not again.
fn changed(facts: &Facts) -> Option<Finding> {
    let path = facts.docker_config.path.display();
    facts.docker_config.is_newer.then(|| {
        finding(
            "daemon-json",
            format!("{path} was changed after dockerd started, which has not read it since"),
            "systemctl restart docker (stops containers, unless live-restore is on)",
        )
    })
}

/// What is broken by what the registrar answers.
pub(super) fn problems_of_ports(facts: &Facts, answers: &Answers) -> Vec<Finding> {
    capture(facts, answers).into_iter().chain(without_shim(facts, answers)).chain(stopped_shims(facts)).collect()
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

/// A stopped shim's port works as long as Envoy serves it.
fn stopped_shims(facts: &Facts) -> Option<Finding> {
    let shims = &facts.stopped_shims;
    (!shims.is_empty()).then(|| {
        let what = format!("shims are stopped by a signal, and could not take over: {}", named(shims.iter().cloned()));
        finding("shim", what, "kill -CONT, with the number of each process")
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
        "off" if has_firewall(facts) && answers.ports.iter().any(|port| is_past(&port)) => Some(off(envoy)),
        _ => None,
    }
}

/// Docker's firewall is on, and nothing is diverted.
fn off(envoy: &Envoy) -> Finding {
    if envoy.capture_setting == "none" {
        return finding(
            "capture",
            format!("Docker's firewall is on, and traffic from other hosts goes past Envoy: {}", envoy.capture_reason),
            "take the setting capture out of registrar.yaml (it is then auto), and restart the registrar",
        );
    }
    finding(
        "capture",
        "Docker's firewall is on, and its rules for published ports are gone, as after nft flush ruleset: containers may \
         have lost their way out and their isolation",
        "systemctl restart docker: it alone makes its rules again",
    )
}

//! What ports, services and hosts say of themselves, as the registrar tells it.

use std::collections::BTreeMap;

use admin_api::gossip::SeedOutcome;
use admin_api::{Port, ServedBy};

use super::facts::{Answers, Facts, Unreachable};
use super::judge::{finding, named, names, said};
use super::{Finding, judge_envoy};

/// Everything that they say is wrong.
pub(super) fn problems(facts: &Facts, answers: &Answers) -> Vec<Finding> {
    let mut problems = ports(facts, answers);
    problems.extend(services(answers));
    problems.extend(hosts(answers));
    problems.extend(seeds(answers, true));
    problems.extend(unreachable(facts));
    problems
}

/// Seeds that can't be reached, although another one can. A hint: one is enough.
pub(super) fn hints(answers: &Answers) -> Vec<Finding> {
    seeds(answers, false)
}

/// What is wrong with seeds. `are_problems`: those that a host needs, or that are wrong for good; else the others.
fn seeds(answers: &Answers, are_problems: bool) -> Vec<Finding> {
    let Some(gossip) = &answers.gossip else { return Vec::new() };
    let reached = gossip.seeds.iter().any(|seed| seed.outcome == SeedOutcome::Reached);
    let is_down = |outcome| {
        matches!(outcome, SeedOutcome::Refused | SeedOutcome::NoAnswer | SeedOutcome::Unreachable | SeedOutcome::Silent)
    };
    let chosen = gossip.seeds.iter().filter(|seed| (reached && is_down(seed.outcome)) != are_problems);
    chosen.filter_map(|seed| Some(said("seed", &seed.seed, seed.problem.as_ref()?))).collect()
}

/// Instances on other hosts; one finding for each host.
fn unreachable(facts: &Facts) -> Vec<Finding> {
    let mut by_host: BTreeMap<&str, Vec<&Unreachable>> = BTreeMap::new();
    for instance in &facts.unreachable {
        by_host.entry(&instance.host).or_default().push(instance);
    }
    let of_host = |(host, instances): (&str, Vec<&Unreachable>)| {
        let reason = instances.first().map(|first| first.reason.as_str()).unwrap_or_default();
        let names = named(instances.iter().map(|instance| format!("{} at {}", instance.service, instance.at)));
        finding(
            "reach",
            format!("instances on host {host} count as alive there, and can't be reached from here: {names}: {reason}"),
            format!(
                "on {host}: `sudo shimctl check firewall` names the command that allows the ports; else look between the hosts"
            ),
        )
    };
    by_host.into_iter().map(of_host).collect()
}

/// A problem that many ports share is told once.
fn ports(facts: &Facts, answers: &Answers) -> Vec<Finding> {
    let is_told_already = |port: &Port| {
        (port.served_by == ServedBy::Docker && !answers.envoy.capture_unproxied)
            || judge_envoy::explains(facts, answers, port)
    };
    let mut by_text: BTreeMap<&str, Vec<&Port>> = BTreeMap::new();
    for port in answers.ports.iter().filter(|port| !is_told_already(port)) {
        if let Some(problem) = &port.problem {
            by_text.entry(problem).or_default().push(port);
        }
    }
    by_text.into_iter().map(|(problem, ports)| said("port", &names(&ports), problem)).collect()
}

fn services(answers: &Answers) -> Vec<Finding> {
    let services = answers.services.iter().filter_map(|service| {
        let name = match service.environment_name.as_str() {
            "" => service.service_name.clone(),
            environment => format!("{} in the environment {environment}", service.service_name),
        };
        Some(said("service", &name, service.problem.as_ref()?))
    });
    let addresses = answers.envoy.service_addresses.iter();
    let addresses = addresses
        .filter_map(|at| Some(said("service", &format!("service ports at {}", at.address), at.problem.as_ref()?)));
    services.chain(addresses).collect()
}

fn hosts(answers: &Answers) -> Vec<Finding> {
    let problems = answers.hosts.iter();
    let problems =
        problems.filter_map(|host| Some(said("cluster", &format!("host {}", host.name), host.problem.as_ref()?)));
    // A host that left has no instances any more.
    let down = answers.hosts.iter().filter(|host| host.status == "down" && host.instances > 0).map(|host| {
        finding(
            "cluster",
            format!("host {} is down, and {} of its instances with it", host.name, host.instances),
            "if it should be up: does its registrar run, and do UDP and TCP pass between the hosts' gossip ports?",
        )
    });
    problems.chain(down).collect()
}

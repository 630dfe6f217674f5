//! What ports, services and hosts say of themselves, as the registrar tells it.

use std::collections::BTreeMap;

use admin_api::{Port, ServedBy};

use super::Finding;
use super::facts::Answers;
use super::judge::{finding, names, said};

/// Everything that they say is wrong.
pub(super) fn problems(answers: &Answers) -> Vec<Finding> {
    let mut problems = ports(answers);
    problems.extend(services(answers));
    problems.extend(hosts(answers));
    problems
}

/// A problem that many ports share is told once.
fn ports(answers: &Answers) -> Vec<Finding> {
    let is_told_already = |port: &Port| port.served_by == ServedBy::Docker && !answers.envoy.capture_unproxied;
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

//! From the file's text to the list: what is bad is named and left out, and the others stay.

use std::collections::HashMap;
use std::hash::Hasher;

use fnv::FnvHasher;
use model::instance::{PORTS_MAX, Text};
use model::{CheckKind, EnvironmentName, InstanceKey, Protocol, ProxyMode, Service, ServiceName, check_service_port};

use super::entry::{Entry, Port, Reachable, name_of};
use super::{PROBLEMS_MAX, SERVICES_MAX, StaticList, StaticPort, StaticService};
use crate::yaml::{self, Value};

/// Reads the whole file.
///
/// # Errors
/// It is no list, so that nothing in it can be trusted. An empty file is no list: it may be about to be written.
pub(super) fn parse(text: &str) -> Result<StaticList, String> {
    let mut list = StaticList::default();
    let mut numbers = HashMap::new();
    for (index, entry) in entries(text)?.into_iter().enumerate() {
        // Counted as people do.
        let number = index + 1;
        if list.services.len() >= SERVICES_MAX {
            list.problems.push(format!("entry {number} and those after it are left out: there may be {SERVICES_MAX}"));
            break;
        }
        let name: String = name_of(&entry).chars().take(64).collect();
        let title = if name.is_empty() { format!("entry {number}") } else { format!("entry {number} ({name})") };
        match service(entry) {
            Err(reason) => list.problems.push(format!("{title} is left out: {reason}")),
            Ok((service, corrections)) => {
                if let Some(other) = numbers.insert(service.key, number) {
                    list.problems.push(format!("{title} is left out: entry {other} has the same name and ports"));
                    numbers.insert(service.key, other);
                    continue;
                }
                list.problems.extend(corrections.into_iter().map(|correction| format!("{title}: {correction}")));
                list.services.push(service);
            }
        }
    }
    bound(&mut list.problems);
    Ok(list)
}

fn entries(text: &str) -> Result<Vec<Value>, String> {
    match yaml::parse(text)? {
        Value::Sequence(entries) => Ok(entries),
        Value::Null => Err("the file is empty: write [] for no services".to_owned()),
        _ => Err("expected a list of services, each beginning with a dash: - name: ...".to_owned()),
    }
}

/// The service of an entry, and what is wrong with it: what was left out, and how its names had to be changed.
fn service(value: Value) -> Result<(StaticService, Vec<String>), String> {
    let entry = Entry::read(value).map_err(|error| error.to_string())?;
    let (name, corrected_name) = ServiceName::corrected(&entry.name).ok_or("the name is empty")?;
    let (environment, corrected_environment) = EnvironmentName::corrected(&entry.environment);
    if entry.ports.is_empty() || entry.ports.len() > PORTS_MAX {
        return Err(format!("it has {} ports: expected 1 to {PORTS_MAX}", entry.ports.len()));
    }
    let service = Service { name, environment };
    let mut problems = Vec::new();
    let ports: Vec<_> = entry.ports.iter().map(|entry| port(entry, &mut problems)).collect();
    let check = entry.check.settings();
    // A check by HTTP is the operator's word that the service speaks it.
    let implied = if check.kind == Some(CheckKind::HttpGet) { ProxyMode::Http } else { ProxyMode::Auto };
    let version = if entry.version.is_empty() { tag(&entry.image) } else { &entry.version };
    let read = StaticService {
        key: key(&service, &ports),
        service,
        mode: entry.mode.unwrap_or(implied),
        version: Text::cut(version),
        image: Text::cut(&entry.image),
        ports,
        check,
        listen_port: entry.listen_port.map(u16::from),
    };
    let corrections = [corrected_name, corrected_environment].into_iter().flatten();
    problems.extend(corrections.map(|correction| correction.to_string()));
    Ok((read, problems))
}

fn port(port: &Port, problems: &mut Vec<String>) -> StaticPort {
    let service_port = port.service_port.map(u16::from).map(check_service_port).transpose();
    let service_port = service_port.unwrap_or_else(|reserved| {
        problems.push(format!("service port of port {}: {reserved}; it is left out", port.port));
        None
    });
    StaticPort {
        protocol: port.protocol.unwrap_or(Protocol::Tcp),
        address: port.address.map(|Reachable(address)| address),
        port: port.port.into(),
        service_port,
    }
}

/// The image's tag, if it has one: `16` of `registry:5000/postgres:16@sha256:00ff`.
fn tag(image: &str) -> &str {
    let without_digest = image.split('@').next().unwrap_or_default();
    let last_part = without_digest.rsplit('/').next().unwrap_or_default();
    last_part.split_once(':').map_or("", |(_, tag)| tag)
}

/// FNV-1a of the service and its ports in order, folded to 48 bits. Never to be changed: instances would be
/// others after an upgrade.
fn key(service: &Service, ports: &[StaticPort]) -> InstanceKey {
    let mut hasher = FnvHasher::default();
    hasher.write(format!("{}\n{}\n", service.name, service.environment).as_bytes());
    let mut ports: Vec<_> = ports.iter().map(|port| (port.protocol.as_str(), port.address, port.port)).collect();
    ports.sort_unstable();
    for (protocol, address, port) in ports {
        let address = address.map_or_else(String::new, |address| address.to_string());
        hasher.write(format!("{protocol} {address} {port}\n").as_bytes());
    }
    let hash = hasher.finish();
    let [_, _, folded @ ..] = (hash ^ hash >> 48).to_be_bytes();
    InstanceKey::from_bytes(folded)
}

fn bound(problems: &mut Vec<String>) {
    if problems.len() > PROBLEMS_MAX {
        let unsaid = problems.len() - PROBLEMS_MAX + 1;
        problems.truncate(PROBLEMS_MAX - 1);
        problems.push(format!("and {unsaid} more"));
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;

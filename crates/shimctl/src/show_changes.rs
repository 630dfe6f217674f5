//! What changes in the cluster, in plain words: one line for each thing that differs.
//!
//! Deliberately absent: where events come from, and when.

use std::collections::BTreeMap;

use admin_api::watch::{HostKey, ServiceKey, State, WatchEvent};
use admin_api::{Host, Instance, Service};

use crate::show_services::address;
use crate::table::printable;

/// What is known from the events so far.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    /// False until the first state: then nothing is new, it is just there.
    has_begun: bool,
    services: BTreeMap<ServiceKey, Service>,
    hosts: BTreeMap<String, Host>,
}

impl Picture {
    /// Takes in an event, and says in lines what differs.
    pub(crate) fn apply(&mut self, event: WatchEvent) -> Vec<String> {
        match event {
            WatchEvent::State(state) => self.replace(state),
            WatchEvent::Service(service) => {
                let before = self.services.insert(ServiceKey::of(&service), service.clone());
                service_changes(before.as_ref(), Some(&service))
            }
            WatchEvent::ServiceGone(key) => service_changes(self.services.remove(&key).as_ref(), None),
            WatchEvent::Host(host) => {
                let before = self.hosts.insert(host.name.clone(), host.clone());
                host_changes(before.as_ref(), &host)
            }
            WatchEvent::HostGone(HostKey { name }) => self
                .hosts
                .remove(&name)
                .map(|host| format!("host {}: no longer known", printable(host.name)))
                .into_iter()
                .collect(),
        }
    }

    fn replace(&mut self, state: State) -> Vec<String> {
        if !std::mem::replace(&mut self.has_begun, true) {
            let instances: usize = state.hosts.iter().map(|host| host.instances).sum();
            let line = format!(
                "known now: hosts: {}, services: {}, instances: {instances}",
                state.hosts.len(),
                state.services.len(),
            );
            self.services = state.services.into_iter().map(|service| (ServiceKey::of(&service), service)).collect();
            self.hosts = state.hosts.into_iter().map(|host| (host.name.clone(), host)).collect();
            return vec![line];
        }
        let hosts_gone = self.hosts.keys().filter(|name| !state.hosts.iter().any(|host| host.name == **name));
        let hosts_gone = hosts_gone.map(|name| WatchEvent::HostGone(HostKey { name: name.clone() }));
        let is_there = |key: &ServiceKey| state.services.iter().any(|service| ServiceKey::of(service) == *key);
        let services_gone = self.services.keys().filter(|key| !is_there(key)).cloned().map(WatchEvent::ServiceGone);
        let gone: Vec<_> = hosts_gone.chain(services_gone).collect();
        let hosts = state.hosts.into_iter().map(WatchEvent::Host);
        let there = hosts.chain(state.services.into_iter().map(WatchEvent::Service));
        gone.into_iter().chain(there).flat_map(|event| self.apply(event)).collect()
    }
}

/// `web`, `web (prod)`, `web (prod) at 9500`.
fn title(service: &Service) -> String {
    let environment = &service.environment_name;
    let environment = if environment.is_empty() { String::new() } else { format!(" ({})", printable(environment)) };
    let port = service.service_port.map_or_else(String::new, |port| format!(" at {port}"));
    format!("{}{environment}{port}", printable(&service.service_name))
}

fn service_changes(before: Option<&Service>, after: Option<&Service>) -> Vec<String> {
    let Some(title) = after.or(before).map(title) else { return Vec::new() };
    let instances = |service: Option<&Service>| -> BTreeMap<String, Instance> {
        let all = service.into_iter().flat_map(|service| service.instances.iter());
        all.map(|instance| (instance.id.clone(), instance.clone())).collect()
    };
    let (old, new) = (instances(before), instances(after));
    let gone = old.values().filter(|instance| !new.contains_key(&instance.id)).map(|instance| {
        format!("instance {} is gone, which was {}", printable(&instance.id), printable(&instance.status))
    });
    let there = new.values().flat_map(|instance| instance_changes(old.get(&instance.id), instance));
    let problem = problem_change(before.and_then(|s| s.problem.as_deref()), after.and_then(|s| s.problem.as_deref()));
    gone.chain(there).chain(problem).map(|change| format!("{title}: {change}")).collect()
}

fn instance_changes(before: Option<&Instance>, after: &Instance) -> Vec<String> {
    let id = printable(&after.id);
    let at = address(after).map_or_else(|| ", which others can't reach".to_owned(), |address| format!(" at {address}"));
    let Some(before) = before else { return vec![format!("instance {id} is new{at}: {}", printable(&after.status))] };
    let status = (before.status != after.status)
        .then(|| format!("instance {id} is {} now, and was {}", printable(&after.status), printable(&before.status)));
    let moved = (address(before) != address(after)).then(|| format!("instance {id} is now{at}"));
    status.into_iter().chain(moved).collect()
}

fn host_changes(before: Option<&Host>, after: &Host) -> Vec<String> {
    let status = match before {
        None => Some(format!("new: {}", printable(&after.status))),
        Some(before) if before.status != after.status => {
            Some(format!("{} now, and was {}", printable(&after.status), printable(&before.status)))
        }
        Some(_) => None,
    };
    let problem = problem_change(before.and_then(|host| host.problem.as_deref()), after.problem.as_deref());
    status.into_iter().chain(problem).map(|change| format!("host {}: {change}", printable(&after.name))).collect()
}

fn problem_change(before: Option<&str>, after: Option<&str>) -> Option<String> {
    match (before, after) {
        (before, Some(after)) if before != Some(after) => Some(format!("problem: {}", printable(after))),
        (Some(_), None) => Some("no problem any longer".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show_services::tests::{instance, service};

    fn host(name: &str, status: &str) -> Host {
        let (name, status) = (name.to_owned(), status.to_owned());
        Host { name, address: None, status, instances: 1, since: 0, problem: None }
    }

    fn begun() -> Picture {
        let mut picture = Picture::default();
        let services = vec![service("web", Some(9500), vec![instance("a/000000000001", "alive")])];
        let state = State { services, hosts: vec![host("a", "alive"), host("b", "alive")] };
        assert_eq!(picture.apply(WatchEvent::State(state)), ["known now: hosts: 2, services: 1, instances: 2"]);
        picture
    }

    #[test]
    fn instances_that_come_change_and_go_have_a_line_each() {
        let mut picture = begun();
        let two = vec![instance("a/000000000001", "draining"), instance("b/000000000002", "unknown")];
        let lines = picture.apply(WatchEvent::Service(service("web", Some(9500), two)));
        let expected = [
            "web (test) at 9500: instance a/000000000001 is draining now, and was alive",
            "web (test) at 9500: instance b/000000000002 is new at 10.0.0.1:8000: unknown",
        ];
        assert_eq!(lines, expected);
        let problem = Some("port 9500 is\nclaimed".to_owned());
        let moved = Instance { port: Some(8001), ..instance("b/000000000002", "unknown") };
        let lines = picture.apply(WatchEvent::Service(Service { problem, ..service("web", Some(9500), vec![moved]) }));
        let expected = [
            "web (test) at 9500: instance a/000000000001 is gone, which was draining",
            "web (test) at 9500: instance b/000000000002 is now at 10.0.0.1:8001",
            "web (test) at 9500: problem: port 9500 is claimed",
        ];
        assert_eq!(lines, expected);
        let key = ServiceKey::of(&service("web", Some(9500), Vec::new()));
        let lines = picture.apply(WatchEvent::ServiceGone(key.clone()));
        let expected = [
            "web (test) at 9500: instance b/000000000002 is gone, which was unknown",
            "web (test) at 9500: no problem any longer",
        ];
        assert_eq!(lines, expected);
        assert!(picture.apply(WatchEvent::ServiceGone(key)).is_empty());
    }

    #[test]
    fn hosts_have_a_line_when_their_status_or_problem_changes() {
        let mut picture = begun();
        let suspect = Host { problem: Some("cut off".to_owned()), ..host("a", "suspect") };
        let lines = picture.apply(WatchEvent::Host(suspect));
        assert_eq!(lines, ["host a: suspect now, and was alive", "host a: problem: cut off"]);
        assert!(picture.apply(WatchEvent::Host(Host { instances: 7, ..host("b", "alive") })).is_empty());
        assert_eq!(picture.apply(WatchEvent::Host(host("c", "alive"))), ["host c: new: alive"]);
        let gone = WatchEvent::HostGone(HostKey { name: "c".to_owned() });
        assert_eq!(picture.apply(gone), ["host c: no longer known"]);
    }

    #[test]
    fn after_a_reconnect_only_what_differs_is_said() {
        let mut picture = begun();
        let services = vec![service("db", None, vec![instance("b/000000000003", "alive")])];
        let lines = picture.apply(WatchEvent::State(State { services, hosts: vec![host("a", "alive")] }));
        let expected = [
            "host b: no longer known",
            "web (test) at 9500: instance a/000000000001 is gone, which was alive",
            "db (test): instance b/000000000003 is new at 10.0.0.1:8000: alive",
        ];
        assert_eq!(lines, expected);
    }
}

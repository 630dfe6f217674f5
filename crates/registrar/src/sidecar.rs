//! What is known of services in the JSON of Sidecar, for those who come from it. Pure.
//!
//! The shapes are Sidecar's own (`/api/services.json`, `/api/state.json`, and what its listeners are posted), with one
//! field more, `EnvironmentName`. Four things differ in what they hold:
//! - `Updated` and `LastChanged` are when this registrar saw something change; Sidecar's owners write new times all
//!   the time.
//! - A service that is gone is only in the event that says so, as a tombstone; it does not stay in the state.
//! - `ProxyMode` is `http` or `tcp`, which every reader knows: what is `auto` or `none` here is `tcp` there.
//! - Only ports that other hosts can reach are there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use humantime::format_rfc3339_nanos;
use model::instance::InstancePort;
use model::{HostName, ProxyMode, Status};
use serde::{Serialize, Serializer};

use crate::watch::state::{Known, State};

/// Who speaks: the names that stand in Sidecar's answers.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) cluster_name: String,
    pub(crate) host_name: HostName,
}

/// Sidecar's word for a service that is gone.
const TOMBSTONE: u8 = 1;

const fn status_number(status: Status) -> u8 {
    match status {
        Status::Alive => 0,
        Status::Unhealthy => 2,
        Status::Unknown => 3,
        Status::Draining => 4,
    }
}

/// An instance; Sidecar calls it a service.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Service<'a> {
    #[serde(rename = "ID")]
    id: String,
    name: &'a str,
    environment_name: &'a str,
    image: &'a str,
    created: Time,
    hostname: &'a str,
    ports: Vec<Port>,
    updated: Time,
    proxy_mode: &'static str,
    status: u8,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Port {
    r#type: &'static str,
    port: u16,
    /// 0 where it has none.
    service_port: u16,
    #[serde(rename = "IP")]
    ip: String,
}

impl<'a> Service<'a> {
    fn of(known: &'a Known) -> Self {
        let instance = &known.instance;
        Self {
            id: known.id.key.to_string(),
            name: instance.service.name.as_str(),
            environment_name: instance.service.environment.as_str(),
            image: instance.image.as_str(),
            created: Time(SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(instance.since_ms))),
            hostname: known.id.host.as_str(),
            ports: instance.ports.iter().map(Port::of).collect(),
            updated: Time(Some(known.changed_at)),
            proxy_mode: proxy_mode(&instance.ports),
            status: status_number(instance.status),
        }
    }
}

impl Port {
    fn of(port: &InstancePort) -> Self {
        Self {
            r#type: port.protocol.as_str(),
            port: port.port,
            service_port: port.service_port.unwrap_or_default(),
            ip: port.address.to_string(),
        }
    }
}

/// One for all ports, as in Sidecar: that of the first that has a service port, else of the first.
fn proxy_mode(ports: &[InstancePort]) -> &'static str {
    let port = ports.iter().find(|port| port.service_port.is_some()).or(ports.first());
    match port.map(|port| port.mode) {
        Some(ProxyMode::Http) | None => "http",
        Some(ProxyMode::Tcp | ProxyMode::Auto | ProxyMode::None) => "tcp",
    }
}

/// In RFC 3339, as Go writes times; one that can't be written there is Go's zero time.
#[derive(Clone, Copy, Debug)]
struct Time(Option<SystemTime>);

/// The first second of the year 10000, in seconds of Unix time: RFC 3339 ends there.
const RFC3339_END_SECONDS: u64 = 253_402_300_800;

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let since = self.0.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        match since.filter(|since| since.as_secs() < RFC3339_END_SECONDS) {
            Some(since) => serializer.collect_str(&format_rfc3339_nanos(SystemTime::UNIX_EPOCH + since)),
            None => serializer.serialize_str("0001-01-01T00:00:00Z"),
        }
    }
}

/// `/api/services.json`, or with `ClusterMembers` left out `/api/services/NAME.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Services<'a> {
    services: BTreeMap<&'a str, Vec<Service<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_members: Option<BTreeMap<&'a str, Member<'a>>>,
    cluster_name: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Member<'a> {
    name: &'a str,
    last_updated: Time,
    service_count: usize,
}

/// All services and hosts.
pub(crate) fn services<'a>(state: &'a State, identity: &'a Identity) -> Services<'a> {
    let member = |host: &'a admin_api::Host| {
        let changed = state.hosts_changed.iter().find(|(name, _)| name.as_str() == host.name).map(|(_, time)| *time);
        let count = state.instances.keys().filter(|id| id.host.as_str() == host.name).count();
        (host.name.as_str(), Member { name: &host.name, last_updated: Time(changed), service_count: count })
    };
    let present = state.hosts.values().filter(|host| host.status != "down");
    Services {
        services: by_name(state),
        cluster_members: Some(present.map(|host| member(host)).collect()),
        cluster_name: &identity.cluster_name,
    }
}

/// The instances of one service; `None` where there are none.
pub(crate) fn service<'a>(state: &'a State, identity: &'a Identity, name: &str) -> Option<Services<'a>> {
    let services: BTreeMap<_, _> = by_name(state).into_iter().filter(|(own, _)| *own == name).collect();
    let cluster_name = &identity.cluster_name;
    (!services.is_empty()).then_some(Services { services, cluster_members: None, cluster_name })
}

/// Services by name, each one's instances with the oldest `Updated` first.
pub(crate) fn by_name(state: &State) -> BTreeMap<&str, Vec<Service<'_>>> {
    let mut known: Vec<_> = state.instances.values().collect();
    known.sort_by_key(|known| (known.changed_at, &known.id));
    let mut services: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for known in known {
        services.entry(known.instance.service.name.as_str()).or_default().push(Service::of(known));
    }
    services
}

/// `/api/state.json`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct WholeState<'a> {
    servers: BTreeMap<&'a str, Server<'a>>,
    last_changed: Time,
    cluster_name: &'a str,
    hostname: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Server<'a> {
    name: &'a str,
    services: BTreeMap<String, Service<'a>>,
    last_updated: Time,
    last_changed: Time,
}

/// All instances by host. `last_changed` may be later than the state's own, for readers that take none twice.
pub(crate) fn state<'a>(state: &'a State, identity: &'a Identity, last_changed: SystemTime) -> WholeState<'a> {
    let server = |(host, changed): (&'a HostName, &SystemTime)| {
        let changed = Time(Some(*changed));
        let name = host.as_str();
        (name, Server { name, services: BTreeMap::new(), last_updated: changed, last_changed: changed })
    };
    let mut servers: BTreeMap<_, _> = state.hosts_changed.iter().map(server).collect();
    for known in state.instances.values() {
        if let Some(server) = servers.get_mut(known.id.host.as_str()) {
            server.services.insert(known.id.key.to_string(), Service::of(known));
        }
    }
    WholeState {
        servers,
        last_changed: Time(Some(last_changed)),
        cluster_name: &identity.cluster_name,
        hostname: identity.host_name.as_str(),
    }
}

/// What is posted to a listener.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Update<'a> {
    state: WholeState<'a>,
    change_event: ChangeEvent<'a>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ChangeEvent<'a> {
    service: Service<'a>,
    previous_status: u8,
    time: Time,
}

/// What happened to an instance.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// As it is now, or was last.
    pub(crate) known: Arc<Known>,
    pub(crate) is_gone: bool,
    /// `None` where it was not known before.
    pub(crate) before: Option<Status>,
}

/// What a listener is posted of a change, or of a state in which there is no instance at all.
pub(crate) fn update<'a>(
    now: &'a State,
    identity: &'a Identity,
    change: Option<&'a Change>,
    last_changed: SystemTime,
) -> Update<'a> {
    let service = change.map(|change| {
        let status = if change.is_gone { TOMBSTONE } else { status_number(change.known.instance.status) };
        Service { status, ..Service::of(&change.known) }
    });
    let change_event = ChangeEvent {
        service: service.unwrap_or_else(no_service),
        previous_status: status_number(change.and_then(|change| change.before).unwrap_or(Status::Unknown)),
        time: Time(Some(last_changed)),
    };
    Update { state: state(now, identity, last_changed), change_event }
}

/// Nothing is left; who is told so must still find a service in the event.
const fn no_service<'a>() -> Service<'a> {
    Service {
        id: String::new(),
        name: "",
        environment_name: "",
        image: "",
        created: Time(None),
        hostname: "",
        ports: Vec::new(),
        updated: Time(None),
        proxy_mode: "",
        status: TOMBSTONE,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::watch::state::tests::{at, instance, view};

    fn identity() -> Identity {
        Identity { cluster_name: "default".to_owned(), host_name: "a".parse().unwrap() }
    }

    fn value(of: impl Serialize) -> Value {
        serde_json::to_value(of).unwrap()
    }

    fn two_hosts() -> State {
        let first = view(&[("b", instance("web", 2, Status::Unhealthy))]);
        let first = State::next(&State::default(), &first, at(1_600_000_000));
        let both = [("a", instance("web", 1, Status::Alive)), ("b", instance("web", 2, Status::Unhealthy))];
        State::next(&first, &view(&both), at(1_600_000_001))
    }

    #[test]
    fn an_instance_is_written_as_sidecar_writes_a_service() {
        let expected = json!({
            "ID": "000000000001", "Name": "web", "EnvironmentName": "test", "Image": "shop/web:1.2",
            "Created": "2017-07-14T02:40:00.250000000Z", "Hostname": "a",
            "Ports": [{"Type": "tcp", "Port": 32000, "ServicePort": 9500, "IP": "10.0.0.1"}],
            "Updated": "2020-09-13T12:26:41.000000000Z", "ProxyMode": "http", "Status": 0,
        });
        let (state, identity) = (two_hosts(), identity());
        let state = value(super::state(&state, &identity, state.changed_at));
        assert_eq!(state["Servers"]["a"]["Services"]["000000000001"], expected);
        assert_eq!(state["Servers"]["b"]["LastChanged"], "2020-09-13T12:26:40.000000000Z");
        assert_eq!(state["LastChanged"], "2020-09-13T12:26:41.000000000Z");
        assert_eq!((&state["ClusterName"], &state["Hostname"]), (&json!("default"), &json!("a")));
    }

    #[test]
    fn services_stand_by_name_with_the_oldest_first() {
        let (state, identity) = (two_hosts(), identity());
        let services = value(services(&state, &identity));
        let hosts: Vec<_> =
            services["Services"]["web"].as_array().unwrap().iter().map(|s| (&s["Hostname"], &s["Status"])).collect();
        assert_eq!(hosts, [(&json!("b"), &json!(2)), (&json!("a"), &json!(0))]);
        assert_eq!(services["ClusterMembers"]["a"]["ServiceCount"], 1);
        let one = value(service(&state, &identity, "web"));
        assert_eq!((&one["Services"], one.get("ClusterMembers")), (&services["Services"], None));
        assert!(service(&state, &identity, "db").is_none());
    }

    #[test]
    fn a_service_that_is_gone_is_a_tombstone_in_the_event_alone() {
        let (before, identity) = (two_hosts(), identity());
        let after = State::next(&before, &view(&[]), at(1_600_000_002));
        let known = before.instances.values().next().map(Arc::clone).unwrap();
        let change = Change { known, is_gone: true, before: Some(Status::Alive) };
        let update = value(update(&after, &identity, Some(&change), after.changed_at));
        assert_eq!(update["ChangeEvent"]["Service"]["Status"], TOMBSTONE);
        assert_eq!(
            (&update["ChangeEvent"]["PreviousStatus"], &update["ChangeEvent"]["Service"]["ID"]),
            (&json!(0), &json!("000000000001"))
        );
        assert_eq!(update["ChangeEvent"]["Time"], "2020-09-13T12:26:42.000000000Z");
        assert_eq!(update["State"]["Servers"]["a"]["Services"], json!({}));
        let nothing = value(super::update(&after, &identity, None, after.changed_at));
        assert_eq!(
            (&nothing["ChangeEvent"]["Service"]["Name"], &nothing["ChangeEvent"]["Service"]["Status"]),
            (&json!(""), &json!(1))
        );
    }

    #[test]
    fn a_time_beyond_what_can_be_written_is_gos_zero_time() {
        for time in [None, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(RFC3339_END_SECONDS))] {
            assert_eq!(value(Time(time)), "0001-01-01T00:00:00Z");
        }
        assert_eq!(value(Time(Some(at(RFC3339_END_SECONDS - 1)))), "9999-12-31T23:59:59.000000000Z");
    }
}

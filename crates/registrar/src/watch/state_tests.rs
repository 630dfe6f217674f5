//! Tests of states and what differs between them.

use catalog::ServiceInstance;
use model::instance::{InstancePort, Origin, Text};
use model::{EnvironmentName, Protocol, ProxyMode, Service, ServiceName, Status};

use super::*;

/// A host that is well.
pub(crate) fn host(name: &str) -> admin_api::Host {
    let name = name.to_owned();
    admin_api::Host { name, address: None, status: "alive".to_owned(), instances: 0, since: 0, problem: None }
}

/// A static instance of `service` on `host`, which `number` tells from others, at service port 9500.
pub(crate) fn instance(service: &str, number: u8, status: Status) -> Arc<Instance> {
    let port = InstancePort {
        service_port: Some(9500),
        address: [10, 0, 0, number].into(),
        port: 32_000,
        protocol: Protocol::Tcp,
        mode: ProxyMode::Http,
    };
    Arc::new(Instance {
        origin: Origin::Static(model::InstanceKey::from_bytes([0, 0, 0, 0, 0, number])),
        service: Service {
            name: ServiceName::corrected(service).unwrap().0,
            environment: EnvironmentName::corrected("test").0,
        },
        ports: vec![port],
        status,
        image: Text::cut("shop/web:1.2"),
        version: Text::cut("1.2"),
        since_ms: 1_500_000_000_250,
    })
}

/// What the loop answers where these instances run, by host; each service has a row.
pub(crate) fn view(instances: &[(&str, Arc<Instance>)]) -> View {
    let mut rows: BTreeMap<Service, ServiceRow> = BTreeMap::new();
    for (host, instance) in instances {
        let row = rows.entry(instance.service.clone()).or_insert_with(|| ServiceRow {
            service: instance.service.clone(),
            service_port: Some(9500),
            mode: Some(ProxyMode::Http),
            instances: Vec::new(),
            problem: None,
        });
        let port = instance.ports.first().cloned();
        row.instances.push(ServiceInstance {
            host: host.parse().unwrap(),
            instance: Arc::clone(instance),
            port,
            reason: None,
        });
    }
    View { services: rows.into_values().collect(), hosts: vec![host("a"), host("b")], is_whole: true }
}

/// Seconds of Unix time.
pub(crate) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn next(before: &State, instances: &[(&str, Arc<Instance>)], seconds: u64) -> State {
    State::next(before, &view(instances), at(seconds))
}

#[test]
fn a_new_watcher_is_told_all_and_one_that_knows_what_differs() {
    let web = ("a", instance("web", 1, Status::Alive));
    let first = next(&State::default(), &[web.clone(), ("b", instance("db", 2, Status::Alive))], 10);
    let [WatchEvent::State(all)] = &first.events_since(None)[..] else { panic!("not one state") };
    assert_eq!((all.services.len(), all.hosts.len()), (2, 2));

    assert_eq!(
        next(&first, &[web.clone(), ("b", instance("db", 2, Status::Alive))], 11).events_since(Some(&first)),
        []
    );

    let mut view = view(&[("a", instance("web", 1, Status::Draining))]);
    view.hosts = vec![admin_api::Host { status: "suspect".to_owned(), ..host("a") }, host("c")];
    let second = State::next(&first, &view, at(12));
    let events = second.events_since(Some(&first));
    let said: Vec<_> = events.iter().map(|event| serde_json::to_value(event).unwrap()).collect();
    let names: Vec<_> = said.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["host-gone", "host", "host", "service-gone", "service"]);
    assert_eq!((&said[0]["data"]["name"], &said[1]["data"]["status"]), (&"b".into(), &"suspect".into()));
    assert_eq!(said[3]["data"]["service_name"], "db");
    assert_eq!(said[4]["data"]["instances"][0]["status"], "draining");
}

#[test]
fn times_are_of_the_last_change_and_grow_although_the_clock_goes_back() {
    let first = next(&State::default(), &[("a", instance("web", 1, Status::Alive))], 100);
    assert_eq!(first.changed_at, at(100));
    let same = next(&first, &[("a", instance("web", 1, Status::Alive))], 200);
    assert_eq!(same.changed_at, at(100));
    let both = [("a", instance("web", 1, Status::Alive)), ("b", instance("web", 2, Status::Alive))];
    let second = next(&same, &both, 50);
    assert!(second.changed_at > first.changed_at);
    let times: Vec<_> = second.instances.values().map(|known| known.changed_at).collect();
    assert_eq!(times, [at(100), second.changed_at]);
    let changed: Vec<_> = second.hosts_changed.values().copied().collect();
    assert_eq!(changed, [at(100), second.changed_at]);
}

#[test]
fn what_did_not_change_is_the_same_object_and_forgotten_hosts_leave_nothing() {
    let first = next(&State::default(), &[("a", instance("web", 1, Status::Alive))], 1);
    let second = next(&first, &[("a", instance("web", 1, Status::Alive))], 2);
    for (before, after) in first.instances.values().zip(second.instances.values()) {
        assert!(Arc::ptr_eq(before, after));
    }
    let mut without = view(&[]);
    without.hosts = vec![host("b")];
    let third = State::next(&second, &without, at(3));
    assert!(third.instances.is_empty() && third.hosts_changed.is_empty());
    assert_eq!(third.changed_at, at(3));
}

#[test]
fn an_instance_with_two_service_ports_is_one_instance() {
    let web = instance("web", 1, Status::Alive);
    let mut view = view(&[("a", Arc::clone(&web))]);
    let mut other = view.services[0].clone();
    other.service_port = Some(9501);
    view.services.push(other);
    let state = State::next(&State::default(), &view, at(1));
    assert_eq!((state.instances.len(), state.services.len()), (1, 2));
}

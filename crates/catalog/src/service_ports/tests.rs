//! The laws of service ports, each as a sentence.

use model::instance::Origin;
use model::instance::Text;
use model::{EnvironmentName, ServiceName, Status, Treatment};

use super::*;

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

fn service(name: &str) -> Service {
    Service { name: ServiceName::corrected(name).unwrap().0, environment: EnvironmentName::default() }
}

fn key(number: u8) -> InstanceKey {
    InstanceKey::from_bytes([0, 0, 0, 0, 0, number])
}

fn port(service_port: u16, address: &str) -> InstancePort {
    let address: SocketAddr = address.parse().unwrap();
    InstancePort {
        service_port: Some(service_port),
        address: address.ip(),
        port: address.port(),
        protocol: Protocol::Tcp,
        mode: ProxyMode::Http,
    }
}

fn instance(number: u8, name: &str, ports: Vec<InstancePort>) -> Instance {
    Instance {
        origin: Origin::Static(key(number)),
        service: service(name),
        ports,
        status: Status::Alive,
        image: Text::default(),
        version: Text::default(),
        since_ms: 0,
    }
}

fn services() -> ServicePorts {
    ServicePorts::new(host("here"), HashSet::from(["192.168.168.168".parse().unwrap()]))
}

fn addresses(port: &ProxiedServicePort) -> Vec<String> {
    port.endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect()
}

/// The only change that follows.
fn change(services: &mut ServicePorts) -> ServicePortChange {
    let mut changes = services.take_changes();
    assert_eq!(changes.len(), 1, "{changes:?}");
    changes.remove(0)
}

#[test]
fn instances_of_all_hosts_serve_a_port_and_those_here_are_reached_directly() {
    let mut services = services();
    services.set_host(&host("there"), [instance(1, "web", vec![port(9500, "10.0.0.2:32000")])]);
    services.set_host(&host("here"), [instance(2, "web", vec![port(9500, "10.0.0.1:32001")])]);
    let published = "10.0.0.1:32001".parse().unwrap();
    services.set_local_addresses(HashMap::from([((key(2), published), "172.17.0.2:80".parse().unwrap())]));
    let after = change(&mut services).after.unwrap();
    assert_eq!((after.port, &after.service, after.treatment), (9500, &service("web"), Treatment::Http));
    assert_eq!(addresses(&after), ["172.17.0.2:80", "10.0.0.2:32000"]);
    assert!(after.endpoints[0].is_local && !after.endpoints[1].is_local);
    assert_eq!(services.take_changes(), vec![], "a change is told once");
}

#[test]
fn a_host_that_goes_takes_its_instances_and_the_last_one_the_port() {
    let mut services = services();
    let both = ["a", "b"].map(host);
    for (number, name) in (1..).zip(&both) {
        services.set_host(name, [instance(number, "web", vec![port(9500, &format!("10.0.0.{number}:80"))])]);
    }
    services.take_changes();
    services.set_host(&both[0], []);
    assert_eq!(addresses(&change(&mut services).after.unwrap()), ["10.0.0.2:80"]);
    assert!(services.has_service_ports());
    services.set_host(&both[1], []);
    assert_eq!(change(&mut services).after, None);
    assert_eq!(services.rows(), vec![]);
    assert!(!services.has_service_ports());
}

#[test]
fn a_record_that_says_the_same_changes_nothing_and_a_status_touches_its_port_alone() {
    let mut services = services();
    let web = instance(1, "web", vec![port(9500, "10.0.0.2:80")]);
    let api = instance(2, "api", vec![port(9600, "10.0.0.2:81")]);
    services.set_host(&host("there"), [web.clone(), api.clone()]);
    services.take_changes();
    services.set_host(&host("there"), [web.clone(), api.clone()]);
    assert_eq!(services.take_changes(), vec![]);
    services.set_host(&host("there"), [web, Instance { status: Status::Unhealthy, ..api }]);
    let change = change(&mut services).after.unwrap();
    assert_eq!((change.port, change.endpoints[0].status), (9600, Status::Unhealthy));
}

#[test]
fn a_port_claimed_by_two_services_is_given_to_the_first_by_name_and_both_say_so() {
    for order in [["api", "web"], ["web", "api"]] {
        let mut services = services();
        for (number, name) in (1..).zip(order) {
            let claim = instance(number, name, vec![port(9500, &format!("10.0.0.{number}:80"))]);
            services.set_host(&host(&format!("host-{number}")), [claim]);
        }
        assert_eq!(change(&mut services).after.unwrap().service, service("api"));
        let problems: Vec<_> = services.rows().into_iter().map(|row| row.problem.unwrap()).collect();
        assert!(problems[0].contains("claimed by web too"), "{problems:?}");
        assert!(problems[1].contains("is api's"), "{problems:?}");
    }
}

#[test]
fn no_endpoint_is_a_service_address() {
    let mut services = services();
    services.set_host(&host("there"), [instance(1, "web", vec![port(9500, "192.168.168.168:9500")])]);
    assert_eq!(services.take_changes(), vec![]);
}

#[test]
fn an_own_instance_without_a_known_address_is_not_an_endpoint_until_it_has_one() {
    let mut services = services();
    services.set_host(&host("here"), [instance(2, "web", vec![port(9500, "10.0.0.1:32001")])]);
    assert_eq!(services.take_changes(), vec![]);
    let published = "10.0.0.1:32001".parse().unwrap();
    services.set_local_addresses(HashMap::from([((key(2), published), "172.17.0.2:80".parse().unwrap())]));
    assert!(change(&mut services).after.is_some());
}

#[test]
fn what_has_no_service_port_and_what_is_not_tcp_is_listed_but_not_served() {
    let mut services = services();
    let udp = InstancePort { protocol: Protocol::Udp, ..port(53, "10.0.0.2:53") };
    let unnamed = InstancePort { service_port: None, ..port(1, "10.0.0.2:80") };
    let instances = [instance(1, "dns", vec![udp]), instance(2, "web", vec![unnamed]), instance(3, "job", vec![])];
    services.set_host(&host("there"), instances);
    assert_eq!(services.take_changes(), vec![]);
    assert!(!services.has_service_ports());
    let rows: Vec<_> = services.rows().iter().map(|row| (row.service.name.to_string(), row.service_port)).collect();
    assert_eq!(rows, [("dns", None), ("job", None), ("web", None)].map(|(name, port)| (name.to_owned(), port)));
}

#[test]
fn mode_none_is_not_served_and_a_differing_mode_is_a_problem() {
    let mut services = services();
    let none = InstancePort { mode: ProxyMode::None, ..port(9500, "10.0.0.2:80") };
    services.set_host(&host("a"), [instance(1, "web", vec![none.clone()])]);
    assert_eq!(services.take_changes(), vec![]);
    services.set_host(&host("b"), [instance(1, "web", vec![port(9500, "10.0.0.3:80")])]);
    assert!(services.rows()[0].problem.as_ref().unwrap().contains("another ProxyMode"));
}

#[test]
fn two_services_whose_names_look_alike_when_corrected_are_in_conflict_and_do_not_answer_in_turn() {
    let mut services = services();
    let both = [("a", "東京"), ("b", "大阪")];
    for (number, (name, service)) in (1..).zip(both) {
        services.set_host(&host(name), [instance(number, service, vec![port(9500, &format!("10.0.0.{number}:80"))])]);
    }
    let after = change(&mut services).after.unwrap();
    assert_eq!(after.endpoints.len(), 1, "{after:?}");
    let rows = services.rows();
    assert_eq!(rows.len(), 2);
    let problems: Vec<_> = rows.iter().map(|row| row.problem.clone().unwrap()).collect();
    assert!(problems[0].contains("claimed by ---"), "{problems:?}");
    assert!(problems[1].contains("changed to the same"), "{problems:?}");
}

#[test]
fn a_port_of_envoys_own_is_given_to_nobody_whoever_announces_it() {
    for reserved in [15_001, 15_002] {
        let mut services = services();
        services.set_host(&host("there"), [instance(1, "web", vec![port(reserved, "10.0.0.2:80")])]);
        assert_eq!(services.take_changes(), [], "Envoy would refuse its own listener, or this one");
        let problem = services.rows()[0].problem.clone().unwrap();
        assert!(problem.contains(&reserved.to_string()) && problem.contains("choose another"), "{problem}");
    }
}

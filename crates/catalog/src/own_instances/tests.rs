//! The laws of a host's own instances, each as a sentence.

use std::time::Duration;

use health::{DockerHealth, Probe};
use model::instance::{Origin, Text};
use model::labels::{ContainerFacts, Defaults};
use model::{Protocol, ProxyMode, PublishedPort, Service, ServiceName};

use super::*;
use crate::{Container, ListedPort};

fn host() -> OwnHost {
    let settings = OwnSettings {
        advertise_address: [10, 0, 0, 1].into(),
        implicit_service_ports: false,
        defaults: Defaults::default(),
    };
    OwnHost {
        name: "here".parse().unwrap(),
        addresses: BTreeSet::from([[10, 0, 0, 1].into()]),
        settings,
        policy: Policy::default(),
    }
}

fn own() -> OwnInstances {
    OwnInstances::new(host(), 1)
}

fn listed(digit: char, labels: &[(&str, &str)]) -> ListedContainer {
    let id: ContainerId = digit.to_string().repeat(64).parse().unwrap();
    let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let facts =
        ContainerFacts { name: "x".to_owned(), image: "web".to_owned(), program: "web serve".to_owned(), labels };
    let port = ListedPort {
        published: PublishedPort { address: [0, 0, 0, 0].into(), port: 32_000, protocol: Protocol::Tcp },
        container_port: 80,
        container_address: Some([172, 17, 0, 2].into()),
    };
    let container = Container { id, facts };
    ListedContainer { container, ports: vec![port], health: None, image_labels: None, created_ms: 0 }
}

const SERVICE_PORT: (&str, &str) = ("ServicePort_80", "9500");

/// The statuses that changed, `None` for what is gone.
fn statuses(own: &mut OwnInstances) -> Vec<Option<Status>> {
    own.take_changes().into_iter().map(|(_, own)| own.map(|own| own.instance.status)).collect()
}

/// The only check that is due is made, and ends so.
fn check(own: &mut OwnInstances, healthy: bool, now: Instant) -> Probe {
    let mut started = own.start_checks(now);
    assert_eq!(started.len(), 1);
    let started = started.remove(0);
    own.check_finished(started.id, Outcome::of(&started.probe, healthy, "seen"), now);
    started.probe
}

#[test]
fn a_container_with_a_service_port_is_checked_at_its_own_address_before_it_is_alive() {
    let (mut own, now) = (own(), Instant::now());
    own.docker_listed(&listed('a', &[SERVICE_PORT]), now);
    assert_eq!(statuses(&mut own), [Some(Status::Unknown)]);
    assert!(!own.are_all_checked());
    let probe = check(&mut own, true, now);
    assert_eq!(probe, Probe::Tcp(Peer::Address("172.17.0.2:80".parse().unwrap())));
    assert_eq!(statuses(&mut own), [Some(Status::Alive)]);
    assert!(own.are_all_checked());
}

#[test]
fn a_container_without_a_service_port_is_alive_as_long_as_it_runs() {
    let (mut own, now) = (own(), Instant::now());
    own.docker_listed_all(&[listed('a', &[])], now);
    assert_eq!(statuses(&mut own), [Some(Status::Alive)]);
    own.docker_listed_all(&[], now);
    assert_eq!(statuses(&mut own), [None]);
}

#[test]
fn dockers_own_health_check_counts_where_there_is_one() {
    let (mut own, now) = (own(), Instant::now());
    for (health, status) in [
        (DockerHealth::Starting, Status::Unknown),
        (DockerHealth::Healthy, Status::Alive),
        (DockerHealth::Unhealthy, Status::Unhealthy),
    ] {
        own.docker_listed(&ListedContainer { health: Some(health), ..listed('a', &[SERVICE_PORT]) }, now);
        assert_eq!(statuses(&mut own), [Some(status)], "{health:?}");
    }
    let reason = own.reason(key_of(&listed('a', &[]).container.id)).unwrap();
    assert!(reason.contains("HEALTHCHECK"), "{reason}");
    assert_eq!(own.take_found().len(), 2);
    assert!(own.start_checks(now + Duration::from_secs(60)).is_empty());
}

#[test]
fn failures_make_it_unhealthy_and_say_what_was_seen() {
    let (mut own, now) = (own(), Instant::now());
    own.docker_listed(&listed('a', &[SERVICE_PORT, ("HealthCheckFall", "1")]), now);
    check(&mut own, true, now);
    let later = own.next_check().unwrap();
    check(&mut own, false, later);
    assert_eq!(statuses(&mut own), [Some(Status::Unhealthy)]);
    let key = key_of(&listed('a', &[]).container.id);
    assert_eq!(own.reason(key), Some("connect to 172.17.0.2:80: seen"));
    let found: Vec<_> = own.take_found().into_iter().map(|found| (found.before, found.status)).collect();
    assert_eq!(found, [(Status::Unknown, Status::Alive), (Status::Alive, Status::Unhealthy)]);
    let later = own.next_check().unwrap();
    check(&mut own, false, later);
    assert_eq!(own.take_found(), [], "it is told once");
    own.set_drained(key, true);
    assert_eq!(own.reason(key), Some("an operator drains it"));
    own.set_drained(key, false);
    let later = own.next_check().unwrap();
    check(&mut own, true, later);
    assert_eq!(own.reason(key), None);
}

#[test]
fn draining_beats_every_check_until_it_is_taken_back_or_the_container_stops() {
    let (mut own, now) = (own(), Instant::now());
    let container = listed('a', &[]);
    let key = key_of(&container.container.id);
    assert!(!own.set_drained(key, true), "not known yet");
    own.docker_listed(&container, now);
    own.take_changes();
    assert!(own.set_drained(key, true));
    assert_eq!(statuses(&mut own), [Some(Status::Draining)]);
    own.docker_listed(&container, now);
    assert_eq!(statuses(&mut own), [], "listing it again changes nothing");
    own.set_drained(key, false);
    assert_eq!(statuses(&mut own), [Some(Status::Alive)]);

    own.set_drained(key, true);
    own.docker_stopped(&container.container.id);
    own.docker_listed(&container, now);
    assert_eq!(statuses(&mut own), [Some(Status::Alive)]);
}

#[test]
fn a_container_that_is_asked_to_stop_drains_and_an_operator_may_take_that_back() {
    let (mut own, now) = (own(), Instant::now());
    let container = listed('a', &[]);
    let (id, key) = (&container.container.id, key_of(&container.container.id));
    own.docker_stopping(id);
    own.docker_listed(&container, now);
    assert_eq!(statuses(&mut own), [Some(Status::Alive)]);
    own.docker_stopping(id);
    assert_eq!(statuses(&mut own), [Some(Status::Draining)]);
    assert!(own.drained().is_empty(), "no operator's word: it is not to be kept");
    own.set_drained(key, false);
    assert_eq!(statuses(&mut own), [Some(Status::Alive)]);
    own.docker_stopping(id);
    own.docker_stopped(id);
    own.docker_listed(&container, now);
    assert_eq!(statuses(&mut own), [Some(Status::Alive)]);
}

#[test]
fn what_was_drained_in_an_earlier_life_is_never_seen_otherwise_and_forgotten_with_its_container() {
    let (mut own, now) = (own(), Instant::now());
    let [there, gone] = ['a', 'b'].map(|digit| listed(digit, &[SERVICE_PORT]));
    let [key, key_of_gone] = [&there, &gone].map(|listed| key_of(&listed.container.id));
    own.restore_drained(BTreeSet::from([key, key_of_gone]));
    own.docker_listed_all(&[there], now);
    assert_eq!(statuses(&mut own), [Some(Status::Draining)]);
    check(&mut own, true, now);
    assert_eq!(statuses(&mut own), [], "a check changes nothing");
    own.forget_gone_drained();
    assert_eq!(own.drained(), &BTreeSet::from([key]));
    own.docker_listed(&gone, now);
    assert_eq!(statuses(&mut own), [Some(Status::Unknown)]);
}

#[test]
fn a_container_that_is_relabelled_out_of_sight_is_withdrawn() {
    let (mut own, now) = (own(), Instant::now());
    own.docker_listed(&listed('a', &[]), now);
    own.take_changes();
    own.docker_listed(&listed('a', &[("SidecarDiscover", "false")]), now);
    assert_eq!(statuses(&mut own), [None]);
}

#[test]
fn a_check_that_is_not_allowed_is_a_problem_and_the_default_counts() {
    let (mut own, now) = (own(), Instant::now());
    let container = listed('a', &[("HealthCheck", "External"), ("HealthCheckArgs", "/bin/true")]);
    own.docker_listed(&container, now);
    assert_eq!(own.problems(key_of(&container.container.id)).len(), 1);
    assert_eq!(statuses(&mut own), [Some(Status::Alive)]);
}

#[test]
fn static_services_come_and_go_with_their_list() {
    let (mut own, now) = (own(), Instant::now());
    let address = "10.0.0.5:5432".parse().unwrap();
    let instance = model::Instance {
        origin: Origin::Static(InstanceKey::from_bytes([1; 6])),
        service: Service { name: ServiceName::corrected("db").unwrap().0, environment: Default::default() },
        ports: vec![InstancePort {
            service_port: Some(15_432),
            address: std::net::SocketAddr::ip(&address),
            port: 5432,
            protocol: Protocol::Tcp,
            mode: ProxyMode::Tcp,
        }],
        status: Status::Unknown,
        image: Text::default(),
        version: Text::default(),
        since_ms: 0,
    };
    let service = StaticInstance {
        own: OwnInstance { instance, local: vec![(address, address)], listener: None },
        check: CheckSettings::default(),
    };
    own.set_static(vec![service.clone()], now);
    check(&mut own, true, now);
    assert_eq!(statuses(&mut own), [Some(Status::Alive)]);
    own.set_static(vec![service], now);
    assert_eq!(statuses(&mut own), []);
    own.set_static(vec![], now);
    assert_eq!(statuses(&mut own), [None]);
}

/// Where the only instance is reached and checked.
fn reached(own: &mut OwnInstances) -> String {
    let [(_, Some(changed))] = &own.take_changes()[..] else { panic!("nothing changed") };
    changed.local[0].1.to_string()
}

#[test]
fn a_container_is_reached_where_its_shim_reaches_it_and_where_docker_lists_it_without_one() {
    let (mut own, now) = (own(), Instant::now());
    let mut container = listed('a', &[SERVICE_PORT]);
    let port = container.ports[0].published;
    let target = |digit, address: [u8; 4]| {
        Some(ShimTarget { container: listed(digit, &[]).container.id, address: address.into() })
    };
    own.set_target(port, target('a', [172, 18, 0, 9]), now);
    own.docker_listed(&container, now);
    assert_eq!(reached(&mut own), "172.18.0.9:80");
    own.set_target(port, target('a', [172, 18, 0, 10]), now);
    assert_eq!(reached(&mut own), "172.18.0.10:80");
    let probe = check(&mut own, true, now);
    assert_eq!(probe, Probe::Tcp(Peer::Address("172.18.0.10:80".parse().unwrap())));
    own.take_changes();
    own.set_target(port, None, now);
    assert_eq!(reached(&mut own), "172.17.0.2:80");
    container.ports[0].container_address = Some([172, 17, 0, 3].into());
    own.docker_listed(&container, now);
    assert_eq!(reached(&mut own), "172.17.0.3:80");
    own.set_target(port, target('b', [172, 18, 0, 11]), now);
    assert_eq!(own.take_changes(), vec![], "the port is said to be another container's");
}

#[test]
fn an_image_does_not_have_the_host_ask_others_even_where_its_containers_may() {
    let now = Instant::now();
    let policy = Policy { allow_other_targets: true, ..Policy::default() };
    let mut own = OwnInstances::new(OwnHost { policy, ..host() }, 1);
    let labels = [SERVICE_PORT, ("HealthCheck", "HttpGet"), ("HealthCheckArgs", "http://192.0.2.1/")];
    let of_container = ListedContainer { image_labels: Some(HashMap::new()), ..listed('a', &labels) };
    own.docker_listed(&of_container, now);
    let key = key_of(&of_container.container.id);
    assert_eq!(own.problems(key), Vec::<String>::new());
    let its_own = Some(of_container.container.facts.labels.clone());
    for image_labels in [its_own, None] {
        own.docker_listed(&ListedContainer { image_labels, ..of_container.clone() }, now);
        let problem = &own.problems(key)[0];
        assert!(problem.contains("192.0.2.1:80 is not the instance itself"), "{problem}");
    }
}

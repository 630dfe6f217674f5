//! The catalogue's laws, each as a sentence.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use evidence::{Finding, Reason};
use model::labels::ContainerFacts;
use model::{ContainerId, Protocol, PublishedPort, Treatment};

use crate::{
    Catalog, Container, Learning, ListedContainer, ListedPort, PortChange, Registration, RegistrationId, ShimTarget,
};

const FIRST: RegistrationId = RegistrationId(1);
const SECOND: RegistrationId = RegistrationId(2);

fn published(address: &str, port: u16, protocol: Protocol) -> PublishedPort {
    PublishedPort { address: address.parse().unwrap(), port, protocol }
}

fn tcp(port: u16) -> PublishedPort {
    published("0.0.0.0", port, Protocol::Tcp)
}

fn registration(published: PublishedPort, container: &str) -> Registration {
    Registration {
        published,
        container: container.parse().unwrap(),
        shim_pid: 7,
        shareable: published.protocol == Protocol::Tcp,
        socket_inode: 0,
        observes: false,
        problem: String::new(),
        announced_at: SystemTime::UNIX_EPOCH,
    }
}

fn container_id(digit: char) -> ContainerId {
    digit.to_string().repeat(64).parse().unwrap()
}

fn container(digit: char, labels: &[(&str, &str)]) -> Container {
    let labels: HashMap<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let facts = ContainerFacts {
        name: format!("name-{digit}"),
        image: "web:1".to_owned(),
        program: "web serve".to_owned(),
        labels,
    };
    Container { id: container_id(digit), facts }
}

/// What follows for Envoy.
fn take_changes(catalog: &mut Catalog) -> Vec<PortChange> {
    catalog.take_changes().envoy
}

/// Docker answers today's lookup.
fn found(catalog: &mut Catalog, address: &str, container: Container) {
    let lookup = catalog.lookup().unwrap();
    assert!(lookup.addresses.contains(&ip(address)));
    catalog.found(lookup.number, ip(address), container);
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The ports that Envoy starts and stops serving.
fn started_and_stopped(changes: &[PortChange]) -> (Vec<PublishedPort>, Vec<PublishedPort>) {
    let ports = |side: fn(&PortChange) -> &Option<model::ProxiedPort>| {
        changes.iter().filter_map(|change| side(change).as_ref().map(|port| port.published)).collect::<Vec<_>>()
    };
    let (before, after) = (ports(|c| &c.before), ports(|c| &c.after));
    (
        after.iter().filter(|port| !before.contains(port)).copied().collect(),
        before.iter().filter(|port| !after.contains(port)).copied().collect(),
    )
}

/// A catalogue with one joined port on 8080.
fn serving() -> Catalog {
    let mut catalog = Catalog::default();
    catalog.register(FIRST, registration(tcp(8080), "172.17.0.2:80"));
    found(&mut catalog, "172.17.0.2", container('a', &[]));
    take_changes(&mut catalog);
    catalog
}

#[test]
fn envoy_gets_a_port_once_its_container_is_found() {
    let mut catalog = Catalog::default();
    catalog.register(FIRST, registration(tcp(8080), "172.17.0.2:80"));
    assert_eq!(take_changes(&mut catalog), vec![]);
    assert_eq!(catalog.lookup().unwrap().addresses, vec![ip("172.17.0.2")]);

    found(&mut catalog, "172.17.0.2", container('a', &[("ServiceName", "web"), ("ProxyMode", "tcp")]));
    let [PortChange { before: None, after: Some(port) }] = &take_changes(&mut catalog)[..] else { panic!() };
    assert_eq!((port.published, port.service.name.as_str(), port.treatment), (tcp(8080), "web", Treatment::Tcp));
    assert_eq!(catalog.lookup(), None);
    assert_eq!(take_changes(&mut catalog), vec![], "a change is told once");
}

#[test]
fn an_answer_is_not_for_a_shim_that_registered_after_the_question() {
    let mut catalog = Catalog::default();
    catalog.register(FIRST, registration(tcp(8080), "172.17.0.2:80"));
    let old = catalog.lookup().unwrap();
    catalog.unregister(FIRST);
    catalog.register(SECOND, registration(tcp(8080), "172.17.0.2:80"));
    catalog.found(old.number, ip("172.17.0.2"), container('a', &[]));
    assert_eq!(take_changes(&mut catalog), vec![]);
    found(&mut catalog, "172.17.0.2", container('b', &[]));
    assert_eq!(catalog.rows()[0].container.as_ref().unwrap().id, container_id('b'));
}

#[test]
fn announcing_the_same_again_changes_nothing() {
    let mut catalog = serving();
    catalog.register(FIRST, registration(tcp(8080), "172.17.0.2:80"));
    assert_eq!(take_changes(&mut catalog), vec![]);
    assert_eq!(catalog.lookup(), None);
}

#[test]
fn a_shim_that_goes_takes_its_port_from_envoy() {
    let mut catalog = serving();
    catalog.unregister(FIRST);
    assert_eq!(started_and_stopped(&take_changes(&mut catalog)), (vec![], vec![tcp(8080)]));
    assert_eq!(catalog.rows(), vec![]);
}

#[test]
fn ports_that_differ_in_address_family_address_or_protocol_are_apart() {
    let ports = [
        published("0.0.0.0", 53, Protocol::Tcp),
        published("::", 53, Protocol::Tcp),
        published("0.0.0.0", 53, Protocol::Udp),
        published("127.0.0.1", 53, Protocol::Tcp),
    ];
    let mut catalog = Catalog::default();
    for (number, port) in (1..).zip(ports) {
        catalog.register(RegistrationId(number), registration(port, "172.17.0.2:53"));
    }
    found(&mut catalog, "172.17.0.2", container('a', &[]));
    assert_eq!(catalog.rows().len(), 4);
    let (started, _) = started_and_stopped(&take_changes(&mut catalog));
    assert_eq!(started, vec![ports[0], ports[3], ports[1]], "UDP is the shim's");

    catalog.unregister(RegistrationId(1));
    assert_eq!(started_and_stopped(&take_changes(&mut catalog)), (vec![], vec![ports[0]]));
}

#[test]
fn the_youngest_claim_is_served_and_an_older_one_that_goes_does_not_disturb_it() {
    let mut catalog = serving();
    catalog.register(SECOND, registration(tcp(8080), "172.18.0.2:80"));
    found(&mut catalog, "172.18.0.2", container('a', &[]));
    let changes = take_changes(&mut catalog);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].after.as_ref().unwrap().container, "172.18.0.2:80".parse().unwrap());
    catalog.unregister(FIRST);
    assert_eq!(take_changes(&mut catalog), vec![]);
}

#[test]
fn the_first_shim_told_to_stop_takes_all_ports_of_its_container_from_envoy() {
    let mut catalog = serving();
    catalog.register(SECOND, registration(tcp(8443), "172.17.0.2:443"));
    catalog.register(RegistrationId(3), registration(tcp(9000), "172.17.0.3:80"));
    found(&mut catalog, "172.17.0.2", container('a', &[]));
    found(&mut catalog, "172.17.0.3", container('b', &[]));
    take_changes(&mut catalog);

    catalog.release(SECOND, Instant::now());
    assert_eq!(started_and_stopped(&take_changes(&mut catalog)), (vec![], vec![tcp(8080), tcp(8443)]));
}

#[test]
fn a_shim_that_was_released_and_lives_on_gets_its_port_back() {
    let (mut catalog, now) = (serving(), Instant::now());
    catalog.release(FIRST, now);
    take_changes(&mut catalog);
    let due = catalog.expire_releases(now).unwrap();
    assert_eq!(take_changes(&mut catalog), vec![]);
    assert_eq!(catalog.expire_releases(due), None);
    assert_eq!(started_and_stopped(&take_changes(&mut catalog)), (vec![tcp(8080)], vec![]));
}

#[test]
fn a_port_registered_anew_right_after_a_release_is_served_at_once() {
    let (mut catalog, now) = (serving(), Instant::now());
    catalog.release(FIRST, now);
    take_changes(&mut catalog);
    catalog.register(SECOND, registration(tcp(8080), "172.17.0.2:80"));
    found(&mut catalog, "172.17.0.2", container('b', &[]));
    assert_eq!(started_and_stopped(&take_changes(&mut catalog)), (vec![tcp(8080)], vec![]));
    catalog.unregister(FIRST);
    assert_eq!(catalog.expire_releases(now + Duration::from_secs(60)), None);
    assert_eq!(take_changes(&mut catalog), vec![]);
}

#[test]
fn envoy_never_sees_mode_none_nor_a_socket_it_cannot_join() {
    let mut catalog = Catalog::default();
    catalog.register(FIRST, registration(tcp(80), "172.17.0.2:80"));
    let problem = "no steering".to_owned();
    catalog.register(SECOND, Registration { shareable: false, problem, ..registration(tcp(81), "172.17.0.3:80") });
    found(&mut catalog, "172.17.0.2", container('a', &[("ProxyMode", "none")]));
    found(&mut catalog, "172.17.0.3", container('b', &[("ProxyMode", "shiny")]));
    assert_eq!(take_changes(&mut catalog), vec![]);
    assert!(catalog.rows().iter().all(|row| !row.wanted_in_envoy));
    assert_eq!(catalog.rows()[1].problems.len(), 2);
}

fn listed(digit: char, ports: &[u16]) -> ListedContainer {
    let port = |port: &u16| ListedPort { published: tcp(*port), container_port: 80, container_address: None };
    ListedContainer {
        container: container(digit, &[]),
        ports: ports.iter().map(port).collect(),
        health: None,
        image_labels: None,
        created_ms: 0,
    }
}

#[test]
fn what_docker_publishes_without_a_shim_is_shown() {
    let mut catalog = serving();
    catalog.docker_listed_all(vec![listed('a', &[8080]), listed('b', &[9090, 9091])]);
    let missing: Vec<_> = catalog.unregistered_ports().map(|(port, _)| *port).collect();
    assert_eq!(missing, vec![tcp(9090), tcp(9091)]);
    let rows = catalog.rows();
    assert_eq!(rows.iter().map(|row| row.published.port).collect::<Vec<_>>(), vec![8080, 9090, 9091]);
    assert!(rows[1].registration.is_none());

    catalog.docker_listed(listed('b', &[9091]));
    catalog.docker_stopped(&container_id('a'));
    assert_eq!(catalog.unregistered_ports().count(), 1);
    catalog.docker_stopped(&container_id('b'));
    assert_eq!(catalog.unregistered_ports().count(), 0);
}

#[test]
fn a_container_that_stops_does_not_take_a_port_that_is_another_containers_by_now() {
    let mut catalog = Catalog::default();
    catalog.docker_listed(listed('a', &[9090]));
    catalog.docker_listed(listed('b', &[9090]));
    catalog.docker_stopped(&container_id('a'));
    assert_eq!(catalog.unregistered_ports().count(), 1);
}

/// A catalogue with one joined port on 8080 that Docker lists.
fn serving_and_listed() -> Catalog {
    let mut catalog = serving();
    catalog.docker_listed_all(vec![listed('a', &[8080])]);
    catalog
}

#[test]
fn a_port_whose_shim_was_killed_stays_envoys_until_its_container_stops() {
    let mut catalog = serving_and_listed();
    catalog.unregister(FIRST);
    assert_eq!(take_changes(&mut catalog), vec![]);
    assert_eq!(catalog.unregistered_ports().count(), 0);
    let row = &catalog.rows()[0];
    assert!(row.registration.is_none() && row.wanted_in_envoy);
    assert!(row.problems[0].contains("was killed"), "{:?}", row.problems);

    catalog.docker_stopped(&container_id('a'));
    assert_eq!(started_and_stopped(&take_changes(&mut catalog)), (vec![], vec![tcp(8080)]));
}

#[test]
fn a_port_whose_shim_was_killed_goes_when_a_full_listing_no_longer_has_it() {
    let mut catalog = serving_and_listed();
    catalog.unregister(FIRST);
    catalog.docker_listed_all(vec![listed('b', &[8080])]);
    assert_eq!(started_and_stopped(&take_changes(&mut catalog)), (vec![], vec![tcp(8080)]));
}

#[test]
fn a_new_shim_takes_over_from_one_that_was_killed() {
    let mut catalog = serving_and_listed();
    catalog.unregister(FIRST);
    catalog.register(SECOND, registration(tcp(8080), "172.17.0.3:80"));
    assert_eq!(
        started_and_stopped(&take_changes(&mut catalog)),
        (vec![], vec![tcp(8080)]),
        "until its container is known"
    );
    catalog.docker_stopped(&container_id('a'));
    found(&mut catalog, "172.17.0.3", container('b', &[]));
    assert_eq!(started_and_stopped(&take_changes(&mut catalog)), (vec![tcp(8080)], vec![]));
}

/// A container that Docker lists with its address, and no shim.
fn listed_without_a_shim() -> Catalog {
    let mut catalog = Catalog::default();
    catalog.docker_listed_all(vec![reachable('a', &[8080])]);
    assert_eq!(take_changes(&mut catalog), vec![]);
    catalog
}

#[test]
fn a_port_that_envoy_alone_served_before_stays_envoys_until_its_container_stops() {
    let mut catalog = listed_without_a_shim();
    catalog.adopt(tcp(8080));
    let changes = take_changes(&mut catalog);
    assert_eq!(started_and_stopped(&changes), (vec![tcp(8080)], vec![]));
    assert!(changes[0].after.as_ref().is_some_and(|port| port.is_bound), "on the socket that it has");
    assert_eq!((catalog.unregistered_ports().count(), catalog.shimless_ports().count()), (0, 1));
    let row = &catalog.rows()[0];
    assert!(row.problems[0].contains("was killed") && !row.is_unproxied, "{row:?}");

    catalog.docker_stopped(&container_id('a'));
    assert_eq!(started_and_stopped(&take_changes(&mut catalog)), (vec![], vec![tcp(8080)]));
    catalog.docker_listed(reachable('a', &[8080]));
    assert_eq!(take_changes(&mut catalog), vec![], "a container that is started again gets a shim");
}

#[test]
fn a_shim_takes_over_a_port_that_envoy_alone_served_before() {
    let mut catalog = listed_without_a_shim();
    catalog.adopt(tcp(8080));
    take_changes(&mut catalog);
    catalog.register(FIRST, registration(tcp(8080), "172.17.0.2:80"));
    assert_eq!(take_changes(&mut catalog), vec![], "its container is still to be found");
    found(&mut catalog, "172.17.0.2", container('a', &[]));
    assert_eq!(take_changes(&mut catalog), vec![], "Envoy serves the same");
    assert!(catalog.rows()[0].registration.is_some() && catalog.rows()[0].problems.is_empty());
    catalog.adopt(tcp(8080));
    assert_eq!(catalog.shimless_ports().count(), 0, "a shim has it");
}

#[test]
fn a_shim_that_stops_before_its_container_is_found_takes_the_port_along() {
    let mut catalog = listed_without_a_shim();
    catalog.adopt(tcp(8080));
    take_changes(&mut catalog);
    catalog.register(FIRST, registration(tcp(8080), "172.17.0.2:80"));
    catalog.release(FIRST, Instant::now());
    assert_eq!(started_and_stopped(&take_changes(&mut catalog)), (vec![], vec![tcp(8080)]));
}

#[test]
fn a_shim_that_was_told_to_stop_leaves_nothing_behind() {
    let mut catalog = serving_and_listed();
    catalog.release(FIRST, Instant::now());
    catalog.unregister(FIRST);
    assert_eq!(started_and_stopped(&take_changes(&mut catalog)), (vec![], vec![tcp(8080)]));
}

#[test]
fn traffic_is_captured_from_the_moment_the_container_is_known_until_the_shim_goes() {
    let mut catalog = Catalog::default();
    catalog.register(FIRST, registration(tcp(8080), "172.17.0.2:80"));
    assert_eq!(catalog.take_changes().captured, vec![]);
    found(&mut catalog, "172.17.0.2", container('a', &[]));
    assert_eq!(catalog.take_changes().captured, vec![(tcp(8080), true)]);
    catalog.release(FIRST, Instant::now());
    assert_eq!(catalog.take_changes().captured, vec![], "the shim still serves");
    assert_eq!(catalog.captured_ports().collect::<Vec<_>>(), vec![tcp(8080)]);
    catalog.unregister(FIRST);
    assert_eq!(catalog.take_changes().captured, vec![(tcp(8080), false)]);
}

#[test]
fn a_port_of_mode_none_and_udp_keep_dockers_own_path() {
    let mut catalog = Catalog::default();
    catalog.register(FIRST, registration(tcp(80), "172.17.0.2:80"));
    catalog.register(SECOND, registration(published("0.0.0.0", 53, Protocol::Udp), "172.17.0.2:53"));
    found(&mut catalog, "172.17.0.2", container('a', &[("ProxyMode_80", "none")]));
    assert_eq!(catalog.take_changes().captured, vec![]);
}

#[test]
fn traffic_of_a_port_whose_shim_was_killed_is_captured_only_while_envoy_listens() {
    let mut catalog = serving_and_listed();
    catalog.unregister(FIRST);
    catalog.take_changes();
    assert_eq!(catalog.shimless_ports().collect::<Vec<_>>(), vec![tcp(8080)]);
    catalog.set_listening([tcp(8080)].into());
    assert_eq!(catalog.take_changes().captured, vec![(tcp(8080), true)]);
    catalog.set_listening([].into());
    assert_eq!(catalog.take_changes().captured, vec![(tcp(8080), false)]);
}

/// As [`listed`], with an address.
fn reachable(digit: char, ports: &[u16]) -> ListedContainer {
    let mut listed = listed(digit, ports);
    listed.ports.iter_mut().for_each(|port| port.container_address = Some(ip("172.17.0.2")));
    listed
}

#[test]
fn a_port_that_no_shim_holds_is_envoys_only_where_that_is_asked_for() {
    let mut catalog = Catalog::default();
    catalog.docker_listed(reachable('a', &[8080]));
    assert_eq!(take_changes(&mut catalog), vec![]);

    let mut catalog = Catalog::default().with_unproxied(true);
    catalog.docker_listed(reachable('a', &[8080]));
    let [PortChange { before: None, after: Some(port) }] = &take_changes(&mut catalog)[..] else { panic!() };
    assert_eq!((port.published, port.container, port.is_bound), (tcp(8080), "172.17.0.2:80".parse().unwrap(), false));
    assert!(catalog.rows()[0].is_unproxied && catalog.rows()[0].wanted_in_envoy);
    assert_eq!((catalog.unproxied_ports().count(), catalog.shimless_ports().count()), (1, 0));
    catalog.docker_stopped(&container_id('a'));
    assert_eq!(started_and_stopped(&take_changes(&mut catalog)), (vec![], vec![tcp(8080)]));
}

#[test]
fn traffic_of_an_unproxied_port_is_envoys_only_while_it_is_ready() {
    let mut catalog = Catalog::default().with_unproxied(true);
    catalog.docker_listed_all(vec![reachable('a', &[8080])]);
    assert_eq!(catalog.take_changes().caught, vec![]);
    catalog.set_ready([tcp(8080)].into());
    assert_eq!(catalog.take_changes().caught, vec![(tcp(8080), true)]);
    assert!(catalog.is_caught(&tcp(8080)) && catalog.captured_ports().next().is_none());
    catalog.set_ready([].into());
    assert_eq!(catalog.take_changes().caught, vec![(tcp(8080), false)]);
}

#[test]
fn a_shim_beats_an_unproxied_port_and_leaves_none_behind_when_it_is_told_to_stop() {
    let mut catalog = Catalog::default().with_unproxied(true);
    catalog.docker_listed(reachable('a', &[8080]));
    catalog.set_ready([tcp(8080)].into());
    take_changes(&mut catalog);
    catalog.register(FIRST, registration(tcp(8080), "172.17.0.2:80"));
    found(&mut catalog, "172.17.0.2", container('a', &[]));
    let changes = catalog.take_changes();
    assert!(changes.envoy[0].after.as_ref().unwrap().is_bound);
    assert_eq!((changes.captured, changes.caught), (vec![(tcp(8080), true)], vec![(tcp(8080), false)]));

    catalog.release(FIRST, Instant::now());
    catalog.unregister(FIRST);
    assert_eq!(
        started_and_stopped(&take_changes(&mut catalog)),
        (vec![], vec![tcp(8080)]),
        "its container is stopping"
    );
    catalog.docker_listed(reachable('a', &[8080]));
    assert_eq!(started_and_stopped(&take_changes(&mut catalog)).0, vec![tcp(8080)], "it runs after all");
}

#[test]
fn unproxied_ports_that_envoy_can_not_serve_are_dockers() {
    let mut catalog = Catalog::default().with_unproxied(true);
    let mut udp = reachable('a', &[53]);
    udp.ports[0].published.protocol = Protocol::Udp;
    let mut none = reachable('b', &[8080]);
    none.container = container('b', &[("ProxyMode", "none")]);
    catalog.docker_listed_all(vec![udp, none, listed('c', &[9090])]);
    assert_eq!(take_changes(&mut catalog), vec![]);
    assert!(catalog.rows().iter().all(|row| !row.is_unproxied));
}

#[test]
fn where_a_shim_reaches_its_container_is_told_once_that_is_known_and_until_the_shim_goes() {
    let mut catalog = Catalog::default();
    catalog.register(FIRST, registration(tcp(8080), "172.17.0.2:80"));
    assert_eq!(catalog.take_changes().targets, vec![], "its container is still to be found");
    found(&mut catalog, "172.17.0.2", container('a', &[]));
    let target = |address| Some(ShimTarget { container: container_id('a'), address: ip(address) });
    assert_eq!(catalog.take_changes().targets, vec![(tcp(8080), target("172.17.0.2"))]);

    // dockerd starts the next shim before the last one has gone.
    catalog.register(SECOND, registration(tcp(8080), "172.18.0.2:80"));
    catalog.unregister(FIRST);
    assert_eq!(catalog.take_changes().targets, vec![]);
    found(&mut catalog, "172.18.0.2", container('a', &[]));
    assert_eq!(catalog.take_changes().targets, vec![(tcp(8080), target("172.18.0.2"))]);
    catalog.unregister(SECOND);
    assert_eq!(catalog.take_changes().targets, vec![(tcp(8080), None)]);
}

#[test]
fn a_port_that_envoy_alone_serves_follows_its_container_to_another_address() {
    let mut catalog = listed_without_a_shim();
    catalog.adopt(tcp(8080));
    take_changes(&mut catalog);
    let mut moved = reachable('a', &[8080]);
    moved.ports[0].container_address = Some(ip("172.19.0.9"));
    catalog.docker_listed(moved);
    let [PortChange { after: Some(after), .. }] = &take_changes(&mut catalog)[..] else { panic!("nothing changed") };
    assert_eq!(after.container.ip(), ip("172.19.0.9"));
}

#[test]
fn a_container_that_is_renamed_has_its_new_name_and_what_follows_from_it() {
    let pattern = model::labels::Defaults { name_pattern: Some("^(.*)$".parse().unwrap()), ..Default::default() };
    let mut catalog = Catalog::new(pattern);
    catalog.register(FIRST, registration(tcp(8080), "172.17.0.2:80"));
    found(&mut catalog, "172.17.0.2", container('a', &[]));
    take_changes(&mut catalog);
    let mut renamed = listed('a', &[8080]);
    renamed.container.facts.name = "new".to_owned();
    catalog.docker_listed(renamed);
    let [PortChange { after: Some(after), .. }] = &take_changes(&mut catalog)[..] else { panic!("nothing changed") };
    assert_eq!(after.service.name.as_str(), "new");
    assert_eq!(catalog.rows()[0].container.as_ref().unwrap().facts.name, "new");
}

/// A shim that looks at the bytes that it forwards.
fn observing(port: u16, container: &str) -> Registration {
    Registration { observes: true, ..registration(tcp(port), container) }
}

/// How Envoy treats the ports of these changes from now on.
fn treatments(changes: &[PortChange]) -> Vec<Option<Treatment>> {
    changes.iter().map(|change| change.after.as_ref().map(|port| port.treatment)).collect()
}

/// A catalogue with one unlabelled port on 8080 that nothing is known of.
fn watching() -> Catalog {
    let mut catalog = Catalog::default();
    catalog.register(FIRST, observing(8080, "172.17.0.2:80"));
    found(&mut catalog, "172.17.0.2", container('a', &[]));
    catalog
}

#[test]
fn an_unlabelled_port_is_the_shims_until_its_answers_were_seen() {
    let mut catalog = watching();
    let changes = catalog.take_changes();
    assert_eq!((changes.envoy, changes.observed), (vec![], vec![(FIRST, true)]));
    assert_eq!(changes.captured, vec![(tcp(8080), true)], "its traffic is brought to the shim");
    assert_eq!(catalog.rows()[0].learning, Some(Learning::Watching));

    assert!(catalog.saw(&tcp(8080), Finding::Http).is_some());
    let changes = catalog.take_changes();
    assert_eq!(treatments(&changes.envoy), [Some(Treatment::LearnedHttp)]);
    assert_eq!(changes.observed, vec![], "the shim goes on looking at what it still forwards");
    assert_eq!(catalog.saw(&tcp(8080), Finding::Http), None, "it is known");
}

#[test]
fn a_port_that_is_for_bytes_stays_so() {
    let mut catalog = watching();
    catalog.saw(&tcp(8080), Finding::Http);
    catalog.take_changes();
    assert!(catalog.saw(&tcp(8080), Finding::Tcp(Reason::Upgrade)).is_some());
    let changes = catalog.take_changes();
    assert_eq!(treatments(&changes.envoy), [Some(Treatment::Tcp)]);
    assert_eq!(changes.observed, vec![(FIRST, false)]);
    assert_eq!(catalog.saw(&tcp(8080), Finding::Http), None);
    assert_eq!(catalog.rows()[0].learning, Some(Learning::Tcp(Reason::Upgrade)));
}

#[test]
fn what_was_learned_counts_for_every_container_of_the_image_now_and_later() {
    let mut catalog = watching();
    catalog.register(SECOND, observing(8081, "172.17.0.3:80"));
    found(&mut catalog, "172.17.0.3", container('b', &[]));
    catalog.take_changes();
    catalog.saw(&tcp(8080), Finding::Http);
    assert_eq!(treatments(&take_changes(&mut catalog)), [Some(Treatment::LearnedHttp); 2]);

    let mut later = Catalog::default().with_lessons(catalog.lessons().clone());
    later.register(FIRST, observing(8082, "172.17.0.4:80"));
    later.register(SECOND, observing(8083, "172.17.0.4:81"));
    found(&mut later, "172.17.0.4", container('c', &[]));
    assert_eq!(treatments(&take_changes(&mut later)), [Some(Treatment::LearnedHttp)], "its other port is unknown");
}

#[test]
fn a_label_beats_what_was_seen() {
    let mut catalog = Catalog::default();
    catalog.register(FIRST, observing(8080, "172.17.0.2:80"));
    found(&mut catalog, "172.17.0.2", container('a', &[("ProxyMode", "http")]));
    let changes = catalog.take_changes();
    assert_eq!((treatments(&changes.envoy), changes.observed), (vec![Some(Treatment::Http)], vec![]));
    assert_eq!(catalog.saw(&tcp(8080), Finding::Tcp(Reason::NotHttp)), None);
    assert_eq!(catalog.rows()[0].learning, None);
}

#[test]
fn a_port_without_a_shim_that_looks_is_for_bytes_while_nothing_is_known() {
    let mut catalog = serving();
    assert_eq!(catalog.proxied_port(&tcp(8080)).unwrap().treatment, Treatment::Tcp);
    assert_eq!(catalog.rows()[0].learning, Some(Learning::Blind));
    assert_eq!(catalog.saw(&tcp(8080), Finding::Http), None, "it can't have seen that");
}

#[test]
fn an_unknown_port_whose_shim_is_killed_is_envoys_as_bytes() {
    let mut catalog = Catalog::default();
    catalog.docker_listed_all(vec![listed('a', &[8080])]);
    catalog.register(FIRST, observing(8080, "172.17.0.2:80"));
    found(&mut catalog, "172.17.0.2", container('a', &[]));
    catalog.take_changes();
    catalog.unregister(FIRST);
    assert_eq!(treatments(&take_changes(&mut catalog)), [Some(Treatment::Tcp)], "nobody else could answer");
}

#[test]
fn what_one_program_of_an_image_does_says_nothing_of_another() {
    let mut catalog = watching();
    catalog.saw(&tcp(8080), Finding::Http);
    take_changes(&mut catalog);
    catalog.register(SECOND, observing(8081, "172.17.0.3:80"));
    let mut other = container('b', &[]);
    other.facts.program = "web listen".to_owned();
    found(&mut catalog, "172.17.0.3", other);
    assert_eq!(take_changes(&mut catalog), vec![], "it is watched");
}

#[test]
fn where_it_is_not_known_what_runs_nothing_is_remembered() {
    let mut catalog = Catalog::default();
    catalog.register(FIRST, observing(8080, "172.17.0.2:80"));
    let mut nameless = container('a', &[]);
    nameless.facts.program.clear();
    found(&mut catalog, "172.17.0.2", nameless);
    assert_eq!(catalog.saw(&tcp(8080), Finding::Http), None);
    assert_eq!(take_changes(&mut catalog), vec![]);
}

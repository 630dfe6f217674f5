//! What labels announce, each as a sentence.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn announced(pairs: &[(&str, &str)]) -> Announcement {
    announced_over(pairs, Some(&[]))
}

fn announced_over(pairs: &[(&str, &str)], image: Option<&[(&str, &str)]>) -> Announcement {
    let facts = ContainerFacts { labels: labels(pairs), ..ContainerFacts::default() };
    facts.announcement(image.map(labels).as_ref())
}

#[test]
fn a_container_without_labels_is_discovered_and_has_no_service_port() {
    let expected = Announcement {
        discover: true,
        service_ports: BTreeMap::new(),
        has_service_port_labels: false,
        check: CheckSettings::default(),
        args_may_be_the_images: false,
        listener: None,
        problems: Vec::new(),
    };
    assert_eq!(announced(&[]), expected);
}

#[test]
fn sidecars_documented_labels_mean_what_they_mean_there() {
    let announced = announced(&[
        ("HealthCheck", "HttpGet"),
        ("ServiceName", "awesome-svc"),
        ("ServicePort_80", "9500"),
        ("HealthCheckArgs", "http://{{ host }}:{{ tcp 9500 }}/"),
        ("SidecarListener", "9500"),
    ]);
    assert_eq!(announced.service_ports, BTreeMap::from([(80, 9500)]));
    assert_eq!(announced.check.kind, Some(CheckKind::HttpGet));
    assert_eq!(announced.check.args.as_deref(), Some("http://{{ host }}:{{ tcp 9500 }}/"));
    assert_eq!(announced.listener, Some(9500));
    assert_eq!(announced.problems, Vec::<String>::new());
}

#[test]
fn only_the_word_false_hides_a_container() {
    assert!(!announced(&[("SidecarDiscover", "false")]).discover);
    for other in ["", "true", "False", "0", "no"] {
        assert!(announced(&[("SidecarDiscover", other)]).discover, "{other}");
    }
}

#[test]
fn a_bad_service_port_is_reported_and_the_others_stay() {
    let announced = announced(&[
        ("ServicePort_80", "9500"),
        ("ServicePort_81", "http"),
        ("ServicePort_82", "65536"),
        ("ServicePort_83", "+9501"),
        ("ServicePort_084", "9502"),
        ("ServicePort_", "9503"),
        ("ServicePort_0", "9504"),
        ("ServicePorts", "9505"),
    ]);
    assert_eq!(announced.service_ports, BTreeMap::from([(80, 9500)]));
    assert_eq!(announced.problems.len(), 6, "{:?}", announced.problems);
    assert!(announced.problems.iter().any(|problem| problem.starts_with("label ServicePort_81=\"http\": ")));
}

#[test]
fn the_service_port_0_is_none_and_no_mistake() {
    let announced = announced(&[("ServicePort_80", "0")]);
    assert!(announced.service_ports.is_empty() && announced.problems.is_empty());
    assert!(announced.has_service_port_labels, "implicit service ports are not for this container");
}

#[test]
fn of_two_container_ports_with_one_service_port_the_lower_has_it() {
    let announced = announced(&[("ServicePort_800", "9500"), ("ServicePort_90", "9500")]);
    assert_eq!(announced.service_ports, BTreeMap::from([(90, 9500)]));
    assert!(announced.problems[0].contains("ServicePort_800"), "{:?}", announced.problems);
}

#[test]
fn service_ports_and_problems_are_bounded() {
    let pairs: Vec<_> = (1..=100).map(|port| (format!("ServicePort_{port}"), format!("{}", port + 1000))).collect();
    let pairs: Vec<_> = pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let announced = announced(&pairs);
    assert_eq!(announced.service_ports.len(), PORTS_MAX);
    assert_eq!(announced.problems.len(), PROBLEMS_MAX);
    assert_eq!(announced.problems.last().unwrap(), "and 53 more bad labels");
}

#[test]
fn timing_is_read_and_what_is_bad_is_reported_and_the_default() {
    let announced = announced(&[
        ("HealthCheckInterval", "500ms"),
        ("HealthCheckTimeout", "1h"),
        ("HealthCheckRise", "3"),
        ("HealthCheckFall", "0"),
    ]);
    let expected = Timing { interval: Duration::from_millis(500), rise: 3, ..Timing::default() };
    assert_eq!(announced.check.timing, expected);
    let problems = announced.problems.join("\n");
    assert!(problems.contains("label HealthCheckTimeout=\"1h\": expected 10ms to 60s"), "{problems}");
    assert!(problems.contains("label HealthCheckFall=\"0\": expected 1 to 100"), "{problems}");
}

#[test]
fn an_unknown_check_is_reported_and_the_default_applies() {
    let announced = announced(&[("HealthCheck", "httpget"), ("HealthCheckArgs", "http://x/")]);
    assert_eq!((announced.check.kind, announced.check.args), (None, None));
    assert_eq!(announced.problems.len(), 1, "{:?}", announced.problems);
}

#[test]
fn arguments_without_a_check_are_reported() {
    let announced = announced(&[("HealthCheckArgs", "http://x/")]);
    assert_eq!(announced.check.args, None);
    assert!(announced.problems[0].contains("HealthCheckArgs"), "{:?}", announced.problems);
}

#[test]
fn arguments_without_end_are_left_out() {
    let long = "x".repeat(ARGS_MAX_LENGTH + 1);
    let announced = announced(&[("HealthCheck", "Tcp"), ("HealthCheckArgs", &long)]);
    assert_eq!((announced.check.kind, announced.check.args), (Some(CheckKind::Tcp), None));
    assert!(announced.problems[0].len() < 200, "{:?}", announced.problems);
}

#[test]
fn external_is_taken_from_the_container_and_never_from_its_image() {
    let own = [("HealthCheck", "External"), ("HealthCheckArgs", "/bin/check")];
    let kind_over = |image: Option<&[(&str, &str)]>| announced_over(&own, image).check.kind;
    assert_eq!(kind_over(Some(&[])), Some(CheckKind::External));
    assert_eq!(
        kind_over(Some(&[("HealthCheck", "HttpGet"), ("HealthCheckArgs", "http://x/")])),
        Some(CheckKind::External)
    );
    assert_eq!(kind_over(Some(&own)), None);
    assert_eq!(kind_over(Some(&own[..1])), None, "the image chose it");
    assert_eq!(kind_over(Some(&own[1..])), None, "the image chose the command");
    assert_eq!(kind_over(None), None, "nobody knows");
    assert!(announced_over(&own, Some(&own[1..])).problems[0].contains("HealthCheckArgs came with the image"));
    assert!(announced_over(&own, None).problems[0].contains("not known"));
}

#[test]
fn other_checks_may_come_with_the_image() {
    let image = [("HealthCheck", "HttpGet"), ("HealthCheckArgs", "http://{{ host }}:{{ tcp 80 }}/")];
    for known in [Some(&image[..]), None] {
        assert_eq!(announced_over(&image, known).check.kind, Some(CheckKind::HttpGet));
    }
}

#[test]
fn the_catalogue_is_posted_to_a_container_that_asks_for_it_and_never_on_its_images_word() {
    let own = [("ServicePort_80", "9500"), ("SidecarListener", "9500")];
    let over = |image: Option<&[(&str, &str)]>| announced_over(&own, image);
    assert_eq!(over(Some(&[])).listener, Some(9500));
    assert_eq!(over(Some(&[("SidecarListener", "80")])).listener, Some(9500), "the container says otherwise");
    assert_eq!(over(Some(&own[..1])).listener, Some(9500), "the port may be the image's");
    for image in [Some(&own[1..]), None] {
        let announced = over(image);
        assert_eq!(announced.listener, None);
        assert!(announced.problems[0].starts_with("label SidecarListener=\"9500\": "), "{:?}", announced.problems);
    }
}

#[test]
fn images_are_looked_at_only_where_their_labels_matter() {
    let needed = |pairs: &[(&str, &str)]| need_image_labels(&labels(pairs));
    assert!(!needed(&[("ServicePort_80", "9500"), ("HealthCheck", "HttpGet"), ("HealthCheckArgs", "/health")]));
    assert!(needed(&[("HealthCheck", "External")]));
    assert!(needed(&[("HealthCheckArgs", "http://192.0.2.1/")]));
    assert!(needed(&[("SidecarListener", "9500")]));
}

#[test]
fn a_listener_needs_a_service_port_of_its_own() {
    for bad in ["80", "9501", "x", ""] {
        let announced = announced(&[("ServicePort_80", "9500"), ("SidecarListener", bad)]);
        assert_eq!(announced.listener, None);
        assert!(announced.problems[0].contains("SidecarListener"), "{:?}", announced.problems);
    }
    // It may be an implicit one.
    assert_eq!(announced(&[("SidecarListener", "80")]).listener, Some(80));
}

proptest! {
    #[test]
    fn any_labels_at_all_stay_within_the_bounds(
        pairs in prop::collection::hash_map("(ServicePort_[0-9]{0,6}|HealthCheck[A-Z]?[a-z]*|Sidecar[A-Za-z]*|.{0,20})", ".{0,40}|[0-9]{1,6}", 0..80),
        image in prop::option::of(prop::collection::hash_map(".{0,20}", ".{0,20}", 0..3)),
    ) {
        let facts = ContainerFacts { labels: pairs, ..ContainerFacts::default() };
        let announced = facts.announcement(image.as_ref());
        prop_assert!(announced.service_ports.len() <= PORTS_MAX && announced.problems.len() <= PROBLEMS_MAX);
        let distinct: std::collections::BTreeSet<_> = announced.service_ports.values().collect();
        prop_assert_eq!(distinct.len(), announced.service_ports.len());
        prop_assert_eq!(facts.announcement(image.as_ref()), announced, "the same labels always mean the same");
    }
}

#[test]
fn a_service_port_that_is_envoys_own_is_reported_with_the_way_out() {
    for reserved in ["15001", "15002"] {
        let announced = announced(&[("ServicePort_80", reserved), ("ServicePort_81", "15003")]);
        assert_eq!(announced.service_ports, BTreeMap::from([(81, 15_003)]));
        let expected = format!(
            "label ServicePort_80={reserved:?}: port {reserved} is Envoy's own on every host: choose another; it is left out"
        );
        assert_eq!(announced.problems, [expected]);
    }
}

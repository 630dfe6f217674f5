//! What is read of a file, each rule as a sentence.

use std::time::Duration;

use model::{CheckKind, ProxyMode, Status, Timing};
use proptest::prelude::*;

use super::*;

const SIDECARS: &str = r#"
[ { "Service": { "Name": "db", "Image": "postgres:16", "Hostname": "dbhost1",
                 "ProxyMode": "tcp",
                 "Ports": [ { "Type": "tcp", "Port": 5432, "ServicePort": 15432, "IP": "10.0.0.5" } ] },
    "Check":   { "Type": "External", "Args": "/usr/bin/pg_isready -h 10.0.0.5" },
    "ListenPort": 10005 } ]"#;

const OURS: &str = "
- name: db
  mode: tcp
  image: postgres:16
  ports:
    - port: 5432
      service-port: 15432
      address: 10.0.0.5
  check:
    kind: External
    args: /usr/bin/pg_isready -h 10.0.0.5
  listen-port: 10005
";

fn only(text: &str) -> StaticService {
    let list = parse(text).unwrap();
    assert_eq!(list.problems, Vec::<String>::new());
    let [service] = <[_; 1]>::try_from(list.services).unwrap();
    service
}

fn problems(text: &str) -> Vec<String> {
    let list = parse(text).unwrap();
    assert_eq!(list.services, []);
    list.problems
}

#[test]
fn sidecars_shape_is_read_as_it_is() {
    let db = only(SIDECARS);
    assert_eq!((db.service.name.as_str(), db.service.environment.as_str()), ("db", ""));
    assert_eq!((db.mode, db.image.as_str(), db.version.as_str()), (ProxyMode::Tcp, "postgres:16", "16"));
    let address = Some("10.0.0.5".parse().unwrap());
    let port = StaticPort { protocol: Protocol::Tcp, address, port: 5432, service_port: Some(15_432) };
    assert_eq!((db.ports, db.listen_port), (vec![port], Some(10_005)));
    assert_eq!(db.check.kind, Some(CheckKind::External));
    assert_eq!(db.check.args.as_deref(), Some("/usr/bin/pg_isready -h 10.0.0.5"));
}

#[test]
fn our_shape_says_the_same_and_more() {
    assert_eq!(only(OURS), only(SIDECARS));
    let more =
        OURS.replace("kind: External", "interval: 500ms\n    timeout: 1s\n    rise: 2\n    fall: 3\n    kind: Tcp");
    let more = only(&more.replace("mode: tcp", "environment: shop\n  version: '16.4'"));
    let (interval, timeout) = (Duration::from_millis(500), Duration::from_secs(1));
    assert_eq!(more.check.timing, Timing { interval, timeout, rise: 2, fall: 3 });
    assert_eq!(
        (more.service.environment.as_str(), more.version.as_str(), more.mode),
        ("shop", "16.4", ProxyMode::Auto)
    );
}

#[test]
fn both_shapes_stand_in_one_file_and_json_is_read_in_our_shape_too() {
    let both = format!("{OURS}\n- Service: {{Name: cache, Ports: [{{Port: 6379}}]}}\n");
    let names: Vec<_> = parse(&both).unwrap().services.iter().map(|entry| entry.service.name.to_string()).collect();
    assert_eq!(names, ["db", "cache"]);
    assert_eq!(only(r#"[{"name": "cache", "ports": [{"port": 6379}]}]"#).ports[0].port, 6379);
}

#[test]
fn what_sidecar_leaves_empty_is_not_said() {
    let text = r#"[{"Service": {"ID": "x", "Name": "a", "ProxyMode": "", "Status": 0,
        "Ports": [{"Type": "", "Port": 80, "ServicePort": 0, "IP": ""}]}, "Check": {"Type": "", "Args": ""}, "ListenPort": 0}]"#;
    let entry = only(text);
    let port = StaticPort { protocol: Protocol::Tcp, address: None, port: 80, service_port: None };
    assert_eq!((entry.mode, entry.ports, entry.listen_port), (ProxyMode::Auto, vec![port], None));
    assert_eq!(entry.check, model::CheckSettings::default());
}

#[test]
fn sidecars_own_sample_with_its_comma_too_many_is_read() {
    assert_eq!(only(&SIDECARS.replace("10005 } ]", "10005, }, ]")), only(SIDECARS));
}

/// The forms of Sidecar's README: no host in the URL, a tab here and there, a comma too many.
#[test]
fn sidecars_check_by_http_is_one_by_http_where_the_service_is_announced() {
    let text = "[{\"Service\": {\"Name\": \"some_service\", \"Image\": \"bb6268ff\",\n\
        \t\"Ports\": [{\"Type\": \"tcp\", \"Port\": 10234,\n\t\t\t\"ServicePort\": 9999}],\n\
        \t\"ProxyMode\": \"http\",},\n\
        \t\"Check\": {\"Type\": \"HttpGet\", \"Args\": \"http://:10234/\"}}]";
    let (service, advertise) = (only(text), "192.0.2.1".parse().unwrap());
    let ports = service.checked_ports(advertise);
    let subject = health::Subject {
        host_name: "a",
        host_address: advertise,
        host_addresses: &std::collections::BTreeSet::new(),
        ports: &ports,
        docker_health: None,
    };
    let plan = health::plan(&service.check, &subject, health::Policy::default());
    assert_eq!((plan.check.to_string().as_str(), plan.problem), ("GET http://192.0.2.1:10234/", None));
}

#[test]
fn a_bad_entry_is_named_with_its_field_and_the_others_stay() {
    let text = "
- {name: good, ports: [{port: 1}]}
- {name: bad, ports: [{port: 1}, {port: 70000}]}
- {Service: {Name: worse, Ports: [{Port: 1, IP: 10.0.0.300}]}}
- {name: also good, ports: [{port: 2}]}
- 5
- {ports: [{port: 1}]}
";
    let list = parse(text).unwrap();
    let names: Vec<_> = list.services.iter().map(|entry| entry.service.name.as_str()).collect();
    assert_eq!(names, ["good", "also-good"]);
    let starts = [
        "entry 2 (bad) is left out: ports[1].port: ",
        "entry 3 (worse) is left out: Service.Ports[0].IP: \"10.0.0.300\" is no IP address",
        "entry 4 (also good): the name \"also good\" was changed to \"also-good\"",
        "entry 5 is left out: ",
        "entry 6 is left out: ",
    ];
    assert_eq!(list.problems.len(), starts.len(), "{:#?}", list.problems);
    for (problem, start) in list.problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}");
    }
}

#[test]
fn every_bad_field_is_named() {
    let cases = [
        ("name: db", "name: ''", "the name is empty"),
        ("mode: tcp", "mode: grpc", "mode: unknown proxy mode \"grpc\""),
        ("mode: tcp", "modus: tcp", "unknown field `modus`"),
        ("port: 5432\n", "port: 0\n", "ports[0].port: "),
        ("service-port: 15432", "service-port: web", "ports[0].service-port: "),
        ("address: 10.0.0.5", "address: db.internal", "ports[0].address: \"db.internal\" is no IP address"),
        ("address: 10.0.0.5", "protocol: icmp", "ports[0].protocol: unknown protocol \"icmp\""),
        ("kind: External", "kind: Ping", "check.kind: unknown health check \"Ping\""),
        ("kind: External", "interval: 3", "check.interval: "),
        ("kind: External", "timeout: 1h", "check.timeout: expected 10ms to 60s"),
        ("kind: External", "rise: 0", "check.rise: expected 1 to 100"),
        ("kind: External", "fall: -1", "check.fall: "),
        ("listen-port: 10005", "listen-port: 0", "listen-port: "),
    ];
    for (good, bad, reason) in cases {
        assert!(OURS.contains(good), "{good}");
        let problems = problems(&OURS.replace(good, bad));
        assert!(problems.len() == 1 && problems[0].contains(reason), "{bad}: {problems:?}");
    }
    let long = "x".repeat(2000);
    assert!(problems(&OURS.replace("/usr/bin/pg_isready", &long))[0].ends_with("check.args: longer than 1024 bytes"));
}

#[test]
fn an_address_that_others_cannot_reach_is_refused() {
    for address in [
        "127.0.0.1",
        "0.0.0.0",
        "169.254.1.1",
        "224.0.0.1",
        "255.255.255.255",
        "'::1'",
        "'::'",
        "'fe80::1'",
        "'::ffff:127.0.0.1'",
    ] {
        let problems = problems(&OURS.replace("10.0.0.5\n  check", &format!("{address}\n  check")));
        assert!(problems[0].contains("can't be reached by other hosts"), "{address}: {problems:?}");
    }
}

#[test]
fn what_is_no_list_is_refused_as_a_whole() {
    for (text, reason) in
        [("", "write []"), ("# nothing\n", "write []"), ("name: db", "expected a list"), ("- a: [", "line")]
    {
        let error = parse(text).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
    assert_eq!(parse("[]").unwrap(), StaticList::default());
}

#[test]
fn entries_ports_and_problems_are_bounded() {
    let many: String =
        (1..=SERVICES_MAX + 9).map(|port| format!("- {{name: a, ports: [{{port: {port}}}]}}\n")).collect();
    let list = parse(&many).unwrap();
    assert_eq!(list.services.len(), SERVICES_MAX);
    assert_eq!(list.problems, ["entry 513 and those after it are left out: there may be 512"]);
    assert_eq!(parse(&"- 5\n".repeat(1000)).unwrap().problems.len(), PROBLEMS_MAX);
    let ports = "{port: 1},".repeat(PORTS_MAX + 1);
    assert!(problems(&format!("- {{name: a, ports: [{ports}]}}"))[0].contains("it has 33 ports: expected 1 to 32"));
    assert!(problems("- {name: a, ports: []}")[0].contains("it has 0 ports"));
}

#[test]
fn a_key_is_the_same_for_ever_and_says_which_instance_it_is() {
    let key = only(OURS).key;
    assert_eq!(key.to_string(), "65dd86bc345b", "FNV-1a, as it was in the first release");
    for edit in [("tcp", "http"), ("postgres:16", "postgres:17"), ("External", "Tcp"), ("15432", "15433")] {
        assert_eq!(only(&OURS.replace(edit.0, edit.1)).key, key, "{edit:?}");
    }
    for edit in [("name: db", "name: dc"), ("10.0.0.5\n  check", "10.0.0.6\n  check"), ("port: 5432", "port: 5433")] {
        assert_ne!(only(&OURS.replace(edit.0, edit.1)).key, key, "{edit:?}");
    }
    let twice = parse(&format!("{OURS}{}", OURS.replace("mode: tcp", "mode: http"))).unwrap();
    assert_eq!(twice.services.len(), 1);
    assert_eq!(twice.problems, ["entry 2 (db) is left out: entry 1 has the same name and ports"]);
}

#[test]
fn an_entry_is_announced_and_checked_at_its_address_or_at_the_hosts() {
    let advertise = "192.0.2.1".parse().unwrap();
    let instance = only(OURS).instance(advertise, Status::Alive, 7);
    assert_eq!((instance.key(), instance.since_ms, instance.status), (only(OURS).key, 7, Status::Alive));
    assert_eq!(instance.ports[0].address.to_string(), "10.0.0.5");
    assert_eq!((instance.ports[0].service_port, instance.ports[0].mode), (Some(15_432), ProxyMode::Tcp));
    assert_eq!(only(OURS).listener(advertise).unwrap().to_string(), "10.0.0.5:10005");
    let nowhere = only(&OURS.replace("      address: 10.0.0.5\n", ""));
    assert_eq!(nowhere.instance(advertise, Status::Alive, 7).ports[0].address, advertise);
    let checked = nowhere.checked_ports(advertise);
    assert_eq!(
        (checked[0].published.to_string(), checked[0].direct),
        ("192.0.2.1:5432".to_owned(), Some(checked[0].published))
    );
}

proptest! {
    #[test]
    fn any_text_is_read_within_the_bounds_or_refused(text in "([-\\[\\]{}:,\"'&*!|> \n]|name|ports|port|Service|Name|Ports|Port|[0-9]{1,6}|[a-z]){0,60}") {
        if let Ok(list) = parse(&text) {
            prop_assert!(list.services.len() <= SERVICES_MAX && list.problems.len() <= PROBLEMS_MAX);
        }
    }
}

#[test]
fn a_service_port_that_is_envoys_own_is_left_out_and_named() {
    let list = parse(&OURS.replace("15432", "15001")).unwrap();
    assert_eq!(list.services[0].ports[0].service_port, None);
    let [problem] = &list.problems[..] else { panic!("{:?}", list.problems) };
    assert!(problem.contains("port 5432: port 15001 is Envoy's own on every host: choose another"), "{problem}");
}

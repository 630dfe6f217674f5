//! Which check is made, each rule as a sentence.

use model::Timing;
use proptest::prelude::*;

use super::*;

const CONTAINER: &str = "172.17.0.2";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn tcp_port(service_port: Option<u16>, published: &str, container_port: u16) -> CheckedPort {
    let direct = Some(SocketAddr::new(CONTAINER.parse().unwrap(), container_port));
    CheckedPort { protocol: Protocol::Tcp, service_port, published: at(published), direct }
}

fn web() -> Vec<CheckedPort> {
    vec![tcp_port(Some(9500), "0.0.0.0:32768", 80), tcp_port(None, "10.0.0.5:8443", 443)]
}

fn settings(kind: CheckKind, args: &str) -> CheckSettings {
    CheckSettings { kind: Some(kind), args: Some(args.to_owned()), timing: Timing::default() }
}

fn planned_with(settings: &CheckSettings, ports: &[CheckedPort], policy: Policy) -> Plan {
    let host_addresses = BTreeSet::from(["10.0.0.5".parse().unwrap(), "192.0.2.7".parse().unwrap()]);
    let host_address = "10.0.0.5".parse().unwrap();
    let subject =
        Subject { host_name: "host-1", host_address, host_addresses: &host_addresses, ports, docker_health: None };
    plan(settings, &subject, policy)
}

fn planned(kind: CheckKind, args: &str) -> Plan {
    planned_with(&settings(kind, args), &web(), Policy::default())
}

/// What is done, in words; what was asked for must be possible.
fn done(kind: CheckKind, args: &str) -> String {
    let plan = planned(kind, args);
    assert_eq!(plan.problem, None);
    plan.check.to_string()
}

fn refused(kind: CheckKind, args: &str) -> String {
    let plan = planned(kind, args);
    assert_eq!(plan.check.to_string(), "connect to 172.17.0.2:80", "the default counts");
    plan.problem.unwrap()
}

#[test]
fn sidecars_documented_check_is_made_against_the_container_itself() {
    let plan = planned(CheckKind::HttpGet, "http://{{ host }}:{{ tcp 9500 }}/");
    let expected = http(Peer::Address(at("172.17.0.2:80")), "10.0.0.5:32768", "/");
    assert_eq!(plan, Plan { check: expected, problem: None });
}

#[test]
fn a_check_without_a_host_is_aimed_at_this_one_as_in_sidecar() {
    assert_eq!(done(CheckKind::HttpGet, "http://:32768/status"), "GET http://172.17.0.2:80/status");
    assert_eq!(done(CheckKind::HttpGet, "http://:{{ tcp 9500 }}"), "GET http://172.17.0.2:80/");
    assert_eq!(done(CheckKind::Tcp, ":8443"), "connect to 172.17.0.2:443");
    assert!(refused(CheckKind::HttpGet, "http://:9090/").contains("localhost:9090 is not the instance itself"));
    let refused = ["http://:/", "http://:0/", "http://:port/", "http://"].map(|args| refused(CheckKind::HttpGet, args));
    assert!(refused.iter().all(|problem| problem.contains("not a URL")), "{refused:?}");
}

fn http(peer: Peer, authority: &str, path_and_query: &str) -> Check {
    let (authority, path_and_query) = (authority.to_owned(), path_and_query.to_owned());
    Check::Probed(Probe::HttpGet(crate::HttpGet { peer, authority, path_and_query }), Timing::default())
}

#[test]
fn whatever_leads_to_the_published_port_leads_to_the_container() {
    for host in ["10.0.0.5", "192.0.2.7", "127.0.0.1", "0.0.0.0", "[::ffff:10.0.0.5]", "localhost", "HOST-1"] {
        assert_eq!(done(CheckKind::Tcp, &format!("{host}:32768")), "connect to 172.17.0.2:80", "{host}");
        let url = format!("http://{host}:32768/a?b=c");
        assert_eq!(done(CheckKind::HttpGet, &url), "GET http://172.17.0.2:80/a", "{host}");
    }
    assert_eq!(done(CheckKind::Tcp, "{{ container }}:{{ tcp 9500 }}"), "connect to 172.17.0.2:80");
    assert_eq!(done(CheckKind::Tcp, "10.0.0.5:8443"), "connect to 172.17.0.2:443");
    assert!(refused(CheckKind::Tcp, "127.0.0.1:8443").contains("127.0.0.1:8443 is not the instance itself"));
}

#[test]
fn the_containers_own_address_is_no_other_target() {
    assert_eq!(done(CheckKind::HttpGet, "http://172.17.0.2:9000/admin"), "GET http://172.17.0.2:9000/admin");
    assert_eq!(done(CheckKind::Tcp, "172.17.0.2:9000"), "connect to 172.17.0.2:9000");
}

#[test]
fn other_targets_need_the_operators_permission() {
    let allowed = Policy { allow_other_targets: true, ..Policy::default() };
    let targets = [
        ("10.0.0.9:80", "connect to 10.0.0.9:80"),
        ("db.internal:5432", "connect to db.internal:5432"),
        ("[fd00::9]:80", "connect to [fd00::9]:80"),
        ("127.0.0.1:22", "connect to 127.0.0.1:22"),
    ];
    for (target, text) in targets {
        let reason = refused(CheckKind::Tcp, target);
        assert!(reason.contains("--allow-other-check-targets"), "{reason}");
        let plan = planned_with(&settings(CheckKind::Tcp, target), &web(), allowed);
        assert_eq!((plan.check.to_string().as_str(), plan.problem), (text, None));
    }
    assert!(refused(CheckKind::HttpGet, "http://169.254.169.254/latest/").contains("169.254.169.254:80"));
}

#[test]
fn a_path_or_nothing_means_the_lowest_service_port() {
    assert_eq!(done(CheckKind::HttpGet, "/health?deep=1"), "GET http://172.17.0.2:80/health");
    assert_eq!(done(CheckKind::HttpGet, ""), "GET http://172.17.0.2:80/");
    assert_eq!(done(CheckKind::Tcp, ""), "connect to 172.17.0.2:80");
    let ports = [tcp_port(Some(9600), "0.0.0.0:32769", 81), tcp_port(Some(9500), "0.0.0.0:32768", 80)];
    let plan = planned_with(&settings(CheckKind::Tcp, ""), &ports, Policy::default());
    assert_eq!(plan.check.to_string(), "connect to 172.17.0.2:80");
    let plan = planned_with(&settings(CheckKind::Tcp, ""), &[], Policy::default());
    assert!(plan.problem.unwrap().contains("ServicePort_N"));
}

#[test]
fn a_check_follows_the_ports() {
    let settings = settings(CheckKind::HttpGet, "http://{{ host }}:{{ tcp 9500 }}/");
    let later = [tcp_port(Some(9500), "0.0.0.0:40000", 80)];
    let plan = planned_with(&settings, &later, Policy::default());
    assert_eq!(plan.check, http(Peer::Address(at("172.17.0.2:80")), "10.0.0.5:40000", "/"));
    let gone = planned_with(&settings, &[], Policy::default());
    assert_eq!(gone.check, Check::Running);
    assert!(gone.problem.unwrap().contains("no tcp port of this instance is published for the service port 9500"));
}

#[test]
fn a_port_of_the_addresss_own_family_is_filled_in() {
    let ports = [tcp_port(Some(9500), "[::]:32000", 80), tcp_port(Some(9500), "0.0.0.0:32768", 80)];
    let plan =
        planned_with(&settings(CheckKind::HttpGet, "http://{{ host }}:{{ tcp 9500 }}/"), &ports, Policy::default());
    assert_eq!(plan.check, http(Peer::Address(at("172.17.0.2:80")), "10.0.0.5:32768", "/"));
}

#[test]
fn a_published_port_whose_container_has_no_known_address_is_never_asked_at_the_proxy() {
    let ports = [CheckedPort { direct: None, ..tcp_port(Some(9500), "0.0.0.0:32768", 80) }];
    let allowed = Policy { allow_other_targets: true, ..Policy::default() };
    let plan = planned_with(&settings(CheckKind::Tcp, "10.0.0.5:32768"), &ports, allowed);
    assert_eq!(plan.check, Check::Running);
    assert!(plan.problem.unwrap().contains("address is not known"));
}

#[test]
fn bad_targets_are_refused_with_the_mend() {
    let mends = [
        (CheckKind::HttpGet, "https://10.0.0.5:32768/", "only http://"),
        (CheckKind::HttpGet, "http://me:secret@10.0.0.5:32768/", "a user"),
        (CheckKind::HttpGet, "http://10.0.0.5:0/", "not a URL"),
        (CheckKind::HttpGet, "http://10.0.0.5:99999/", "not a URL"),
        (CheckKind::HttpGet, "http:///x", "not a URL"),
        (CheckKind::HttpGet, "10.0.0.5:32768", "not a URL"),
        (CheckKind::HttpGet, "http://10.0.0.5:32768/a b", "not a URL"),
        (CheckKind::Tcp, "10.0.0.5", "ADDRESS:PORT"),
        (CheckKind::Tcp, "me@10.0.0.5:32768", "ADDRESS:PORT"),
        (CheckKind::Tcp, "tcp://10.0.0.5:32768", "ADDRESS:PORT"),
        (CheckKind::Tcp, "{{ tcp 9500", "without }}"),
    ];
    for (kind, args, mend) in mends {
        let reason = refused(kind, args);
        assert!(!reason.contains("secret"), "{reason}");
        assert!(reason.contains(mend) && reason.contains("what counts instead: connect to 172.17.0.2:80"), "{reason}");
    }
}

#[test]
fn a_command_line_is_parted_as_a_shell_would_and_needs_permission() {
    let line = settings(CheckKind::External, r#"check -h {{ host }} "two words" it\'s '$HOME'"#);
    let plan = planned_with(&line, &web(), Policy { allow_external: true, ..Policy::default() });
    let words = ["check", "-h", "10.0.0.5", "two words", "it's", "$HOME"].map(str::to_owned).to_vec();
    assert_eq!(plan.check, Check::Probed(Probe::External(words), Timing::default()));
    assert!(refused(CheckKind::External, "check").contains("--allow-external-checks"));
    for (bad, mend) in [("'open", "left open"), ("", "expected a command line"), ("'' x", "expected a command line")] {
        let plan = planned_with(
            &settings(CheckKind::External, bad),
            &web(),
            Policy { allow_external: true, ..Policy::default() },
        );
        assert!(plan.problem.unwrap().contains(mend), "{bad}");
    }
}

#[test]
fn without_a_word_dockers_check_counts_then_a_service_port_then_that_it_runs() {
    let none = CheckSettings::default();
    let host_addresses = BTreeSet::new();
    let check = |docker_health, ports: &[CheckedPort]| {
        let host_address = "10.0.0.5".parse().unwrap();
        let subject = Subject { host_name: "h", host_address, host_addresses: &host_addresses, ports, docker_health };
        plan(&none, &subject, Policy::default()).check
    };
    assert_eq!(check(Some(DockerHealth::Starting), &web()), Check::Docker(DockerHealth::Starting));
    assert_eq!(check(None, &web()).to_string(), "connect to 172.17.0.2:80");
    let udp = CheckedPort { protocol: Protocol::Udp, ..web()[0] };
    assert_eq!(check(None, &[udp, web()[1]]), Check::Running);
    assert_eq!(check(None, &[]), Check::Running);
}

#[test]
fn always_successful_is_what_it_says() {
    assert_eq!(planned(CheckKind::AlwaysSuccessful, "anything {{").check, Check::AlwaysSuccessful);
}

proptest! {
    /// The rule that matters most, for any argument: nobody but the instance itself is ever asked.
    #[test]
    fn without_permission_only_the_instance_itself_is_ever_asked(
        kind in prop::sample::select(vec![CheckKind::HttpGet, CheckKind::Tcp]),
        args in "(http://|https://|/|\\[|\\]|@|:|\\{\\{ host \\}\\}|\\{\\{ tcp 9500 \\}\\}|10\\.0\\.0\\.[59]|172\\.17\\.0\\.[23]|localhost|host-1|:32768|:80|[a-z%?#\\\\ ]){0,8}",
    ) {
        let check = planned(kind, &args).check;
        let peer = match &check {
            Check::Probed(Probe::HttpGet(get), _) => Some(&get.peer),
            Check::Probed(Probe::Tcp(peer), _) => Some(peer),
            _ => None,
        };
        let is_own = matches!(peer, Some(Peer::Address(address)) if address.ip().to_string() == CONTAINER);
        prop_assert!(is_own, "{args:?} is {check:?}");
    }
}

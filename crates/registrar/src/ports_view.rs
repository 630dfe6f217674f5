//! The operator's view of the ports: what the loop knows, joined with who the kernel lets answer. Pure.

use std::collections::HashMap;
use std::net::SocketAddr;

use admin_api::{Port, ServedBy, Shim, Treatment};
use catalog::{Learning, PortRow};
use model::{Protocol, ProxyMode};
use sock_diag::Listener;

use crate::event::{EnvoysWord, PortsReport};
use crate::host::unix_ms;
use crate::host::unproxied::catching;

/// The inodes of the sockets that listen on each address.
pub(crate) type Listening = HashMap<SocketAddr, Vec<u32>>;

/// The listeners by their address.
pub(crate) fn by_address(listeners: &[Listener]) -> Listening {
    let mut listening = Listening::new();
    for listener in listeners {
        listening.entry(listener.address).or_default().push(listener.inode);
    }
    listening
}

/// One row for each port.
pub(crate) fn ports(report: &PortsReport, listening: &Listening) -> Vec<Port> {
    report.ports.iter().map(|(row, word)| port(row, word, report, listening)).collect()
}

fn port(row: &PortRow, word: &EnvoysWord, report: &PortsReport, listening: &Listening) -> Port {
    let envoy_listens = envoy_listens(row, listening);
    let served_by = served_by(row, word, report.envoy_connected, envoy_listens);
    let mut problems = row.problems.clone();
    problems.extend(problem(row, word, report, served_by, envoy_listens));
    problems.extend(not_captured(row, report));
    let meaning = row.meaning.as_ref();
    let registration = row.registration.as_ref();
    Port {
        host_address: row.published.address,
        host_port: row.published.port,
        protocol: row.published.protocol.to_string(),
        container_address: row.container_address,
        container_port: row.container_port,
        container_id: row.container.as_ref().map(|container| container.id.to_string()),
        container_name: row.container.as_ref().map(|container| container.facts.name.clone()),
        service_name: meaning.map(|meaning| meaning.service.name.to_string()),
        environment_name: meaning.map(|meaning| meaning.service.environment.to_string()),
        proxy_mode: meaning.map(|meaning| meaning.mode.to_string()),
        treatment: meaning.and_then(|meaning| treatment(meaning.mode, row.learning)),
        treatment_reason: row.learning.map(reason),
        bypassed_clients: report.bypassed.get(&row.published).cloned().unwrap_or_default(),
        served_by,
        shim_pid: registration.map(|registration| registration.shim_pid),
        shim: match registration {
            Some(_) => Shim::Registered,
            None if row.lost_shim => Shim::Lost,
            None => Shim::None,
        },
        announced_at_ms: registration.map(|registration| unix_ms(registration.announced_at)),
        problem: (!problems.is_empty()).then(|| problems.join("; ")),
    }
}

fn treatment(mode: ProxyMode, learning: Option<Learning>) -> Option<Treatment> {
    match (mode, learning) {
        (ProxyMode::None, _) => None,
        (ProxyMode::Http, _) | (ProxyMode::Auto, Some(Learning::Http)) => Some(Treatment::Http),
        (ProxyMode::Auto, Some(Learning::Watching)) => Some(Treatment::Learning),
        (ProxyMode::Tcp | ProxyMode::Auto, _) => Some(Treatment::Tcp),
    }
}

/// Why an unlabelled port is treated as it is.
fn reason(learning: Learning) -> String {
    match learning {
        Learning::Watching => {
            "the shim forwards bytes until an answer of the application shows whether HTTP treatment is \
                               safe; the label ProxyMode decides at once"
                .to_owned()
        }
        Learning::Blind => "nothing is known of this image's port, and no shim can look at its answers: the label \
                            ProxyMode decides"
            .to_owned(),
        Learning::Http => "the application's answers were seen to be safe for HTTP treatment".to_owned(),
        Learning::Tcp(reason) => format!("{reason}; ProxyMode=http insists on HTTP treatment"),
    }
}

/// Whether anybody but the shim listens for the port's connections. The kernel lets nobody in but Envoy's user.
fn envoy_listens(row: &PortRow, listening: &Listening) -> bool {
    if row.is_unproxied {
        return listening.contains_key(&catching(row.published.address));
    }
    let own = row.registration.as_ref().map(|registration| registration.socket_inode);
    let inodes = listening.get(&row.published.socket_address());
    inodes.is_some_and(|inodes| inodes.iter().any(|inode| Some(*inode) != own))
}

fn served_by(row: &PortRow, word: &EnvoysWord, envoy_connected: bool, envoy_listens: bool) -> ServedBy {
    let Some(registration) = &row.registration else {
        // Where the shim was killed, Envoy serves alone.
        let is_envoys = row.wanted_in_envoy && envoy_listens && (!row.is_unproxied || *word == EnvoysWord::Caught);
        return if is_envoys { ServedBy::Envoy } else { ServedBy::Docker };
    };
    if row.published.protocol != Protocol::Tcp || !registration.shareable {
        ServedBy::Shim
    } else if envoy_listens && *word != EnvoysWord::Stuck {
        ServedBy::Envoy
    } else if row.container.is_none() || (row.wanted_in_envoy && envoy_connected && *word == EnvoysWord::Nothing) {
        ServedBy::Pending
    } else {
        ServedBy::Shim
    }
}

/// Why the port is not served as it should be, with the mend.
fn problem(
    row: &PortRow,
    word: &EnvoysWord,
    report: &PortsReport,
    served_by: ServedBy,
    envoy_listens: bool,
) -> Option<String> {
    match served_by {
        ServedBy::Envoy => None,
        // SCTP is handed to docker-proxy.
        ServedBy::Docker if row.published.protocol == Protocol::Sctp => None,
        ServedBy::Docker if row.meaning.as_ref().is_some_and(|meaning| meaning.mode == ProxyMode::None) => None,
        ServedBy::Docker if report.serves_unproxied && row.published.protocol == Protocol::Udp => None,
        ServedBy::Docker if row.wanted_in_envoy && !row.is_unproxied => Some(
            "Envoy does not listen either: nobody answers but where Docker's own firewall rules lead to the container".to_owned(),
        ),
        ServedBy::Docker if row.is_unproxied => why_not_caught(word, report, envoy_listens),
        ServedBy::Docker if report.docker_problem.is_some() => report.docker_problem.as_ref().map(|problem| {
            format!("no shim serves this port, and Docker does not answer ({problem}): start it (systemctl start docker)")
        }),
        ServedBy::Docker => Some(
            "no shim serves this port: start dockerd with --userland-proxy-path=…/envoy-docker-shim, then restart the container (or set --capture-unproxied, and Envoy serves TCP without); if a shim runs, `shimctl resync` has it register, or names it".to_owned(),
        ),
        ServedBy::Pending if row.container.is_none() => Some(match &report.docker_problem {
            Some(problem) => format!("its container is not known: {problem}"),
            None => "its container is still to be found".to_owned(),
        }),
        ServedBy::Pending => None,
        ServedBy::Shim if !row.wanted_in_envoy => None,
        ServedBy::Shim => Some(match word {
            EnvoysWord::Rejected(message) => rejection(row, message),
            EnvoysWord::Accepted | EnvoysWord::Nothing if !report.envoy_connected => "no Envoy is connected: the shim forwards".to_owned(),
            EnvoysWord::Stuck => "Envoy takes no connections (is it stopped, or overloaded?): the shim forwards new ones until it does".to_owned(),
            EnvoysWord::Accepted => "Envoy accepted the port but does not listen: it is given the port anew; if this stays (drained?), restart Envoy".to_owned(),
            EnvoysWord::Nothing | EnvoysWord::Caught => return None,
        }),
    }
}

/// Why Docker's own path serves a port that Envoy is to serve without a shim.
fn why_not_caught(word: &EnvoysWord, report: &PortsReport, envoy_listens: bool) -> Option<String> {
    let reason = match (word, &report.not_diverted) {
        (_, Some(reason)) => format!("it is not brought to Envoy: {reason}"),
        (EnvoysWord::Rejected(message), None) => format!("Envoy rejected it: {message}"),
        (EnvoysWord::Stuck, None) => "Envoy takes no connections (is it stopped, or overloaded?)".to_owned(),
        _ if !report.envoy_connected => "no Envoy is connected".to_owned(),
        (EnvoysWord::Caught | EnvoysWord::Accepted, None) if !envoy_listens => {
            "Envoy accepted the port but does not listen (drained?): restart Envoy".to_owned()
        }
        // On its way.
        (EnvoysWord::Caught | EnvoysWord::Accepted | EnvoysWord::Nothing, None) => return None,
    };
    Some(format!(
        "no shim serves this port, and Docker's own path does instead of Envoy (--capture-unproxied): {reason}"
    ))
}

/// Why Envoy sees only what comes from this host itself.
fn not_captured(row: &PortRow, report: &PortsReport) -> Option<String> {
    let reason = report.not_captured.as_ref().filter(|_| row.wanted_in_envoy && !row.is_unproxied)?;
    Some(format!("traffic from other hosts takes Docker's own path, past Envoy: {reason}"))
}

fn rejection(row: &PortRow, message: &str) -> String {
    let mend = if message.contains("Permission denied") && row.published.port < 1024 {
        ": give Envoy the capability CAP_NET_BIND_SERVICE"
    } else if message.contains("Address already in use") {
        ": if no other program has it, check that --envoy-user is the user that Envoy runs as"
    } else {
        ""
    };
    format!("Envoy rejected the port, the shim forwards: {message}{mend}")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use catalog::{Container, Registration};
    use model::PublishedPort;
    use model::labels::{ContainerFacts, Defaults};

    use super::*;

    const ADDRESS: &str = "0.0.0.0:80";

    fn row(protocol: Protocol) -> PortRow {
        let address: SocketAddr = ADDRESS.parse().unwrap();
        let published = PublishedPort { address: address.ip(), port: address.port(), protocol };
        let container = "172.17.0.2:80".parse().unwrap();
        let facts = ContainerFacts { image: "web".to_owned(), ..ContainerFacts::default() };
        let id = "ab".repeat(32).parse().unwrap();
        let registration = Registration {
            published,
            container,
            shim_pid: 7,
            shareable: protocol == Protocol::Tcp,
            socket_inode: 1,
            observes: true,
            problem: String::new(),
            announced_at: SystemTime::UNIX_EPOCH,
        };
        PortRow {
            published,
            container_port: 80,
            container_address: Some(container.ip()),
            meaning: Some(facts.meaning_for(80, &Defaults::default())),
            container: Some(Arc::new(Container { id, facts })),
            learning: Some(Learning::Http),
            registration: Some(registration),
            wanted_in_envoy: protocol == Protocol::Tcp,
            is_unproxied: false,
            lost_shim: false,
            problems: Vec::new(),
        }
    }

    /// `sockets`: how many listen, the shim's first.
    fn view(row: PortRow, word: EnvoysWord, envoy_connected: bool, sockets: u32) -> Port {
        let report = PortsReport { ports: vec![(row, word)], envoy_connected, ..PortsReport::default() };
        of(&report, sockets)
    }

    fn of(report: &PortsReport, sockets: u32) -> Port {
        let own = (ADDRESS.parse().unwrap(), (1..=sockets).collect());
        let catch = (catching([0, 0, 0, 0].into()), vec![99]);
        ports(report, &HashMap::from([own, catch])).remove(0)
    }

    #[test]
    fn envoy_serves_a_port_when_it_listens_beside_the_shim_whatever_it_said() {
        let port = view(row(Protocol::Tcp), EnvoysWord::Nothing, false, 3);
        assert_eq!((port.served_by, port.problem), (ServedBy::Envoy, None));
    }

    #[test]
    fn a_port_on_its_way_to_envoy_is_pending_and_no_problem() {
        let port = view(row(Protocol::Tcp), EnvoysWord::Nothing, true, 1);
        assert_eq!((port.served_by, port.problem), (ServedBy::Pending, None));
    }

    #[test]
    fn without_an_envoy_the_shim_serves_and_says_why() {
        let port = view(row(Protocol::Tcp), EnvoysWord::Nothing, false, 1);
        assert_eq!(port.served_by, ServedBy::Shim);
        assert!(port.problem.unwrap().contains("no Envoy is connected"));
    }

    #[test]
    fn a_low_port_that_envoy_may_not_bind_names_the_capability() {
        let word = EnvoysWord::Rejected("cannot bind '0.0.0.0:80': Permission denied".to_owned());
        let port = view(row(Protocol::Tcp), word, true, 1);
        assert_eq!(port.served_by, ServedBy::Shim);
        assert!(port.problem.unwrap().contains("CAP_NET_BIND_SERVICE"));
    }

    #[test]
    fn an_envoy_that_takes_no_connections_does_not_serve() {
        let port = view(row(Protocol::Tcp), EnvoysWord::Stuck, true, 3);
        assert_eq!(port.served_by, ServedBy::Shim);
        assert!(port.problem.unwrap().contains("takes no connections"));
    }

    #[test]
    fn udp_is_the_shims_and_no_problem() {
        let port = view(row(Protocol::Udp), EnvoysWord::Nothing, true, 0);
        assert_eq!((port.served_by, port.problem), (ServedBy::Shim, None));
    }

    #[test]
    fn a_port_without_a_shim_is_dockers_and_names_the_mend() {
        let alone = PortRow { registration: None, wanted_in_envoy: false, ..row(Protocol::Tcp) };
        let port = view(alone, EnvoysWord::Nothing, true, 0);
        assert_eq!(port.served_by, ServedBy::Docker);
        assert!(port.problem.unwrap().contains("--userland-proxy-path"));
    }

    #[test]
    fn a_port_without_a_shim_while_docker_is_away_is_not_told_to_restart_its_container() {
        let alone = PortRow { registration: None, wanted_in_envoy: false, ..row(Protocol::Tcp) };
        let report = PortsReport {
            ports: vec![(alone, EnvoysWord::Nothing)],
            docker_problem: Some("no such file".to_owned()),
            ..PortsReport::default()
        };
        let problem = of(&report, 0).problem.unwrap();
        assert!(problem.contains("no such file") && problem.contains("systemctl start docker"), "{problem}");
        assert!(!problem.contains("restart"), "{problem}");
    }

    #[test]
    fn a_port_whose_shim_was_killed_is_envoys_while_it_listens() {
        let orphan = || PortRow { registration: None, lost_shim: true, ..row(Protocol::Tcp) };
        let port = view(orphan(), EnvoysWord::Accepted, true, 2);
        assert_eq!((port.served_by, port.shim), (ServedBy::Envoy, Shim::Lost));
        let deserted = view(orphan(), EnvoysWord::Accepted, true, 0);
        assert_eq!(deserted.served_by, ServedBy::Docker);
        assert!(deserted.problem.unwrap().contains("nobody answers"), "its shim was killed, and Envoy ended");
    }

    #[test]
    fn a_port_that_never_had_a_shim_is_envoys_while_its_connections_are_caught() {
        let unproxied = || PortRow { registration: None, is_unproxied: true, ..row(Protocol::Tcp) };
        let port = view(unproxied(), EnvoysWord::Caught, true, 0);
        assert_eq!((port.served_by, port.shim, port.problem), (ServedBy::Envoy, Shim::None, None));
        let port = view(unproxied(), EnvoysWord::Accepted, true, 1);
        assert_eq!((port.served_by, port.problem), (ServedBy::Docker, None));
        let port = view(unproxied(), EnvoysWord::Nothing, false, 1);
        assert!(port.problem.unwrap().contains("no Envoy is connected"));
        let report = PortsReport {
            ports: vec![(unproxied(), EnvoysWord::Accepted)],
            not_diverted: Some("off by --capture none".to_owned()),
            ..PortsReport::default()
        };
        let port = of(&report, 1);
        assert_eq!(port.served_by, ServedBy::Docker);
        let problem = port.problem.unwrap();
        assert!(problem.contains("--capture none") && problem.contains("--capture-unproxied"), "{problem}");
    }

    #[test]
    fn a_port_that_envoy_took_is_dockers_and_names_the_mend_where_envoy_does_not_listen() {
        let unproxied = PortRow { registration: None, is_unproxied: true, ..row(Protocol::Tcp) };
        for word in [EnvoysWord::Accepted, EnvoysWord::Caught] {
            let ports = vec![(unproxied.clone(), word)];
            let report = PortsReport { ports, envoy_connected: true, ..PortsReport::default() };
            let port = super::ports(&report, &HashMap::new()).remove(0);
            assert_eq!(port.served_by, ServedBy::Docker);
            assert!(port.problem.unwrap().contains("restart Envoy"));
        }
    }

    #[test]
    fn udp_without_a_shim_is_no_problem_where_that_is_meant() {
        let ports = vec![(PortRow { registration: None, ..row(Protocol::Udp) }, EnvoysWord::Nothing)];
        let port = of(&PortsReport { ports, serves_unproxied: true, ..PortsReport::default() }, 0);
        assert_eq!((port.served_by, port.problem), (ServedBy::Docker, None));
    }

    #[test]
    fn a_container_that_is_not_found_leaves_the_port_pending() {
        let unfound = PortRow { container: None, meaning: None, wanted_in_envoy: false, ..row(Protocol::Tcp) };
        let port = view(unfound, EnvoysWord::Nothing, true, 1);
        assert_eq!(port.served_by, ServedBy::Pending);
        assert!(port.problem.is_some() && port.service_name.is_none());
    }
}

//! In words: how the registrar and Envoy get on.

use admin_api::{Envoy, Nack, ServiceAddress, ServiceServer};

use crate::age::ago;
use crate::table::printable;

/// What `envoy` says at `now_ms`, one fact a line, and the fix where something is wrong.
pub(crate) fn text(envoy: &Envoy, now_ms: u64) -> String {
    let facts = [
        ("Envoy", connection(envoy)),
        ("In sync", in_sync(envoy)),
        ("Resources", resources(envoy)),
        ("Capture", capture(envoy)),
        ("Rejected", rejected(envoy, now_ms)),
    ];
    let services = envoy.service_addresses.iter().map(|at| ("Services", services(at)));
    facts.into_iter().chain(services).map(|(name, value)| format!("{name:<11}{value}\n")).collect()
}

fn connection(envoy: &Envoy) -> String {
    let version = envoy.version.as_deref().map(|version| format!(", version {}", printable(version)));
    let id = envoy.node_id.as_deref().map(|id| format!(", node id {}", printable(id)));
    let who = version.unwrap_or_default() + &id.unwrap_or_default();
    match (envoy.connected, envoy.node_id.is_some()) {
        (true, _) => format!("connected{who}"),
        (false, true) => format!("not connected now; the last one was{}: is it running?", who.trim_start_matches(',')),
        (false, false) => {
            "never connected: start it with this project's envoy.yaml, as the registrar's --envoy-user".to_owned()
        }
    }
}

fn in_sync(envoy: &Envoy) -> String {
    let text = match (envoy.connected, envoy.in_sync) {
        (_, true) => "yes",
        (true, false) => "no: it has not taken everything yet, or rejected something",
        (false, false) => "no",
    };
    text.to_owned()
}

fn resources(envoy: &Envoy) -> String {
    let counts: Vec<_> = envoy.resources.iter().map(|(kind, count)| format!("{} {count}", printable(kind))).collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

fn capture(envoy: &Envoy) -> String {
    let problem = envoy.capture_problem.as_deref().map(|problem| format!("; {}", printable(problem)));
    format!("{}: {}{}", printable(&envoy.capture), printable(&envoy.capture_reason), problem.unwrap_or_default())
}

fn services(at: &ServiceAddress) -> String {
    let who = match at.served_by {
        ServiceServer::Envoy => "served by Envoy",
        ServiceServer::Registrar => "forwarded by the registrar",
        ServiceServer::Nobody => "refused",
    };
    let problem = at.problem.as_deref().map(|problem| format!("; {}", printable(problem)));
    format!("{}: {who}{}", at.address, problem.unwrap_or_default())
}

fn rejected(envoy: &Envoy, now_ms: u64) -> String {
    match &envoy.last_nack {
        None => "nothing".to_owned(),
        Some(nack) => format!("{} since the registrar started; the last {}", times(envoy.nacks), last(nack, now_ms)),
    }
}

fn last(nack: &Nack, now_ms: u64) -> String {
    let resource = nack.resource.as_deref().map(|name| format!(" {}", printable(name))).unwrap_or_default();
    let kind = printable(&nack.resource_type);
    format!("{}, of {kind}{resource}: {}", ago(now_ms, nack.time_ms), printable(&nack.message))
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envoy() -> Envoy {
        Envoy {
            connected: true,
            node_id: Some("web1".to_owned()),
            version: Some("1.40.0".to_owned()),
            in_sync: true,
            capture: "off".to_owned(),
            capture_reason: "Docker's firewall is off".to_owned(),
            capture_problem: None,
            capture_setting: "auto".to_owned(),
            docker_problem: None,
            trace_collector: None,
            capture_unproxied: false,
            service_addresses: Vec::new(),
            resources: [("listeners", 3), ("clusters", 2)].map(|(kind, count)| (kind.to_owned(), count)).into(),
            nacks: 0,
            last_nack: None,
        }
    }

    #[test]
    fn a_healthy_envoy_takes_five_short_lines() {
        let expected = "\
Envoy      connected, version 1.40.0, node id web1
In sync    yes
Resources  clusters 2, listeners 3
Capture    off: Docker's firewall is off
Rejected   nothing
";
        assert_eq!(text(&envoy(), 0), expected);
    }

    #[test]
    fn who_answers_at_each_service_address_is_said() {
        let at = |address: &str, served_by, problem: Option<&str>| ServiceAddress {
            address: address.parse().unwrap(),
            served_by,
            problem: problem.map(ToOwned::to_owned),
        };
        let service_addresses = vec![
            at("192.168.168.168", ServiceServer::Envoy, None),
            at("10.0.0.1", ServiceServer::Registrar, None),
            at("fd00::1", ServiceServer::Nobody, Some("why")),
        ];
        let text = text(&Envoy { service_addresses, ..envoy() }, 0);
        let lines = "Services   192.168.168.168: served by Envoy\n\
                     Services   10.0.0.1: forwarded by the registrar\n\
                     Services   fd00::1: refused; why\n";
        assert!(text.ends_with(lines), "{text}");
    }

    #[test]
    fn a_rejection_is_shown_with_its_age_and_cause() {
        let nack = Nack {
            resource_type: "listeners".to_owned(),
            resource: Some("port/0.0.0.0/80".to_owned()),
            message: "cannot bind '0.0.0.0:80':\nPermission denied".to_owned(),
            time_ms: 1_000,
        };
        let envoy = Envoy { in_sync: false, nacks: 2, last_nack: Some(nack), ..envoy() };
        let text = text(&envoy, 181_000);
        assert!(text.contains("In sync    no: "), "{text}");
        assert!(
            text.contains(
                "2 times since the registrar started; the last 3 min ago, of listeners port/0.0.0.0/80: \
                 cannot bind '0.0.0.0:80': Permission denied\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn an_envoy_that_is_away_is_told_from_one_that_never_came() {
        let away = Envoy { connected: false, ..envoy() };
        assert!(
            text(&away, 0).starts_with("Envoy      not connected now; the last one was version 1.40.0, node id web1: ")
        );
        let never = Envoy { connected: false, node_id: None, version: None, ..envoy() };
        assert!(text(&never, 0).starts_with("Envoy      never connected: "));
    }
}

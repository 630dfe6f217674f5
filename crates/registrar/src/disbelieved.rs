//! Addresses that a host announces and that can't be its own: other hosts' are logged once whenever they change, and
//! all are told the operator in words. Which ones those are is decided in the crate `gossip`; they are not used.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use gossip::{Disbelief, HostView};
use model::instance::Origin;
use model::{HostName, Instance};
use tracing::{info, warn};

/// The most addresses of one host that are named.
const NAMED_MAX: usize = 8;

/// What was logged last of each host of which anything is not believed.
#[derive(Debug, Default)]
pub(crate) struct Disbelieved {
    logged: HashMap<HostName, String>,
}

impl Disbelieved {
    /// The host is seen so now; `None`: it is no longer known.
    pub(crate) fn look(&mut self, host: &HostName, view: Option<&HostView>) {
        let problem = view.and_then(|view| in_words(&view.disbelieved));
        match (self.is_news(host, problem.as_deref()), problem) {
            (true, Some(problem)) => warn!(%host, problem, "a host announces what can't be its own"),
            (true, None) => info!(%host, "all addresses that the host announces are believed again"),
            (false, _) => {}
        }
    }

    fn is_news(&mut self, host: &HostName, problem: Option<&str>) -> bool {
        if self.logged.get(host).map(String::as_str) == problem {
            return false;
        }
        match problem {
            Some(problem) => self.logged.insert(host.clone(), problem.to_owned()),
            None => self.logged.remove(host),
        };
        true
    }
}

/// What is wrong with another host, as this one sees it.
pub(crate) fn problem_of(view: &HostView) -> Option<String> {
    let superseded = view.superseded_by.as_ref().map(|other| {
        format!(
            "host {other} answers at its address: it was renamed, or one of the two has a wrong --advertise-address; its \
             instances are not used from here"
        )
    });
    let problems: Vec<_> = superseded.into_iter().chain(in_words(&view.disbelieved)).collect();
    (!problems.is_empty()).then(|| problems.join("; "))
}

/// What is wrong with a host that announces these, for the operator of the host that does not believe them.
pub(crate) fn in_words(disbelieved: &[(IpAddr, Disbelief)]) -> Option<String> {
    let named = disbelieved.iter().take(NAMED_MAX);
    let mut words: Vec<_> = named.map(|(address, why)| format!("{address} ({why})")).collect();
    if disbelieved.len() > NAMED_MAX {
        words.push(format!("{} more", disbelieved.len() - NAMED_MAX));
    }
    (!words.is_empty()).then(|| format!("announces instances at {}: not used from here", words.join(", ")))
}

/// What other hosts do not believe of this one: static services at the address of a host that takes part. This host uses
/// them, as its operator says; the others can't tell whether that is a mistake, and it could lead in a circle.
pub(crate) fn of_own<'a>(
    own: impl Iterator<Item = &'a Instance>,
    members: &BTreeMap<IpAddr, &HostName>,
) -> Option<String> {
    let statics = own.filter(|instance| matches!(instance.origin, Origin::Static(_)));
    let ports = statics.flat_map(|instance| instance.ports.iter().map(move |port| (instance, port)));
    let in_words = |(instance, port): (&Instance, &model::InstancePort)| {
        let host = members.get(&port.address)?;
        Some(format!("{} at {}, the address of host {host}", instance.service.name.as_str(), port.address))
    };
    let all: BTreeSet<_> = ports.filter_map(in_words).collect();
    let mut words: Vec<_> = all.iter().take(NAMED_MAX).cloned().collect();
    if all.len() > NAMED_MAX {
        words.push(format!("{} more", all.len() - NAMED_MAX));
    }
    (!words.is_empty()).then(|| {
        format!(
            "other hosts do not use these static services: {}; have the host at that address announce them, by its own \
             static-services",
            words.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use model::instance::Text;
    use model::{EnvironmentName, InstanceKey, InstancePort, Protocol, ProxyMode, Service, ServiceName, Status};

    use super::*;

    #[test]
    fn a_static_service_at_another_hosts_address_is_named_on_the_host_that_announces_it() {
        let instance = |origin: Origin, address: &str| Instance {
            origin,
            service: Service { name: ServiceName::corrected("db").unwrap().0, environment: EnvironmentName::default() },
            ports: vec![InstancePort {
                service_port: Some(15_432),
                address: address.parse().unwrap(),
                port: 5432,
                protocol: Protocol::Tcp,
                mode: ProxyMode::Tcp,
            }],
            status: Status::Alive,
            image: Text::default(),
            version: Text::default(),
            since_ms: 0,
        };
        let entry = |number: u8| Origin::Static(InstanceKey::from_bytes([number; 6]));
        let container = Origin::Container("ab".repeat(32).parse().unwrap());
        let host: HostName = "b".parse().unwrap();
        let members = BTreeMap::from([("10.0.0.2".parse().unwrap(), &host)]);
        let good = [instance(entry(1), "10.9.9.9"), instance(container, "10.0.0.2")];
        assert_eq!(of_own(good.iter(), &members), None);
        let bad = [instance(entry(1), "10.9.9.9"), instance(entry(2), "10.0.0.2"), instance(entry(3), "10.0.0.2")];
        let said = of_own(bad.iter(), &members).unwrap();
        assert!(said.contains("services: db at 10.0.0.2, the address of host b; have the host"), "{said}");
    }

    #[test]
    fn a_host_whose_address_another_one_has_is_named_with_both_causes() {
        let view = HostView {
            name: "old".parse().unwrap(),
            address: None,
            status: gossip::HostStatus::Down,
            since: None,
            served: false,
            stamp: None,
            instances: Vec::new(),
            disbelieved: Vec::new(),
            superseded_by: Some("new".parse().unwrap()),
        };
        let said = problem_of(&view).unwrap();
        assert!(said.contains("host new answers") && said.contains("renamed") && said.contains("--advertise-address"));
        assert_eq!(problem_of(&HostView { superseded_by: None, ..view }), None);
    }

    #[test]
    fn what_is_not_believed_is_named_with_the_reason_and_bounded() {
        let address = |last| IpAddr::from([127, 0, 0, last]);
        assert_eq!(in_words(&[]), None);
        assert_eq!(
            in_words(&[(address(1), Disbelief::NotOneHost)]).unwrap(),
            "announces instances at 127.0.0.1 (it is not the address of any one host): not used from here"
        );
        let many: Vec<_> = (0..20).map(|last| (address(last), Disbelief::OwnAddress)).collect();
        let words = in_words(&many).unwrap();
        assert!(words.contains("127.0.0.7 (") && !words.contains("127.0.0.8") && words.contains("12 more"), "{words}");
    }

    #[test]
    fn it_is_logged_once_per_change() {
        let (mut disbelieved, liar, other) =
            (Disbelieved::default(), "liar".parse().unwrap(), "other".parse().unwrap());
        let mut news = |host, problem| disbelieved.is_news(host, problem);
        assert!(!news(&liar, None), "nothing is wrong and never was");
        assert!(news(&liar, Some("a")) && !news(&liar, Some("a")) && news(&liar, Some("a, b")));
        assert!(news(&other, Some("a")));
        assert!(news(&liar, None) && !news(&liar, None) && news(&liar, Some("a")));
    }
}

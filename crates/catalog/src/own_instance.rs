//! What this host announces of one of its containers, and where it is reached from here.
//!
//! A port is announced where other hosts can reach it: at the host address it is published on, with the
//! advertise address standing for any. One that is published on loopback, or not at all, can't be reached from
//! elsewhere and is not announced. Pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};

use evidence::Finding;
use model::instance::{InstancePort, Origin, PORTS_MAX, Text};
use model::labels::{ContainerFacts, Defaults};
use model::service_labels::{Announcement, SERVICE_PORT, SIDECAR_LISTENER};
use model::{Instance, InstanceKey, Protocol, ProxyMode, PublishedPort, Status};

use crate::docker_listing::{ListedContainer, ListedPort};
use crate::lessons::{Lessons, ProgramPort};

/// What holds for all containers of this host.
#[derive(Clone, Debug)]
pub struct OwnSettings {
    /// Where other hosts reach this one.
    pub advertise_address: IpAddr,
    /// Whether a container without service port labels has each of its container ports as service port.
    pub implicit_service_ports: bool,
    /// What holds where labels say nothing.
    pub defaults: Defaults,
}

/// An own instance, and where each of its ports is reached without leaving the host: by the announced address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnInstance {
    /// What is announced.
    pub instance: Instance,
    /// Announced address → container's address.
    pub local: Vec<(SocketAddr, SocketAddr)>,
    /// Where it hears of changes, without leaving the host, if it wants to and can be reached.
    pub listener: Option<SocketAddr>,
}

impl OwnInstance {
    /// The instance that a running container is; `None` where its labels keep it out of sight.
    #[must_use]
    pub fn of_container(
        listed: &ListedContainer,
        announcement: &Announcement,
        status: Status,
        settings: &OwnSettings,
        lessons: &Lessons,
    ) -> Option<Self> {
        if !announcement.discover {
            return None;
        }
        let chosen: Vec<_> =
            reachable_ports(&listed.ports, settings.advertise_address).into_iter().take(PORTS_MAX).collect();
        let facts = &listed.container.facts;
        // The service is the container's, whatever the port.
        let service = facts.meaning_for(0, &settings.defaults).service;
        let instance_port = |(address, listed): &(SocketAddr, &ListedPort)| InstancePort {
            service_port: service_port(listed.container_port, announcement, settings),
            address: address.ip(),
            port: address.port(),
            protocol: listed.published.protocol,
            mode: announced_mode(facts, listed.container_port, settings, lessons),
        };
        let local = |(announced, listed): &(SocketAddr, &ListedPort)| {
            Some((*announced, SocketAddr::new(listed.container_address?, listed.container_port)))
        };
        let instance = Instance {
            origin: Origin::Container(listed.container.id.clone()),
            service,
            ports: chosen.iter().map(instance_port).collect(),
            status,
            image: Text::cut(&facts.image),
            version: Text::cut(image_tag(&facts.image)),
            since_ms: listed.created_ms,
        };
        let local: Vec<_> = chosen.iter().filter_map(local).collect();
        let listener = announcement.listener.and_then(|wanted| listener(wanted, &instance.ports, &local));
        Some(Self { instance, local, listener })
    }

    /// Where each announced address is reached from this host: at the container itself. While it is unknown how a port is
    /// to be treated it is reached where others reach it: the port's shim is there, and looks at the answers. Not so at a
    /// service address, where a connection would come back.
    pub fn reached_from_here(
        &self,
        service_addresses: &HashSet<IpAddr>,
    ) -> impl Iterator<Item = (SocketAddr, SocketAddr)> {
        self.local.iter().map(move |(announced, direct)| {
            let is_unknown = |port: &&InstancePort| {
                port.mode == ProxyMode::Auto && SocketAddr::new(port.address, port.port) == *announced
            };
            let unknown = self.instance.ports.iter().any(|port| is_unknown(&port))
                && !service_addresses.contains(&announced.ip());
            (*announced, if unknown { *announced } else { *direct })
        })
    }

    /// Which instance of its host.
    #[must_use]
    pub fn key(&self) -> InstanceKey {
        self.instance.key()
    }
}

/// What is to be said of service ports that come to nothing, since no other host could reach them.
pub(crate) fn service_port_problems(
    announcement: &Announcement,
    listed: &ListedContainer,
    own: &OwnInstance,
) -> Vec<String> {
    let of_labels = announcement.service_ports.iter();
    of_labels
        .filter_map(|(container_port, service_port)| {
            let is_it = |port: &&ListedPort| port.container_port == *container_port;
            let is_served =
                |port: &InstancePort| port.service_port == Some(*service_port) && port.protocol == Protocol::Tcp;
            if own.instance.ports.iter().any(is_served) {
                return None;
            }
            let protocols: BTreeSet<_> =
                listed.ports.iter().filter(is_it).map(|port| port.published.protocol).collect();
            let reason = match protocols.first() {
                None => "that port of the container is not published: publish it with -p or -P".to_owned(),
                Some(Protocol::Tcp) => {
                    "it is published where other hosts can't reach it: publish it at an address of this host, or at any"
                        .to_owned()
                }
                Some(other) => format!("it is published for {other} alone, and service ports are served for tcp"),
            };
            Some(format!("label {SERVICE_PORT}_{container_port}={service_port}: {reason}"))
        })
        .collect()
}

/// How a port's traffic is treated, as far as this host knows: other hosts go by it. `auto` while it is unknown.
fn announced_mode(facts: &ContainerFacts, container_port: u16, settings: &OwnSettings, lessons: &Lessons) -> ProxyMode {
    let mode = facts.meaning_for(container_port, &settings.defaults).mode;
    let lesson = ProgramPort::of(facts, container_port).and_then(|subject| lessons.get(&subject));
    match (mode, lesson) {
        (ProxyMode::Auto, Some(Finding::Http)) => ProxyMode::Http,
        (ProxyMode::Auto, Some(Finding::Tcp(_))) => ProxyMode::Tcp,
        _ => mode,
    }
}

/// What is to be said where a container wants to hear of changes and can't.
pub(crate) fn listener_problem(announcement: &Announcement, own: &OwnInstance) -> Option<String> {
    let wanted = announcement.listener.filter(|_| own.listener.is_none())?;
    Some(format!(
        "label {SIDECAR_LISTENER}: no published TCP port of the container is service port {wanted}, so it hears nothing: \
         publish that port"
    ))
}

/// The container's own address of its service port.
fn listener(wanted: u16, ports: &[InstancePort], local: &[(SocketAddr, SocketAddr)]) -> Option<SocketAddr> {
    let is_it = |port: &&InstancePort| port.service_port == Some(wanted) && port.protocol == Protocol::Tcp;
    let port = ports.iter().find(is_it)?;
    let announced = SocketAddr::new(port.address, port.port);
    local.iter().find(|(own, _)| *own == announced).map(|(_, direct)| *direct)
}

/// One address for each container port and protocol: the first, in order, that other hosts can reach.
fn reachable_ports(ports: &[ListedPort], advertise: IpAddr) -> Vec<(SocketAddr, &ListedPort)> {
    let mut chosen: BTreeMap<(u16, Protocol), (SocketAddr, &ListedPort)> = BTreeMap::new();
    for port in ports {
        let Some(address) = announced_address(&port.published, advertise) else { continue };
        let slot = chosen.entry((port.container_port, port.published.protocol)).or_insert((address, port));
        if address < slot.0 {
            *slot = (address, port);
        }
    }
    chosen.into_values().collect()
}

/// Where other hosts reach a published port, if they can. A host by itself has loopback for its advertise address.
fn announced_address(published: &PublishedPort, advertise: IpAddr) -> Option<SocketAddr> {
    let address = published.address;
    let announced = if address.is_unspecified() { advertise } else { address };
    let is_own_alone = address.is_loopback() || address.is_multicast() || is_link_local(address);
    let reachable = address.is_ipv4() == announced.is_ipv4() && !is_own_alone;
    reachable.then_some(SocketAddr::new(announced, published.port))
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

fn service_port(container_port: u16, announcement: &Announcement, settings: &OwnSettings) -> Option<u16> {
    let implicit = settings.implicit_service_ports && !announcement.has_service_port_labels;
    let labelled = announcement.service_ports.get(&container_port).copied();
    labelled.or_else(|| implicit.then_some(container_port))
}

/// `1.2` of `shop/web:1.2`; empty where there is none.
fn image_tag(image: &str) -> &str {
    let without_digest = image.split_once('@').map_or(image, |(name, _)| name);
    let last_part = without_digest.rsplit('/').next().unwrap_or_default();
    last_part.split_once(':').map_or("", |(_, tag)| tag)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::Container;

    const ADVERTISE: &str = "10.0.0.1";

    fn listed(ports: &[(&str, u16)], labels: &[(&str, &str)]) -> ListedContainer {
        let labels: HashMap<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let facts =
            ContainerFacts { name: "x".to_owned(), image: "shop/web:1.2".to_owned(), program: String::new(), labels };
        let port = |(published, container_port): &(&str, u16)| {
            let published: SocketAddr = published.parse().unwrap();
            ListedPort {
                published: PublishedPort { address: published.ip(), port: published.port(), protocol: Protocol::Tcp },
                container_port: *container_port,
                container_address: Some("172.17.0.2".parse().unwrap()),
            }
        };
        ListedContainer {
            container: Container { id: "ab".repeat(32).parse().unwrap(), facts },
            ports: ports.iter().map(port).collect(),
            health: None,
            image_labels: None,
            created_ms: 7,
        }
    }

    fn own(listed: &ListedContainer, implicit_service_ports: bool) -> Option<OwnInstance> {
        let settings = OwnSettings {
            advertise_address: ADVERTISE.parse().unwrap(),
            implicit_service_ports,
            defaults: Defaults::default(),
        };
        let announcement = listed.container.facts.announcement(Some(&HashMap::new()));
        OwnInstance::of_container(listed, &announcement, Status::Alive, &settings, &Lessons::default())
    }

    /// (service port, announced address) of each port.
    fn announced(own: &OwnInstance) -> Vec<(Option<u16>, String)> {
        let ports = own.instance.ports.iter();
        ports.map(|port| (port.service_port, SocketAddr::new(port.address, port.port).to_string())).collect()
    }

    #[test]
    fn a_port_on_any_address_is_announced_once_at_the_advertise_address() {
        let listed = listed(&[("[::]:32000", 80), ("0.0.0.0:32000", 80)], &[("ServicePort_80", "9500")]);
        let own = own(&listed, false).unwrap();
        assert_eq!(announced(&own), [(Some(9500), "10.0.0.1:32000".to_owned())]);
        assert_eq!(own.local, [("10.0.0.1:32000".parse().unwrap(), "172.17.0.2:80".parse().unwrap())]);
        assert_eq!((own.instance.version.as_str(), own.instance.since_ms), ("1.2", 7));
    }

    #[test]
    fn a_port_is_announced_at_the_address_it_is_published_on_and_never_on_loopback() {
        let listed = listed(&[("127.0.0.1:81", 81), ("10.0.0.9:80", 80), ("169.254.1.1:82", 82)], &[]);
        assert_eq!(announced(&own(&listed, false).unwrap()), [(None, "10.0.0.9:80".to_owned())]);
    }

    #[test]
    fn a_host_by_itself_serves_its_ports_to_itself() {
        let listed = listed(&[("0.0.0.0:8080", 80)], &[("ServicePort_80", "9500")]);
        let settings = OwnSettings {
            advertise_address: [127, 0, 0, 1].into(),
            implicit_service_ports: false,
            defaults: Defaults::default(),
        };
        let announcement = listed.container.facts.announcement(Some(&HashMap::new()));
        let own =
            OwnInstance::of_container(&listed, &announcement, Status::Alive, &settings, &Lessons::default()).unwrap();
        assert_eq!(announced(&own), [(Some(9500), "127.0.0.1:8080".to_owned())]);
    }

    #[test]
    fn a_container_port_published_twice_is_one_port() {
        let listed = listed(&[("0.0.0.0:8081", 80), ("0.0.0.0:8080", 80)], &[]);
        assert_eq!(announced(&own(&listed, false).unwrap()), [(None, "10.0.0.1:8080".to_owned())]);
    }

    #[test]
    fn implicit_service_ports_are_for_containers_without_labels() {
        let plain = listed(&[("0.0.0.0:32000", 80)], &[]);
        assert_eq!(announced(&own(&plain, true).unwrap())[0].0, Some(80));
        let labelled = listed(&[("0.0.0.0:32000", 80), ("0.0.0.0:32001", 81)], &[("ServicePort_80", "9500")]);
        let ports: Vec<_> = announced(&own(&labelled, true).unwrap()).into_iter().map(|(port, _)| port).collect();
        assert_eq!(ports, [Some(9500), None]);
    }

    #[test]
    fn a_listener_is_told_at_the_containers_own_address_and_one_that_cannot_be_is_named() {
        let labels = [("ServicePort_80", "9500"), ("ServicePort_81", "9501"), ("SidecarListener", "9500")];
        let reachable = listed(&[("0.0.0.0:32001", 81), ("0.0.0.0:32000", 80)], &labels);
        let with_listener = own(&reachable, false).unwrap();
        assert_eq!(with_listener.listener, Some("172.17.0.2:80".parse().unwrap()));
        let announcement = reachable.container.facts.announcement(Some(&HashMap::new()));
        assert_eq!(listener_problem(&announcement, &with_listener), None);

        let unreachable = own(&listed(&[("127.0.0.1:32000", 80)], &labels), false).unwrap();
        assert_eq!(unreachable.listener, None);
        let problem = listener_problem(&announcement, &unreachable).unwrap();
        assert!(problem.contains("SidecarListener") && problem.contains("9500"), "{problem}");
        assert_eq!(own(&listed(&[("0.0.0.0:32000", 80)], &labels[..1]), false).unwrap().listener, None);
    }

    #[test]
    fn a_service_port_that_comes_to_nothing_is_named_with_the_reason() {
        let labels =
            ["ServicePort_80", "ServicePort_81", "ServicePort_53", "ServicePort_82"].map(|label| (label, &label[12..]));
        let mut listed = listed(&[("0.0.0.0:32000", 80), ("127.0.0.1:32001", 81), ("0.0.0.0:32002", 53)], &labels);
        listed.ports[2].published.protocol = Protocol::Udp;
        let announcement = listed.container.facts.announcement(Some(&HashMap::new()));
        let problems = service_port_problems(&announcement, &listed, &own(&listed, false).unwrap());
        let expected = [
            ("ServicePort_53=53", "udp alone"),
            ("ServicePort_81=81", "can't reach"),
            ("ServicePort_82=82", "not published"),
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, (label, reason)) in problems.iter().zip(expected) {
            assert!(problem.contains(label) && problem.contains(reason), "{problem}");
        }
    }

    #[test]
    fn a_container_that_is_not_to_be_discovered_is_not_announced() {
        assert_eq!(own(&listed(&[("0.0.0.0:80", 80)], &[("SidecarDiscover", "false")]), true), None);
    }
}

//! What Docker's answers mean in the project's nouns. Pure: no question is asked here.
//!
//! An entry that makes no sense is left out; the others count.

use std::collections::HashMap;
use std::hash::Hasher as _;
use std::net::IpAddr;

use bollard::models::{ContainerSummary, Network, NetworkInspect, PortSummary, PortSummaryTypeEnum};
use catalog::{Container, ListedContainer, ListedPort};
use fnv::FnvHasher;
use health::DockerHealth;
use model::labels::ContainerFacts;
use model::{ContainerId, Protocol, PublishedPort};
use nix::sys::signal::Signal;

use super::reach::{self, Drivers};

/// The ids of the networks that can hold one of these addresses, by their subnets.
pub(crate) fn networks_holding<'a>(networks: &'a [Network], addresses: &[IpAddr]) -> Vec<&'a str> {
    let holds = |network: &&Network| {
        let configs = network.ipam.as_ref().and_then(|ipam| ipam.config.as_ref());
        let mut subnets = configs.into_iter().flatten().filter_map(|config| Subnet::parse(config.subnet.as_deref()?));
        subnets.any(|subnet| addresses.iter().any(|address| subnet.contains(*address)))
    };
    networks.iter().filter(holds).filter_map(|network| network.id.as_deref()).collect()
}

/// Which containers of this network have one of these addresses. Endpoints that belong to no container
/// (their ids begin with `ep-`) are left out.
pub(crate) fn containers_at(network: &NetworkInspect, addresses: &[IpAddr]) -> HashMap<IpAddr, ContainerId> {
    let mut found = HashMap::new();
    for (id, endpoint) in network.containers.iter().flatten() {
        let Ok(id) = id.parse::<ContainerId>() else { continue };
        let own = [&endpoint.ipv4_address, &endpoint.ipv6_address];
        for address in own.into_iter().flatten().filter_map(|text| without_mask(text)) {
            if addresses.contains(&address) {
                found.insert(address, id.clone());
            }
        }
    }
    found
}

/// The container of a listing's entry.
pub(crate) fn container(summary: &ContainerSummary) -> Option<Container> {
    let names = summary.names.iter().flatten();
    // The names that links give hold more slashes.
    let name = names.filter_map(|name| name.strip_prefix('/')).find(|name| !name.contains('/'));
    let facts = ContainerFacts {
        name: name.unwrap_or_default().to_owned(),
        image: summary.image.clone().unwrap_or_default(),
        program: program(summary).unwrap_or_default(),
        labels: summary.labels.clone().unwrap_or_default(),
    };
    Some(Container { id: summary.id.as_ref()?.parse().ok()?, facts })
}

/// What runs in the container. The command may be long, so a hash stands for it.
fn program(summary: &ContainerSummary) -> Option<String> {
    let mut hasher = FnvHasher::default();
    hasher.write(summary.command.as_ref()?.as_bytes());
    Some(format!("{} {:016x}", summary.image_id.as_ref()?, hasher.finish()))
}

/// A running container of a listing's entry, with its published ports.
pub(super) fn listed_container(summary: &ContainerSummary, drivers: &Drivers) -> Option<ListedContainer> {
    let address = reach::address(summary, drivers);
    let ports = summary.ports.iter().flatten().filter_map(|port| listed_port(port, address)).collect();
    let created_ms = summary.created.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0).saturating_mul(1000);
    let health = summary.status.as_deref().and_then(health_in);
    Some(ListedContainer { container: container(summary)?, ports, health, image_labels: None, created_ms })
}

/// The number of a signal that Docker names as `15`, `SIGTERM` or `TERM`.
pub(crate) fn signal_number(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse() {
        return Some(number);
    }
    let full = if name.starts_with("SIG") { name.to_owned() } else { format!("SIG{name}") };
    full.parse::<Signal>().ok().map(|signal| signal as i32)
}

/// Docker's word in a listing's status, such as `Up 3 minutes (healthy)` or `Up 1 second (health: starting)`.
fn health_in(status: &str) -> Option<DockerHealth> {
    let (_, in_parentheses) = status.strip_suffix(')')?.rsplit_once('(')?;
    DockerHealth::from_docker(in_parentheses.strip_prefix("health: ").unwrap_or(in_parentheses))
}

/// `None` for a port that is exposed but not published.
fn listed_port(port: &PortSummary, container_address: Option<IpAddr>) -> Option<ListedPort> {
    let protocol = match port.typ? {
        PortSummaryTypeEnum::TCP => Protocol::Tcp,
        PortSummaryTypeEnum::UDP => Protocol::Udp,
        PortSummaryTypeEnum::SCTP => Protocol::Sctp,
        PortSummaryTypeEnum::EMPTY => return None,
    };
    let published = PublishedPort { address: port.ip.as_ref()?.parse().ok()?, port: port.public_port?, protocol };
    Some(ListedPort { published, container_port: port.private_port, container_address })
}

/// An address range in CIDR notation (RFC 4632, RFC 4291).
struct Subnet {
    base: IpAddr,
    prefix_length: u32,
}

impl Subnet {
    fn parse(text: &str) -> Option<Self> {
        let (base, prefix_length) = text.split_once('/')?;
        let base = base.parse().ok()?;
        let prefix_length = prefix_length.parse().ok()?;
        let longest = if matches!(base, IpAddr::V4(_)) { 32 } else { 128 };
        (prefix_length <= longest).then_some(Self { base, prefix_length })
    }

    fn contains(&self, address: IpAddr) -> bool {
        match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(address)) => {
                let differing = base.to_bits() ^ address.to_bits();
                differing.checked_shr(32 - self.prefix_length).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(address)) => {
                let differing = base.to_bits() ^ address.to_bits();
                differing.checked_shr(128 - self.prefix_length).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

/// Docker writes the addresses of endpoints with their network's mask: `172.17.0.2/16`.
fn without_mask(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_networks_whose_subnet_holds_an_address_are_asked() {
        let networks: Vec<Network> = serde_json::from_str(
            r#"[
                {"Id": "bridge", "IPAM": {"Config": [{"Subnet": "172.17.0.0/16"}]}},
                {"Id": "six", "IPAM": {"Config": [{"Subnet": "172.18.0.0/16"}, {"Subnet": "fd00:1::/64"}]}},
                {"Id": "all", "IPAM": {"Config": [{"Subnet": "0.0.0.0/0"}]}},
                {"Id": "odd", "IPAM": {"Config": [{"Subnet": "nonsense"}, {"Subnet": "10.0.0.0/33"}, {}]}},
                {"Id": "host", "IPAM": {"Config": null}}
            ]"#,
        )
        .unwrap();
        assert_eq!(networks_holding(&networks, &[ip("172.17.255.255")]), ["bridge", "all"]);
        assert_eq!(networks_holding(&networks, &[ip("fd00:1::2")]), ["six"]);
        assert_eq!(networks_holding(&networks, &[ip("fd00:2::2")]), Vec::<&str>::new());
    }

    #[test]
    fn a_container_is_found_by_either_of_its_addresses_and_a_foreign_endpoint_is_not() {
        let network: NetworkInspect = serde_json::from_str(&format!(
            r#"{{"Containers": {{
                "{ID}": {{"IPv4Address": "172.17.0.2/16", "IPv6Address": "fd00::2/64"}},
                "ep-0011": {{"IPv4Address": "172.17.0.3/16", "IPv6Address": ""}}
            }}}}"#
        ))
        .unwrap();
        let wanted = [ip("172.17.0.2"), ip("172.17.0.3"), ip("fd00::2")];
        let mut found: Vec<_> = containers_at(&network, &wanted).into_keys().collect();
        found.sort();
        assert_eq!(found, [ip("172.17.0.2"), ip("fd00::2")]);
    }

    #[test]
    fn a_listing_gives_name_labels_and_published_ports_alone() {
        let summary: ContainerSummary = serde_json::from_str(&format!(
            r#"{{"Id": "{ID}", "Names": ["/other/alias", "/web"], "Image": "web:1", "Labels": {{"ServiceName": "a"}},
                "Ports": [
                    {{"IP": "::", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"}},
                    {{"PrivatePort": 81, "Type": "tcp"}}
                ],
                "NetworkSettings": {{"Networks": {{"bridge": {{"IPAddress": "172.17.0.2"}}}}}}}}"#
        ))
        .unwrap();
        let listed = listed_container(&summary, &Drivers::default()).unwrap();
        assert_eq!(listed.container.facts.name, "web");
        assert_eq!(listed.container.facts.labels["ServiceName"], "a");
        assert_eq!(listed.ports.len(), 1);
        assert_eq!(listed.ports[0].published.to_string(), "[::]:8080/tcp");
        assert_eq!(listed.ports[0].container_address, Some(ip("172.17.0.2")));
    }

    #[test]
    fn a_signal_has_one_number_however_it_is_named() {
        for name in ["15", "SIGTERM", "TERM"] {
            assert_eq!(signal_number(name), Some(15), "{name}");
        }
        assert_eq!(signal_number("SIGQUIT"), Some(3));
        assert_eq!(signal_number("SHINY"), None);
    }

    #[test]
    fn dockers_word_on_health_stands_in_the_status() {
        assert_eq!(health_in("Up 3 minutes (healthy)"), Some(DockerHealth::Healthy));
        assert_eq!(health_in("Up 3 minutes (unhealthy)"), Some(DockerHealth::Unhealthy));
        assert_eq!(health_in("Up 1 second (health: starting)"), Some(DockerHealth::Starting));
        for none in ["Up 3 minutes", "Up 2 hours (Paused)", ""] {
            assert_eq!(health_in(none), None, "{none}");
        }
    }

    #[test]
    fn an_entry_without_a_usable_id_is_left_out() {
        assert_eq!(
            listed_container(
                &ContainerSummary { id: Some("abc".to_owned()), ..Default::default() },
                &Drivers::default()
            ),
            None
        );
    }
}

//! At which of its addresses the host reaches a container. Pure.
//!
//! The host is part of every bridge network. It is no part of a macvlan, ipvlan or overlay network, even where such a
//! network has a gateway: a container's address there leads nowhere from this host, or to another machine.

use std::collections::HashMap;
use std::net::IpAddr;

use bollard::models::{ContainerSummary, EndpointSettings, Network};

/// Networks of these drivers have addresses that their host does not reach.
const OUT_OF_REACH: [&str; 5] = ["macvlan", "ipvlan", "overlay", "host", "null"];

/// The driver of each network, by the network's id. Empty where Docker does not tell.
#[derive(Debug, Default)]
pub(super) struct Drivers(HashMap<String, String>);

impl Drivers {
    pub(super) fn of(networks: Vec<Network>) -> Self {
        Self(networks.into_iter().filter_map(|network| Some((network.id?, network.driver?))).collect())
    }

    fn of_network(&self, network: &EndpointSettings) -> Option<&str> {
        self.0.get(network.network_id.as_deref()?).map(String::as_str)
    }
}

/// The address at which the host reaches the container, if there is one: on a bridge where it has one, and there where
/// it has a gateway. Among equals the first network by name counts, so that it is the same one every time.
pub(super) fn address(summary: &ContainerSummary, drivers: &Drivers) -> Option<IpAddr> {
    let networks = summary.network_settings.as_ref().and_then(|settings| settings.networks.as_ref());
    let ranked = networks
        .into_iter()
        .flatten()
        .filter_map(|(name, network)| Some((rank(network, drivers.of_network(network))?, name, address_on(network)?)));
    ranked.min().map(|(_, _, address)| address)
}

/// The lower the better; `None` for what is out of reach.
fn rank(network: &EndpointSettings, driver: Option<&str>) -> Option<(bool, bool)> {
    // An internal network has no gateway.
    let has_no_gateway = network.gateway.as_ref().is_none_or(String::is_empty);
    match driver {
        Some(driver) if OUT_OF_REACH.contains(&driver) => None,
        driver => Some((driver != Some("bridge"), has_no_gateway)),
    }
}

fn address_on(network: &EndpointSettings) -> Option<IpAddr> {
    let both = [&network.ip_address, &network.global_ipv6_address];
    both.into_iter().flatten().find_map(|text| text.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The address of a container on these networks: name (also the id), address and gateway.
    fn chosen(networks: &[(&str, &str, &str)], drivers: &[(&str, &str)]) -> Option<String> {
        let networks: serde_json::Map<_, _> = networks
            .iter()
            .map(|(name, ip, gateway)| {
                let network = serde_json::json!({"NetworkID": name, "IPAddress": ip, "Gateway": gateway});
                ((*name).to_owned(), network)
            })
            .collect();
        let summary = serde_json::json!({"NetworkSettings": {"Networks": networks}});
        let drivers = drivers.iter().map(|(id, driver)| ((*id).to_owned(), (*driver).to_owned())).collect();
        let summary = serde_json::from_value(summary).unwrap();
        address(&summary, &Drivers(drivers)).map(|address| address.to_string())
    }

    #[test]
    fn a_network_that_the_host_can_not_reach_gives_no_address() {
        let both = [("a-lan", "192.0.2.7", "192.0.2.1"), ("b", "172.18.0.2", "172.18.0.1")];
        for driver in OUT_OF_REACH {
            assert_eq!(chosen(&both, &[("a-lan", driver), ("b", "bridge")]).as_deref(), Some("172.18.0.2"), "{driver}");
            assert_eq!(chosen(&both[..1], &[("a-lan", driver)]), None, "{driver}");
        }
    }

    #[test]
    fn a_bridge_comes_before_a_driver_that_nobody_knows_and_that_before_nothing() {
        let both = [("a", "172.18.0.2", "172.18.0.1"), ("b", "172.19.0.2", "")];
        assert_eq!(chosen(&both, &[("a", "weave"), ("b", "bridge")]).as_deref(), Some("172.19.0.2"));
        assert_eq!(chosen(&both, &[]).as_deref(), Some("172.18.0.2"), "drivers may not be told");
    }

    #[test]
    fn of_several_bridges_the_first_by_name_with_a_gateway_counts() {
        let three = [("a", "172.20.0.2", ""), ("c", "172.19.0.2", "172.19.0.1"), ("b", "172.18.0.2", "172.18.0.1")];
        let bridges = ["a", "b", "c"].map(|name| (name, "bridge"));
        assert_eq!(chosen(&three, &bridges).as_deref(), Some("172.18.0.2"));
        assert_eq!(chosen(&three[..1], &bridges).as_deref(), Some("172.20.0.2"), "an internal bridge is reached too");
    }

    #[test]
    fn a_network_without_addresses_is_passed_over() {
        let both = [("a", "", ""), ("b", "172.18.0.2", "172.18.0.1")];
        assert_eq!(chosen(&both, &[]).as_deref(), Some("172.18.0.2"));
    }
}

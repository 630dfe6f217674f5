//! The command that opens ports, in the words of whoever keeps the rules that close them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::rules::Manager;

/// The most ports that one command names: `multiport` takes 15.
const PORTS_MAX: usize = 15;

/// A port that is to be opened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Opening {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// At this address of the host; `0.0.0.0` and `::` stand for any.
    pub address: IpAddr,
    /// The port as INPUT sees it.
    pub port: u16,
}

/// Commands that open all of them, in the table and base chain that closed them.
pub(crate) fn commands(manager: &Manager, chain: &str, openings: &[Opening]) -> Vec<String> {
    let mut groups: BTreeMap<(String, Option<IpAddr>, bool), Vec<u16>> = BTreeMap::new();
    for Opening { protocol, address, port } in openings {
        let at = (!address.is_unspecified()).then_some(*address);
        let is_ip6 = address.is_ipv6() && !covers_both(manager);
        let ports = groups.entry((protocol.clone(), at, is_ip6)).or_default();
        if !ports.contains(port) {
            ports.push(*port);
        }
    }
    let command = |((protocol, at, is_ip6), mut ports): ((String, Option<IpAddr>, bool), Vec<u16>)| {
        ports.sort_unstable();
        let chunks = ports.chunks(PORTS_MAX);
        chunks.map(|ports| command(manager, chain, &protocol, at, is_ip6, ports)).collect::<Vec<_>>()
    };
    groups.into_iter().flat_map(command).collect()
}

/// Whether one command opens a port for IPv4 and IPv6.
fn covers_both(manager: &Manager) -> bool {
    match manager {
        Manager::Ufw | Manager::Firewalld => true,
        Manager::Iptables { .. } => false,
        Manager::Nft { family, .. } => family == "inet",
    }
}

fn command(manager: &Manager, chain: &str, protocol: &str, at: Option<IpAddr>, is_ip6: bool, ports: &[u16]) -> String {
    let joined = |separator: &str| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(separator);
    match manager {
        Manager::Ufw => match at {
            None => format!("ufw allow {}/{protocol}", joined(",")),
            Some(at) => format!("ufw allow proto {protocol} to {at} port {}", joined(",")),
        },
        Manager::Firewalld => {
            let ports: Vec<_> = ports.iter().map(|port| format!("--add-port={port}/{protocol}")).collect();
            let ports = ports.join(" ");
            format!("firewall-cmd {ports} && firewall-cmd --permanent {ports}")
        }
        Manager::Iptables { is_legacy, table } => {
            let program = match (is_ip6, is_legacy) {
                (false, false) => "iptables",
                (true, false) => "ip6tables",
                (false, true) => "iptables-legacy",
                (true, true) => "ip6tables-legacy",
            };
            let table = if table == "filter" { String::new() } else { format!(" -t {table}") };
            let at = at.map(|at| format!(" -d {at}")).unwrap_or_default();
            let ports = match ports {
                [port] => format!("--dport {port}"),
                _ => format!("-m multiport --dports {}", joined(",")),
            };
            format!("{program}{table} -I {chain}{at} -p {protocol} {ports} -j ACCEPT")
        }
        Manager::Nft { family, table } => {
            let at =
                at.map(|at| format!("{} daddr {at} ", if at.is_ipv6() { "ip6" } else { "ip" })).unwrap_or_default();
            let ports = match ports {
                [port] => port.to_string(),
                _ => format!("'{{ {} }}'", joined(", ")),
            };
            format!("nft insert rule {family} {table} {chain} {at}{protocol} dport {ports} accept")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opening(address: &str, port: u16) -> Opening {
        Opening { protocol: "tcp".to_owned(), address: address.parse().unwrap(), port }
    }

    fn by(manager: &Manager, openings: &[Opening]) -> Vec<String> {
        commands(manager, "INPUT", openings)
    }

    #[test]
    fn ufw_takes_one_command_for_both_families() {
        let both = [opening("::", 8080), opening("0.0.0.0", 8080), opening("0.0.0.0", 8081)];
        assert_eq!(by(&Manager::Ufw, &both), ["ufw allow 8080,8081/tcp"]);
        assert_eq!(by(&Manager::Ufw, &[opening("10.0.0.1", 80)]), ["ufw allow proto tcp to 10.0.0.1 port 80"]);
    }

    #[test]
    fn firewalld_is_told_for_now_and_for_good() {
        let expected = "firewall-cmd --add-port=8080/tcp && firewall-cmd --permanent --add-port=8080/tcp";
        assert_eq!(by(&Manager::Firewalld, &[opening("0.0.0.0", 8080)]), [expected]);
    }

    #[test]
    fn iptables_takes_one_command_for_each_family() {
        let own = |is_legacy| Manager::Iptables { is_legacy, table: "filter".to_owned() };
        let both = [opening("0.0.0.0", 8080), opening("::", 8080)];
        let expected =
            ["iptables -I INPUT -p tcp --dport 8080 -j ACCEPT", "ip6tables -I INPUT -p tcp --dport 8080 -j ACCEPT"];
        assert_eq!(by(&own(false), &both), expected);
        let two = [opening("10.0.0.1", 80), opening("10.0.0.1", 81)];
        let expected = "iptables-legacy -I INPUT -d 10.0.0.1 -p tcp -m multiport --dports 80,81 -j ACCEPT";
        assert_eq!(by(&own(true), &two), [expected]);
    }

    #[test]
    fn nftables_is_told_by_table_and_chain() {
        let own = Manager::Nft { family: "inet".to_owned(), table: "mine".to_owned() };
        let both = [opening("0.0.0.0", 8080), opening("::", 8080)];
        assert_eq!(commands(&own, "input", &both), ["nft insert rule inet mine input tcp dport 8080 accept"]);
        let two = [opening("fd00::1", 80), opening("fd00::1", 81)];
        let expected = "nft insert rule inet mine input ip6 daddr fd00::1 tcp dport '{ 80, 81 }' accept";
        assert_eq!(commands(&own, "input", &two), [expected]);
    }

    #[test]
    fn no_command_names_more_ports_than_multiport_takes() {
        let many: Vec<_> = (1..=31).map(|port| opening("0.0.0.0", port)).collect();
        assert_eq!(by(&Manager::Ufw, &many).len(), 3);
    }
}

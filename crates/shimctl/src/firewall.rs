//! What this host's firewall does with a new connection that comes to one of its own ports.
//!
//! `rules` is the model, `nft` and `iptables` make it of what those programs print, `walk` sends a packet through it, and
//! `reach` asks that for a port of the host, and `allow` names
//! the command that opens it. All of it is pure; `read` runs the programs.

mod allow;
mod interfaces;
mod iptables;
mod nft;
mod reach;
mod read;
mod rules;
mod walk;

#[cfg(test)]
pub(crate) use interfaces::Side;
pub(crate) use interfaces::{Interface, interfaces};
pub(crate) use reach::{Door, Kind, Reach, door_of, openers, reach};
pub(crate) use read::{Firewall, read};
pub(crate) use walk::Cause;

/// A firewall of these rules, as `iptables-save` (of `nf_tables`) prints them, for tests of those who judge.
#[cfg(test)]
pub(crate) fn of_iptables(saved: &str) -> Firewall {
    let tables = iptables::parse(&format!("# (nf_tables)\n{saved}"), rules::Family::Ip4);
    Firewall { rules: rules::Ruleset { tables }, unseen: None }
}

/// Interfaces as most hosts have them, for tests of those who judge.
#[cfg(test)]
pub(crate) fn usual_interfaces() -> Vec<Interface> {
    let of =
        |name: &str, address: &str, side| Interface { name: name.to_owned(), address: address.parse().unwrap(), side };
    vec![
        of("lo", "127.0.0.1", Side::Loopback),
        of("eth0", "10.0.0.1", Side::Default),
        of("eth0", "fd00::1", Side::Default),
        of("eth1", "10.1.0.1", Side::Others),
        of("docker0", "172.17.0.1", Side::Containers),
    ]
}

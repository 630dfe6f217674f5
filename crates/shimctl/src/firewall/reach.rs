//! Whether those who should can reach a port of this host, as far as its firewall decides.

use std::net::IpAddr;

use admin_api::{Envoy, Port, ServedBy};

use super::Firewall;
use super::allow::{Opening, commands};
use super::interfaces::{Interface, Side};
use super::rules::Manager;
use super::walk::{Cause, Fate, Packet, Sender, fate};

/// The port at which INPUT sees connections to service ports.
const SERVICES: u16 = 15001;
/// The port at which INPUT sees connections to ports without a shim.
const UNPROXIED: u16 = 15002;

/// A port of this host that others are to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    /// What it is for.
    pub kind: Kind,
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The host's address; `0.0.0.0` and `::` stand for any.
    pub address: IpAddr,
    /// The port that clients mean.
    pub port: u16,
    /// The port that INPUT sees, where that is another one.
    pub translated_to: Option<u16>,
}

/// What a port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A port that a container publishes: other hosts come to it.
    Published,
    /// All service ports at one address: this host's containers come to them.
    Service,
    /// Gossip: the cluster's hosts come to it.
    Gossip,
}

/// Whether they reach it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// They do.
    Open,
    /// They don't.
    Closed(Cause),
    /// Some senders do, or those by some interfaces; this keeps the others out.
    ForSome(Cause),
    /// This rule is not understood.
    Unclear(Cause),
}

/// A published port as others come to it; `None` where INPUT has no say: at a loopback address, and where Docker's own
/// rules lead straight to the container. `has_firewall`: whether Docker's firewall is on.
pub(crate) fn door_of(port: &Port, envoy: &Envoy, has_firewall: bool) -> Option<Door> {
    let is_diverted = port.protocol == "tcp" && port.proxy_mode.as_deref() != Some("none");
    let comes_here = match envoy.capture.as_str() {
        "divert" => is_diverted && (port.shim_pid.is_some() || port.served_by == ServedBy::Envoy),
        "off" => !has_firewall && port.shim_pid.is_some(),
        _ => false,
    };
    let door = Door {
        kind: Kind::Published,
        protocol: port.protocol.clone(),
        address: port.host_address,
        port: port.host_port,
        translated_to: (port.shim_pid.is_none() && envoy.capture_unproxied).then_some(UNPROXIED),
    };
    (comes_here && !port.host_address.is_loopback()).then_some(door)
}

impl Door {
    /// The service ports at a service address.
    pub(crate) fn of_services(address: IpAddr, port: u16) -> Self {
        Self { kind: Kind::Service, protocol: "tcp".to_owned(), address, port, translated_to: Some(SERVICES) }
    }

    /// The packets that have to pass: one for each way in.
    fn packets(&self, interfaces: &[Interface]) -> Vec<(Side, Packet)> {
        let packet = |destination, via: &Interface, sender| Packet {
            protocol: self.protocol.clone(),
            destination,
            port: self.port,
            translated_to: self.translated_to,
            interface: via.name.clone(),
            sender,
        };
        let family = |own: &&Interface| own.address.is_ipv4() == self.address.is_ipv4();
        if self.kind == Kind::Service {
            let bridges = interfaces.iter().filter(|own| own.side == Side::Containers).filter(family);
            // Any address of the network will do; the bridge's own is one.
            return bridges.map(|own| (own.side, packet(self.address, own, Sender::Known(own.address)))).collect();
        }
        let is_its = |own: &&Interface| self.address.is_unspecified() || own.address == self.address;
        let outer = interfaces.iter().filter(|own| matches!(own.side, Side::Default | Side::Others));
        outer.filter(family).filter(is_its).map(|own| (own.side, packet(own.address, own, Sender::Anybody))).collect()
    }
}

/// Whether they reach it.
pub(crate) fn reach(door: &Door, firewall: &Firewall, interfaces: &[Interface]) -> Reach {
    let packets = door.packets(interfaces);
    let has_default = packets.iter().any(|(side, _)| *side == Side::Default);
    let mut all = Reach::Open;
    for (side, packet) in packets {
        let counts = side != Side::Others || !has_default;
        let own = match fate(&firewall.rules, &packet) {
            Fate::Open => continue,
            Fate::Unclear(cause) => Reach::Unclear(cause),
            Fate::Closed(cause) if counts && !lets_some_in(&packet, firewall) => return Reach::Closed(cause),
            Fate::Closed(cause) => Reach::ForSome(cause),
        };
        if all == Reach::Open {
            all = own;
        }
    }
    all
}

/// Whether a rule lets some senders in whom it names.
fn lets_some_in(packet: &Packet, firewall: &Firewall) -> bool {
    let favoured = Packet { sender: Sender::Favoured, ..packet.clone() };
    packet.sender == Sender::Anybody && fate(&firewall.rules, &favoured) == Fate::Open
}

impl Cause {
    /// Who closes it, as an operator says it.
    pub(crate) fn in_words(&self) -> String {
        let who = match &self.manager {
            Manager::Ufw => "ufw".to_owned(),
            Manager::Firewalld => "firewalld".to_owned(),
            Manager::Iptables { is_legacy: true, .. } => "iptables (legacy)".to_owned(),
            Manager::Iptables { is_legacy: false, .. } => "iptables".to_owned(),
            Manager::Nft { family, table } => format!("the nftables table {family} {table}"),
        };
        match &self.rule {
            Some(rule) => format!("{who}, by the rule {rule}"),
            None => format!("{who}, which denies by default (the policy of its chain {} is drop)", self.chain),
        }
    }

    /// Who closes it.
    pub(crate) fn chain(&self) -> (&Manager, &str) {
        (&self.manager, &self.chain)
    }
}

/// Commands that open doors that one chain closes.
pub(crate) fn openers(doors: &[(&Door, &Cause)]) -> Vec<String> {
    let Some((_, first)) = doors.first() else { return Vec::new() };
    let opening = |(door, cause): &(&Door, &Cause)| Opening {
        protocol: door.protocol.clone(),
        address: door.address,
        port: cause.port,
    };
    let openings: Vec<_> = doors.iter().map(opening).collect();
    commands(&first.manager, &first.chain, &openings)
}

#[cfg(test)]
#[path = "reach_tests.rs"]
mod tests;

//! The model: tables of chains of rules, as far as they decide on packets for this host's own ports.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;

/// All rules that were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    /// Every table with a chain at a hook that matters.
    pub tables: Vec<Table>,
}

/// Chains that can jump to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// Whose command line changes it.
    pub manager: Manager,
    /// Whose packets it sees.
    pub family: Family,
    /// Its chains by name.
    pub chains: BTreeMap<String, Chain>,
}

/// Who keeps a table: what an operator has to use to change it for good.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Manager {
    /// ufw, by iptables.
    Ufw,
    /// firewalld, by nftables or iptables.
    Firewalld,
    /// iptables or ip6tables by hand; `table` is `filter` mostly.
    Iptables { is_legacy: bool, table: String },
    /// nftables by hand.
    Nft { family: String, table: String },
}

/// Whose packets a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4 alone.
    Ip4,
    /// IPv6 alone.
    Ip6,
    /// Both.
    Both,
}

impl Family {
    /// Whether packets to `address` come to its chains.
    pub(crate) fn sees(self, address: IpAddr) -> bool {
        match self {
            Self::Ip4 => address.is_ipv4(),
            Self::Ip6 => address.is_ipv6(),
            Self::Both => true,
        }
    }
}

/// Rules in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Where the kernel enters it; `None` where only a jump leads to it.
    pub base: Option<Base>,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// A chain that the kernel enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    /// Where.
    pub hook: Hook,
    /// What becomes of packets that no rule decided on.
    pub policy: Verdict,
}

/// The hooks that a packet for this host passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    /// Before its address is translated.
    Prerouting,
    /// After that.
    Input,
}

/// What a rule or a policy decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Let in.
    Accept,
    /// Dropped or rejected.
    Drop,
}

/// If all conditions hold, the action is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    /// Conditions.
    pub conditions: Vec<Condition>,
    /// Action.
    pub action: Action,
    /// The rule as an operator finds it again.
    pub text: String,
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Decides.
    Decide(Verdict),
    /// Goes through another chain, and comes back.
    Jump(String),
    /// Goes through another chain, and does not come back.
    Goto(String),
    /// Goes back to where the chain was entered from.
    Return,
    /// Changes nothing about the packet's way: a counter, a log.
    Continue,
    /// This program does not know what it does.
    Unknown,
}

/// One test of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Condition {
    /// What is tested.
    pub test: Test,
    /// Whether the test has to fail.
    pub negated: bool,
}

/// What is tested.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Test {
    /// The same for every new connection from elsewhere: `true` for "is it the first packet", say.
    Always(bool),
    /// `ip` or `ip6`.
    IsIp6,
    /// One of these, in lower case: `tcp`.
    Protocol(Vec<String>),
    /// The destination's port.
    Port(Vec<RangeInclusive<u16>>),
    /// The destination's address.
    Destination(Vec<Network>),
    /// The interface that it came in by; a `*` at the end stands for anything.
    Interface(Vec<String>),
    /// Whether its destination was translated before.
    Translated,
    /// The sender's address.
    Source(Vec<Network>),
    /// Something else about the sender that singles some out: a list of addresses, say.
    SomeSenders,
    /// This program does not know.
    Unknown,
}

/// Addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Network {
    /// The first one.
    pub first: IpAddr,
    /// The last one.
    pub last: IpAddr,
}

impl Network {
    /// `ADDRESS`, `ADDRESS/LENGTH` or `ADDRESS/MASK`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
        let address: IpAddr = address.parse().ok()?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => bits,
            Some(length) => match length.parse::<u32>() {
                Ok(length) => length,
                Err(_) => u32::from(length.parse::<std::net::Ipv4Addr>().ok()?).leading_ones(),
            },
        };
        (length <= bits).then(|| Self::of(address, length))
    }

    fn of(address: IpAddr, length: u32) -> Self {
        match address {
            IpAddr::V4(address) => {
                let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
                let bits = u32::from(address);
                Self { first: IpAddr::V4((bits & !hosts).into()), last: IpAddr::V4((bits | hosts).into()) }
            }
            IpAddr::V6(address) => {
                let hosts = u128::MAX.checked_shr(length).unwrap_or(0);
                let bits = u128::from(address);
                Self { first: IpAddr::V6((bits & !hosts).into()), last: IpAddr::V6((bits | hosts).into()) }
            }
        }
    }

    /// Whether `address` is one of them.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && (self.first..=self.last).contains(&address)
    }

    /// Whether it holds all addresses of its family.
    pub(crate) fn is_all(&self) -> bool {
        *self == Self::of(self.first, 0)
    }
}

impl Test {
    /// As a condition that has to hold.
    pub(crate) fn holds(self) -> Condition {
        Condition { test: self, negated: false }
    }
}

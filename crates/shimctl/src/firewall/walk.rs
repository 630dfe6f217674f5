//! A packet's walk: what becomes of the first packet of a new connection.
//!
//! Where a rule can't be understood both ways are walked; if they lead to different ends, the end is not clear.

use std::net::IpAddr;

use super::rules::{Action, Chain, Condition, Hook, Manager, Network, Rule, Ruleset, Table, Test, Verdict};

/// The most rules that one packet is tried on. More is no firewall that people write.
const STEPS_MAX: usize = 200_000;
/// The deepest jump. The kernel allows 16.
const DEPTH_MAX: usize = 32;

/// The first packet of a new connection to this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Packet {
    /// `tcp` or `udp`.
    pub protocol: String,
    /// The address that it is for.
    pub destination: IpAddr,
    /// The port that the client means.
    pub port: u16,
    /// The port that INPUT sees, where the registrar's table translates it.
    pub translated_to: Option<u16>,
    /// The interface that it comes in by.
    pub interface: String,
    /// Who sends it.
    pub sender: Sender,
}

/// Who sends a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// Somebody whom no rule singles out.
    Anybody,
    /// Somebody whom every rule that lets some senders in singles out, and none that keeps some out.
    Favoured,
    /// This address.
    Known(IpAddr),
}

/// What becomes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It comes to whoever listens.
    Open,
    /// It is dropped or rejected.
    Closed(Cause),
    /// This program can't tell, because of this rule.
    Unclear(Cause),
}

/// Which rule or policy decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    /// Who keeps the table.
    pub manager: Manager,
    /// The base chain that was walked.
    pub chain: String,
    /// The rule's text; `None` for the chain's policy.
    pub rule: Option<String>,
    /// The port as this chain sees it.
    pub port: u16,
}

/// What becomes of `packet` by all of the rules.
pub(crate) fn fate(ruleset: &Ruleset, packet: &Packet) -> Fate {
    let mut unclear = None;
    for table in ruleset.tables.iter().filter(|table| table.family.sees(packet.destination)) {
        for (name, chain) in &table.chains {
            let Some(base) = chain.base else { continue };
            let mut walk = Walk { table, base: name, hook: base.hook, packet, steps: 0 };
            let mut ends = walk.chain(chain, 0);
            if ends.is_through {
                match base.policy {
                    Verdict::Accept => ends.is_open = true,
                    Verdict::Drop => ends.closed = ends.closed.or_else(|| Some(walk.cause(None))),
                }
            }
            match ends.closed {
                Some(cause) if ends.is_known && !ends.is_open => return Fate::Closed(cause),
                None if ends.is_known => {}
                _ => unclear = unclear.or(ends.doubt),
            }
        }
    }
    unclear.map_or(Fate::Open, Fate::Unclear)
}

/// How a walk may end: in more than one way where a rule is not understood.
#[derive(Debug)]
struct Ends {
    is_open: bool,
    closed: Option<Cause>,
    /// No rule decided, or one returned.
    is_through: bool,
    /// No end is missing here.
    is_known: bool,
    /// The first rule that was not understood.
    doubt: Option<Cause>,
}

impl Ends {
    const fn none() -> Self {
        Self { is_open: false, closed: None, is_through: false, is_known: true, doubt: None }
    }

    fn unknown(cause: Cause) -> Self {
        Self { is_known: false, doubt: Some(cause), ..Self::none() }
    }

    fn or(self, other: Self) -> Self {
        Self {
            is_open: self.is_open || other.is_open,
            closed: self.closed.or(other.closed),
            is_through: self.is_through || other.is_through,
            is_known: self.is_known && other.is_known,
            doubt: self.doubt.or(other.doubt),
        }
    }
}

struct Walk<'a> {
    table: &'a Table,
    base: &'a str,
    hook: Hook,
    packet: &'a Packet,
    steps: usize,
}

impl Walk<'_> {
    fn chain(&mut self, chain: &Chain, depth: usize) -> Ends {
        let mut ends = Ends::none();
        for rule in &chain.rules {
            self.steps += 1;
            if self.steps > STEPS_MAX || depth > DEPTH_MAX {
                return ends.or(Ends::unknown(self.cause(Some(rule))));
            }
            let applies = self.applies(&rule.conditions, &rule.action);
            if applies == Some(false) || rule.action == Action::Continue {
                continue;
            }
            let mut taken = self.take(rule, depth);
            let comes_back = matches!(rule.action, Action::Jump(_)) && std::mem::take(&mut taken.is_through);
            if applies.is_none() {
                taken.doubt = taken.doubt.or_else(|| Some(self.cause(Some(rule))));
            }
            ends = ends.or(taken);
            if applies == Some(true) && !comes_back {
                return ends;
            }
        }
        ends.is_through = true;
        ends
    }

    fn take(&mut self, rule: &Rule, depth: usize) -> Ends {
        match &rule.action {
            Action::Decide(Verdict::Accept) => Ends { is_open: true, ..Ends::none() },
            Action::Decide(Verdict::Drop) => Ends { closed: Some(self.cause(Some(rule))), ..Ends::none() },
            Action::Return => Ends { is_through: true, ..Ends::none() },
            Action::Jump(target) | Action::Goto(target) => match self.table.chains.get(target) {
                Some(chain) => self.chain(chain, depth + 1),
                None => Ends::unknown(self.cause(Some(rule))),
            },
            Action::Continue | Action::Unknown => Ends::unknown(self.cause(Some(rule))),
        }
    }

    fn cause(&self, rule: Option<&Rule>) -> Cause {
        let rule = rule.map(|rule| rule.text.clone());
        Cause { manager: self.table.manager.clone(), chain: self.base.to_owned(), rule, port: self.port() }
    }

    /// Whether all conditions hold; `None` where that can't be told.
    fn applies(&self, conditions: &[Condition], action: &Action) -> Option<bool> {
        let mut all = Some(true);
        for condition in conditions {
            match self.holds(condition, action) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => all = None,
            }
        }
        all
    }

    fn holds(&self, condition: &Condition, action: &Action) -> Option<bool> {
        let packet = self.packet;
        let answer = match &condition.test {
            Test::Always(answer) => *answer,
            Test::IsIp6 => packet.destination.is_ipv6(),
            Test::Protocol(names) => names.contains(&packet.protocol),
            Test::Port(ranges) => ranges.iter().any(|range| range.contains(&self.port())),
            Test::Destination(networks) => networks.iter().any(|network| network.contains(packet.destination)),
            Test::Interface(patterns) => patterns.iter().any(|pattern| is_named(&packet.interface, pattern)),
            Test::Translated => self.hook == Hook::Input && packet.translated_to.is_some(),
            Test::Source(networks) if networks.iter().any(Network::is_all) => true,
            Test::Source(networks) => match packet.sender {
                Sender::Known(address) => networks.iter().any(|network| network.contains(address)),
                // From elsewhere nobody sends by these.
                _ if networks.iter().all(|network| network.first.is_loopback()) => false,
                sender => return Some(is_singled_out(sender, action, condition.negated)),
            },
            Test::SomeSenders => return Some(is_singled_out(packet.sender, action, condition.negated)),
            Test::Unknown => return None,
        };
        Some(answer != condition.negated)
    }

    fn port(&self) -> u16 {
        match (self.hook, self.packet.translated_to) {
            (Hook::Input, Some(port)) => port,
            _ => self.packet.port,
        }
    }
}

/// Whether a condition on who sends it holds.
fn is_singled_out(sender: Sender, action: &Action, negated: bool) -> bool {
    let keeps_out = matches!(action, Action::Decide(Verdict::Drop) | Action::Unknown);
    match sender {
        Sender::Favoured => !keeps_out,
        Sender::Anybody | Sender::Known(_) => negated,
    }
}

fn is_named(name: &str, pattern: &str) -> bool {
    pattern.strip_suffix('*').map_or(name == pattern, |beginning| name.starts_with(beginning))
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;

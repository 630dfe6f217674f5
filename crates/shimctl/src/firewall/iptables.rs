//! What `iptables-save` prints, as the model.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::rules::{Action, Base, Chain, Condition, Family, Hook, Manager, Network, Rule, Table, Test, Verdict};

/// The ports that the kernel gives to clients by itself: what is asked of a client's port is asked of these.
const CLIENTS_PORTS: RangeInclusive<u16> = 32768..=60999;
/// Targets that let the packet go on to the next rule.
const GOES_ON: [&str; 17] = [
    "LOG", "NFLOG", "ULOG", "MARK", "CONNMARK", "SET", "TCPMSS", "AUDIT", "NOTRACK", "CT", "TOS", "DSCP", "TTL", "HL",
    "TRACE", "CHECKSUM", "SECMARK",
];
/// Tables whose chains drop nothing.
const NAT: &str = "nat";

/// The tables of one output; a line that can't be read is a rule that can't be understood.
pub(crate) fn parse(saved: &str, family: Family) -> Vec<Table> {
    let is_legacy = !saved.contains("(nf_tables)");
    let mut tables = Vec::new();
    let mut name = "";
    let mut chains = BTreeMap::new();
    for line in saved.lines() {
        if let Some(table) = line.strip_prefix('*') {
            (name, chains) = (table, BTreeMap::new());
        } else if let Some(chain) = line.strip_prefix(':') {
            declare(&mut chains, chain);
        } else if let Some(rule) = line.strip_prefix("-A ") {
            add(&mut chains, rule);
        } else if line == "COMMIT" && name != NAT {
            let chains = std::mem::take(&mut chains);
            tables.push(Table { manager: manager(&chains, name, is_legacy), family, chains });
        }
    }
    tables
}

fn manager(chains: &BTreeMap<String, Chain>, table: &str, is_legacy: bool) -> Manager {
    let has = |name: &str| chains.contains_key(name);
    if has("ufw-user-input") || has("ufw6-user-input") {
        Manager::Ufw
    } else if has("INPUT_ZONES") {
        Manager::Firewalld
    } else {
        Manager::Iptables { is_legacy, table: table.to_owned() }
    }
}

/// `NAME POLICY [packets:bytes]`; a chain of the user's has `-` for a policy.
fn declare(chains: &mut BTreeMap<String, Chain>, line: &str) {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let policy = match words.next() {
        Some("ACCEPT") => Some(Verdict::Accept),
        Some("DROP") => Some(Verdict::Drop),
        _ => None,
    };
    let hook = match name {
        "INPUT" => Some(Hook::Input),
        "PREROUTING" => Some(Hook::Prerouting),
        _ => None,
    };
    let base = hook.zip(policy).map(|(hook, policy)| Base { hook, policy });
    chains.insert(name.to_owned(), Chain { base, rules: Vec::new() });
}

/// `CHAIN CONDITIONS -j TARGET OPTIONS`.
fn add(chains: &mut BTreeMap<String, Chain>, line: &str) {
    let words = words(line);
    let Some((chain, words)) = words.split_first() else { return };
    let mut rule = Rule { conditions: Vec::new(), action: Action::Continue, text: format!("-A {line}") };
    let mut modules: Vec<&str> = Vec::new();
    let mut words = words.iter().map(String::as_str).peekable();
    let mut negated = false;
    while let Some(word) = words.next() {
        match word {
            "!" => {
                negated = true;
                continue;
            }
            "-m" => {
                let module = words.next().unwrap_or_default();
                modules.push(module);
                rule.conditions.extend(of_module(module));
            }
            "-j" | "-g" => {
                let target = words.next().unwrap_or_default();
                rule.action = action(target, word == "-g", chains);
                // What follows are the target's own options.
                break;
            }
            option => {
                let mut values = Vec::new();
                while let Some(value) = words.next_if(|next| !next.starts_with('-') && *next != "!") {
                    values.push(value);
                }
                let test = test(option, &values, &modules);
                rule.conditions.extend(test.map(|test| Condition { test, negated }));
            }
        }
        negated = false;
    }
    chains.entry(chain.clone()).or_default().rules.push(rule);
}

/// Words between blanks; quotes hold one together.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let (mut is_quoted, mut is_escaped) = (false, false);
    for c in line.chars() {
        match c {
            _ if is_escaped => {
                word.push(c);
                is_escaped = false;
            }
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            ' ' if !is_quoted => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            _ => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

fn action(target: &str, is_goto: bool, chains: &BTreeMap<String, Chain>) -> Action {
    match target {
        "ACCEPT" => Action::Decide(Verdict::Accept),
        "DROP" | "REJECT" | "TARPIT" => Action::Decide(Verdict::Drop),
        "RETURN" => Action::Return,
        _ if chains.contains_key(target) && is_goto => Action::Goto(target.to_owned()),
        _ if chains.contains_key(target) => Action::Jump(target.to_owned()),
        _ if GOES_ON.contains(&target) => Action::Continue,
        _ => Action::Unknown,
    }
}

/// What a module asks by being named, where that is all that has to be known of it.
fn of_module(module: &str) -> Option<Condition> {
    match module {
        // An option says more, or there is nothing more to it.
        "tcp" | "udp" | "multiport" | "conntrack" | "state" | "addrtype" | "iprange" | "comment" | "limit"
        | "hashlimit" | "connlimit" | "recent" | "set" | "pkttype" | "mac" | "geoip" | "icmp" | "icmp6" => None,
        // No ordinary packet has a routing header.
        "rt" => Some(Test::Always(false).holds()),
        _ => Some(Test::Unknown.holds()),
    }
}

/// What an option with its values asks; `None` for one that asks nothing by itself.
fn test(option: &str, values: &[&str], modules: &[&str]) -> Option<Test> {
    let value = values.first().copied().unwrap_or_default();
    Some(match option {
        "-p" => match value {
            "all" | "0" => return None,
            value => Test::Protocol(vec![value.to_lowercase()]),
        },
        "-s" => networks(value).map_or(Test::Unknown, Test::Source),
        "-d" => networks(value).map_or(Test::Unknown, Test::Destination),
        "-i" => Test::Interface(vec![value.replace('+', "*")]),
        "-f" => Test::Always(false),
        "--dport" | "--dports" => ports(value).map_or(Test::Unknown, Test::Port),
        "--sport" | "--sports" => ports(value).map_or(Test::Unknown, |ranges| Test::Always(has_all_clients(&ranges))),
        "--ctstate" | "--state" => Test::Always(value.split(',').any(|state| state == "NEW")),
        "--ctstatus" if value.split(',').any(|status| status == "DNAT") => Test::Translated,
        "--dst-type" => Test::Always(value.split(',').any(|kind| kind == "LOCAL")),
        "--src-type" => Test::Always(value.split(',').any(|kind| kind == "UNICAST")),
        "--pkt-type" => Test::Always(value == "unicast"),
        "--syn" => Test::Always(true),
        // A first packet has SYN alone of all flags.
        "--tcp-flags" => {
            let has_syn = |flags: &str| flags.split(',').any(|flag| flag == "SYN" || flag == "ALL");
            let wanted = values.get(1).copied().unwrap_or_default();
            Test::Always(if has_syn(value) { wanted == "SYN" } else { wanted == "NONE" })
        }
        "--src-range" | "--mac-source" | "--src-cc" | "--source-country" => Test::SomeSenders,
        "--match-set" if values.get(1).is_some_and(|which| which.split(',').all(|which| which == "src")) => {
            Test::SomeSenders
        }
        // Of one client that comes for the first time in a while.
        "--limit" | "--hashlimit-upto" | "--connlimit-upto" | "--set" => Test::Always(true),
        "--hashlimit-above" | "--connlimit-above" | "--rcheck" | "--update" | "--remove" => Test::Always(false),
        "--icmp-type" | "--icmpv6-type" => Test::Always(false),
        _ if is_detail(option, modules) => return None,
        _ => Test::Unknown,
    })
}

/// Options that only say more about a test that is made anyway.
fn is_detail(option: &str, modules: &[&str]) -> bool {
    let of = |module: &str| modules.contains(&module);
    match option {
        "--comment" => true,
        "--limit-burst" => of("limit"),
        "--seconds" | "--hitcount" | "--name" | "--mask" | "--rsource" | "--rdest" | "--rttl" | "--reap" => {
            of("recent")
        }
        "--connlimit-mask" | "--connlimit-saddr" | "--connlimit-daddr" => of("connlimit"),
        "--rt-type" => of("rt"),
        "--limit-iface-in" => of("addrtype"),
        option => option.starts_with("--hashlimit-") && of("hashlimit"),
    }
}

fn networks(list: &str) -> Option<Vec<Network>> {
    list.split(',').map(Network::parse).collect()
}

/// `22,80:90`.
fn ports(list: &str) -> Option<Vec<RangeInclusive<u16>>> {
    let range = |range: &str| {
        let (first, last) = range.split_once(':').unwrap_or((range, range));
        let first = if first.is_empty() { 0 } else { first.parse().ok()? };
        let last = if last.is_empty() { u16::MAX } else { last.parse().ok()? };
        Some(first..=last)
    };
    list.split(',').map(range).collect()
}

/// Whether the ranges hold every port that a client may have.
pub(crate) fn has_all_clients(ranges: &[RangeInclusive<u16>]) -> bool {
    ranges.iter().any(|range| range.contains(CLIENTS_PORTS.start()) && range.contains(CLIENTS_PORTS.end()))
}

#[cfg(test)]
#[path = "iptables_tests.rs"]
mod tests;

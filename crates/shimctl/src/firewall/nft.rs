//! What `nft -j list ruleset` prints, as the model.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::Value;

use super::iptables::has_all_clients;
use super::rules::{Action, Base, Chain, Condition, Family, Hook, Manager, Network, Rule, Table, Test, Verdict};

/// The most elements of a map or a set of several fields that are looked at one by one.
const ELEMENTS_MAX: usize = 1024;
/// The registrar's own table: it only translates.
const OWN_TABLE: &str = "envoy-docker-shim";

/// A table's family and name.
type Name = (String, String);
/// The elements of named sets and maps.
type Sets = BTreeMap<(Name, String), Vec<Value>>;

/// The tables with a chain at a hook that matters, but for those that `iptables-save` has told: it knows them better.
///
/// # Errors
/// In words: this is not nft's JSON.
pub(crate) fn parse(json: &str, is_told: impl Fn(&str, &str) -> bool) -> Result<Vec<Table>, String> {
    let root: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
    let objects = root["nftables"].as_array().ok_or("it has no list \"nftables\"")?;
    let of = |kind: &'static str| objects.iter().filter_map(move |object| object.get(kind));
    let sets: Sets = of("set").chain(of("map")).filter_map(|set| Some((key(set)?, elements(set)))).collect();
    let mut tables: BTreeMap<Name, Table> = BTreeMap::new();
    for chain in of("chain") {
        let Some(name) = table_of(chain).filter(|(family, name)| !is_told(family, name) && name != OWN_TABLE) else {
            continue;
        };
        let Some(family) = family(&name.0) else { continue };
        let table = tables.entry(name.clone()).or_insert_with(|| {
            let manager = if name.1 == "firewalld" {
                Manager::Firewalld
            } else {
                Manager::Nft { family: name.0.clone(), table: name.1.clone() }
            };
            Table { manager, family, chains: BTreeMap::new() }
        });
        let own = Chain { base: base(chain), rules: Vec::new() };
        table.chains.insert(text(&chain["name"]).to_owned(), own);
    }
    for rule in of("rule") {
        let Some(name) = table_of(rule) else { continue };
        let chain = tables.get_mut(&name).and_then(|table| table.chains.get_mut(text(&rule["chain"])));
        if let Some(chain) = chain {
            chain.rules.extend(rules(rule, &name, &sets));
        }
    }
    Ok(tables.into_values().filter(|table| table.chains.values().any(|chain| chain.base.is_some())).collect())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn table_of(object: &Value) -> Option<Name> {
    Some((object["family"].as_str()?.to_owned(), object["table"].as_str()?.to_owned()))
}

fn key(set: &Value) -> Option<(Name, String)> {
    Some((table_of(set)?, set["name"].as_str()?.to_owned()))
}

fn elements(set: &Value) -> Vec<Value> {
    set["elem"].as_array().cloned().unwrap_or_default()
}

fn family(name: &str) -> Option<Family> {
    match name {
        "ip" => Some(Family::Ip4),
        "ip6" => Some(Family::Ip6),
        "inet" => Some(Family::Both),
        _ => None,
    }
}

/// Only chains that filter: those that translate drop nothing.
fn base(chain: &Value) -> Option<Base> {
    let hook = match text(&chain["hook"]) {
        "input" => Hook::Input,
        "prerouting" => Hook::Prerouting,
        _ => return None,
    };
    let policy = if chain["policy"] == "drop" { Verdict::Drop } else { Verdict::Accept };
    (chain["type"] == "filter").then_some(Base { hook, policy })
}

/// A rule as one or more of the model's: each entry of a verdict map, and of a set of several fields, is one.
fn rules(rule: &Value, table: &Name, sets: &Sets) -> Vec<Rule> {
    let text = format!(
        "handle {} of chain {} (nft -a list chain {} {} {})",
        rule["handle"],
        text(&rule["chain"]),
        table.0,
        table.1,
        text(&rule["chain"])
    );
    // Alternatives of conditions: one unless a set of several fields splits them.
    let mut alternatives: Vec<Vec<Condition>> = vec![Vec::new()];
    let mut action = Action::Continue;
    for statement in rule["expr"].as_array().into_iter().flatten() {
        let Some((kind, body)) = statement.as_object().and_then(|object| object.iter().next()) else { continue };
        match kind.as_str() {
            "match" => and(&mut alternatives, &matching(body, table, sets)),
            "vmap" => {
                let rule = Rule { conditions: Vec::new(), action: Action::Unknown, text };
                return of_map(body, &alternatives, &rule, table, sets);
            }
            "limit" if body["inv"] == true => and(&mut alternatives, &all(Test::Always(false))),
            "ct count" => and(&mut alternatives, &all(Test::Always(body["inv"] != true))),
            "limit" | "counter" | "log" | "set" | "map" | "mangle" | "notrack" | "comment" | "continue" => {}
            "xt" => match extension(body) {
                Ok(test) => and(&mut alternatives, &[test.map(Test::holds).into_iter().collect()]),
                Err(target) => action = target,
            },
            _ => match verdict(kind, body) {
                Some(verdict) => action = verdict,
                None => and(&mut alternatives, &all(Test::Unknown)),
            },
        }
    }
    alternatives.into_iter().map(|conditions| Rule { conditions, action: action.clone(), text: text.clone() }).collect()
}

/// Both the conditions so far and one of `more` hold.
fn and(alternatives: &mut Vec<Vec<Condition>>, more: &[Vec<Condition>]) {
    *alternatives = alternatives
        .iter()
        .flat_map(|before| more.iter().map(move |after| before.iter().chain(after).cloned().collect()))
        .collect();
}

fn all(test: Test) -> Vec<Vec<Condition>> {
    vec![vec![test.holds()]]
}

fn verdict(kind: &str, body: &Value) -> Option<Action> {
    Some(match kind {
        "accept" => Action::Decide(Verdict::Accept),
        "drop" | "reject" => Action::Decide(Verdict::Drop),
        "return" => Action::Return,
        "continue" => Action::Continue,
        "jump" => Action::Jump(text(&body["target"]).to_owned()),
        "goto" => Action::Goto(text(&body["target"]).to_owned()),
        "queue" => Action::Unknown,
        _ => return None,
    })
}

/// A part of iptables' that nft only names: what it asks, or what it does.
fn extension(body: &Value) -> Result<Option<Test>, Action> {
    match (text(&body["type"]), text(&body["name"])) {
        ("target", "REJECT") => Err(Action::Decide(Verdict::Drop)),
        ("target", "LOG" | "NFLOG" | "MARK" | "CONNMARK") | ("match", "comment") => Ok(None),
        ("target", _) => Err(Action::Unknown),
        _ => Ok(Some(Test::Unknown)),
    }
}

/// A verdict map: a rule for each entry.
fn of_map(body: &Value, before: &[Vec<Condition>], rule: &Rule, table: &Name, sets: &Sets) -> Vec<Rule> {
    let entries = values(&body["data"], table, sets);
    let entries = entries.filter(|entries| entries.len() <= ELEMENTS_MAX);
    let of = |conditions: Vec<Condition>| Rule { conditions, ..rule.clone() };
    let Some(entries) = entries else { return before.iter().cloned().map(of).collect() };
    let of_entry = |entry: &Value| {
        let (value, target) = (entry.get(0)?, entry.get(1)?.as_object()?.iter().next()?);
        let action = verdict(target.0, target.1)?;
        let mut conditions = before.to_vec();
        // The map's default.
        if value != "*" {
            and(&mut conditions, &tests(&body["key"], &[plain(value).clone()]));
        }
        Some(conditions.into_iter().map(move |conditions| Rule { conditions, action: action.clone(), ..rule.clone() }))
    };
    let (wildcard, named): (Vec<_>, Vec<_>) =
        entries.iter().partition(|entry| entry.get(0).is_some_and(|key| key == "*"));
    named.into_iter().chain(wildcard).filter_map(of_entry).flatten().collect()
}

/// A match: alternatives of which one has to hold.
fn matching(body: &Value, table: &Name, sets: &Sets) -> Vec<Vec<Condition>> {
    let unknown = || all(Test::Unknown);
    let (left, right) = (&body["left"], &body["right"]);
    let port = right.as_u64().and_then(|port| u16::try_from(port).ok());
    let range = match (text(&body["op"]), port) {
        ("==" | "in", _) | ("!=", _) => None,
        (">=", Some(port)) => Some(port..=u16::MAX),
        (">", Some(port)) => Some(port.saturating_add(1)..=u16::MAX),
        ("<=", Some(port)) => Some(0..=port),
        ("<", Some(port)) => Some(0..=port.saturating_sub(1)),
        _ => return unknown(),
    };
    if let Some(range) = range {
        return if is_port(left, "dport") { all(Test::Port(vec![range])) } else { unknown() };
    }
    let Some(values) =
        values(right, table, sets).filter(|values| values.len() <= ELEMENTS_MAX || left.get("concat").is_none())
    else {
        return unknown();
    };
    let mut alternatives = tests(left, &values);
    if body["op"] == "!=" {
        // The conditions before the last one say to which packets the field belongs at all.
        match alternatives.as_mut_slice() {
            [conditions] if left.get("concat").is_none() => {
                conditions.last_mut().into_iter().for_each(|last| last.negated = !last.negated);
            }
            _ => return unknown(),
        }
    }
    alternatives
}

/// What a match compares with, as a list.
fn values(right: &Value, table: &Name, sets: &Sets) -> Option<Vec<Value>> {
    if let Some(name) = right.as_str().and_then(|name| name.strip_prefix('@')) {
        return sets.get(&(table.clone(), name.to_owned())).cloned();
    }
    match right.get("set").unwrap_or(right) {
        Value::Array(values) => Some(values.clone()),
        value => Some(vec![value.clone()]),
    }
}

/// An element without its time and its counter.
fn plain(element: &Value) -> &Value {
    element.get("elem").map_or(element, |element| &element["val"])
}

/// Alternatives: `left` is one of `values`.
fn tests(left: &Value, values: &[Value]) -> Vec<Vec<Condition>> {
    let values: Vec<_> = values.iter().map(plain).collect();
    let Some(fields) = left.get("concat").and_then(Value::as_array) else {
        return vec![conditions(left, &values)];
    };
    let of_element = |value: &&Value| {
        let parts = value.get("concat").and_then(Value::as_array)?;
        let both = fields.iter().zip(parts).flat_map(|(field, part)| conditions(field, &[part])).collect();
        (parts.len() == fields.len()).then_some(both)
    };
    values.iter().map(|value| of_element(value).unwrap_or_else(|| vec![Test::Unknown.holds()])).collect()
}

/// One field is one of `values`, in a packet that has this field: nft does not say the latter again.
fn conditions(field: &Value, values: &[&Value]) -> Vec<Condition> {
    let owner = match text(&field["payload"]["protocol"]) {
        "ip" => Some(Condition { test: Test::IsIp6, negated: true }),
        "ip6" => Some(Test::IsIp6.holds()),
        protocol @ ("tcp" | "udp") => Some(Test::Protocol(vec![protocol.to_owned()]).holds()),
        _ => None,
    };
    owner.into_iter().chain([condition(field, values)]).collect()
}

fn is_port(left: &Value, field: &str) -> bool {
    left["payload"]["field"] == field && matches!(text(&left["payload"]["protocol"]), "tcp" | "udp" | "th")
}

/// One field is one of `values`.
fn condition(left: &Value, values: &[&Value]) -> Condition {
    let has = |word: &str| values.iter().any(|value| **value == word);
    let key = |kind: &str| text(&left[kind]["key"]);
    if key("meta") == "nfproto" && has("ipv4") != has("ipv6") || key("meta") == "protocol" && has("ip") != has("ip6") {
        return Condition { test: Test::IsIp6, negated: has("ipv4") || has("ip") };
    }
    let test = match (text(&left["payload"]["protocol"]), text(&left["payload"]["field"])) {
        _ if is_port(left, "dport") => ports(values).map_or(Test::Unknown, Test::Port),
        _ if is_port(left, "sport") => {
            ports(values).map_or(Test::Unknown, |ranges| Test::Always(has_all_clients(&ranges)))
        }
        ("ip" | "ip6", "saddr") => networks(values).map_or(Test::SomeSenders, Test::Source),
        ("ip" | "ip6", "daddr") => networks(values).map_or(Test::Unknown, Test::Destination),
        ("ip", "protocol") | ("ip6", "nexthdr") => protocols(values),
        ("ether", "saddr") => Test::SomeSenders,
        ("tcp", "flags") if has("syn") => Test::Always(true),
        ("icmp" | "icmpv6", _) => Test::Always(false),
        _ => match (key("meta"), key("ct")) {
            ("l4proto", _) => protocols(values),
            ("iif" | "iifname", _) => Test::Interface(values.iter().map(|value| text(value).to_owned()).collect()),
            ("nfproto" | "protocol", _) => Test::Always(has("ipv4") || has("ip")),
            ("pkttype", _) => Test::Always(has("unicast") || has("host")),
            (_, "state") => Test::Always(has("new")),
            (_, "status") if has("dnat") => Test::Translated,
            _ => of_route(&left["fib"], values),
        },
    };
    test.holds()
}

/// What the kernel's routes say of an address.
fn of_route(fib: &Value, values: &[&Value]) -> Test {
    let has = |word: &str| values.iter().any(|value| **value == word);
    let flags: Vec<_> = fib["flags"].as_array().into_iter().flatten().map(text).collect();
    match (text(&fib["result"]), flags.as_slice()) {
        ("type", ["daddr"]) => Test::Always(has("local")),
        ("type", ["saddr"]) => Test::Always(has("unicast")),
        // Whether a way leads back to the sender, as for everybody who means well.
        ("oif", flags) if flags.contains(&"saddr") && values.iter().all(|value| **value == false) => {
            Test::Always(false)
        }
        _ => Test::Unknown,
    }
}

fn protocols(values: &[&Value]) -> Test {
    Test::Protocol(values.iter().map(|value| text(value).to_lowercase()).collect())
}

fn ports(values: &[&Value]) -> Option<Vec<RangeInclusive<u16>>> {
    let number = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    let range = |value: &&Value| match value.get("range") {
        Some(range) => Some(number(range.get(0)?)?..=number(range.get(1)?)?),
        None => number(value).map(|port| port..=port),
    };
    values.iter().map(range).collect()
}

fn networks(values: &[&Value]) -> Option<Vec<Network>> {
    let network = |value: &&Value| {
        if let Some(prefix) = value.get("prefix") {
            return Network::parse(&format!("{}/{}", text(&prefix["addr"]), prefix["len"]));
        }
        if let Some(range) = value.get("range") {
            return Some(Network { first: text(range.get(0)?).parse().ok()?, last: text(range.get(1)?).parse().ok()? });
        }
        Network::parse(text(value))
    };
    values.iter().map(network).collect()
}

#[cfg(test)]
#[path = "nft_tests.rs"]
mod tests;

//! Whether this host's firewall lets those in who should come, decided from facts alone.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::facts::{Answers, Facts, Registrar};
use super::judge::{finding, named};
use super::{Finding, judge_docker};
use crate::firewall::{Cause, Door, Kind, Reach, door_of, openers, reach};

/// The name of this check.
const CHECK: &str = "firewall";

/// What is closed: problems, and hints.
pub(super) fn findings(facts: &Facts) -> (Vec<Finding>, Vec<Finding>) {
    let doors = doors(facts);
    let reached: Vec<_> = doors.iter().map(|door| (door, reach(door, &facts.firewall, &facts.interfaces))).collect();
    let with = |select: fn(&Reach) -> Option<&Cause>| -> Vec<(&Door, &Cause)> {
        reached.iter().filter_map(|(door, reach)| Some((*door, select(reach)?))).collect()
    };
    let closed = with(|reach| if let Reach::Closed(cause) = reach { Some(cause) } else { None });
    let for_some = with(|reach| if let Reach::ForSome(cause) = reach { Some(cause) } else { None });
    let unclear = with(|reach| if let Reach::Unclear(cause) = reach { Some(cause) } else { None });
    let closed = by_chain(&closed).into_iter().map(|doors| is_closed(&doors, facts));
    // A firewall may well let some in only. It is said because with Docker alone it had no say.
    let for_some = by_chain(&for_some).into_iter().map(|doors| is_open_for_some(&doors));
    let mut hints: Vec<_> = for_some.collect();
    hints.extend(by_chain(&unclear).into_iter().map(|doors| cannot_tell(&doors)));
    hints.extend(unseen(facts, &doors));
    // Nothing is diverted while no registrar runs, so all of it is only about to be.
    match facts.registrar {
        Registrar::Answers(_) => (closed.collect(), hints),
        Registrar::Silent(_) => (Vec::new(), closed.chain(hints).collect()),
    }
}

fn unseen(facts: &Facts, doors: &[Door]) -> Option<Finding> {
    let reason = facts.firewall.unseen.as_ref().filter(|_| facts.is_root && !doors.is_empty())?;
    let what = format!("whether this host's firewall lets others reach {} can't be told: {reason}", names(doors));
    Some(finding(CHECK, what, "apt install nftables (or the like), and check again"))
}

/// Every port of this host that others are to reach.
fn doors(facts: &Facts) -> Vec<Door> {
    let mut doors: Vec<_> = match &facts.registrar {
        Registrar::Answers(answers) => of_registrar(facts, answers),
        Registrar::Silent(_) => of_processes(facts),
    };
    let gossip = facts.registrar.answers().and_then(|answers| answers.gossip.as_ref());
    let at = gossip.and_then(|gossip| Some(SocketAddr::new(gossip.address?, gossip.port?)));
    let at = at.filter(|at| !at.ip().is_loopback());
    doors.extend(at.into_iter().flat_map(|at| ["udp", "tcp"].map(|protocol| door(Kind::Gossip, protocol, at))));
    doors
}

fn of_registrar(facts: &Facts, answers: &Answers) -> Vec<Door> {
    let has_firewall = judge_docker::has_firewall(facts);
    let ports = answers.ports.iter().filter_map(|port| door_of(port, &answers.envoy, has_firewall));
    let service_port = answers.services.iter().find_map(|service| service.service_port);
    let addresses = answers.envoy.service_addresses.iter().filter(|at| !at.address.is_loopback());
    let services =
        service_port.into_iter().flat_map(|port| addresses.clone().map(move |at| Door::of_services(at.address, port)));
    ports.chain(services).collect()
}

/// Before there is a registrar, the processes that hold ports tell of them.
fn of_processes(facts: &Facts) -> Vec<Door> {
    let held = facts.proxies.iter().filter(|proxy| proxy.protocol == "tcp" && !proxy.address.is_loopback());
    held.map(|proxy| door(Kind::Published, "tcp", SocketAddr::new(proxy.address, proxy.port))).collect()
}

fn door(kind: Kind, protocol: &str, at: SocketAddr) -> Door {
    Door { kind, protocol: protocol.to_owned(), address: at.ip(), port: at.port(), translated_to: None }
}

/// Those that one chain closes, of one kind.
fn by_chain<'a>(doors: &[(&'a Door, &'a Cause)]) -> Vec<Vec<(&'a Door, &'a Cause)>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (door, cause) in doors {
        groups.entry((door.kind, cause.chain())).or_default().push((*door, *cause));
    }
    groups.into_values().collect()
}

fn is_closed(doors: &[(&Door, &Cause)], facts: &Facts) -> Finding {
    let fix = openers(doors).join(" && ");
    let when = match facts.registrar {
        Registrar::Answers(_) => "",
        Registrar::Silent(_) => " once the registrar runs",
    };
    let (what, fix) = match kind(doors) {
        Kind::Published => (
            format!("other hosts can't reach {}{when}: {}", of(doors), causes(doors)),
            format!("{fix} (or, if other hosts are not meant to, publish it at 127.0.0.1)"),
        ),
        Kind::Service => (format!("containers can't reach {}: {}", of(doors), causes(doors)), fix),
        Kind::Gossip => (format!("other hosts' registrars can't reach {}: {}", of(doors), causes(doors)), fix),
    };
    finding(CHECK, what, fix)
}

fn is_open_for_some(doors: &[(&Door, &Cause)]) -> Finding {
    let what = format!("only some hosts can reach {}: {}", of(doors), causes(doors));
    finding(CHECK, what, format!("if all are meant to: {}", openers(doors).join(" && ")))
}

fn cannot_tell(doors: &[(&Door, &Cause)]) -> Finding {
    let what = format!("whether others can reach {} can't be told: {}", of(doors), causes(doors));
    finding(CHECK, what, format!("try it from another host; if they can't: {}", openers(doors).join(" && ")))
}

fn kind(doors: &[(&Door, &Cause)]) -> Kind {
    doors.first().map_or(Kind::Published, |(door, _)| door.kind)
}

fn of(doors: &[(&Door, &Cause)]) -> String {
    let all: Vec<_> = doors.iter().map(|(door, _)| (*door).clone()).collect();
    names(&all)
}

fn names(doors: &[Door]) -> String {
    let name = |door: &Door| match door.kind {
        Kind::Service => format!("service ports at {}", door.address),
        Kind::Published | Kind::Gossip => format!("{}/{}", SocketAddr::new(door.address, door.port), door.protocol),
    };
    named(doors.iter().map(name))
}

/// The first cause; more of them come to light when it is gone.
fn causes(doors: &[(&Door, &Cause)]) -> String {
    doors.first().map(|(_, cause)| cause.in_words()).unwrap_or_default()
}

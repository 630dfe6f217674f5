//! Do no harm: what a client and a server say to each other is the same through us as through docker-proxy.
//!
//! Each case is a scripted conversation of a raw client with a raw server in a container. It takes place with the
//! container directly, through docker-proxy, and through us in every mode; what both ends saw is compared byte by byte.
//! What may differ stands in `rules.rs` (always) and `limits.rs` (one case), each with its reason, and is documented in
//! `docs/transparency.md`; what does not work yet stands in `known.rs`.

mod case;
mod cases;
mod documented;
mod known;
mod limits;
mod player;
mod rig;
mod rules;
mod script;
mod seen;
mod server;
mod strangers;
mod suite;
mod take_out;
mod verdict;
mod way;

use std::collections::BTreeSet;

use lab::Lab;

use crate::cases::SHOWN_BY;
use crate::known::{AUTO_CHANGES, KNOWN_AUTO_FAILURES, REFUSED_ONCE};
use crate::limits::HttpLimit;
use crate::rig::Rig;
use crate::rules::LABELLED_HTTP;
use crate::way::Way;

#[test]
fn every_conversation_is_what_it_is_without_us() {
    let cases = cases::all();
    let lab = Lab::of_this_test();
    let ports = u16::try_from(cases.len()).expect("few cases");
    let rig = Rig::start(&lab, ports);
    rig.teach(ports);
    let outcome = suite::run(&rig, &cases);
    let mut problems = outcome.problems;
    let unused = |ways: &[Way], rule| !ways.iter().any(|way| outcome.used.contains(&(*way, rule)));
    for rule in LABELLED_HTTP.iter().filter(|rule| unused(&Way::COMPARED, **rule)) {
        problems.push(format!("no case needs the rule {rule:?}\n"));
    }
    for rule in AUTO_CHANGES.iter().filter(|rule| unused(&Way::AUTO, **rule)) {
        problems.push(format!("no case without a label needs the rule {rule:?}\n"));
    }
    problems.sort();
    println!("{} cases; failed the first time on a learned port: {:?}", cases.len(), outcome.refused_once);
    assert!(problems.is_empty(), "{} differences:\n{}", problems.len(), problems.concat());
}

#[test]
fn each_case_has_a_name_of_its_own_and_each_exception_names_a_case() {
    let cases = cases::all();
    let names: BTreeSet<_> = cases.iter().map(|case| case.name).collect();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    assert!(cases.len() >= 120, "{} cases", cases.len());
    let limited = SHOWN_BY.iter().flat_map(|(_, names)| *names);
    let known = KNOWN_AUTO_FAILURES.iter().flat_map(|(_, names)| *names);
    for name in known.chain(REFUSED_ONCE).chain(limited) {
        assert!(names.contains(name), "there is no case {name:?}");
    }
    for limit in HttpLimit::ALL {
        assert!(cases.iter().any(|case| case.limit == Some(limit)), "no case shows {limit:?}");
    }
}

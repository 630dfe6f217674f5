//! What an Envoy that was served before is told while not all is known yet.

use super::lab::Lab;
use crate::{ResourceType, Variant};

const NOTHING: [&str; 0] = [];

/// A hub that knows these resources alone so far.
fn adding(changes: &str) -> Lab {
    let mut lab = Lab::holding(changes);
    lab.hub.start_adding();
    lab
}

#[test]
fn an_envoy_keeps_what_is_not_known_and_is_told_what_is_new() {
    let mut lab = adding("L:known=1 L:new=1 L:changed=2");
    let envoy = lab.delta();
    assert_eq!(lab.ask(envoy, "LDS have:known=1 have:unknown=1 have:changed=1"), ["LDS#1 new=1"]);
    lab.apply("L:newer=1 L:changed=3");
    assert_eq!(lab.ask(envoy, "LDS #1"), ["LDS#2 newer=1"]);
    assert!(!lab.in_sync(envoy));
    lab.apply("L:newer=2 L:new");
    assert_eq!(lab.ask(envoy, "LDS #2"), ["LDS#3 newer=2 -new"], "what it was told of here is known");
    lab.hub.start_serving();
    assert_eq!(lab.ask(envoy, "LDS #3"), ["LDS#4 changed=3 -unknown"]);
    lab.settle(envoy);
    assert!(lab.in_sync(envoy));
}

#[test]
fn what_was_kept_and_turns_out_to_be_so_is_not_sent_again() {
    let mut lab = adding("");
    let envoy = lab.delta();
    assert_eq!(lab.ask(envoy, "LDS have:a=1 have:b=1"), NOTHING);
    lab.apply("L:a=1 L:b=1");
    assert_eq!(lab.receive(envoy), NOTHING);
    lab.hub.start_serving();
    assert_eq!(lab.receive(envoy), NOTHING);
    assert!(lab.in_sync(envoy));
}

#[test]
fn what_is_gone_for_sure_is_told_even_if_it_was_never_known() {
    let mut lab = adding("");
    let envoy = lab.delta();
    lab.ask(envoy, "LDS have:stopped=1 have:unknown=1 have:removed=1");
    lab.apply("L:removed=1");
    lab.apply("L:removed");
    assert_eq!(lab.receive(envoy), NOTHING, "it may have been known in part only");
    lab.hub.withdraw(ResourceType::Listener, "stopped");
    assert_eq!(lab.receive(envoy), ["LDS#1 -stopped"]);
    lab.ask(envoy, "LDS #1");
    assert!(lab.hub.is_released(ResourceType::Listener, "stopped"));
    assert!(!lab.hub.is_released(ResourceType::Listener, "unknown"));
}

#[test]
fn endpoints_that_are_asked_for_and_not_known_are_not_said_to_be_absent() {
    let mut lab = adding("C:new=1 E:new=1");
    let envoy = lab.delta();
    lab.ask(envoy, "CDS have:old=1");
    assert_eq!(lab.ask(envoy, "EDS +old +new have:old=1"), ["EDS#2 new=1"]);
    lab.apply("C:old=1 E:old=2");
    assert_eq!(lab.receive(envoy), NOTHING, "there may be more endpoints than these");
    lab.hub.start_serving();
    assert_eq!(lab.receive(envoy), ["EDS#3 old=2"]);
}

#[test]
fn an_envoy_that_has_nothing_is_told_what_is_known() {
    let mut lab = adding("C:a=1 E:a=1 L:x=1");
    let envoy = lab.delta();
    assert_eq!(lab.ask(envoy, "CDS"), ["CDS#1 a=1"]);
    assert_eq!(lab.ask(envoy, "LDS"), ["EDS#2 a=1", "LDS#3 x=1"]);
}

#[test]
fn a_state_of_the_world_stream_is_answered_when_all_is_known() {
    let mut lab = adding("L:x=1");
    let envoy = lab.open(Variant::Sotw, crate::Services::Ads);
    assert_eq!(lab.ask(envoy, "LDS"), NOTHING);
    lab.hub.start_serving();
    assert_eq!(lab.receive(envoy), ["LDS#1 1"]);
}

//! The conformance cases of the state-of-the-world protocol. S01 to S06 are in `subscription` too.

use std::time::Duration;

use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;

use super::lab::Lab;
use crate::{ResourceType, Response, Services, StreamError, StreamId, Variant};

const NOTHING: [&str; 0] = [];

/// The next response as it is.
fn response(lab: &mut Lab, id: StreamId) -> DiscoveryResponse {
    let Some(Response::Sotw(response)) = lab.hub.poll_response(id) else { panic!("no response") };
    response
}

/// The version of the set when these are all listeners.
fn version_of_set(changes: &str) -> String {
    let mut lab = Lab::serving(changes);
    let envoy = lab.open(Variant::Sotw, Services::Only(ResourceType::Listener));
    lab.try_ask(envoy, "LDS").unwrap();
    response(&mut lab, envoy).version_info
}

#[test]
fn s01_and_s02_both_forms_of_the_wildcard_give_everything() {
    for request in ["LDS", "LDS *"] {
        let mut lab = Lab::serving("L:a=1 L:b=2");
        let envoy = lab.sotw();
        assert_eq!(lab.ask(envoy, request), ["LDS#1 1 2"]);
    }
}

#[test]
fn s03_to_s05_from_wildcard_and_name_to_name_to_nothing() {
    let mut lab = Lab::serving("L:A=a1 L:B=b1");
    let envoy = lab.sotw();
    assert_eq!(lab.ask(envoy, "LDS * A"), ["LDS#1 a1 b1"], "A once");
    assert_eq!(lab.ask(envoy, "LDS A #1"), NOTHING);
    lab.apply("L:B=b2");
    assert_eq!(lab.receive(envoy), NOTHING);
    lab.apply("L:A=a2");
    assert_eq!(lab.receive(envoy), ["LDS#2 a2"]);
    assert_eq!(lab.ask(envoy, "LDS #2"), NOTHING);
    lab.apply("L:A=a3 L:B=b3");
    assert_eq!(lab.receive(envoy), NOTHING);
}

#[test]
fn s06_endpoints_without_names_are_none() {
    let mut lab = Lab::serving("E:a=1");
    let envoy = lab.sotw();
    assert_eq!(lab.ask(envoy, "EDS"), NOTHING);
}

#[test]
fn s07_a_change_of_one_listener_or_cluster_sends_them_all() {
    let mut lab = Lab::serving("L:a=a1 L:b=b1 C:a=c1 C:b=d1");
    let envoy = lab.sotw_in_sync("");
    lab.apply("L:a=a2");
    assert_eq!(lab.receive(envoy), ["LDS#3 a2 b1"]);
    lab.apply("C:b=d2");
    assert_eq!(lab.receive(envoy), ["CDS#4 c1 d2"]);
}

#[test]
fn s08_a_change_of_one_endpoint_sends_just_that() {
    let mut lab = Lab::serving("E:a=a1 E:b=b1");
    let envoy = lab.sotw();
    assert_eq!(lab.ask(envoy, "EDS a b"), ["EDS#1 a1 b1"]);
    lab.apply("E:b=b2");
    assert_eq!(lab.receive(envoy), ["EDS#2 b2"]);
}

#[test]
fn s09_after_an_acknowledgement_there_is_silence() {
    let mut lab = Lab::serving("L:a=1");
    let envoy = lab.sotw();
    lab.ask(envoy, "LDS");
    assert_eq!(lab.ask(envoy, "LDS #1"), NOTHING);
    lab.apply("L:a=1");
    assert_eq!(lab.receive(envoy), NOTHING);
}

#[test]
fn s10_and_s11_a_rejection_is_kept_and_answered_by_the_next_change_only() {
    let mut lab = Lab::serving("L:bad=x1 L:good=y1");
    let envoy = lab.sotw();
    lab.ask(envoy, "LDS");
    assert_eq!(lab.ask(envoy, "LDS #1 v:old !Error adding/updating listener(s) bad: no"), NOTHING);
    assert_eq!(lab.hub.rejection(ResourceType::Listener, "bad"), Some("no"));
    assert!(lab.hub.is_accepted(ResourceType::Listener, "good") && !lab.in_sync(envoy));
    lab.apply("L:good=y2");
    assert_eq!(lab.receive(envoy), ["LDS#2 x1 y2"]);
    lab.ask(envoy, "LDS #2 v:old !Error adding/updating listener(s) bad: still no");
    assert_eq!(lab.hub.rejection(ResourceType::Listener, "bad"), Some("still no"));
    assert!(lab.hub.is_accepted(ResourceType::Listener, "good"));
    lab.apply("L:bad=x2");
    assert_eq!(lab.receive(envoy), ["LDS#3 x2 y2"]);
    lab.ask(envoy, "LDS #3");
    assert!(lab.in_sync(envoy));
}

#[test]
fn a_rejection_without_a_name_is_everything_that_was_new_in_the_response() {
    let mut lab = Lab::serving("L:a=1");
    let envoy = lab.sotw_in_sync("");
    lab.apply("L:b=2 L:c=3");
    assert_eq!(lab.receive(envoy), ["LDS#3 1 2 3"]);
    assert_eq!(lab.ask(envoy, "LDS #3 !Unable to unpack"), NOTHING);
    assert!(lab.hub.is_accepted(ResourceType::Listener, "a"));
    for name in ["b", "c"] {
        assert_eq!(lab.hub.rejection(ResourceType::Listener, name), Some("Unable to unpack"));
    }
}

#[test]
fn s12_a_stale_nonce_is_not_answered() {
    let mut lab = Lab::serving("L:a=1");
    let envoy = lab.sotw();
    lab.ask(envoy, "LDS");
    lab.apply("L:a=2");
    assert_eq!(lab.receive(envoy), ["LDS#2 2"]);
    assert_eq!(lab.ask(envoy, "LDS #1"), NOTHING);
    assert!(!lab.in_sync(envoy));
    assert_eq!(lab.ask(envoy, "LDS #2"), NOTHING);
    assert!(lab.in_sync(envoy));
}

#[test]
fn s13_a_new_name_counts_even_with_a_stale_nonce() {
    let mut lab = Lab::serving("E:A=a1 E:B=b1");
    let envoy = lab.sotw();
    lab.ask(envoy, "EDS A");
    lab.apply("E:A=a2");
    assert_eq!(lab.receive(envoy), ["EDS#2 a2"]);
    assert_eq!(lab.ask(envoy, "EDS A B #1"), ["EDS#3 b1"]);
    assert_eq!(lab.ask(envoy, "EDS A B #2"), NOTHING);
    assert_eq!(lab.ask(envoy, "EDS A B #3"), NOTHING);
    assert!(lab.in_sync(envoy));
}

#[test]
fn s14_a_new_name_is_sent_though_nothing_changed() {
    let mut lab = Lab::serving("E:A=a1 E:B=b1");
    let envoy = lab.sotw();
    lab.ask(envoy, "EDS A");
    assert_eq!(lab.ask(envoy, "EDS A B #1"), ["EDS#2 b1"]);
}

#[test]
fn s15_endpoints_that_are_asked_for_again_after_a_cluster_changed_are_sent_again() {
    let mut lab = Lab::serving("C:a=c1 E:a=e1");
    let envoy = lab.sotw_in_sync("a");
    lab.apply("C:a=c2");
    assert_eq!(lab.receive(envoy), ["CDS#4 c2", "EDS#5 e1"]);
    assert_eq!(lab.ask(envoy, "EDS a #2"), NOTHING, "on its way already");
    assert_eq!(lab.ask(envoy, "EDS a #5"), NOTHING, "the answer to it");
    assert_eq!(lab.ask(envoy, "EDS a #5"), ["EDS#6 e1"], "asked again");
}

#[test]
fn s16_a_name_that_was_dropped_and_taken_up_again_is_sent_again() {
    let mut lab = Lab::serving("E:A=1");
    let envoy = lab.sotw();
    lab.ask(envoy, "EDS A");
    assert_eq!(lab.ask(envoy, "EDS #1"), NOTHING);
    assert_eq!(lab.ask(envoy, "EDS A #1"), ["EDS#2 1"]);
}

#[test]
fn s17_endpoints_that_do_not_exist_are_answered_with_none_and_sent_when_they_do() {
    let mut lab = Lab::serving("");
    let envoy = lab.sotw();
    assert_eq!(lab.ask(envoy, "EDS X"), ["EDS#1 X=none"]);
    assert_eq!(lab.ask(envoy, "EDS X #1"), NOTHING);
    lab.apply("E:X=1");
    assert_eq!(lab.receive(envoy), ["EDS#2 1"]);
}

#[test]
fn s18_when_the_last_listener_goes_an_empty_set_is_sent() {
    let mut lab = Lab::serving("L:a=1");
    let envoy = lab.sotw_in_sync("");
    lab.apply("L:a");
    assert_eq!(lab.receive(envoy), ["LDS#3"]);
    assert!(!lab.hub.is_released(ResourceType::Listener, "a"));
    lab.ask(envoy, "LDS #3");
    assert!(lab.hub.is_released(ResourceType::Listener, "a"));
}

#[test]
fn s19_a_client_that_says_it_has_the_set_is_sent_nothing_or_all_of_it() {
    let (world, other) = ("L:a=1 L:b=2", "L:a=1 L:b=3");
    let cases = [
        (version_of_set(world), vec![]),
        (version_of_set(other), vec!["LDS#1 1 2"]),
        (String::new(), vec!["LDS#1 1 2"]),
    ];
    for (version, expected) in cases {
        let mut lab = Lab::serving(world);
        let envoy = lab.sotw();
        assert_eq!(lab.ask(envoy, &format!("LDS v:{version}")), expected);
        lab.apply("L:a=9");
        let responses = lab.receive(envoy);
        assert!(responses[0].ends_with(" 9 2"), "{responses:?}");
    }
}

#[test]
fn s19_whether_it_has_the_set_is_decided_when_the_set_is_complete() {
    let mut lab = Lab::holding("");
    let envoy = lab.sotw();
    assert_eq!(lab.ask(envoy, &format!("LDS v:{}", version_of_set("L:a=1 L:b=2"))), NOTHING);
    lab.apply("L:a=1 L:b=2");
    lab.hub.start_serving();
    assert_eq!(lab.receive(envoy), NOTHING);
    assert!(lab.in_sync(envoy) && lab.hub.is_accepted(ResourceType::Listener, "a"));
}

#[test]
fn s20_endpoints_are_answered_in_full_on_a_new_stream() {
    let mut lab = Lab::serving("E:a=1 E:b=2");
    let envoy = lab.sotw();
    lab.try_ask(envoy, "EDS a b").unwrap();
    let version = response(&mut lab, envoy).version_info;
    let again = lab.sotw();
    assert_eq!(lab.ask(again, &format!("EDS a b v:{version}")), ["EDS#1 1 2"]);
}

#[test]
fn s21_no_name_is_twice_in_a_response() {
    let mut lab = Lab::serving("C:a=c1 L:a=l1 E:a=e1");
    let envoy = lab.sotw();
    assert_eq!(lab.ask(envoy, "CDS * a a"), ["CDS#1 c1"]);
    assert_eq!(lab.ask(envoy, "EDS a a"), ["EDS#2 e1"]);
}

#[test]
fn s22_a_request_without_type_url_ends_an_aggregated_stream() {
    let mut lab = Lab::serving("");
    let envoy = lab.sotw();
    assert_eq!(lab.try_ask(envoy, "none"), Err(StreamError::MissingTypeUrl));
}

#[test]
fn s23_the_node_is_known_from_the_first_request() {
    let mut lab = Lab::serving("L:a=1");
    let envoy = lab.sotw();
    lab.ask(envoy, "CDS node:host-1");
    assert_eq!(lab.ask(envoy, "LDS"), ["LDS#2 1"]);
    assert_eq!(lab.hub.status().streams[0].node_id, "host-1");
}

#[test]
fn s24_an_unknown_kind_is_never_answered_and_the_others_go_on() {
    let mut lab = Lab::serving("L:a=1");
    for envoy in [lab.sotw(), lab.delta()] {
        assert_eq!(lab.ask(envoy, "RDS"), NOTHING);
        assert_eq!(lab.ask(envoy, "LDS").len(), 1);
    }
}

#[test]
fn s25_the_same_content_has_the_same_version_whatever_came_before() {
    assert_eq!(version_of_set("L:a=1 L:b=2"), version_of_set("L:b=7 L:c=1 L:a=1 L:b=2 L:c"));
    assert_ne!(version_of_set("L:a=1 L:b=2"), version_of_set("L:a=2 L:b=1"));
}

#[test]
fn the_order_is_make_before_break_in_whole_sets_too() {
    let mut lab = Lab::serving("C:old=c-old E:old=e-old L:x=to-old");
    let envoy = lab.sotw_in_sync("old");
    lab.apply("C:old E:old C:new=c-new E:new=e-new L:x=to-new");
    let expected = ["CDS#4 c-new c-old", "EDS#5 e-new", "LDS#6 to-new", "CDS#7 c-new"];
    assert_eq!(lab.receive(envoy), expected);
    assert_eq!(lab.ask(envoy, "EDS new #5"), ["EDS#8 e-new"], "asked for by name, so answered");
    assert_eq!(lab.ask(envoy, "EDS new #8"), NOTHING);
}

#[test]
fn a_client_that_begins_again_on_its_stream_is_answered_in_full() {
    let mut lab = Lab::serving("L:a=1 E:x=1");
    let envoy = lab.sotw_in_sync("x");
    assert_eq!(lab.ask(envoy, "LDS").len(), 1);
    assert_eq!(lab.ask(envoy, "EDS x").len(), 1);
}

#[test]
fn d38_a_listener_that_could_not_be_bound_is_tried_again_with_the_set_under_a_new_version() {
    let mut lab = Lab::serving("L:x=1 L:y=2");
    let envoy = lab.sotw();
    lab.ask(envoy, "LDS");
    lab.ask(envoy, "LDS #1 !Error adding/updating listener(s) x: cannot bind: Address already in use");
    lab.now += Duration::from_millis(100);
    lab.hub.handle_timeout(lab.now);
    let response = response(&mut lab, envoy);
    assert_eq!(response.resources.len(), 2);
    assert!(response.version_info.ends_with(".1"), "{}", response.version_info);
    lab.ask(envoy, "LDS #2");
    assert!(lab.in_sync(envoy) && lab.hub.is_accepted(ResourceType::Listener, "x"));
}

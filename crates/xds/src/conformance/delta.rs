//! The conformance cases of the incremental protocol.

use std::time::Duration;

use super::lab::Lab;
use crate::{ResourceType, Services, Variant};

const NOTHING: [&str; 0] = [];

#[test]
fn d01_the_first_answer_to_a_wildcard_comes_even_if_there_is_nothing() {
    let mut lab = Lab::serving("");
    let envoy = lab.delta();
    assert_eq!(lab.ask(envoy, "CDS"), ["CDS#1"]);
    assert_eq!(lab.ask(envoy, "LDS +*"), ["LDS#2"]);
    assert_eq!(lab.ask(envoy, "EDS"), NOTHING);
    assert_eq!(lab.ask(envoy, "CDS #1"), NOTHING);
}

#[test]
fn d02_a_name_beside_the_wildcard_leaves_the_wildcard() {
    let mut lab = Lab::serving("L:A=1 L:B=1");
    let envoy = lab.delta();
    assert_eq!(lab.ask(envoy, "LDS"), ["LDS#1 A=1 B=1"]);
    assert_eq!(lab.ask(envoy, "LDS #1 +A"), ["LDS#2 A=1"]);
    lab.apply("L:B=2");
    assert_eq!(lab.receive(envoy), ["LDS#3 B=2"]);
}

#[test]
fn d03_without_the_wildcard_only_names_are_sent() {
    let mut lab = Lab::serving("L:A=1 L:B=1");
    let envoy = lab.delta();
    lab.ask(envoy, "LDS +* +A");
    assert_eq!(lab.ask(envoy, "LDS #1 -*"), NOTHING);
    lab.apply("L:A=2 L:B=2 L:C=1");
    assert_eq!(lab.receive(envoy), ["LDS#2 A=2"]);
}

#[test]
fn d04_subscribing_to_nothing_is_not_the_legacy_wildcard() {
    let mut lab = Lab::serving("L:A=1");
    let envoy = lab.delta();
    assert_eq!(lab.ask(envoy, "LDS +* -*"), NOTHING);
    lab.apply("L:B=1");
    assert_eq!(lab.receive(envoy), NOTHING);
    assert_eq!(lab.ask(envoy, "LDS"), NOTHING);
}

#[test]
fn d05_only_what_changed_is_sent() {
    let mut lab = Lab::serving("L:a=1 L:b=1 L:c=1");
    let envoy = lab.delta();
    assert_eq!(lab.ask(envoy, "LDS"), ["LDS#1 a=1 b=1 c=1"]);
    lab.apply("L:a=1 L:b=2");
    assert_eq!(lab.receive(envoy), ["LDS#2 b=2"]);
}

#[test]
fn d06_a_removal_is_told_once() {
    let mut lab = Lab::serving("L:a=1 L:b=1");
    let envoy = lab.delta_in_sync("");
    lab.apply("L:a");
    assert_eq!(lab.receive(envoy), ["LDS#3 -a"]);
    lab.apply("L:a L:b=2");
    assert_eq!(lab.receive(envoy), ["LDS#4 b=2"]);
}

#[test]
fn d07_a_name_that_does_not_exist_is_told_so_and_sent_when_it_does() {
    let mut lab = Lab::serving("");
    let envoy = lab.delta();
    assert_eq!(lab.ask(envoy, "EDS +X"), ["EDS#1 -X"]);
    assert_eq!(lab.ask(envoy, "EDS #1"), NOTHING);
    lab.apply("E:X=1");
    assert_eq!(lab.receive(envoy), ["EDS#2 X=1"]);
}

#[test]
fn d08_removed_and_added_again_before_it_is_sent_is_one_resource() {
    let mut lab = Lab::serving("L:a=1 L:b=1");
    let envoy = lab.delta_in_sync("");
    lab.apply("L:a L:b");
    lab.apply("L:a=2 L:b=1");
    assert_eq!(lab.receive(envoy), ["LDS#3 a=2"], "b is as it was");
}

#[test]
fn d09_a_name_that_is_asked_for_again_is_sent_again() {
    let mut lab = Lab::serving("E:A=1");
    let envoy = lab.delta();
    assert_eq!(lab.ask(envoy, "EDS +A"), ["EDS#1 A=1"]);
    assert_eq!(lab.ask(envoy, "EDS #1 +A"), ["EDS#2 A=1"]);
    assert_eq!(lab.ask(envoy, "EDS #2 -A"), NOTHING);
    assert_eq!(lab.ask(envoy, "EDS +A"), ["EDS#3 A=1"]);
}

#[test]
fn d10_a_name_dropped_under_the_wildcard_is_told_as_it_stands() {
    let mut lab = Lab::serving("L:A=1");
    let envoy = lab.delta();
    assert_eq!(lab.ask(envoy, "LDS +* +A +B"), ["LDS#1 A=1 -B"]);
    assert_eq!(lab.ask(envoy, "LDS #1 -A -B"), ["LDS#2 A=1 -B"]);
}

#[test]
fn d11_dropping_what_was_never_asked_for_is_ignored() {
    let mut lab = Lab::serving("E:A=1 L:A=1");
    let envoy = lab.delta();
    lab.ask(envoy, "EDS +A");
    assert_eq!(lab.ask(envoy, "EDS #1 -B"), NOTHING);
    lab.ask(envoy, "LDS");
    assert_eq!(lab.ask(envoy, "LDS #2 -A"), NOTHING);
    lab.apply("E:A=2 L:A=2");
    assert_eq!(lab.receive(envoy), ["EDS#3 A=2", "LDS#4 A=2"]);
}

#[test]
fn d12_an_answer_without_lists_keeps_the_subscription() {
    let mut lab = Lab::serving("E:A=1");
    let envoy = lab.delta();
    lab.ask(envoy, "EDS +A");
    assert_eq!(lab.ask(envoy, "EDS #1"), NOTHING);
    lab.apply("E:A=2");
    assert_eq!(lab.receive(envoy), ["EDS#2 A=2"]);
}

#[test]
fn d13_and_d14_lists_count_whatever_the_nonce() {
    let mut lab = Lab::serving("E:A=1 E:B=1 E:C=1 E:D=1");
    let envoy = lab.delta();
    lab.ask(envoy, "EDS +A");
    lab.apply("E:A=2");
    assert_eq!(lab.receive(envoy), ["EDS#2 A=2"]);
    assert_eq!(lab.ask(envoy, "EDS #1 +B"), ["EDS#3 B=1"], "stale");
    assert_eq!(lab.ask(envoy, "EDS +C"), ["EDS#4 C=1"], "spontaneous, with responses on their way");
    assert_eq!(lab.ask(envoy, "EDS #what +D"), ["EDS#5 D=1"], "not ours");
    assert!(!lab.in_sync(envoy));
    lab.ask(envoy, "EDS #5");
    assert!(lab.in_sync(envoy));
}

#[test]
fn d15_a_rejected_resource_is_not_sent_again_until_it_changes() {
    let mut lab = Lab::serving("L:good=1");
    let envoy = lab.delta_in_sync("");
    lab.apply("L:bad=1");
    assert_eq!(lab.receive(envoy), ["LDS#3 bad=1"]);
    assert_eq!(lab.ask(envoy, "LDS #3 !Error adding/updating listener(s) bad: no way"), NOTHING);
    lab.apply("L:good=2");
    assert_eq!(lab.receive(envoy), ["LDS#4 good=2"]);
    lab.ask(envoy, "LDS #4");
    assert_eq!(lab.hub.rejection(ResourceType::Listener, "bad"), Some("no way"));
    assert!(!lab.in_sync(envoy));
    lab.apply("L:bad=2");
    assert_eq!(lab.receive(envoy), ["LDS#5 bad=2"]);
    assert_eq!(lab.hub.rejection(ResourceType::Listener, "bad"), None);
    lab.ask(envoy, "LDS #5");
    assert!(lab.in_sync(envoy));
}

#[test]
fn d15_what_was_taken_of_a_rejected_response_is_sent_once_more_so_that_its_version_is_remembered() {
    let mut lab = Lab::serving("L:bad=1 L:good=1 L:fine=1");
    let envoy = lab.delta();
    lab.ask(envoy, "LDS");
    assert_eq!(lab.ask(envoy, "LDS #1 !Error adding/updating listener(s) bad: no"), ["LDS#2 fine=1 good=1"]);
    assert!(lab.hub.is_accepted(ResourceType::Listener, "good"));
    assert_eq!(lab.ask(envoy, "LDS #2"), NOTHING);
}

#[test]
fn d16_the_rest_of_a_rejected_response_counts_as_taken() {
    let mut lab = Lab::serving("L:bad=1 L:good=1 L:gone=1");
    let envoy = lab.delta();
    lab.ask(envoy, "LDS");
    lab.apply("L:gone L:bad=2");
    assert_eq!(lab.receive(envoy), ["LDS#2 bad=2 -gone"]);
    assert_eq!(lab.ask(envoy, "LDS #1 !Error adding/updating listener(s) bad: no"), ["LDS#3 good=1"]);
    assert!(lab.hub.is_accepted(ResourceType::Listener, "good"));
    assert_eq!(lab.hub.rejection(ResourceType::Listener, "bad"), None, "a later response decides");
    lab.ask(envoy, "LDS #2 !Error adding/updating listener(s) bad: no");
    assert!(lab.hub.is_released(ResourceType::Listener, "gone"));
    lab.ask(envoy, "LDS #3");
    lab.apply("L:good L:bad");
    assert_eq!(lab.receive(envoy), ["LDS#4 -bad -good"]);
    lab.ask(envoy, "LDS #4");
    assert!(lab.in_sync(envoy) && lab.hub.is_released(ResourceType::Listener, "bad"));
}

#[test]
fn a_response_rejected_without_a_name_is_sent_one_by_one_and_only_the_culprit_stays_out() {
    let mut lab = Lab::serving("L:a=1 L:b=1 L:c=1");
    let envoy = lab.delta();
    lab.ask(envoy, "LDS");
    assert_eq!(lab.ask(envoy, "LDS #1 !Unable to unpack: goo.gle/debugproto"), ["LDS#2 a=1", "LDS#3 b=1", "LDS#4 c=1"]);
    lab.ask(envoy, "LDS #2");
    assert_eq!(lab.ask(envoy, "LDS #3 !Unable to unpack"), NOTHING);
    assert_eq!(lab.ask(envoy, "LDS #4"), NOTHING);
    assert_eq!(lab.hub.rejection(ResourceType::Listener, "b"), Some("Unable to unpack"));
    assert!(["a", "c"].iter().all(|name| lab.hub.is_accepted(ResourceType::Listener, name)));
    assert_eq!(lab.hub.status().nack_count, 2);
}

#[test]
fn d17_after_a_reconnect_only_differences_are_sent() {
    let mut lab = Lab::serving("C:a=1 C:b=2 C:d=1 L:x=1");
    let envoy = lab.delta();
    assert_eq!(lab.ask(envoy, "CDS have:a=1 have:b=1 have:c=1"), ["CDS#1 b=2 d=1", "CDS#2 -c"]);
    assert_eq!(lab.ask(envoy, "LDS have:x=1"), NOTHING);
    assert!(lab.hub.is_accepted(ResourceType::Listener, "x"));
}

#[test]
fn d18_what_no_longer_exists_is_told_after_a_reconnect_without_wildcard_too() {
    let mut lab = Lab::serving("E:a=1 E:b=1");
    let envoy = lab.delta();
    assert_eq!(lab.ask(envoy, "EDS +a have:a=1 have:b=1 have:c=1"), ["EDS#1 a=1", "EDS#2 -c"]);
    assert!(lab.hub.is_released(ResourceType::Endpoint, "b"));
}

#[test]
fn d19_a_name_is_answered_after_a_reconnect_even_if_the_client_has_it() {
    let mut lab = Lab::serving("E:a=1");
    let envoy = lab.delta();
    assert_eq!(lab.ask(envoy, "EDS +a have:a=1"), ["EDS#1 a=1"]);
}

#[test]
fn d20_a_changed_cluster_is_followed_by_its_endpoints_at_once() {
    let mut lab = Lab::serving("C:a=1 E:a=1 C:b=1 E:b=1");
    let envoy = lab.delta_in_sync("+a +b");
    lab.apply("C:a=2");
    assert_eq!(lab.receive(envoy), ["CDS#4 a=2", "EDS#5 a=1"]);
}

#[test]
fn d21_a_name_that_vanished_meanwhile_is_answered_at_once() {
    let mut lab = Lab::serving("C:b=1 E:b=1");
    let envoy = lab.delta();
    assert_eq!(lab.ask(envoy, "EDS +a +b have:a=1 have:b=1"), ["EDS#1 b=1", "EDS#2 -a"]);
}

#[test]
fn d22_clusters_may_be_asked_for_last() {
    let mut lab = Lab::serving("C:a=2 E:a=1 L:x=1");
    let envoy = lab.delta();
    assert_eq!(lab.ask(envoy, "EDS +a have:a=1"), ["EDS#1 a=1"]);
    assert_eq!(lab.ask(envoy, "LDS have:x=1"), NOTHING);
    lab.apply("L:x=2");
    assert_eq!(lab.receive(envoy), ["LDS#2 x=2"]);
    assert_eq!(lab.ask(envoy, "CDS have:a=1"), ["CDS#3 a=2", "EDS#4 a=1"]);
}

#[test]
fn d23_a_new_port_is_told_as_cluster_endpoints_listener() {
    let mut lab = Lab::serving("");
    let envoy = lab.delta_in_sync("");
    lab.apply("L:x=1 E:a=1 C:a=1");
    assert_eq!(lab.receive(envoy), ["CDS#3 a=1", "EDS#4 a=1", "LDS#5 x=1"]);
    assert_eq!(lab.ask(envoy, "EDS +a"), ["EDS#6 a=1"], "asked for by name, so answered");
}

#[test]
fn d24_a_port_goes_listener_first() {
    let mut lab = Lab::serving("C:a=1 E:a=1 L:x=1");
    let envoy = lab.delta_in_sync("+a");
    lab.apply("C:a E:a L:x");
    assert_eq!(lab.receive(envoy), ["LDS#4 -x", "CDS#5 -a"], "its endpoints go with it");
    assert_eq!(lab.ask(envoy, "EDS -a"), NOTHING);
    lab.settle(envoy);
    assert!(lab.in_sync(envoy) && lab.hub.is_released(ResourceType::Cluster, "a"));
}

#[test]
fn d25_nothing_waits_for_the_answer_on_clusters() {
    let mut lab = Lab::serving("");
    let envoy = lab.delta_in_sync("");
    for n in 0..100 {
        lab.apply(&format!("C:c{n}=1 E:c{n}=1 L:l{n}=1"));
        assert_eq!(lab.receive(envoy).len(), 3, "at {n}");
        lab.ask(envoy, "LDS #9999");
        lab.wait(Duration::from_millis(100));
    }
}

#[test]
fn d26_a_name_is_never_in_both_lists() {
    let mut lab = Lab::serving("L:a=1");
    let envoy = lab.delta_in_sync("");
    lab.apply("L:a L:b=1");
    lab.apply("L:a=2 L:b");
    lab.apply("L:a");
    assert_eq!(lab.ask(envoy, "LDS +a +b"), ["LDS#3 -a -b"]);
}

#[test]
fn d28_every_response_has_a_nonce_of_its_own() {
    let mut lab = Lab::serving("C:a=1 L:x=1 E:a=1");
    let envoy = lab.delta();
    let all = ["CDS", "EDS +a", "LDS", "LDS +x"].map(|request| lab.ask(envoy, request).join(""));
    assert_eq!(all, ["CDS#1 a=1", "EDS#2 a=1", "LDS#3 x=1", "LDS#4 x=1"]);
}

#[test]
fn d29_what_changes_while_the_client_does_not_read_is_sent_once_as_it_stands() {
    let mut lab = Lab::serving("L:a=1");
    let envoy = lab.delta_in_sync("");
    for n in 0..1000 {
        lab.apply(&format!("L:a={n} L:b={n}"));
        lab.apply("L:b");
    }
    assert_eq!(lab.receive(envoy), ["LDS#3 a=999"]);
}

#[test]
fn d30_each_stream_has_its_own_state_also_under_one_node_id() {
    let mut lab = Lab::serving("L:a=1");
    let (one, two) = (lab.delta(), lab.delta());
    assert_eq!(lab.ask(one, "LDS node:envoy"), ["LDS#1 a=1"]);
    lab.apply("L:a=2");
    assert_eq!(lab.ask(two, "LDS node:envoy"), ["LDS#1 a=2"]);
    assert_eq!(lab.receive(one), ["LDS#2 a=2"]);
    lab.ask(two, "LDS #1");
    assert!(lab.in_sync(two) && !lab.in_sync(one));
    lab.apply("L:a");
    lab.receive(one);
    lab.receive(two);
    lab.ask(one, "LDS #3");
    assert!(!lab.hub.is_released(ResourceType::Listener, "a"), "the other still has it");
    lab.ask(two, "LDS #2");
    assert!(lab.hub.is_released(ResourceType::Listener, "a"));
}

#[test]
fn d31_a_stream_may_end_at_any_moment() {
    let mut lab = Lab::serving("L:a=1 L:b=1");
    let envoy = lab.delta();
    lab.ask(envoy, "LDS");
    lab.apply("L:a=2");
    lab.hub.close(envoy);
    lab.hub.close(envoy);
    assert_eq!(lab.receive(envoy), NOTHING);
    assert!(lab.try_ask(envoy, "LDS #1").is_err());
    lab.wait(Duration::from_secs(60));
    assert!(lab.hub.status().streams.is_empty() && lab.hub.is_released(ResourceType::Listener, "a"));
}

#[test]
fn d33_a_huge_message_is_kept_short() {
    let mut lab = Lab::serving("L:a=1");
    let envoy = lab.delta();
    lab.ask(envoy, "LDS");
    let huge = "é: ".repeat(1 << 19);
    assert_eq!(lab.ask(envoy, &format!("LDS #1 !{huge}")), NOTHING);
    let nack = lab.hub.status().last_nack.unwrap();
    assert_eq!(nack.resource, "a");
    assert!(nack.message.len() <= 1024 && lab.hub.rejection(ResourceType::Listener, "a").unwrap().len() <= 1024);
}

#[test]
fn d34_both_protocols_serve_the_same_content_at_once() {
    let mut lab = Lab::serving("L:a=a1 L:b=b1");
    let (delta, sotw) = (lab.delta(), lab.sotw());
    assert_eq!(lab.ask(delta, "LDS"), ["LDS#1 a=a1 b=b1"]);
    assert_eq!(lab.ask(sotw, "LDS"), ["LDS#1 a1 b1"]);
    lab.apply("L:a=a2");
    assert_eq!(lab.receive(delta), ["LDS#2 a=a2"]);
    assert_eq!(lab.receive(sotw), ["LDS#2 a2 b1"]);
}

#[test]
fn d35_an_unchanged_world_behind_a_restarted_server_is_not_sent_again() {
    let world = "C:a=1 C:b=1 E:a=1 E:b=1 L:x=1 L:y=1";
    let mut lab = Lab::holding("");
    let envoy = lab.delta();
    assert_eq!(lab.ask(envoy, "CDS have:a=1 have:b=1"), NOTHING);
    assert_eq!(lab.ask(envoy, "LDS have:x=1 have:y=1"), NOTHING);
    lab.apply("L:x=1");
    assert_eq!(lab.receive(envoy), NOTHING, "half a world");
    lab.apply(world);
    lab.hub.start_serving();
    assert_eq!(lab.receive(envoy), NOTHING);
    assert!(lab.in_sync(envoy));
}

#[test]
fn d36_a_listener_that_takes_over_an_address_comes_in_the_response_that_removes_the_old() {
    let mut lab = Lab::serving("L:old=1 C:a=1");
    let envoy = lab.delta_in_sync("");
    lab.apply("C:b=1 L:new=1 L:old C:a");
    assert_eq!(lab.receive(envoy), ["CDS#3 b=1", "LDS#4 new=1 -old", "CDS#5 -a"]);
}

#[test]
fn listeners_wait_a_little_for_clusters_to_be_asked_for_first() {
    let mut lab = Lab::serving("C:a=1 L:x=1");
    let envoy = lab.delta();
    lab.try_ask(envoy, "LDS").unwrap();
    assert_eq!(lab.receive(envoy), NOTHING);
    lab.try_ask(envoy, "CDS").unwrap();
    assert_eq!(lab.receive(envoy), ["CDS#1 a=1", "LDS#2 x=1"]);
    let alone = lab.delta();
    lab.try_ask(alone, "LDS").unwrap();
    assert_eq!(lab.hub.next_timeout(), Some(lab.now + Duration::from_millis(300)));
    lab.wait(Duration::from_millis(300));
    assert_eq!(lab.receive(alone), ["LDS#1 x=1"]);
}

#[test]
fn d38_a_listener_that_could_not_be_bound_is_sent_again_under_new_versions_until_it_is() {
    let mut lab = Lab::serving("L:x=1 L:y=1");
    let envoy = lab.delta();
    lab.ask(envoy, "LDS");
    let nack = "!Error adding/updating listener(s) x: cannot bind '0.0.0.0:80': Address already in use\n";
    assert_eq!(lab.ask(envoy, &format!("LDS #1 {nack}")), ["LDS#2 y=1"]);
    assert_eq!(lab.ask(envoy, "LDS #2"), NOTHING);
    assert_eq!(lab.hub.next_timeout(), Some(lab.now + Duration::from_millis(100)));
    lab.wait(Duration::from_millis(99));
    assert_eq!(lab.receive(envoy), NOTHING);
    lab.wait(Duration::from_millis(1));
    assert_eq!(lab.receive(envoy), ["LDS#3 x=1~1"]);
    assert_eq!(lab.hub.next_timeout(), None, "the answer decides");
    lab.ask(envoy, &format!("LDS #3 {nack}"));
    lab.wait(Duration::from_millis(200));
    assert_eq!(lab.receive(envoy), ["LDS#4 x=1~2"]);
    assert!(lab.hub.rejection(ResourceType::Listener, "x").unwrap().contains("Address already in use"));
    lab.ask(envoy, "LDS #4");
    assert_eq!(lab.hub.rejection(ResourceType::Listener, "x"), None);
    assert!(lab.in_sync(envoy) && lab.hub.is_accepted(ResourceType::Listener, "x"));
}

#[test]
fn d38_a_listener_that_is_removed_or_changed_is_not_tried_again_as_it_was() {
    let mut lab = Lab::serving("L:x=1 L:y=1");
    let envoy = lab.delta();
    lab.ask(envoy, "LDS");
    let taken = "cannot bind: Address already in use";
    lab.ask(envoy, &format!("LDS #1 !Error adding/updating listener(s) x: {taken}\ny: {taken}"));
    lab.apply("L:x L:y=2");
    assert_eq!(lab.receive(envoy), ["LDS#2 y=2 -x"]);
    lab.ask(envoy, "LDS #2");
    assert_eq!(lab.hub.next_timeout(), None);
    lab.wait(Duration::from_secs(60));
    assert_eq!(lab.receive(envoy), NOTHING);
}

#[test]
fn a_version_that_says_it_was_repeated_is_known_after_a_reconnect() {
    let mut lab = Lab::serving("L:x=1");
    let envoy = lab.delta();
    let mut request = super::lab::delta_request("LDS");
    request.initial_resource_versions.insert("x".to_owned(), super::lab::version_of("1") + ".3");
    lab.hub.handle_delta(envoy, request, lab.now).unwrap();
    assert_eq!(lab.receive(envoy), NOTHING);
}

#[test]
fn the_services_of_one_kind_serve_that_kind_and_keep_the_order_between_streams() {
    let mut lab = Lab::serving("C:a=1 E:a=1 L:x=1");
    let only = |lab: &mut Lab, kind| lab.open(Variant::Delta, Services::Only(kind));
    let cds = only(&mut lab, ResourceType::Cluster);
    let eds = only(&mut lab, ResourceType::Endpoint);
    let other = only(&mut lab, ResourceType::Endpoint);
    assert_eq!(lab.ask(cds, "none node:envoy"), ["CDS#1 a=1"], "the type_url is implied");
    assert_eq!(lab.ask(eds, "EDS node:envoy +a"), ["EDS#1 a=1"]);
    assert_eq!(lab.ask(other, "EDS node:another +a"), ["EDS#1 a=1"]);
    lab.apply("C:a=2");
    assert_eq!(lab.receive(cds), ["CDS#2 a=2"]);
    assert_eq!(lab.receive(eds), ["EDS#2 a=1"]);
    assert_eq!(lab.receive(other), NOTHING);
    assert!(lab.try_ask(cds, "LDS").is_err());
}

//! What the hub tells its caller.

use std::time::Duration;

use envoy_types::pb::envoy::config::core::v3::node::UserAgentVersionType;
use envoy_types::pb::envoy::config::core::v3::{BuildVersion, Node};
use envoy_types::pb::envoy::r#type::v3::SemanticVersion;

use super::lab::{Lab, delta_request};
use crate::hub::MAX_STREAMS;
use crate::{ResourceCounts, ResourceType, Services, StreamError, StreamId, Variant};

#[test]
fn the_status_names_the_envoys_their_versions_and_what_they_rejected() {
    let mut lab = Lab::serving("C:a=1 E:a=1 L:x=1 L:y=1");
    let envoy = lab.delta();
    let version = SemanticVersion { major_number: 1, minor_number: 40, patch: 0 };
    let build = BuildVersion { version: Some(version), metadata: None };
    let node = Node {
        id: "host-1".to_owned(),
        user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(build)),
        ..Default::default()
    };
    let mut request = delta_request("LDS");
    request.node = Some(node);
    lab.hub.handle_delta(envoy, request, lab.now).unwrap();
    assert!(!lab.in_sync(envoy));
    lab.wait(Duration::from_secs(1));
    assert_eq!(lab.receive(envoy), ["LDS#1 x=1 y=1"]);
    let rejected_at = lab.now;
    lab.ask(envoy, "LDS #1 !Error adding/updating listener(s) y: no way");

    let status = lab.hub.status();
    assert_eq!((status.streams[0].node_id.as_str(), status.streams[0].envoy_version.as_str()), ("host-1", "1.40.0"));
    assert_eq!(status.resources, ResourceCounts { clusters: 1, endpoints: 1, listeners: 2 });
    let nack = status.last_nack.unwrap();
    assert_eq!((nack.resource_type, nack.resource.as_str()), (ResourceType::Listener, "y"));
    assert_eq!((nack.time, status.nack_count), (rejected_at, 1));
    assert!(!status.streams[0].in_sync);
}

#[test]
fn a_resource_is_released_when_never_sent_or_its_removal_is_acknowledged() {
    let mut lab = Lab::serving("L:other=1");
    let envoy = lab.delta_in_sync("");
    let released = |lab: &Lab| lab.hub.is_released(ResourceType::Listener, "x");
    lab.apply("L:x=1");
    assert!(released(&lab), "not sent yet");
    lab.receive(envoy);
    assert!(!released(&lab), "sent, may be bound at any moment");
    lab.apply("L:x");
    assert!(!released(&lab));
    assert_eq!(lab.receive(envoy).len(), 1);
    assert!(!released(&lab), "removal sent");
    lab.settle(envoy);
    assert!(released(&lab));
}

#[test]
fn a_resource_is_under_way_until_its_last_content_is_answered_even_if_it_is_withdrawn_meanwhile() {
    let mut lab = Lab::serving("L:other=1");
    let envoy = lab.delta_in_sync("");
    let under_way = |lab: &Lab| lab.hub.is_under_way(ResourceType::Listener, "x");
    lab.apply("L:x=1");
    assert!(!under_way(&lab), "not sent yet");
    assert_eq!(lab.receive(envoy), ["LDS#3 x=1"]);
    assert!(under_way(&lab));
    lab.apply("L:x");
    assert_eq!(lab.receive(envoy), ["LDS#4 -x"]);
    assert!(under_way(&lab), "withdrawn, and neither is answered");
    lab.ask(envoy, "LDS #3");
    assert!(!under_way(&lab) && !lab.hub.is_released(ResourceType::Listener, "x"), "taken, and to be removed");
    lab.apply("L:x=1");
    assert_eq!(lab.receive(envoy), ["LDS#5 x=1"]);
    lab.apply("L:x");
    assert_eq!(lab.receive(envoy), ["LDS#6 -x"]);
    lab.ask(envoy, "LDS #4");
    assert!(under_way(&lab), "given again after the removal that is answered");
    lab.settle(envoy);
    assert!(!under_way(&lab) && lab.hub.is_released(ResourceType::Listener, "x"));
}

#[test]
fn a_resource_is_accepted_once_its_present_content_is_acknowledged() {
    let mut lab = Lab::serving("L:x=1");
    let accepted = |lab: &Lab| lab.hub.is_accepted(ResourceType::Listener, "x");
    let envoy = lab.delta();
    lab.ask(envoy, "LDS");
    assert!(!accepted(&lab));
    lab.ask(envoy, "LDS #1");
    assert!(accepted(&lab));
    lab.apply("L:x=2");
    assert!(!accepted(&lab));
    lab.hub.close(envoy);
    assert!(!accepted(&lab) && !lab.hub.is_accepted(ResourceType::Listener, "none"));
}

#[test]
fn too_many_streams_are_refused_and_the_open_ones_go_on() {
    let mut lab = Lab::serving("L:x=1");
    let first = lab.delta();
    for id in 1..MAX_STREAMS as u64 {
        lab.hub.open(StreamId(1000 + id), Variant::Delta, Services::Ads).unwrap();
    }
    let refused = lab.hub.open(StreamId(9999), Variant::Delta, Services::Ads);
    assert_eq!(refused, Err(StreamError::TooManyStreams));
    assert_eq!(lab.ask(first, "LDS"), ["LDS#1 x=1"]);
}

#[test]
fn what_is_not_this_protocol_ends_the_stream_with_a_reason() {
    let mut lab = Lab::serving("");
    let delta = lab.delta();
    assert_eq!(lab.try_ask(delta, "none"), Err(StreamError::MissingTypeUrl));
    let lds = lab.open(Variant::Delta, Services::Only(ResourceType::Listener));
    let error = lab.try_ask(lds, "CDS").unwrap_err();
    assert_eq!(error.to_string(), "this stream serves type.googleapis.com/envoy.config.listener.v3.Listener only");
    let many: String = (0..=crate::MAX_SUBSCRIBED_NAMES).map(|n| format!("have:{n}=1 ")).collect();
    assert_eq!(lab.try_ask(lds, &format!("LDS {many}")), Err(StreamError::TooManyNames));
}

#[test]
fn a_stream_that_brings_too_many_names_is_refused_and_of_all_together_the_one_that_brings_the_most() {
    let mut lab = Lab::serving("C:a=1 E:a=1 L:x=1");
    let names = |stream: usize, count: usize| {
        (0..count).map(|number| format!(" +unknown/{stream}/{number}")).collect::<String>()
    };
    let envoy = lab.delta_in_sync("+a");
    let greedy = lab.delta();
    assert_eq!(lab.try_ask(greedy, &format!("EDS{}", names(0, 99_000))), Err(StreamError::TooMuch));
    lab.hub.close(greedy);
    let strangers: Vec<_> = (1..=4).map(|_| lab.delta()).collect();
    for (number, stranger) in strangers.iter().enumerate() {
        assert_eq!(lab.hub.too_much(), None);
        lab.try_ask(*stranger, &format!("EDS{}", names(number, 36_000 + number))).unwrap();
    }
    let ended = lab.hub.too_much();
    assert_eq!(ended, strangers.last().copied(), "it brings the most");
    lab.hub.close(ended.unwrap());
    assert_eq!(lab.hub.too_much(), None);
    lab.apply("L:x=2");
    assert_eq!(lab.receive(envoy).len(), 1, "Envoy is served as before");
}

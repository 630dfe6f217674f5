//! The form of requests and responses of the state-of-the-world protocol.
//!
//! For clusters and listeners a response holds the complete set, and what is missing in it is removed. For
//! endpoints it holds any part of the set, and absence is told by an assignment without endpoints.

use std::time::Instant;

use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use crate::ledger::{Ledger, Told, Verdict};
use crate::store::{Name, Store, Version};
use crate::subscription::Interest;
use crate::substream::{Part, Substream};
use crate::{ResourceType, StreamError};

/// Takes in a request. Returns what it rejects, if it does.
pub(crate) fn handle(
    substream: &mut Substream,
    store: &Store,
    request: DiscoveryRequest,
    now: Instant,
) -> Result<Option<Verdict>, StreamError> {
    substream.requested = true;
    let nonce: u64 = request.response_nonce.parse().unwrap_or(0);
    let (last_nonce, was_answered) = substream.ledger.last_response();
    let verdict = settle(&mut substream.ledger, nonce, &request, now);
    let interest = substream.subscription.update_sotw(request.resource_names)?;
    if request.response_nonce.is_empty() {
        begin(substream, store, &request.version_info);
    } else if nonce == last_nonce && was_answered && verdict.is_none() && interest == Interest::default() {
        // Asked again without need: Envoy does so for endpoints whose Envoy cluster changed, and waits.
        ask_again(substream, store);
    } else {
        // The list counts even if the nonce is stale: the client may not repeat it.
        substream.follow(store, interest);
    }
    Ok(verdict)
}

fn settle(ledger: &mut Ledger, nonce: u64, request: &DiscoveryRequest, now: Instant) -> Option<Verdict> {
    let Some(error) = &request.error_detail else {
        ledger.acknowledge(nonce);
        return None;
    };
    let mut verdict = ledger.reject(nonce, &error.message, now);
    // There is no sending them one by one: the set is always complete.
    for name in std::mem::take(&mut verdict.suspects) {
        ledger.reject_one(&name, &error.message, now);
        verdict.rejected.push(name);
    }
    Some(verdict)
}

/// The client has been told nothing on this stream, or says so.
fn begin(substream: &mut Substream, store: &Store, version: &str) {
    substream.ledger = Ledger::default();
    substream.claimed_set = Version::parse(version);
    substream.compare_all(store);
    ask_again(substream, store);
}

fn ask_again(substream: &mut Substream, store: &Store) {
    substream.ask_for_names(store);
    substream.must_answer = is_complete_set(substream.resource_type);
}

fn is_complete_set(resource_type: ResourceType) -> bool {
    match resource_type {
        ResourceType::Cluster | ResourceType::Listener => true,
        ResourceType::Endpoint => false,
    }
}

/// The response for what is to be sent, and what of it the client may not have yet.
pub(crate) fn response(
    substream: &mut Substream,
    store: &Store,
    part: Part,
    nonce: u64,
) -> Option<(DiscoveryResponse, Vec<(Name, Told)>)> {
    let Content { bodies, version, told } = if is_complete_set(substream.resource_type) {
        complete_set(substream, store, part)?
    } else {
        let told = substream.take(store, part)?;
        let bodies = told.iter().map(|(name, told)| assignment(name, told)).collect();
        Content { bodies, version: store.set_version(substream.resource_type), told }
    };
    let type_url = substream.resource_type.type_url();
    // The largest number of failures makes a version that no earlier response had.
    let failures = |(name, told): &(Name, Told)| match told {
        Told::Content(resource) => substream.ledger.failures(name, resource.version),
        Told::Absent | Told::Elsewhere(_) => 0,
    };
    let repeats = told.iter().map(failures).max().unwrap_or(0);
    let response = DiscoveryResponse {
        version_info: version.text(repeats),
        resources: bodies.into_iter().map(|value| Any { type_url: type_url.to_owned(), value }).collect(),
        type_url: type_url.to_owned(),
        nonce: nonce.to_string(),
        ..Default::default()
    };
    substream.ledger.record(nonce, &told);
    Some((response, told))
}

fn assignment(name: &Name, told: &Told) -> Vec<u8> {
    match told {
        Told::Content(resource) => resource.body.to_vec(),
        Told::Absent | Told::Elsewhere(_) => {
            ClusterLoadAssignment { cluster_name: name.to_string(), ..Default::default() }.encode_to_vec()
        }
    }
}

/// What a response holds.
struct Content {
    /// The encoded resources.
    bodies: Vec<Vec<u8>>,
    /// The version of the set.
    version: Version,
    /// What the client may not have yet: the answer to this response decides.
    told: Vec<(Name, Told)>,
}

/// Everything that the client wants. Where only upserts are to be sent, what is to go stays in the set.
fn complete_set(substream: &mut Substream, store: &Store, part: Part) -> Option<Content> {
    adopt_claim(substream, store);
    let upserts_due = !substream.upserts.is_empty() || substream.owes_empty_answer();
    let removals_due = !substream.removals.is_empty();
    if !(part.upserts() && upserts_due || part.removals() && removals_due) {
        return None;
    }
    let version = store.set_version(substream.resource_type);
    let mut content = Content { bodies: Vec::new(), version, told: Vec::new() };
    let upserts = std::mem::take(&mut substream.upserts);
    let wanted = store.iter(substream.resource_type).filter(|(name, _)| substream.subscription.wants(name));
    for (name, resource) in wanted {
        content.bodies.push(resource.body.to_vec());
        if upserts.contains_key(name) || !substream.ledger.is_settled(name) {
            content.told.push((Name::clone(name), Told::Content(resource.clone())));
        }
    }
    if part.removals() {
        let removals = std::mem::take(&mut substream.removals);
        content.told.extend(removals.into_keys().map(|name| (name, Told::Absent)));
    } else {
        let staying = substream.removals.keys();
        for (name, resource) in staying.filter_map(|name| Some((name, substream.ledger.content(name)?))) {
            content.bodies.push(resource.body.to_vec());
            content.version = content.version.with(name, resource);
        }
    }
    substream.must_answer = false;
    Some(content)
}

/// Where the client has everything from another stream, nothing is sent. This is decided only now because
/// requests may come before the store is filled.
fn adopt_claim(substream: &mut Substream, store: &Store) {
    let Some(claimed) = substream.claimed_set.take() else { return };
    let wants_just_all = substream.subscription.wants_all() && substream.subscription.names_nothing();
    if !wants_just_all || claimed != store.set_version(substream.resource_type) {
        return;
    }
    for (name, resource) in store.iter(substream.resource_type) {
        substream.ledger.claim(Name::clone(name), Told::Content(resource.clone()));
    }
    substream.upserts.clear();
    substream.must_answer = false;
}

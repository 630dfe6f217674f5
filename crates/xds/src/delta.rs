//! The form of requests and responses of the incremental protocol.

use std::collections::HashMap;
use std::time::Instant;

use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource};
use envoy_types::pb::google::protobuf::Any;

use crate::StreamError;
use crate::ledger::{Told, Verdict};
use crate::store::{Name, Store, Version};
use crate::subscription::MAX_SUBSCRIBED_NAMES;
use crate::substream::{Part, Substream, Why};

/// Takes in a request. Returns what it rejects, if it does.
pub(crate) fn handle(
    substream: &mut Substream,
    store: &Store,
    request: DeltaDiscoveryRequest,
    now: Instant,
) -> Result<Option<Verdict>, StreamError> {
    let verdict = settle(substream, store, &request, now);
    let first = !std::mem::replace(&mut substream.requested, true);
    let (subscribe, unsubscribe) = (request.resource_names_subscribe, request.resource_names_unsubscribe);
    let interest = substream.subscription.update_delta(subscribe, &unsubscribe, first)?;
    // Later ones say nothing new: what was sent on this stream is known.
    let claims = if first { request.initial_resource_versions } else { HashMap::new() };
    let has_claims = !claims.is_empty();
    claim(substream, claims)?;
    substream.follow(store, interest);
    if has_claims {
        drop_claims(substream, store);
        // Who has something was answered by another stream and is not kept waiting by silence.
        substream.must_answer = false;
    }
    Ok(verdict)
}

/// Takes in the answer to a response. A nonce that is not ours is none.
fn settle(substream: &mut Substream, store: &Store, request: &DeltaDiscoveryRequest, now: Instant) -> Option<Verdict> {
    let nonce = request.response_nonce.parse().unwrap_or(0);
    let Some(error) = &request.error_detail else {
        substream.ledger.acknowledge(nonce);
        return None;
    };
    let verdict = substream.ledger.reject(nonce, &error.message, now);
    // Envoy uses them but would not claim them after a reconnect, and so never be told to remove them. In a response
    // that it takes as a whole it learns their versions.
    for name in &verdict.taken {
        substream.touch(store, name, Why::Asked);
    }
    for name in &verdict.suspects {
        substream.touch(store, name, Why::Alone);
    }
    Some(verdict)
}

fn claim(substream: &mut Substream, claims: HashMap<String, String>) -> Result<(), StreamError> {
    if claims.len() > MAX_SUBSCRIBED_NAMES {
        return Err(StreamError::TooManyNames);
    }
    for (name, version) in claims {
        substream.ledger.claim(name.into(), Told::Elsewhere(Version::parse(&version)));
    }
    Ok(())
}

/// Looks through what the client has but does not want: it is told what no longer exists.
fn drop_claims(substream: &mut Substream, store: &Store) {
    let unwanted = substream.ledger.names().filter(|name| !substream.subscription.wants(name));
    let unwanted: Vec<Name> = unwanted.cloned().collect();
    for name in unwanted {
        match store.get(substream.resource_type, &name) {
            Some(_) => substream.ledger.forget(&name),
            None => substream.touch(store, &name, Why::Changed),
        }
    }
}

/// The response for what is to be sent, and what it tells.
pub(crate) fn response(
    substream: &mut Substream,
    store: &Store,
    part: Part,
    nonce: u64,
) -> Option<(DeltaDiscoveryResponse, Vec<(Name, Told)>)> {
    let told = substream.take(store, part)?;
    let mut response = DeltaDiscoveryResponse {
        system_version_info: store.set_version(substream.resource_type).text(0),
        type_url: substream.resource_type.type_url().to_owned(),
        nonce: nonce.to_string(),
        ..Default::default()
    };
    for (name, told) in &told {
        match told {
            Told::Content(content) => {
                let repeats = substream.ledger.failures(name, content.version);
                response.resources.push(Resource {
                    name: name.to_string(),
                    version: content.version.text(repeats),
                    resource: Some(Any { type_url: response.type_url.clone(), value: content.body.to_vec() }),
                    ..Default::default()
                });
            }
            Told::Absent | Told::Elsewhere(_) => response.removed_resources.push(name.to_string()),
        }
    }
    substream.ledger.record(nonce, &told);
    Some((response, told))
}

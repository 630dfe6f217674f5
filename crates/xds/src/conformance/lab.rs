//! A hub with streams, and the short words that the tests talk to it in.
//!
//! | words | meaning |
//! |---|---|
//! | `C:a=1 E:a=1 L:x=1 L:y` | changes: a cluster, an endpoint and a listener are set, a listener is removed |
//! | `LDS +A -B #3 have:x=1` | a delta request: subscribe A, unsubscribe B, answers response 3, holds `x` with content 1 |
//! | `LDS A B #3 v:7f` | a state-of-the-world request: the list A B, answers response 3, version 7f |
//! | `LDS #3 !message` | rejects response 3 |
//! | `LDS#3 x=1 -y` | a response, its third: `x` with content 1, `y` removed |

use std::time::{Duration, Instant};

use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc::Status as Error;
use prost::Message;

use crate::store::Version;
use crate::{Change, Hub, ResourceType, Response, Services, StreamError, StreamId, Variant};

pub(super) struct Lab {
    pub(super) hub: Hub,
    pub(super) now: Instant,
    streams: Vec<Variant>,
    /// Those that have asked for listeners.
    listeners: Vec<StreamId>,
}

impl Lab {
    /// A hub that serves these resources.
    pub(super) fn serving(changes: &str) -> Self {
        let mut lab = Self::holding(changes);
        lab.hub.start_serving();
        lab
    }

    /// A hub that has these resources and answers nothing yet.
    pub(super) fn holding(changes: &str) -> Self {
        let mut lab = Self { hub: Hub::new(), now: Instant::now(), streams: Vec::new(), listeners: Vec::new() };
        lab.apply(changes);
        lab
    }

    pub(super) fn apply(&mut self, changes: &str) {
        self.hub.apply(changes.split_whitespace().map(change));
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.hub.handle_timeout(self.now);
    }

    pub(super) fn open(&mut self, variant: Variant, services: Services) -> StreamId {
        let id = StreamId(self.streams.len() as u64);
        self.streams.push(variant);
        self.hub.open(id, variant, services).unwrap();
        id
    }

    pub(super) fn delta(&mut self) -> StreamId {
        self.open(Variant::Delta, Services::Ads)
    }

    pub(super) fn sotw(&mut self) -> StreamId {
        self.open(Variant::Sotw, Services::Ads)
    }

    /// Sends a request and returns the responses that follow.
    pub(super) fn ask(&mut self, id: StreamId, request: &str) -> Vec<String> {
        self.try_ask(id, request).unwrap();
        if request.starts_with("LDS") && !self.listeners.contains(&id) {
            // Most tests do not ask for clusters first, so listeners are held back for a while.
            self.listeners.push(id);
            self.wait(Duration::from_millis(300));
        }
        self.receive(id)
    }

    /// Sends a request, in the protocol that the stream speaks.
    pub(super) fn try_ask(&mut self, id: StreamId, request: &str) -> Result<(), StreamError> {
        match self.streams[usize::try_from(id.0).unwrap()] {
            Variant::Delta => self.hub.handle_delta(id, delta_request(request), self.now),
            Variant::Sotw => self.hub.handle_sotw(id, sotw_request(request), self.now),
        }
    }

    /// All responses that are due.
    pub(super) fn receive(&mut self, id: StreamId) -> Vec<String> {
        std::iter::from_fn(|| self.hub.poll_response(id)).map(|response| text(&response)).collect()
    }

    /// A delta stream whose client has asked for everything of each kind, and taken it; of endpoints, those named.
    pub(super) fn delta_in_sync(&mut self, endpoints: &str) -> StreamId {
        let id = self.delta();
        for request in ["CDS".to_owned(), format!("EDS {endpoints}"), "LDS".to_owned()] {
            self.ask(id, &request);
        }
        self.settle(id);
        id
    }

    /// The same for state of the world.
    pub(super) fn sotw_in_sync(&mut self, endpoints: &str) -> StreamId {
        let id = self.sotw();
        for request in ["CDS".to_owned(), format!("EDS {endpoints}"), "LDS".to_owned()] {
            for response in self.ask(id, &request) {
                let nonce = &response[3..response.find(' ').unwrap_or(response.len())];
                self.ask(id, &format!("{request} {nonce}"));
            }
        }
        id
    }

    /// Takes whatever was sent on a delta stream.
    pub(super) fn settle(&mut self, id: StreamId) {
        let mut has_more = true;
        while std::mem::take(&mut has_more) {
            for kind in ["CDS", "EDS", "LDS"] {
                has_more |= !self.ask(id, &format!("{kind} #9999")).is_empty();
            }
        }
    }

    pub(super) fn in_sync(&self, id: StreamId) -> bool {
        self.hub.status().streams.iter().any(|stream| stream.id == id && stream.in_sync)
    }
}

pub(super) fn kind(word: &str) -> ResourceType {
    match &word[..1] {
        "C" => ResourceType::Cluster,
        "E" => ResourceType::Endpoint,
        "L" => ResourceType::Listener,
        _ => panic!("{word:?} names no kind"),
    }
}

fn change(word: &str) -> Change {
    let (name, body) = match word[2..].split_once('=') {
        Some((name, body)) => (name, Some(Bytes::copy_from_slice(body.as_bytes()))),
        None => (&word[2..], None),
    };
    Change { resource_type: kind(word), name: name.to_owned(), body }
}

/// The version of such content.
pub(super) fn version_of(body: &str) -> String {
    Version::of(Bytes::copy_from_slice(body.as_bytes())).text(0)
}

fn split(request: &str) -> (String, Vec<&str>, Option<Error>) {
    let (words, error) = match request.split_once(" !") {
        Some((words, message)) => (words, Some(Error { message: message.to_owned(), ..Default::default() })),
        None => (request, None),
    };
    let mut words = words.split_whitespace();
    let type_url = match words.next() {
        Some("none") | None => String::new(),
        Some("RDS") => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration".to_owned(),
        Some(word) => kind(word).type_url().to_owned(),
    };
    (type_url, words.collect(), error)
}

pub(super) fn delta_request(request: &str) -> DeltaDiscoveryRequest {
    let (type_url, words, error_detail) = split(request);
    let mut request = DeltaDiscoveryRequest { type_url, error_detail, ..Default::default() };
    for word in words {
        if let Some(name) = word.strip_prefix('+') {
            request.resource_names_subscribe.push(name.to_owned());
        } else if let Some(name) = word.strip_prefix('-') {
            request.resource_names_unsubscribe.push(name.to_owned());
        } else if let Some(nonce) = word.strip_prefix('#') {
            nonce.clone_into(&mut request.response_nonce);
        } else if let Some((name, body)) = word.strip_prefix("have:").and_then(|held| held.split_once('=')) {
            request.initial_resource_versions.insert(name.to_owned(), version_of(body));
        } else if let Some(id) = word.strip_prefix("node:") {
            request.node = Some(Node { id: id.to_owned(), ..Default::default() });
        } else {
            panic!("{word:?} in a delta request");
        }
    }
    request
}

pub(super) fn sotw_request(request: &str) -> DiscoveryRequest {
    let (type_url, words, error_detail) = split(request);
    let mut request = DiscoveryRequest { type_url, error_detail, ..Default::default() };
    for word in words {
        if let Some(nonce) = word.strip_prefix('#') {
            nonce.clone_into(&mut request.response_nonce);
        } else if let Some(version) = word.strip_prefix("v:") {
            version.clone_into(&mut request.version_info);
        } else if let Some(id) = word.strip_prefix("node:") {
            request.node = Some(Node { id: id.to_owned(), ..Default::default() });
        } else {
            request.resource_names.push(word.to_owned());
        }
    }
    request
}

fn short(type_url: &str) -> &'static str {
    match ResourceType::from_type_url(type_url) {
        Some(ResourceType::Cluster) => "CDS",
        Some(ResourceType::Endpoint) => "EDS",
        Some(ResourceType::Listener) => "LDS",
        None => panic!("a response of kind {type_url:?}"),
    }
}

/// The content of a resource; `none` for endpoints that there are none of.
fn body(resource: &Any) -> String {
    let content = String::from_utf8_lossy(&resource.value).into_owned();
    match ClusterLoadAssignment::decode(&*resource.value) {
        Ok(empty) if !empty.cluster_name.is_empty() => format!("{}=none", empty.cluster_name),
        _ => content,
    }
}

fn text(response: &Response) -> String {
    match response {
        Response::Delta(response) => {
            let mut words = vec![format!("{}#{}", short(&response.type_url), response.nonce)];
            for resource in &response.resources {
                let repeats = resource.version.split_once('.').map(|(_, repeats)| format!("~{repeats}"));
                let body = body(resource.resource.as_ref().unwrap());
                words.push(format!("{}={body}{}", resource.name, repeats.unwrap_or_default()));
            }
            words.extend(response.removed_resources.iter().map(|name| format!("-{name}")));
            words.join(" ")
        }
        // Resources have no names here but those inside, so tests let the content say it.
        Response::Sotw(response) => {
            let mut words = vec![format!("{}#{}", short(&response.type_url), response.nonce)];
            words.extend(response.resources.iter().map(body));
            words.join(" ")
        }
    }
}

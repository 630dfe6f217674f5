//! A client that does what Envoy 1.40 does, as far as it was seen on the wire:
//! - a new or changed cluster waits ("warms") until its endpoints come, and until then no answer on clusters is
//!   sent; endpoints for a cluster that it does not have are ignored;
//! - listeners are asked for once the first clusters are warm;
//! - the good part of a response is used and the bad part named, but no version of that response is remembered;
//! - after a reconnect, clusters are asked for only when none is warming any longer.
//!
//! Contents are `NAME:REST`; one with `bad` in it is rejected. A listener's REST begins with its cluster's name.
//! While it goes it checks the laws that hold at every moment.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use envoy_types::pb::google::protobuf::Any;
use envoy_types::pb::google::rpc::Status as Error;
use prost::Message;

use crate::resource_type::PerType;
use crate::{Hub, ResourceType, Response, Services, StreamId, Variant};

#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) content: String,
    /// What it would claim after a reconnect.
    version: Option<String>,
    /// Whether the content is another than that version's.
    unconfirmed: bool,
}

#[derive(Debug, Default)]
struct Kind {
    held: BTreeMap<String, Held>,
    requested: bool,
    /// The last response's nonce and the last accepted version (state of the world).
    nonce: String,
    version: String,
    /// The last response's version (state of the world).
    seen_version: String,
    /// What this stream told, or what was claimed on it: name to version.
    told: BTreeMap<String, String>,
    rejected: BTreeSet<String>,
}

enum Request {
    Delta(DeltaDiscoveryRequest),
    Sotw(DiscoveryRequest),
}

pub(super) struct Envoy {
    id: StreamId,
    variant: Variant,
    kinds: PerType<Kind>,
    warming: BTreeSet<String>,
    /// How often endpoints may come although they are unchanged.
    repeats: BTreeMap<String, usize>,
    inbox: VecDeque<Response>,
    outbox: VecDeque<Request>,
    /// Answers on clusters that wait for the end of warming.
    withheld: VecDeque<Request>,
}

/// A response in the same form for both protocols.
struct News {
    kind: ResourceType,
    nonce: String,
    version: String,
    /// Name, version and content.
    upserts: Vec<(String, String, String)>,
    removed: Vec<String>,
}

impl Envoy {
    pub(super) fn connect(hub: &mut Hub, id: StreamId, variant: Variant) -> Self {
        let mut envoy = Self {
            id,
            variant,
            kinds: PerType::default(),
            warming: BTreeSet::new(),
            repeats: BTreeMap::new(),
            inbox: VecDeque::new(),
            outbox: VecDeque::new(),
            withheld: VecDeque::new(),
        };
        envoy.begin(hub);
        envoy
    }

    /// Loses the stream and opens another. Not while it has taken something from a response that it rejected in part
    /// and that has not come once more: Envoy then claims what it does not have, and nobody can know.
    pub(super) fn reconnect(&mut self, hub: &mut Hub, id: StreamId) {
        if self.kinds.iter().any(|kind| kind.held.values().any(|held| held.unconfirmed)) {
            return;
        }
        hub.close(self.id);
        self.id = id;
        self.inbox.clear();
        self.outbox.clear();
        self.withheld.clear();
        self.begin(hub);
    }

    fn begin(&mut self, hub: &mut Hub) {
        hub.open(self.id, self.variant, Services::Ads).unwrap();
        let had_listeners = self.kinds[ResourceType::Listener].requested;
        for kind in ResourceType::ALL {
            let claims =
                self.kinds[kind].held.iter().filter_map(|(name, held)| Some((name.clone(), held.version.clone()?)));
            self.kinds[kind].told = claims.collect();
            self.kinds[kind].requested = false;
            self.kinds[kind].nonce.clear();
            self.kinds[kind].seen_version = self.kinds[kind].version.clone();
            self.kinds[kind].rejected.clear();
        }
        let endpoints: Vec<String> = self.kinds[ResourceType::Cluster].held.keys().cloned().collect();
        if !endpoints.is_empty() {
            self.subscribe(&endpoints, &[]);
        }
        if had_listeners {
            self.request_all(ResourceType::Listener);
        }
        self.when_warm();
    }

    /// Does what waited for the end of warming.
    fn when_warm(&mut self) {
        if !self.warming.is_empty() {
            return;
        }
        self.outbox.append(&mut self.withheld);
        if !self.kinds[ResourceType::Cluster].requested {
            self.request_all(ResourceType::Cluster);
        }
    }

    fn request_all(&mut self, kind: ResourceType) {
        let state = &mut self.kinds[kind];
        state.requested = true;
        let type_url = kind.type_url().to_owned();
        let request = match self.variant {
            Variant::Delta => {
                let initial_resource_versions = state.told.clone().into_iter().collect();
                Request::Delta(DeltaDiscoveryRequest { type_url, initial_resource_versions, ..Default::default() })
            }
            Variant::Sotw => {
                let version_info = state.version.clone();
                Request::Sotw(DiscoveryRequest { type_url, version_info, ..Default::default() })
            }
        };
        self.outbox.push_back(request);
    }

    /// Tells that endpoints of these clusters are wanted, or no longer.
    fn subscribe(&mut self, added: &[String], removed: &[String]) {
        for name in added {
            *self.repeats.entry(name.clone()).or_default() += 1;
        }
        let clusters: Vec<String> = self.kinds[ResourceType::Cluster].held.keys().cloned().collect();
        let state = &mut self.kinds[ResourceType::Endpoint];
        let first = !std::mem::replace(&mut state.requested, true);
        let type_url = ResourceType::Endpoint.type_url().to_owned();
        let request = match self.variant {
            Variant::Delta => Request::Delta(DeltaDiscoveryRequest {
                type_url,
                resource_names_subscribe: added.to_vec(),
                resource_names_unsubscribe: removed.to_vec(),
                initial_resource_versions: if first {
                    state.told.clone().into_iter().collect()
                } else {
                    Default::default()
                },
                ..Default::default()
            }),
            Variant::Sotw => Request::Sotw(DiscoveryRequest {
                type_url,
                resource_names: clusters,
                version_info: state.version.clone(),
                response_nonce: state.nonce.clone(),
                ..Default::default()
            }),
        };
        self.outbox.push_back(request);
    }

    /// Reads one response off the stream.
    pub(super) fn read(&mut self, hub: &mut Hub) -> bool {
        let response = hub.poll_response(self.id);
        self.inbox.extend(response);
        !self.inbox.is_empty()
    }

    /// Writes one request to the stream.
    pub(super) fn write(&mut self, hub: &mut Hub, now: Instant) -> bool {
        match self.outbox.pop_front() {
            Some(Request::Delta(request)) => hub.handle_delta(self.id, request, now).unwrap(),
            Some(Request::Sotw(request)) => hub.handle_sotw(self.id, request, now).unwrap(),
            None => return false,
        }
        true
    }

    /// Acts on one response.
    pub(super) fn work(&mut self) -> bool {
        let Some(response) = self.inbox.pop_front() else { return false };
        let news = self.news(response);
        self.check_repeats(&news);
        let (bad, good): (Vec<_>, Vec<_>) = news.upserts.iter().partition(|(_, _, content)| content.contains("bad"));
        let error = bad.iter().map(|(name, ..)| format!("{name}: no way\n")).collect::<String>();
        let error = (!error.is_empty()).then(|| format!("Error adding/updating things(s) {error}"));
        self.kinds[news.kind].rejected.extend(bad.iter().map(|(name, ..)| name.clone()));
        if error.is_some() {
            // No version of such a response is remembered.
            good.iter().for_each(|(name, ..)| drop(self.kinds[news.kind].told.remove(name)));
        }
        let mut added = Vec::new();
        // Envoy removes first.
        let mut removed = Vec::new();
        for name in &news.removed {
            self.remove(news.kind, name);
            removed.push(name.clone());
        }
        for (name, version, content) in good {
            if self.upsert(news.kind, name, content, error.is_none().then_some(version)) {
                added.push(name.clone());
            }
        }
        self.answer(&news, error);
        if news.kind == ResourceType::Cluster
            && (!added.is_empty() || !removed.is_empty() || self.repeats_request(&news))
        {
            self.subscribe(&added, &removed);
        }
        self.when_warm();
        true
    }

    /// State of the world: endpoints are asked for again, with the same names, when clusters change.
    fn repeats_request(&self, news: &News) -> bool {
        self.variant == Variant::Sotw && news.upserts.iter().any(|(name, ..)| self.warming.contains(name))
    }

    /// Takes a resource. Whether it is a cluster that was not there before.
    fn upsert(&mut self, kind: ResourceType, name: &str, content: &str, version: Option<&String>) -> bool {
        if kind == ResourceType::Endpoint {
            self.warming.remove(name);
            if !self.kinds[ResourceType::Cluster].held.contains_key(name) {
                return false;
            }
        }
        self.kinds[kind].rejected.remove(name);
        let held = self.kinds[kind].held.entry(name.to_owned()).or_default();
        let changed = held.content != content;
        let is_new = held.content.is_empty();
        content.clone_into(&mut held.content);
        held.unconfirmed = version.is_none();
        held.version = version.cloned().or(held.version.take());
        match kind {
            ResourceType::Cluster if changed => {
                *self.repeats.entry(name.to_owned()).or_default() += 1;
                self.warming.insert(name.to_owned());
                is_new
            }
            ResourceType::Listener => {
                let cluster = cluster_of(content);
                assert!(self.kinds[ResourceType::Cluster].held.contains_key(cluster), "{name} leads to no cluster");
                assert!(self.kinds[ResourceType::Endpoint].held.contains_key(cluster), "{name} leads nowhere");
                false
            }
            ResourceType::Cluster | ResourceType::Endpoint => false,
        }
    }

    fn remove(&mut self, kind: ResourceType, name: &str) {
        match kind {
            ResourceType::Listener => drop(self.kinds[kind].held.remove(name)),
            // An active cluster keeps its endpoints.
            ResourceType::Endpoint => drop(self.warming.remove(name)),
            ResourceType::Cluster => {
                let listeners = &self.kinds[ResourceType::Listener];
                let user = listeners.held.iter().find(|(_, held)| cluster_of(&held.content) == name);
                let user = user.filter(|(listener, _)| !listeners.rejected.contains(*listener));
                // State of the world does not say what the client has from another stream, so it can't be kept.
                let unknown = self.variant == Variant::Sotw && self.kinds[kind].nonce.is_empty();
                assert!(user.is_none() || unknown, "cluster {name} goes while {user:?} leads to it");
                self.kinds[kind].held.remove(name);
                self.kinds[ResourceType::Endpoint].held.remove(name);
                self.kinds[ResourceType::Endpoint].told.remove(name);
                self.warming.remove(name);
            }
        }
    }

    fn answer(&mut self, news: &News, error: Option<String>) {
        let state = &mut self.kinds[news.kind];
        state.nonce.clone_from(&news.nonce);
        if error.is_none() {
            state.version.clone_from(&news.version);
        }
        let type_url = news.kind.type_url().to_owned();
        let error_detail = error.map(|message| Error { message, ..Default::default() });
        let response_nonce = news.nonce.clone();
        let request = match self.variant {
            Variant::Delta => {
                Request::Delta(DeltaDiscoveryRequest { type_url, response_nonce, error_detail, ..Default::default() })
            }
            Variant::Sotw => Request::Sotw(DiscoveryRequest {
                type_url,
                response_nonce,
                error_detail,
                version_info: state.version.clone(),
                resource_names: match news.kind {
                    ResourceType::Endpoint => self.kinds[ResourceType::Cluster].held.keys().cloned().collect(),
                    ResourceType::Cluster | ResourceType::Listener => Vec::new(),
                },
                ..Default::default()
            }),
        };
        if news.kind == ResourceType::Cluster {
            self.withheld.push_back(request);
        } else {
            self.outbox.push_back(request);
        }
        if news.kind == ResourceType::Cluster && !self.kinds[ResourceType::Listener].requested {
            // It comes after the answer on clusters.
            let before = self.outbox.len();
            self.request_all(ResourceType::Listener);
            self.withheld.extend(self.outbox.drain(before..));
        }
    }

    fn news(&self, response: Response) -> News {
        match response {
            Response::Delta(response) => {
                let kind = ResourceType::from_type_url(&response.type_url).unwrap();
                let upserts = response.resources.into_iter();
                let upserts =
                    upserts.map(|resource| (resource.name, resource.version, content(&resource.resource.unwrap())));
                News {
                    kind,
                    nonce: response.nonce,
                    version: String::new(),
                    upserts: upserts.collect(),
                    removed: response.removed_resources,
                }
            }
            Response::Sotw(response) => {
                let kind = ResourceType::from_type_url(&response.type_url).unwrap();
                let upserts = response.resources.iter().map(content);
                let upserts: Vec<_> = upserts
                    .map(|content| {
                        (content.split(':').next().unwrap().to_owned(), response.version_info.clone(), content)
                    })
                    .collect();
                let is_gone = |name: &&String| {
                    kind != ResourceType::Endpoint && !upserts.iter().any(|(upsert, ..)| upsert == *name)
                };
                let removed = self.kinds[kind].held.keys().filter(is_gone).cloned().collect();
                News { kind, nonce: response.nonce, version: response.version_info, upserts, removed }
            }
        }
    }

    /// Nothing comes twice in one response, and nothing that this stream told already comes again.
    fn check_repeats(&mut self, news: &News) {
        let names: BTreeSet<&String> = news.upserts.iter().map(|(name, ..)| name).chain(&news.removed).collect();
        assert_eq!(
            names.len(),
            news.upserts.len() + news.removed.len(),
            "a name twice in {:?} {}",
            news.kind,
            news.nonce
        );
        let state = &mut self.kinds[news.kind];
        if self.variant == Variant::Sotw {
            let same = std::mem::replace(&mut state.seen_version, news.version.clone()) == news.version;
            assert!(
                !same || news.kind == ResourceType::Endpoint,
                "{:?} {} comes again as it was",
                news.kind,
                news.nonce
            );
            return;
        }
        for (name, version, _) in &news.upserts {
            let again = state.told.insert(name.clone(), version.clone()).as_ref() == Some(version);
            let repeats =
                self.repeats.get_mut(name).filter(|repeats| news.kind == ResourceType::Endpoint && **repeats > 0);
            match repeats {
                Some(repeats) => *repeats -= usize::from(again),
                None => assert!(!again, "{:?} {name} comes again as it was", news.kind),
            }
        }
        for name in &news.removed {
            let known = state.told.remove(name).is_some() || state.held.contains_key(name);
            assert!(known || news.kind == ResourceType::Endpoint, "{name} was never told");
        }
    }

    /// What it has of one kind: name to content.
    pub(super) fn held(&self, kind: ResourceType) -> BTreeMap<String, String> {
        self.kinds[kind].held.iter().map(|(name, held)| (name.clone(), held.content.clone())).collect()
    }

    pub(super) fn rejects(&self, kind: ResourceType, name: &str) -> bool {
        self.kinds[kind].rejected.contains(name)
    }

    pub(super) fn is_warm(&self) -> bool {
        self.warming.is_empty()
    }
}

fn cluster_of(content: &str) -> &str {
    content.split(':').nth(1).unwrap()
}

fn content(resource: &Any) -> String {
    match ClusterLoadAssignment::decode(&*resource.value) {
        Ok(empty) if !empty.cluster_name.is_empty() => format!("{}:none", empty.cluster_name),
        _ => String::from_utf8(resource.value.clone()).unwrap(),
    }
}

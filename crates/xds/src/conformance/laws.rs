//! Laws that hold whatever happens and in whatever order: [`Envoy`] checks those of every moment, and in the end
//! it has what the store has.

use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;
use proptest::prelude::*;

use super::envoy::Envoy;
use crate::{Change, Hub, ResourceType, StreamId, Variant};

#[derive(Clone, Debug)]
enum Step {
    /// A port is published, or its service, container or mode changes.
    Set {
        port: u8,
        service: u8,
        container: u8,
        mode: u8,
        bad: bool,
    },
    Remove {
        port: u8,
    },
    /// The three things that an Envoy does, each at its own pace.
    Read,
    Work,
    Write,
    Reconnect,
}

fn step() -> impl Strategy<Value = Step> {
    let set = (0..3u8, 0..3u8, 0..3u8, 0..2u8, proptest::bool::weighted(0.1));
    prop_oneof![
        4 => set.prop_map(|(port, service, container, mode, bad)| Step::Set { port, service, container, mode, bad }),
        2 => (0..3u8).prop_map(|port| Step::Remove { port }),
        6 => Just(Step::Read),
        6 => Just(Step::Work),
        6 => Just(Step::Write),
        1 => Just(Step::Reconnect),
    ]
}

type World = BTreeMap<(ResourceType, String), String>;

/// What a port's resources are, in the manner of `resources::set`.
fn resources_of(port: u8, service: u8, container: u8, mode: u8, bad: bool) -> World {
    let cluster = format!("c{service}-{port}");
    let bad = if bad { ":bad" } else { "" };
    World::from([
        ((ResourceType::Cluster, cluster.clone()), format!("{cluster}:{mode}")),
        ((ResourceType::Endpoint, cluster.clone()), format!("{cluster}:{container}")),
        ((ResourceType::Listener, format!("l{port}")), format!("l{port}:{cluster}:{mode}{bad}")),
    ])
}

struct Run {
    hub: Hub,
    envoy: Envoy,
    ports: BTreeMap<u8, World>,
    streams: u64,
    now: Instant,
}

impl Run {
    fn new(variant: Variant) -> Self {
        let mut hub = Hub::new();
        hub.start_serving();
        let envoy = Envoy::connect(&mut hub, StreamId(0), variant);
        Self { hub, envoy, ports: BTreeMap::new(), streams: 0, now: Instant::now() }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Set { port, service, container, mode, bad } => {
                self.replace(port, &resources_of(port, service, container, mode, bad));
            }
            Step::Remove { port } => self.replace(port, &World::new()),
            Step::Read => drop(self.envoy.read(&mut self.hub)),
            Step::Work => drop(self.envoy.work()),
            Step::Write => drop(self.envoy.write(&mut self.hub, self.now)),
            Step::Reconnect => {
                self.streams += 1;
                self.envoy.reconnect(&mut self.hub, StreamId(self.streams));
            }
        }
    }

    fn replace(&mut self, port: u8, new: &World) {
        let old = self.ports.insert(port, new.clone()).unwrap_or_default();
        let gone = old.into_keys().filter(|key| !new.contains_key(key)).map(|key| (key, None));
        let set = new.clone().into_iter().map(|(key, content)| (key, Some(content)));
        let changes = set.chain(gone).map(|((resource_type, name), content)| Change {
            resource_type,
            name,
            body: content.map(Bytes::from),
        });
        self.hub.apply(changes);
    }

    /// Lets everything that is under way arrive.
    fn settle(&mut self) {
        for _ in 0..10_000 {
            let read = self.envoy.read(&mut self.hub);
            let worked = self.envoy.work();
            if self.envoy.write(&mut self.hub, self.now) || read || worked {
                continue;
            }
            let Some(next) = self.hub.next_timeout() else { return };
            self.now = next;
            self.hub.handle_timeout(next);
        }
        panic!("it never ends");
    }

    fn check_the_end(&self) {
        assert!(self.envoy.is_warm(), "a cluster waits for endpoints for ever");
        let mut clean = true;
        for kind in ResourceType::ALL {
            let world = self.ports.values().flatten().filter(|((of, _), _)| *of == kind);
            let world: BTreeMap<String, String> =
                world.map(|((_, name), content)| (name.clone(), content.clone())).collect();
            let mut held = self.envoy.held(kind);
            for (name, content) in &world {
                if content.contains("bad") {
                    clean = false;
                    held.remove(name);
                    assert!(self.hub.rejection(kind, name).is_some());
                } else {
                    assert_eq!(held.remove(name).as_ref(), Some(content), "{kind:?} {name}");
                    assert!(self.hub.is_accepted(kind, name) && !self.envoy.rejects(kind, name));
                }
            }
            assert!(held.is_empty(), "{kind:?}: {held:?} should be gone");
        }
        assert_eq!(self.hub.status().streams[0].in_sync, clean);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

    #[test]
    fn whatever_happens_an_envoy_ends_with_what_is_served_delta(steps in prop::collection::vec(step(), 0..120)) {
        let mut run = Run::new(Variant::Delta);
        steps.iter().for_each(|step| run.take(step));
        run.settle();
        run.check_the_end();
    }

    #[test]
    fn whatever_happens_an_envoy_ends_with_what_is_served_sotw(steps in prop::collection::vec(step(), 0..120)) {
        let mut run = Run::new(Variant::Sotw);
        steps.iter().for_each(|step| run.take(step));
        run.settle();
        run.check_the_end();
    }
}

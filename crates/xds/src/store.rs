//! The resources that are served, by kind and name. Who has been sent which is in `ledger`.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;

use crate::ResourceType;
use crate::resource_type::PerType;

/// One resource is set or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The resource's kind.
    pub resource_type: ResourceType,
    /// The resource's name, unique within its kind. Endpoints have the name of their Envoy cluster. A
    /// listener's name must stand for its address: Envoy refuses two listeners that trade addresses.
    pub name: String,
    /// The encoded message, or `None` to remove it. Equal resources must have equal bytes.
    pub body: Option<Bytes>,
}

/// A resource's name, shared by all who remember it.
pub(crate) type Name = Arc<str>;

/// A resource as it is served.
#[derive(Debug)]
pub(crate) struct Resource {
    pub(crate) version: Version,
    pub(crate) body: Bytes,
}

/// What a resource's content is known by. It depends on nothing but the content, so that after a restart of
/// this process an Envoy that comes back with the same version is sent nothing.
///
/// SipHash with fixed keys: the same in every process of one build. A build with another hash sends everything
/// once more, which Envoy takes as no change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Version(u64);

impl Version {
    pub(crate) fn of(content: impl Hash) -> Self {
        let mut hasher = DefaultHasher::new();
        content.hash(&mut hasher);
        Self(hasher.finish())
    }

    fn of_member(self, name: &str) -> Self {
        Self::of((name, self.0))
    }

    /// The version of a set that has this one and one more resource.
    pub(crate) fn with(self, name: &str, resource: &Resource) -> Self {
        Self(self.0.wrapping_add(resource.version.of_member(name).0))
    }

    /// As Envoy sees it. `repeats` makes a new version of the same content.
    pub(crate) fn text(self, repeats: u32) -> String {
        if repeats == 0 { format!("{:016x}", self.0) } else { format!("{:016x}.{repeats}", self.0) }
    }

    /// What [`Self::text`] wrote, whatever the repeats were; `None` for what another server wrote.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let hash = text.split_once('.').map_or(text, |(hash, _)| hash);
        let is_ours = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_ours.then(|| u64::from_str_radix(hash, 16).ok().map(Self)).flatten()
    }
}

/// Whether a resource that is not in the store is known not to exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Knowledge {
    /// It may exist, and one that is there may lack something.
    #[default]
    Partial,
    /// It does not exist.
    Complete,
}

/// All resources.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) knowledge: Knowledge,
    /// What is known not to exist although not all is known.
    gone: PerType<BTreeSet<Name>>,
    resources: PerType<BTreeMap<Name, Arc<Resource>>>,
    set_versions: PerType<u64>,
}

impl Store {
    /// Makes one change. Returns the name if anything differs now.
    pub(crate) fn apply(&mut self, change: Change) -> Option<Name> {
        let Change { resource_type, name, body } = change;
        let old = self.get(resource_type, &name).map(Arc::clone);
        if old.as_ref().map(|resource| &resource.body) == body.as_ref() {
            return None;
        }
        let name: Name = name.into();
        if let Some(old) = old {
            self.resources[resource_type].remove(&name);
            self.count_in(resource_type, &name, old.version, u64::wrapping_sub);
        }
        if let Some(body) = body {
            let version = Version::of(&body);
            self.count_in(resource_type, &name, version, u64::wrapping_add);
            self.resources[resource_type].insert(Arc::clone(&name), Arc::new(Resource { version, body }));
        }
        Some(name)
    }

    /// All is known now.
    pub(crate) fn complete(&mut self) {
        self.knowledge = Knowledge::Complete;
        self.gone = PerType::default();
    }

    /// The resource is gone, whatever else is not known.
    pub(crate) fn note_gone(&mut self, resource_type: ResourceType, name: &str) -> Name {
        let name = Name::from(name);
        self.gone[resource_type].insert(Name::clone(&name));
        name
    }

    /// Whether the resource may exist although it is not here, or may be more than is here.
    pub(crate) fn may_be_more(&self, resource_type: ResourceType, name: &str) -> bool {
        self.knowledge == Knowledge::Partial && !self.gone[resource_type].contains(name)
    }

    /// Keeps the version of the set up to date without looking at the rest of the set: it is a sum.
    fn count_in(&mut self, resource_type: ResourceType, name: &str, version: Version, add: fn(u64, u64) -> u64) {
        let set_version = &mut self.set_versions[resource_type];
        *set_version = add(*set_version, version.of_member(name).0);
    }

    pub(crate) fn get(&self, resource_type: ResourceType, name: &str) -> Option<&Arc<Resource>> {
        work::count();
        self.resources[resource_type].get(name)
    }

    /// All of one kind, in the order of their names.
    pub(crate) fn iter(&self, resource_type: ResourceType) -> impl Iterator<Item = (&Name, &Arc<Resource>)> {
        self.resources[resource_type].iter().inspect(|_| work::count())
    }

    pub(crate) fn len(&self, resource_type: ResourceType) -> usize {
        self.resources[resource_type].len()
    }

    /// The version of all resources of one kind together.
    pub(crate) fn set_version(&self, resource_type: ResourceType) -> Version {
        Version(self.set_versions[resource_type])
    }
}

/// Counts how many resources are looked at, so that tests can tell whether a change costs more when there are
/// more resources. Nothing outside tests.
pub(crate) mod work {
    #[cfg(test)]
    thread_local!(static LOOKED_AT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });

    pub(crate) fn count() {
        #[cfg(test)]
        LOOKED_AT.set(LOOKED_AT.get() + 1);
    }

    /// How many were looked at since the last call, on this thread.
    #[cfg(test)]
    pub(crate) fn take() -> u64 {
        LOOKED_AT.replace(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, body: Option<&'static str>) -> Change {
        let body = body.map(|body| Bytes::from_static(body.as_bytes()));
        Change { resource_type: ResourceType::Listener, name: name.to_owned(), body }
    }

    fn store(changes: &[(&str, Option<&'static str>)]) -> Store {
        let mut store = Store::default();
        for (name, body) in changes {
            store.apply(change(name, *body));
        }
        store
    }

    #[test]
    fn setting_what_is_there_or_removing_what_is_not_is_no_change() {
        let mut store = store(&[("a", Some("1"))]);
        assert_eq!(store.apply(change("a", Some("1"))), None);
        assert_eq!(store.apply(change("b", None)), None);
        assert_eq!(store.apply(change("a", Some("2"))).as_deref(), Some("a"));
        assert_eq!(store.apply(change("a", None)).as_deref(), Some("a"));
        assert_eq!(store.len(ResourceType::Listener), 0);
    }

    #[test]
    fn the_version_of_a_set_depends_on_its_content_and_not_on_its_history() {
        let version = |changes: &[_]| store(changes).set_version(ResourceType::Listener);
        let plain = version(&[("a", Some("1")), ("b", Some("2"))]);
        assert_eq!(
            plain,
            version(&[("b", Some("1")), ("c", Some("3")), ("b", Some("2")), ("a", Some("1")), ("c", None)])
        );
        assert_ne!(plain, version(&[("a", Some("2")), ("b", Some("1"))]));
        assert_eq!(version(&[("a", Some("1")), ("a", None)]), version(&[]));
    }

    #[test]
    fn s25_and_d35_versions_are_the_same_in_every_process() {
        // Written down by another process.
        assert_eq!(Version::of(Bytes::from_static(b"a listener")).text(0), "257337786e5ce457");
    }

    #[test]
    fn a_version_is_read_back_with_and_without_its_repeats() {
        let version = Version(0x00ab);
        assert_eq!(version.text(3), "00000000000000ab.3");
        for text in [version.text(0), version.text(7)] {
            assert_eq!(Version::parse(&text), Some(version));
        }
        for foreign in ["", "1", "v1", "00000000000000zz", "+0000000000000ab"] {
            assert_eq!(Version::parse(foreign), None, "{foreign}");
        }
    }
}

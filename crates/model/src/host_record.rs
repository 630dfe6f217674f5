//! All that a host says of itself, and the law by which two hosts agree on it.
//!
//! **One writer.** Only the host itself makes a new record, and gives it a higher [`Stamp`]. So no two hosts
//! ever have to be reconciled, and a host that is dead or unreachable changes nothing here: whether its
//! instances are served is decided over the records, never in them. A deleted instance needs no tombstone:
//! it is absent from a later record.
//!
//! **The law.** Of two records of a host the later one holds ([`HostRecord::merge`]). Merging is commutative,
//! associative and idempotent, so every host that heard the same records, in any order and number, knows the
//! same. No clock takes part.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::{Instance, InstanceKey, Stamp, instance::PORTS_MAX};

/// The most instances that one host announces.
pub const INSTANCES_MAX: usize = 1024;

/// The most addresses that a host announces as its own.
pub const ADDRESSES_MAX: usize = 32;

/// What is too much for one host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    /// The host has its [`INSTANCES_MAX`] already.
    #[error("instance {0} is left out: a host announces at most {INSTANCES_MAX} instances")]
    Instances(InstanceKey),
    /// The instance has more than [`PORTS_MAX`] ports.
    #[error("instance {0} is left out: it has {1} ports, and at most {PORTS_MAX} are announced")]
    Ports(InstanceKey, usize),
}

/// All that a host says of itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HostRecord {
    /// When it was said, in the host's own count.
    pub stamp: Stamp,
    /// The host has left the cluster of its own will, and takes nothing of this back until its next life.
    pub left: bool,
    addresses: BTreeSet<IpAddr>,
    instances: BTreeMap<InstanceKey, Instance>,
}

impl HostRecord {
    /// What a host says before it says anything.
    #[must_use]
    pub fn empty(stamp: Stamp) -> Self {
        Self { stamp, ..Self::default() }
    }

    /// The addresses that the host announces as its own.
    #[must_use]
    pub const fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.addresses
    }

    /// The host's instances.
    #[must_use]
    pub const fn instances(&self) -> &BTreeMap<InstanceKey, Instance> {
        &self.instances
    }

    /// Replaces the addresses. Those beyond [`ADDRESSES_MAX`] are left out, and `false` says so.
    pub fn set_addresses(&mut self, addresses: impl IntoIterator<Item = IpAddr>) -> bool {
        let mut addresses = addresses.into_iter();
        self.addresses = addresses.by_ref().take(ADDRESSES_MAX).collect();
        addresses.next().is_none()
    }

    /// Adds an instance, or replaces the one of the same key.
    ///
    /// # Errors
    /// It is beyond a bound; the record is unchanged.
    pub fn put(&mut self, instance: Instance) -> Result<(), TooMuch> {
        let key = instance.key();
        if instance.ports.len() > PORTS_MAX {
            return Err(TooMuch::Ports(key, instance.ports.len()));
        }
        if self.instances.len() >= INSTANCES_MAX && !self.instances.contains_key(&key) {
            return Err(TooMuch::Instances(key));
        }
        self.instances.insert(key, instance);
        Ok(())
    }

    /// Removes the instance, and says whether it was there.
    pub fn remove(&mut self, key: InstanceKey) -> bool {
        self.instances.remove(&key).is_some()
    }

    /// The later of two records of one host.
    ///
    /// Two different records can have the same stamp only where two hosts bear one name; then the content
    /// decides, in the same way everywhere.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        self.max(other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::instance::{InstancePort, Origin, Text};
    use crate::{EnvironmentName, Incarnation, Protocol, ProxyMode, Service, ServiceName, Status};

    fn instance(number: u8, ports: usize) -> Instance {
        let port = InstancePort {
            service_port: Some(9500),
            address: [10, 0, 0, 1].into(),
            port: 8080,
            protocol: Protocol::Tcp,
            mode: ProxyMode::Http,
        };
        Instance {
            origin: Origin::Static(InstanceKey::from_bytes([0, 0, 0, 0, 0, number])),
            service: Service {
                name: ServiceName::corrected("web").unwrap().0,
                environment: EnvironmentName::default(),
            },
            ports: vec![port; ports],
            status: Status::Alive,
            image: Text::default(),
            version: Text::default(),
            since_ms: 0,
        }
    }

    fn record() -> impl Strategy<Value = HostRecord> {
        // Few values, so that equal stamps with unequal contents come up.
        (0..3_u64, 0..3_u64, proptest::bool::ANY, proptest::collection::btree_set(0..4_u8, 0..3)).prop_map(
            |(incarnation, version, left, numbers)| {
                let mut record = HostRecord::empty(Stamp { incarnation: Incarnation::new(incarnation), version });
                record.left = left;
                numbers.into_iter().for_each(|number| record.put(instance(number, 1)).unwrap());
                record
            },
        )
    }

    proptest! {
        #[test]
        fn merging_is_commutative_associative_and_idempotent(a in record(), b in record(), c in record()) {
            let (ab, ba) = (a.clone().merge(b.clone()), b.clone().merge(a.clone()));
            prop_assert_eq!(&ab, &ba);
            prop_assert_eq!(ab.clone().merge(c.clone()), a.clone().merge(b.clone().merge(c)));
            prop_assert_eq!(ab.clone().merge(b), ab);
            prop_assert_eq!(a.clone().merge(a.clone()), a);
        }

        #[test]
        fn a_merge_never_goes_back_to_an_earlier_stamp(a in record(), b in record()) {
            let merged = a.clone().merge(b.clone());
            prop_assert_eq!(merged.stamp, a.stamp.max(b.stamp));
        }
    }

    #[test]
    fn a_record_takes_no_more_than_its_bounds() {
        let mut record = HostRecord::default();
        assert_eq!(record.put(instance(0, PORTS_MAX + 1)), Err(TooMuch::Ports(instance(0, 0).key(), PORTS_MAX + 1)));
        for number in 0..INSTANCES_MAX {
            let [high, low] = u16::try_from(number).unwrap().to_be_bytes();
            let origin = Origin::Static(InstanceKey::from_bytes([1, 0, 0, 0, high, low]));
            record.put(Instance { origin, ..instance(0, 1) }).unwrap();
        }
        assert_eq!(record.put(instance(0, 1)), Err(TooMuch::Instances(instance(0, 0).key())));
        let known = record.instances().values().next().unwrap().clone();
        assert_eq!(record.put(known), Ok(()), "replacing takes no more room");

        let address = |number: u32| IpAddr::from(number.to_be_bytes());
        assert!(record.set_addresses((0..32).map(address)));
        assert!(!record.set_addresses((0..33).map(address)));
        assert_eq!(record.addresses().len(), ADDRESSES_MAX);
    }
}

//! What Docker says is published, whoever serves it.
//!
//! It shows what no shim told us: ports that another proxy serves, and, after a restart, which shims are
//! still to come back.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use health::DockerHealth;
use model::{ContainerId, PublishedPort};

use crate::registration::Container;

/// A running container in Docker's listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedContainer {
    /// The container.
    pub container: Container,
    /// Its published ports; a port that is only exposed is not among them.
    pub ports: Vec<ListedPort>,
    /// Docker's word on the image's own HEALTHCHECK; `None` where it has none.
    pub health: Option<DockerHealth>,
    /// The image's own labels, where they were looked at.
    pub image_labels: Option<HashMap<String, String>>,
    /// When it was created, in milliseconds of Unix time.
    pub created_ms: u64,
}

/// A published port in Docker's listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedPort {
    /// The host's side.
    pub published: PublishedPort,
    /// The container's port.
    pub container_port: u16,
    /// The container's address on the network by which the host reaches it best, where it has one.
    pub container_address: Option<IpAddr>,
}

/// All running containers and their published ports.
#[derive(Debug, Default)]
pub(crate) struct DockerListing {
    containers: HashMap<ContainerId, Vec<PublishedPort>>,
    ports: BTreeMap<PublishedPort, (Arc<Container>, ListedPort)>,
}

impl DockerListing {
    /// Yields the ports that something was said of, then or now.
    pub(crate) fn replace_all(&mut self, listed: Vec<ListedContainer>) -> BTreeSet<PublishedPort> {
        let mut touched: BTreeSet<_> = std::mem::take(self).ports.into_keys().collect();
        touched.extend(listed.into_iter().flat_map(|container| self.replace(container)));
        touched
    }

    /// As [`Self::replace_all`], for one container.
    pub(crate) fn replace(&mut self, listed: ListedContainer) -> Vec<PublishedPort> {
        let mut touched = self.remove(&listed.container.id);
        let container = Arc::new(listed.container);
        let published: Vec<_> = listed.ports.iter().map(|port| port.published).collect();
        touched.extend(&published);
        self.containers.insert(container.id.clone(), published);
        for port in listed.ports {
            self.ports.insert(port.published, (Arc::clone(&container), port));
        }
        touched
    }

    /// Yields the ports that the container published.
    pub(crate) fn remove(&mut self, id: &ContainerId) -> Vec<PublishedPort> {
        let all = self.containers.remove(id).unwrap_or_default();
        for published in &all {
            // The port may be another container's by now.
            if self.ports.get(published).is_some_and(|(container, _)| container.id == *id) {
                self.ports.remove(published);
            }
        }
        all
    }

    pub(crate) fn get(&self, port: &PublishedPort) -> Option<&(Arc<Container>, ListedPort)> {
        self.ports.get(port)
    }

    /// The running container that publishes this port.
    pub(crate) fn publisher_of(&self, port: &PublishedPort) -> Option<&Container> {
        self.ports.get(port).map(|(container, _)| &**container)
    }

    pub(crate) fn ports(&self) -> impl Iterator<Item = (&PublishedPort, &(Arc<Container>, ListedPort))> {
        self.ports.iter()
    }
}

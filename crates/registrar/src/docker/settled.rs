//! When Docker has done with a container what an event of its networks told of.
//!
//! dockerd tells that a container was connected to a network, or taken from one, before its own listing shows it. A
//! question for the container itself is answered only once it is done. While a container starts, that takes until all its
//! shims have answered, so nothing else waits for it.

use std::future::Future;
use std::pin::Pin;

use bollard::Docker;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use model::ContainerId;

use super::answered;

/// The most containers that are waited for at once. Those beyond are found by the next whole listing.
const WAITED_MAX: usize = 256;

/// Containers whose networks are being changed.
pub(super) struct Settling<'a> {
    docker: &'a Docker,
    waits: FuturesUnordered<Pin<Box<dyn Future<Output = ContainerId> + Send + 'a>>>,
}

impl<'a> Settling<'a> {
    pub(super) fn new(docker: &'a Docker) -> Self {
        Self { docker, waits: FuturesUnordered::new() }
    }

    /// An event of a network told of this container.
    pub(super) fn wait_for(&mut self, id: ContainerId) {
        if self.waits.len() < WAITED_MAX {
            let docker = self.docker;
            self.waits.push(Box::pin(async move {
                // Whatever the answer is, or that there is none: it is as good a moment as any to list it.
                let _ = answered(docker.inspect_container(id.as_str(), None)).await;
                id
            }));
        }
    }

    /// The next container to be listed. `None`: none is waited for. May be dropped while it waits.
    pub(super) async fn next(&mut self) -> Option<ContainerId> {
        self.waits.next().await
    }
}

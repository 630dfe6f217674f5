//! Takes the connections of one standby socket, asks the loop where each may go, and lets them be forwarded.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{info, warn};

use super::connection;
use crate::event::{Event, Query};
use crate::query;

/// Connections that are forwarded at the same time, over all service ports: about 80 MB of buffers. Envoy has no such
/// limit; this is for the time until it is back.
const MOST_CONNECTIONS: usize = 4096;
/// A connection takes two file descriptors. Half of all that the process may have are for everything else.
const DESCRIPTORS_PER_CONNECTION: u64 = 4;
/// The wait after accepting failed, for want of something mostly.
const WANT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections may be forwarded, shared by all sockets.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    most: usize,
    is_full: Arc<AtomicBool>,
}

impl Slots {
    /// As many as the process may open, within reason.
    pub(super) fn new() -> Self {
        Self::of(most_connections(raise_descriptor_limit()))
    }

    fn of(most: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(most)), most, is_full: Arc::default() }
    }

    /// Waits until there is room for one more. The others wait in the kernel's queue meanwhile.
    async fn take(&self) -> OwnedSemaphorePermit {
        if self.free.available_permits() == 0 && !self.is_full.swap(true, Ordering::Relaxed) {
            warn!(
                connections = self.most,
                "Envoy is away, and no more connections to service ports can be forwarded: new ones wait until some end"
            );
        }
        let slot = Arc::clone(&self.free).acquire_owned().await.expect("the semaphore is never closed");
        if self.free.available_permits() > self.most / 2 && self.is_full.swap(false, Ordering::Relaxed) {
            info!("there is room for connections to service ports again");
        }
        slot
    }
}

/// Accepts until the task is ended.
pub(super) async fn run(listener: TcpListener, slots: Slots, events: mpsc::Sender<Event>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let slot = slots.take().await;
                let events = events.clone();
                tokio::spawn(async move {
                    serve(client, &events).await;
                    drop(slot);
                });
            }
            // The connection that was to be accepted is gone already.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
            Err(error) => {
                warn!(%error, "a connection to a service port could not be accepted");
                tokio::time::sleep(WANT_PAUSE).await;
            }
        }
    }
}

async fn serve(client: TcpStream, events: &mpsc::Sender<Event>) {
    match instances(&client, events).await {
        Some(instances) => connection::forward(client, &instances).await,
        None => connection::reset(&client),
    }
}

async fn instances(client: &TcpStream, events: &mpsc::Sender<Event>) -> Option<Vec<SocketAddr>> {
    let meant = connection::destination(client).ok()?;
    let asked = |answer| Event::Query(Query::Instances { meant, answer });
    query::ask(events, asked).await.ok()
}

fn most_connections(descriptors: u64) -> usize {
    usize::try_from(descriptors / DESCRIPTORS_PER_CONNECTION).unwrap_or(MOST_CONNECTIONS).min(MOST_CONNECTIONS)
}

/// Raises the soft limit of open files to the hard one; yields what it is then.
fn raise_descriptor_limit() -> u64 {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() => soft,
        Ok((_, hard)) => hard,
        Err(_) => 1024, // cannot fail; the traditional limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_half_of_the_descriptors_to_others() {
        assert_eq!(most_connections(1024), 256);
        assert_eq!(most_connections(65_536), MOST_CONNECTIONS);
    }

    #[tokio::test]
    async fn one_more_than_there_is_room_for_waits_until_one_ends() {
        let slots = Slots::of(2);
        let (first, _second) = (slots.take().await, slots.take().await);
        assert!(!slots.is_full.load(Ordering::Relaxed));
        let waiting = tokio::spawn({
            let slots = slots.clone();
            async move { slots.take().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished() && slots.is_full.load(Ordering::Relaxed));
        drop(first);
        drop(waiting.await.unwrap());
    }
}

//! Takes the connections of one standby socket, asks the loop where each may go, and lets them be forwarded.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{info, warn};

use super::connection;
use crate::door::shares::Share;
use crate::door::{Door, Source};
use crate::event::{Event, Query};
use crate::query;

/// The wait after accepting failed, for want of something mostly.
const WANT_PAUSE: Duration = Duration::from_millis(100);

/// How many connections may be forwarded, shared by all sockets. Envoy has no such limit; this is for the time until it
/// is back.
#[derive(Clone, Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    /// Sees to it that no host takes all.
    door: Arc<Door>,
    most: usize,
    is_full: Arc<AtomicBool>,
}

impl Slots {
    pub(super) fn of(share: Share) -> Self {
        let (free, most) = (Arc::new(Semaphore::new(share.most)), share.most);
        Self { free, door: Door::new(share), most, is_full: Arc::default() }
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
            Ok((client, peer)) => {
                let slot = slots.take().await;
                let Ok(place) = slots.door.enter(Source::of_tcp(&client, peer), None, Instant::now()) else {
                    connection::reset(&client);
                    continue;
                };
                let events = events.clone();
                tokio::spawn(async move {
                    serve(client, &events).await;
                    drop((slot, place));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_more_than_there_is_room_for_waits_until_one_ends() {
        let slots = Slots::of(Share { listener: "test", most: 2 });
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

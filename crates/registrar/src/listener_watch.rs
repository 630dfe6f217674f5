//! Asks the kernel again and again who listens and how many connections wait, and tells the loop.

use sock_diag::Listener;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::event::Event;
use crate::watchdog::INTERVAL;

/// Asks until the registrar ends.
pub(crate) async fn run(events: mpsc::Sender<Event>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut has_failed = false;
    loop {
        ticks.tick().await;
        match listeners().await {
            Ok(listeners) => {
                has_failed = false;
                if events.send(Event::Listeners(listeners)).await.is_err() {
                    return;
                }
            }
            Err(reason) if !has_failed => {
                warn!(reason, "whether Envoy takes connections is not known");
                has_failed = true;
            }
            Err(_) => {}
        }
    }
}

/// Who listens on TCP, asked on a thread that may wait for the kernel.
pub(crate) async fn listeners() -> Result<Vec<Listener>, String> {
    let asked = tokio::task::spawn_blocking(sock_diag::all_listeners).await;
    asked.map_err(|error| error.to_string())?.map_err(|error| format!("asking the kernel who listens failed: {error}"))
}

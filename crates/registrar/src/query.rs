//! Asking the loop, from any task.

use tokio::sync::{mpsc, oneshot};

use crate::event::Event;

/// The loop has ended, and the registrar with it.
#[derive(Debug, thiserror::Error)]
#[error("the registrar is stopping")]
pub(crate) struct Stopping;

/// Sends the loop an event that carries where to answer, and waits for the answer.
pub(crate) async fn ask<T>(
    events: &mpsc::Sender<Event>,
    event: impl FnOnce(oneshot::Sender<T>) -> Event,
) -> Result<T, Stopping> {
    let (sender, answer) = oneshot::channel();
    events.send(event(sender)).await.map_err(|_| Stopping)?;
    answer.await.map_err(|_| Stopping)
}

//! Pages that many may ask for at a time: whoever waits when a page is made gets that one.
//!
//! So the loop is asked once, however many readers there are, and never for more than a part of its time. A page is made
//! after it was asked for, so that each reader sees what was done before.

use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

/// A page is not made again for so many times the time that it took: readers of one page get a tenth of the loop's time
/// at most.
const PAUSE_FACTOR: u32 = 9;
/// The least time between the end of one page and the beginning of the next. A reader who is alone hardly notices it.
const PAUSE_MIN: Duration = Duration::from_millis(10);
/// The most.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// How many readers may wait for the next page. Those beyond wait for a place.
const WAITING_MAX: usize = 256;

/// An answer, ready to be sent any number of times.
#[derive(Clone, Debug)]
pub(super) struct Page {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
}

impl Page {
    pub(super) fn text(body: impl Into<Bytes>) -> Self {
        Self { status: StatusCode::OK, content_type: "text/plain; charset=utf-8", body: body.into() }
    }

    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(body) => Self { status, content_type: "application/json", body: body.into() },
            Err(error) => Self::error(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()),
        }
    }

    pub(super) fn error(status: StatusCode, reason: &str) -> Self {
        Self::json(status, &admin_api::Error { error: reason.to_owned() })
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        (self.status, [(header::CONTENT_TYPE, self.content_type)], self.body).into_response()
    }
}

/// One page, and those who wait for it.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    readers: mpsc::Sender<oneshot::Sender<Page>>,
}

impl Shared {
    /// `make` makes the page; it is not called again before it is done.
    pub(super) fn new<F: Future<Output = Page> + Send + 'static>(make: impl Fn() -> F + Send + 'static) -> Self {
        let (readers, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(serve(waiting, make));
        Self { readers }
    }

    /// A page that is made after this was called.
    pub(super) async fn get(&self) -> Page {
        let (sender, page) = oneshot::channel();
        let stopping = || Page::error(StatusCode::SERVICE_UNAVAILABLE, "the registrar is stopping");
        if self.readers.send(sender).await.is_err() {
            return stopping();
        }
        page.await.unwrap_or_else(|_| stopping())
    }
}

async fn serve<F: Future<Output = Page>>(mut readers: mpsc::Receiver<oneshot::Sender<Page>>, make: impl Fn() -> F) {
    let mut waiting = Vec::new();
    while readers.recv_many(&mut waiting, WAITING_MAX).await > 0 {
        let began = Instant::now();
        let page = make().await;
        let took = began.elapsed();
        for reader in waiting.drain(..) {
            // A reader that has gone does not care.
            let _ = reader.send(page.clone());
        }
        sleep((took * PAUSE_FACTOR).clamp(PAUSE_MIN, PAUSE_MAX)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    /// A page that takes a while, and how often it was made.
    fn counted() -> (Shared, Arc<AtomicUsize>) {
        let made = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&made);
        let page = Shared::new(move || {
            let number = counter.fetch_add(1, Ordering::Relaxed) + 1;
            async move {
                sleep(Duration::from_millis(20)).await;
                Page::text(number.to_string())
            }
        });
        (page, made)
    }

    #[tokio::test]
    async fn however_many_readers_come_at_once_the_page_is_made_once_or_twice() {
        let (page, made) = counted();
        let pages = join_all((0..200).map(|_| page.get())).await;
        assert!(pages.iter().all(|page| page.status == StatusCode::OK));
        let made = made.load(Ordering::Relaxed);
        assert!((1..=2).contains(&made), "made {made} times");
    }

    #[tokio::test]
    async fn a_reader_is_never_given_a_page_that_was_begun_before_it_asked() {
        let (page, _) = counted();
        let first = tokio::spawn({
            let page = page.clone();
            async move { page.get().await }
        });
        sleep(Duration::from_millis(5)).await;
        assert_eq!(page.get().await.body, "2");
        assert_eq!(first.await.unwrap().body, "1");
    }

    #[tokio::test]
    async fn readers_that_ask_again_and_again_take_a_part_of_the_time() {
        let (page, made) = counted();
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(1000) {
            page.get().await;
        }
        // 20 ms each, and nine times as long to rest.
        let made = made.load(Ordering::Relaxed);
        assert!(made <= 7, "made {made} times in a second");
    }
}

//! Makes one health check: sockets and processes, each with its time limit.
//!
//! What is checked, and when, is decided in the crate `health`. Dropping the future ends the check: its
//! connection is closed, its processes are killed.

mod external;
mod http_get;
mod tcp;

use std::fmt;
use std::time::Duration;

use health::{Outcome, Probe};
use tokio::time::timeout;

/// What was seen, in words for the operator: `Ok` if it speaks for the instance, `Err` if against it.
type Seen = Result<String, String>;

/// Makes the check. It ends within `limit`, give or take the moments that killing a process takes.
pub(crate) async fn run(probe: &Probe, limit: Duration) -> Outcome {
    let seen = match probe {
        Probe::HttpGet(get) => within(limit, http_get::get(get)).await,
        Probe::Tcp(peer) => within(limit, tcp::check(peer)).await,
        Probe::External(words) => external::run(words, limit).await,
    };
    match seen {
        Ok(seen) => Outcome::of(probe, true, seen),
        Err(seen) => Outcome::of(probe, false, seen),
    }
}

async fn within(limit: Duration, check: impl Future<Output = Seen>) -> Seen {
    timeout(limit, check).await.unwrap_or_else(|_| Err(too_long(limit)))
}

fn too_long(limit: Duration) -> String {
    format!("no answer within {limit:?}")
}

/// A reason that needs no more than its text.
fn text(error: impl fmt::Display) -> String {
    error.to_string()
}

#[cfg(test)]
mod tests;

//! `shimctl ports`: the published ports, once the registrar knows them.

use std::thread;
use std::time::{Duration, Instant};

use admin_api::{Port, Readiness};

use crate::args::Output;
use crate::client::Client;
use crate::subject::Subject;
use crate::{ask, complain, show, show_ports, show_some};

/// How long a registrar that starts is given. It gives its shims 3 s, and its seeds 5.
const READY_WITHIN: Duration = Duration::from_secs(6);
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Prints the ports, or of them those that are meant.
///
/// # Errors
/// In words: the registrar does not answer, or knows no such port.
pub(crate) fn run(client: &Client, subject: Option<&Subject>, output: Output) -> Result<bool, String> {
    // A registrar that does not answer says so here, and is not waited for.
    let mut ports: Vec<Port> = ask(client, "/api/v1/ports")?;
    if wait(client) {
        ports = ask(client, "/api/v1/ports")?;
    }
    match subject {
        None => show(client, "/api/v1/ports", output, |ports: &Vec<_>| show_ports::table_of(ports)),
        Some(subject) => {
            ports.retain(|port| subject.is_port(port));
            show_some(&ports, subject, output, show_ports::table_of)
        }
    }
}

/// Waits until the registrar knows its ports; true if it had to. One that does not get there is named.
fn wait(client: &Client) -> bool {
    let deadline = Instant::now() + READY_WITHIN;
    let mut has_waited = false;
    // A server that does not say is taken for ready.
    while let Ok(Readiness { ready: false, waiting_for }) = client.readiness() {
        if Instant::now() >= deadline {
            complain(&format!(
                "the registrar is still starting, and this list may lack ports: it waits for {}",
                waiting_for.join(", and ")
            ));
            break;
        }
        has_waited = true;
        thread::sleep(ASK_EVERY);
    }
    has_waited
}

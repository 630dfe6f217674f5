//! What the loop knows of the ports, for the operator.

use capture::Mode;
use catalog::PortRow;
use xds::ResourceType;
use xds::resources::names;

use super::Host;
use super::unproxied::catching_port;
use crate::event::{EnvoysWord, PortsReport};

impl Host {
    pub(super) fn ports(&self) -> PortsReport {
        let with_word = |row: PortRow| {
            let word = self.envoys_word(&row);
            (row, word)
        };
        let capture = self.capture.status();
        PortsReport {
            ports: self.catalog.rows().into_iter().map(with_word).collect(),
            bypassed: self.bypasses.all(),
            envoy_connected: !self.streams.is_empty(),
            serves_unproxied: self.catalog.serves_unproxied(),
            not_diverted: (capture.mode != Mode::Divert).then(|| capture.reason.clone()),
            not_captured: (capture.mode == Mode::LeftAlone).then_some(capture.reason),
            docker_problem: self.docker_problem.clone(),
        }
    }

    fn envoys_word(&self, row: &PortRow) -> EnvoysWord {
        let (listener, socket, catch) = if row.is_unproxied {
            let address = row.published.address;
            let listener = names::unproxied_listener(&row.published);
            (listener, catching_port(address), self.rejected_catch(address))
        } else {
            (names::port_listener(&row.published), row.published, None)
        };
        if let Some(message) = catch.or_else(|| self.hub.rejection(ResourceType::Listener, &listener)) {
            EnvoysWord::Rejected(message.to_owned())
        } else if self.watchdog.is_stuck(&socket) {
            EnvoysWord::Stuck
        } else if self.catalog.is_caught(&row.published) && self.capture.has_unproxied() {
            EnvoysWord::Caught
        } else if self.hub.is_accepted(ResourceType::Listener, &listener) {
            EnvoysWord::Accepted
        } else {
            EnvoysWord::Nothing
        }
    }
}

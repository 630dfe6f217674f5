//! The stream of changes: what `GET /api/v1/watch` tells, as server-sent events.
//!
//! | event | data | means |
//! |---|---|---|
//! | `state` | [`State`] | all there is. It comes first, once the registrar knows it, and whoever holds something else drops that |
//! | `service` | [`Service`] | this service, at its service port, is new or different now: it is as said here |
//! | `service-gone` | [`ServiceKey`] | nobody announces it any longer |
//! | `host` | [`Host`] | this host is new or different now |
//! | `host-gone` | [`HostKey`] | this host is no longer known |
//!
//! An event says how things are, never what happened to them: whoever applies each to what it holds has what the
//! registrar has. A watcher that reads slowly is told of all that differs by then at once, so what was there for a
//! moment only (or, for anybody, less than a tenth of a second) may never be told. A comment comes when nothing else
//! does; names of events that a reader does not know are to be passed over.

use serde::{Deserialize, Serialize};

use crate::{Host, Service};

/// One event. As JSON, `{"event": NAME, "data": DATA}`: a line of `shimctl --output json watch`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", content = "data", rename_all = "kebab-case")]
pub enum WatchEvent {
    /// All there is.
    State(State),
    /// A service as it is now.
    Service(Service),
    /// A service that is no more.
    ServiceGone(ServiceKey),
    /// A host as it is now.
    Host(Host),
    /// A host that is no longer known.
    HostGone(HostKey),
}

/// All there is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// As `GET /api/v1/services` answers.
    pub services: Vec<Service>,
    /// As `GET /api/v1/hosts` answers.
    pub hosts: Vec<Host>,
}

/// Which service, at which of its service ports.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceKey {
    /// Its name.
    pub service_name: String,
    /// Its environment; may be empty.
    pub environment_name: String,
    /// Its cluster-wide port; null where it has none.
    pub service_port: Option<u16>,
}

impl ServiceKey {
    /// Which one this is.
    #[must_use]
    pub fn of(service: &Service) -> Self {
        Self {
            service_name: service.service_name.clone(),
            environment_name: service.environment_name.clone(),
            service_port: service.service_port,
        }
    }
}

/// Which host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct HostKey {
    /// Its name.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_its_name_and_its_data() {
        let key =
            ServiceKey { service_name: "web".to_owned(), environment_name: String::new(), service_port: Some(9500) };
        let events = [
            (
                WatchEvent::ServiceGone(key),
                r#"{"event":"service-gone","data":{"service_name":"web","environment_name":"","service_port":9500}}"#,
            ),
            (WatchEvent::State(State::default()), r#"{"event":"state","data":{"services":[],"hosts":[]}}"#),
            (WatchEvent::HostGone(HostKey { name: "a".to_owned() }), r#"{"event":"host-gone","data":{"name":"a"}}"#),
        ];
        for (event, json) in events {
            assert_eq!(serde_json::to_string(&event).unwrap(), json);
            assert_eq!(serde_json::from_str::<WatchEvent>(json).unwrap(), event);
        }
    }
}

//! The operator's JSON: what the registrar's HTTP API answers, and what `shimctl` and scripts read.
//!
//! These types are copies on purpose: the registrar converts into them at its edge, so that the rest of the
//! program may change without breaking a script. Fields are added, never renamed or removed.
//!
//! | request | answer |
//! |---|---|
//! | `GET /api/v1/ports` | array of [`Port`] |
//! | `GET /api/v1/envoy` | [`Envoy`] |
//! | `GET /api/v1/services` | array of [`Service`] |
//! | `GET /api/v1/hosts` | array of [`Host`] |
//! | `GET /api/v1/gossip` | [`gossip::Gossip`]: this host's part in the gossip, with its seeds |
//! | `GET /api/v1/watch` | an endless stream of [`watch::WatchEvent`]s |
//! | `GET /metrics` | the registrar's own numbers, for Prometheus |
//! | `GET /readyz` | [`Readiness`], 200 or 503 |
//! | `GET /healthz` | `ok`, 200 as long as the registrar's loop turns |
//!
//! Changes are made on the admin socket:
//!
//! | request | what it does |
//! |---|---|
//! | `POST /api/v1/instances/{id}/drain` | takes an instance of any host out of service; 204, or an [`Error`] with 404 (no such instance or host), 502 (its host could not be asked), 504 (it did not answer), 500 (done, but not kept) |
//! | `DELETE /api/v1/instances/{id}/drain` | takes that back |
//! | `POST /api/v1/gossip/believe-losses` | serves those hosts no longer that were lost at once and are served on for it; 200 with [`gossip::BelievedLosses`] |
//! | `POST /api/v1/leave` | takes back what outlives the registrar, and ends it; 204, or 500 with an [`Error`] |
//!
//! Deliberately absent: HTTP itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub mod gossip;
pub mod watch;

/// The read API's address unless configured otherwise.
pub const DEFAULT_HTTP_ADDRESS: &str = "127.0.0.1:7777";

/// The admin socket's path unless configured otherwise.
pub const DEFAULT_ADMIN_SOCKET: &str = "/run/envoy-docker-shim/admin.sock";

/// One published port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Port {
    /// The host's address; `0.0.0.0` and `::` stand for any.
    pub host_address: IpAddr,
    /// The host's port.
    pub host_port: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
    /// The container's address, where known.
    pub container_address: Option<IpAddr>,
    /// The container's port.
    pub container_port: u16,
    /// Docker's id, 64 digits; null until the container is found.
    pub container_id: Option<String>,
    /// Docker's name for it.
    pub container_name: Option<String>,
    /// The service; null until the container is found.
    pub service_name: Option<String>,
    /// The environment, may be empty; null until the container is found.
    pub environment_name: Option<String>,
    /// `http`, `tcp`, `auto` or `none`; null until the container is found.
    pub proxy_mode: Option<String>,
    /// How new connections are treated; null until the container is found, and where Envoy has no part in it.
    #[serde(default)]
    pub treatment: Option<Treatment>,
    /// Why, in a sentence, where neither label nor setting says how.
    #[serde(default)]
    pub treatment_reason: Option<String>,
    /// The clients whose connections are forwarded past Envoy, as bytes, because Envoy refused a request of theirs.
    #[serde(default)]
    pub bypassed_clients: Vec<IpAddr>,
    /// Who answers new connections now.
    pub served_by: ServedBy,
    /// The shim's process id; null where Docker publishes the port without a shim of ours.
    pub shim_pid: Option<u32>,
    /// What became of the shim.
    #[serde(default)]
    pub shim: Shim,
    /// When the shim last announced the port, in milliseconds of Unix time; null without a shim.
    pub announced_at_ms: Option<u64>,
    /// What is wrong with the port, with the mend where there is one.
    pub problem: Option<String>,
}

/// What became of a port's shim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shim {
    /// It is registered.
    Registered,
    /// It was killed, or hangs, while its container runs on: nobody stands behind Envoy.
    Lost,
    /// None is registered, and none was since the container started.
    None,
    /// A registrar of an older release does not say.
    #[default]
    #[serde(other)]
    Unknown,
}

/// How a port's connections are treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Treatment {
    /// As bytes, until the application's answers show whether they are HTTP that Envoy passes unharmed.
    Learning,
    /// As HTTP.
    Http,
    /// As bytes.
    Tcp,
}

/// Who answers new connections to a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServedBy {
    /// Envoy listens, and the kernel sends new connections to it.
    Envoy,
    /// The shim forwards them itself, and is not about to hand over.
    Shim,
    /// Docker's own path: there is no shim of ours for this port.
    Docker,
    /// The shim forwards them until Envoy listens, which is on its way.
    Pending,
}

/// How the registrar and its Envoy get on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envoy {
    /// Whether an Envoy has a stream open.
    pub connected: bool,
    /// The `node.id` of its bootstrap; null if none ever connected.
    pub node_id: Option<String>,
    /// Its version, such as `1.40.0`; null if unknown.
    pub version: Option<String>,
    /// Whether it has acknowledged all that it is to have, and rejected nothing.
    pub in_sync: bool,
    /// What is done so that traffic comes to Envoy although Docker's firewall is on: `divert`; `off`, where
    /// nothing need be done; `left-alone`, where something stands in the way.
    pub capture: String,
    /// Why, in a sentence.
    pub capture_reason: String,
    /// What should be fixed about it, if anything.
    pub capture_problem: Option<String>,
    /// What was asked for by `--capture`: `auto`, `divert` or `none`; empty from a registrar of an older release.
    #[serde(default)]
    pub capture_setting: String,
    /// Why the registrar does not hear Docker, naming the socket; null where it does, or there is no Docker.
    #[serde(default)]
    pub docker_problem: Option<String>,
    /// Where Envoy sends spans, as `HOST:PORT`; null where it sends none.
    #[serde(default)]
    pub trace_collector: Option<String>,
    /// Whether Envoy is to serve the ports that Docker publishes without a shim.
    #[serde(default)]
    pub capture_unproxied: bool,
    /// Who answers service ports now, at each service address.
    #[serde(default)]
    pub service_addresses: Vec<ServiceAddress>,
    /// How many resources there are, by type: `clusters`, `endpoints`, `listeners`.
    pub resources: BTreeMap<String, usize>,
    /// How often Envoy rejected something since the registrar started.
    pub nacks: u64,
    /// What it rejected last, and null if it never did.
    pub last_nack: Option<Nack>,
}

/// A service address of this host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceAddress {
    /// The address.
    pub address: IpAddr,
    /// Who answers new connections to its service ports.
    pub served_by: ServiceServer,
    /// What is wrong there, with the mend where there is one.
    pub problem: Option<String>,
}

/// Who answers new connections to service ports; the worst is the greatest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceServer {
    /// Envoy listens, and the kernel sends new connections to it.
    Envoy,
    /// The registrar forwards them: Envoy does not listen, or takes none.
    Registrar,
    /// They are refused.
    Nobody,
}

/// A rejection by Envoy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nack {
    /// The resource's type: `clusters`, `endpoints` or `listeners`.
    #[serde(rename = "type")]
    pub resource_type: String,
    /// The resource's name; null where Envoy's message names none.
    pub resource: Option<String>,
    /// Envoy's words, cut to a bounded length.
    pub message: String,
    /// When, in milliseconds of Unix time.
    pub time_ms: u64,
}

/// One service at one of its service ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its name.
    pub service_name: String,
    /// Its environment; may be empty.
    pub environment_name: String,
    /// Its cluster-wide port; null where it has none.
    pub service_port: Option<u16>,
    /// `http`, `tcp`, `auto` or `none`; null where it has no port at all.
    pub proxy_mode: Option<String>,
    /// What is wrong with it, with the mend where there is one.
    pub problem: Option<String>,
    /// Its instances on all hosts.
    pub instances: Vec<Instance>,
}

/// One container, or one static entry, of a service on one host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// `HOST/12 hexadecimal digits`.
    pub id: String,
    /// The host that it runs on.
    pub host: String,
    /// Where other hosts reach it; null where they can't.
    pub address: Option<IpAddr>,
    /// The port there.
    pub port: Option<u16>,
    /// `alive`, `unhealthy`, `unknown` or `draining`, as its own host sees it.
    pub status: String,
    /// Why it is not alive, in words: what its health check saw last, say. Null where it is alive, and on hosts other
    /// than its own, which are not told.
    #[serde(default)]
    pub reason: Option<String>,
    /// Docker's id, 64 digits; null for a static entry.
    pub container_id: Option<String>,
    /// The image as it was asked for.
    pub image: String,
    /// The image's tag, or what a static entry says.
    pub version: String,
    /// When it was created, in milliseconds of its host's Unix time.
    pub since: u64,
}

/// One host of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Where its registrar is reached.
    pub address: Option<IpAddr>,
    /// `alive`, `suspect` or `down`.
    pub status: String,
    /// How many instances it announces.
    pub instances: usize,
    /// Since when it has this status, in milliseconds of this host's Unix time; 0 where unknown.
    pub since: u64,
    /// What is wrong, with the mend where there is one: of the host that is asked, with its own part in the cluster; of
    /// another, with what it announces, as the host that is asked sees it.
    #[serde(default)]
    pub problem: Option<String>,
}

/// Whether the registrar is ready, and what it still waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// True once Envoy is given the world.
    pub ready: bool,
    /// What is waited for, in words; empty when ready.
    pub waiting_for: Vec<String>,
}

/// An error's body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// What is wrong, in words for the operator.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_stand_without_brackets_and_ports_are_numbers() {
        let port = Port {
            host_address: "::".parse().unwrap(),
            host_port: 8080,
            protocol: "tcp".to_owned(),
            container_address: Some("172.17.0.2".parse().unwrap()),
            container_port: 80,
            container_id: None,
            container_name: None,
            service_name: None,
            environment_name: None,
            proxy_mode: None,
            treatment: Some(Treatment::Learning),
            treatment_reason: None,
            bypassed_clients: Vec::new(),
            served_by: ServedBy::Pending,
            shim_pid: Some(17),
            shim: Shim::Registered,
            announced_at_ms: Some(1),
            problem: None,
        };
        let json = serde_json::to_value(&port).unwrap();
        assert_eq!(json["host_address"], "::");
        assert_eq!(json["host_port"], 8080);
        assert_eq!(json["served_by"], "pending");
        assert_eq!(json["treatment"], "learning");
        assert_eq!(json["problem"], serde_json::Value::Null);
    }
}

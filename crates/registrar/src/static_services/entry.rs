//! How an entry of the file is written: in our own shape, or in that of Sidecar's `static.json`.
//!
//! ```json
//! [ { "Service": { "Name": "db", "Image": "postgres:16", "Hostname": "dbhost1", "ProxyMode": "tcp",
//!                  "Ports": [ { "Type": "tcp", "Port": 5432, "ServicePort": 15432, "IP": "10.0.0.5" } ] },
//!     "Check": { "Type": "External", "Args": "/usr/bin/pg_isready -h 10.0.0.5" },
//!     "ListenPort": 10005 } ]
//! ```
//!
//! In Sidecar's shape an empty text and the number 0 mean that nothing is said, and fields that have no meaning
//! here are passed over, `Hostname` among them: an instance is the host's that announces it.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::time::Duration;

use model::check::{self, ARGS_MAX_LENGTH, INTERVAL_RANGE, STREAK_RANGE, TIMEOUT_RANGE};
use model::{CheckKind, CheckSettings, Protocol, ProxyMode, Timing};
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use crate::yaml::{self, ShapeError, Value};

/// An entry, whatever its shape. Every field by itself makes sense.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Entry {
    #[serde(deserialize_with = "yaml::text")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "yaml::text")]
    pub(super) environment: String,
    #[serde(default, deserialize_with = "said")]
    pub(super) mode: Option<ProxyMode>,
    #[serde(default, deserialize_with = "yaml::text")]
    pub(super) image: String,
    #[serde(default, deserialize_with = "yaml::text")]
    pub(super) version: String,
    pub(super) ports: Vec<Port>,
    #[serde(default)]
    pub(super) check: Check,
    pub(super) listen_port: Option<NonZeroU16>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Port {
    pub(super) port: NonZeroU16,
    pub(super) service_port: Option<NonZeroU16>,
    #[serde(default, deserialize_with = "said")]
    pub(super) address: Option<Reachable>,
    #[serde(default, deserialize_with = "said")]
    pub(super) protocol: Option<Protocol>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Check {
    #[serde(default, deserialize_with = "said")]
    kind: Option<CheckKind>,
    #[serde(default, deserialize_with = "said")]
    args: Option<Args>,
    #[serde(default, deserialize_with = "said")]
    interval: Option<Interval>,
    #[serde(default, deserialize_with = "said")]
    timeout: Option<Timeout>,
    #[serde(default, deserialize_with = "streak")]
    rise: Option<u32>,
    #[serde(default, deserialize_with = "streak")]
    fall: Option<u32>,
}

impl Check {
    pub(super) fn settings(self) -> CheckSettings {
        let default = Timing::default();
        let timing = Timing {
            interval: self.interval.map_or(default.interval, |Interval(interval)| interval),
            timeout: self.timeout.map_or(default.timeout, |Timeout(timeout)| timeout),
            rise: self.rise.unwrap_or(default.rise),
            fall: self.fall.unwrap_or(default.fall),
        };
        CheckSettings { kind: self.kind, args: self.args.map(|Args(args)| args), timing }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SidecarEntry {
    service: SidecarService,
    check: Option<SidecarCheck>,
    #[serde(default)]
    listen_port: u16,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SidecarService {
    name: String,
    #[serde(default)]
    image: String,
    #[serde(default, deserialize_with = "said")]
    proxy_mode: Option<ProxyMode>,
    ports: Vec<SidecarPort>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SidecarPort {
    #[serde(default, rename = "Type", deserialize_with = "said")]
    protocol: Option<Protocol>,
    port: NonZeroU16,
    #[serde(default)]
    service_port: u16,
    #[serde(default, rename = "IP", deserialize_with = "said")]
    ip: Option<Reachable>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SidecarCheck {
    #[serde(default, rename = "Type", deserialize_with = "said")]
    kind: Option<CheckKind>,
    #[serde(default, deserialize_with = "said")]
    args: Option<Args>,
}

impl Entry {
    /// Reads an entry of either shape: Sidecar's has a field `Service`.
    pub(super) fn read(value: Value) -> Result<Self, ShapeError> {
        if value.get("Service").is_some() { yaml::shaped(value).map(Self::from_sidecar) } else { yaml::shaped(value) }
    }

    fn from_sidecar(entry: SidecarEntry) -> Self {
        let SidecarEntry { service, check, listen_port } = entry;
        let port = |port: SidecarPort| Port {
            port: port.port,
            service_port: NonZeroU16::new(port.service_port),
            address: port.ip,
            protocol: port.protocol,
        };
        let check = check.map(|check| Check { kind: check.kind, args: check.args, ..Check::default() });
        Self {
            name: service.name,
            environment: String::new(),
            mode: service.proxy_mode,
            image: service.image,
            version: String::new(),
            ports: service.ports.into_iter().map(port).collect(),
            check: check.unwrap_or_default(),
            listen_port: NonZeroU16::new(listen_port),
        }
    }
}

/// What an entry calls itself, however bad the rest of it is; empty if nothing.
pub(super) fn name_of(value: &Value) -> &str {
    let service = value.get("Service").and_then(|service| service.get("Name"));
    service.or_else(|| value.get("name")).and_then(Value::as_str).unwrap_or_default()
}

/// A text that is parsed; nothing where it is absent or empty.
fn said<'de, D: Deserializer<'de>, T: FromStr<Err: fmt::Display>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let text = yaml::text(deserializer)?;
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(Error::custom) }
}

fn streak<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    let number = u32::deserialize(deserializer)?;
    let (least, most) = STREAK_RANGE;
    let is_in_range = (least..=most).contains(&number);
    if is_in_range { Ok(Some(number)) } else { Err(Error::custom(format!("expected {least} to {most}"))) }
}

/// An address that other hosts can reach.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reachable(pub(super) IpAddr);

impl FromStr for Reachable {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: IpAddr = text.parse().map_err(|_| format!("{text:?} is no IP address"))?;
        let address = address.to_canonical();
        let is_link_local = match address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        let is_own = address.is_loopback() || address.is_unspecified();
        if is_own || is_link_local || address.is_multicast() {
            return Err(format!("{address} can't be reached by other hosts: give the address that they use"));
        }
        Ok(Self(address))
    }
}

/// A check's argument of bounded length.
#[derive(Debug)]
struct Args(String);

impl FromStr for Args {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > ARGS_MAX_LENGTH {
            return Err(format!("longer than {ARGS_MAX_LENGTH} bytes"));
        }
        Ok(Self(text.to_owned()))
    }
}

#[derive(Debug)]
struct Interval(Duration);

impl FromStr for Interval {
    type Err = check::BadTiming;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check::duration(text, INTERVAL_RANGE).map(Self)
    }
}

#[derive(Debug)]
struct Timeout(Duration);

impl FromStr for Timeout {
    type Err = check::BadTiming;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        check::duration(text, TIMEOUT_RANGE).map(Self)
    }
}

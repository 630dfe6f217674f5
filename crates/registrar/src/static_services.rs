//! Static services: instances that no Docker knows, from a file.
//!
//! The file is YAML or JSON, a list of entries; each is one instance, announced by this host:
//!
//! ```yaml
//! - name: db                  # as the label ServiceName
//!   environment: shop         # as EnvironmentName; default: empty
//!   mode: tcp                 # as ProxyMode; default: auto
//!   image: postgres:16        # shown to the operator, as is:
//!   version: "16.4"           # default: the image's tag
//!   ports:
//!     - port: 5432
//!       service-port: 15432   # as ServicePort_N; default: only listed
//!       address: 10.0.0.5     # default: this host's advertise address
//!       protocol: tcp         # default: tcp
//!   check:                    # as the labels HealthCheck...; default: Tcp to the first service port
//!     kind: External
//!     args: /usr/bin/pg_isready -h 10.0.0.5
//!     interval: 3s
//!     timeout: 3s
//!     rise: 1
//!     fall: 2
//!   listen-port: 10005        # hears of changes at this port of its first address
//! ```
//!
//! Entries of Sidecar's `static.json` are read as they are, see [`entry`]. How the file is watched is in
//! [`file`].

mod entry;
pub(crate) mod file;
mod parse;

use std::net::{IpAddr, SocketAddr};

use health::CheckedPort;
use model::instance::{IMAGE_MAX_LENGTH, Origin, Text, VERSION_MAX_LENGTH};
use model::{CheckSettings, Instance, InstanceKey, InstancePort, Protocol, ProxyMode, Service, Status};

/// The most entries of a file.
pub(crate) const SERVICES_MAX: usize = 512;

/// The most problems that are reported of a file.
pub(crate) const PROBLEMS_MAX: usize = 32;

/// The static services, and what is wrong with their file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct StaticList {
    /// At most [`SERVICES_MAX`], all of different keys.
    pub(crate) services: Vec<StaticService>,
    /// In words for the operator: at most [`PROBLEMS_MAX`].
    pub(crate) problems: Vec<String>,
}

impl StaticList {
    /// Whether nothing is known of the services: the file could not be read, or nothing in it made sense.
    pub(crate) const fn is_unknown(&self) -> bool {
        self.services.is_empty() && !self.problems.is_empty()
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StaticService {
    /// A hash of service and ports: it stays the same over restarts, and when anything else is edited.
    pub(crate) key: InstanceKey,
    /// Whose instance it is.
    pub(crate) service: Service,
    /// How its traffic is treated.
    pub(crate) mode: ProxyMode,
    pub(crate) image: Text<IMAGE_MAX_LENGTH>,
    pub(crate) version: Text<VERSION_MAX_LENGTH>,
    /// 1 to [`model::instance::PORTS_MAX`].
    pub(crate) ports: Vec<StaticPort>,
    pub(crate) check: CheckSettings,
    /// A port that hears of changes; a real one, not a service port.
    pub(crate) listen_port: Option<u16>,
}

/// One port of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StaticPort {
    pub(crate) protocol: Protocol,
    /// `None`: this host's advertise address.
    pub(crate) address: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) service_port: Option<u16>,
}

impl StaticPort {
    fn at(&self, advertise: IpAddr) -> SocketAddr {
        SocketAddr::new(self.address.unwrap_or(advertise), self.port)
    }
}

impl StaticService {
    /// The instance that this host announces. `since_ms`: when it was first seen, in milliseconds of Unix time.
    pub(crate) fn instance(&self, advertise: IpAddr, status: Status, since_ms: u64) -> Instance {
        let port = |port: &StaticPort| InstancePort {
            service_port: port.service_port,
            address: port.at(advertise).ip(),
            port: port.port,
            protocol: port.protocol,
            mode: self.mode,
        };
        Instance {
            origin: Origin::Static(self.key),
            service: self.service.clone(),
            ports: self.ports.iter().map(port).collect(),
            status,
            image: self.image.clone(),
            version: self.version.clone(),
            since_ms,
        }
    }

    /// The ports as its health check sees them: it is asked where it is announced.
    pub(crate) fn checked_ports(&self, advertise: IpAddr) -> Vec<CheckedPort> {
        let port = |port: &StaticPort| CheckedPort {
            protocol: port.protocol,
            service_port: port.service_port,
            published: port.at(advertise),
            direct: Some(port.at(advertise)),
        };
        self.ports.iter().map(port).collect()
    }

    /// Where it hears of changes, if it wants to.
    pub(crate) fn listener(&self, advertise: IpAddr) -> Option<SocketAddr> {
        let first = self.ports.first()?;
        Some(SocketAddr::new(first.at(advertise).ip(), self.listen_port?))
    }
}

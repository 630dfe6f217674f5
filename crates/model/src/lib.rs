//! The nouns of the project and their laws.
//!
//! Here live names, addresses, what labels mean, and what Envoy is to serve. Nothing here does I/O, waits,
//! or asks for the time, and no type here is serialized: each edge of the program (wire, JSON, xDS) has its
//! own form and converts.
//!
//! | noun | file |
//! |---|---|
//! | service, environment, container id | [`name`] |
//! | published port, container endpoint | [`address`] |
//! | how the operator wants traffic treated | [`proxy_mode`] |
//! | how Envoy treats it | [`treatment`] |
//! | what a container's labels say of its ports | [`labels`] |
//! | what a container's labels announce to the cluster | [`service_labels`] |
//! | what is asked of a health check | [`check`] |
//! | what Envoy is asked to serve | [`proxied_port`] |
//! | what Envoy is asked to serve for a service port | [`service_port`] |
//! | host name, incarnation, stamp | [`host`] |
//! | instance of a service | [`instance`] |
//! | whether an instance may be sent traffic | [`health`] |
//! | all that a host says of itself, and the merge law | [`host_record`] |

pub mod address;
pub mod check;
pub mod health;
pub mod host;
pub mod host_record;
pub mod instance;
pub mod labels;
pub mod name;
pub mod proxied_port;
pub mod proxy_mode;
pub mod service_labels;
pub mod service_port;
pub mod treatment;

pub use address::{Protocol, PublishedPort};
pub use check::{CheckKind, CheckSettings, Timing};
pub use health::Status;
pub use host::{HostName, Incarnation, Stamp};
pub use host_record::HostRecord;
pub use instance::{Instance, InstanceId, InstanceKey, InstancePort};
pub use name::{ContainerId, EnvironmentName, Service, ServiceName};
pub use proxied_port::ProxiedPort;
pub use proxy_mode::ProxyMode;
pub use service_port::{Endpoint, ProxiedServicePort, check_service_port};
pub use treatment::Treatment;

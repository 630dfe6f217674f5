//! One simulated host: its gossip, its streams and its instances.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use gossip::{Gossip, StreamId};
use model::instance::{Origin, Text};
use model::{
    EnvironmentName, HostName, Instance, InstanceKey, InstancePort, Protocol, ProxyMode, Service, ServiceName, Status,
};

pub(crate) const GOSSIP_PORT: u16 = 7946;

/// A connection between two hosts, by its number.
pub(crate) type Connection = u64;

#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) name: HostName,
    pub(crate) address: SocketAddr,
    /// `None` while its registrar is dead.
    pub(crate) gossip: Option<Gossip>,
    /// Counts the lives of its registrar: what was sent to an earlier one is lost.
    pub(crate) life: u32,
    /// Whether the machine runs: its instances answer.
    pub(crate) powered: bool,
    /// It stands still until then.
    pub(crate) paused_until: Option<Instant>,
    pub(crate) wake_at: Option<Instant>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) streams: BTreeMap<StreamId, Connection>,
    pub(crate) has_left: bool,
}

impl Host {
    pub(crate) fn new(number: usize, name: HostName) -> Self {
        Self {
            name,
            address: SocketAddr::new(address_of(number), GOSSIP_PORT),
            gossip: None,
            life: 0,
            powered: false,
            paused_until: None,
            wake_at: None,
            instances: Vec::new(),
            streams: BTreeMap::new(),
            has_left: false,
        }
    }
}

/// The address of a host: 10.1.0.0 and on.
pub(crate) fn address_of(number: usize) -> IpAddr {
    let [.., high, low] = number.to_be_bytes();
    [10, 1, high, low].into()
}

/// The number of the host at an address.
pub(crate) fn number_of(address: IpAddr) -> Option<usize> {
    match address {
        IpAddr::V4(address) => match address.octets() {
            [10, 1, high, low] => Some(usize::from(u16::from_be_bytes([high, low]))),
            _ => None,
        },
        IpAddr::V6(_) => None,
    }
}

/// An instance like those of a real host.
pub(crate) fn instance(host: usize, number: usize, status: Status) -> Instance {
    let key = u32::try_from(number).unwrap_or(u32::MAX).to_be_bytes();
    let port = u16::try_from(32_768 + number % 30_000).unwrap_or(u16::MAX);
    Instance {
        origin: Origin::Static(InstanceKey::from_bytes([0, 0, key[0], key[1], key[2], key[3]])),
        service: Service {
            name: ServiceName::corrected(&format!("service-{number}")).expect("the text is not empty").0,
            environment: EnvironmentName::corrected("production").0,
        },
        ports: vec![InstancePort {
            service_port: Some(9_500),
            address: address_of(host),
            port,
            protocol: Protocol::Tcp,
            mode: ProxyMode::Http,
        }],
        status,
        image: Text::cut("registry.example/team/service:1.24.3"),
        version: Text::cut("1.24.3"),
        since_ms: 1_700_000_000_000,
    }
}

//! What a host is told at its start.

use std::net::{IpAddr, SocketAddr};

use model::HostName;

use crate::cluster::ClusterName;
use crate::key_ring::KeyRing;

/// What a host is told at its start. Nothing of it is checked again: the types hold what must hold.
#[derive(Clone, Debug)]
pub struct Config {
    /// This host's name, unique in the cluster.
    pub host: HostName,
    /// Which cluster it belongs to.
    pub cluster: ClusterName,
    /// The keys that the cluster shares.
    pub keys: KeyRing,
    /// Where others reach this host's gossip, by UDP and TCP: the advertise address and the gossip port.
    pub address: SocketAddr,
    /// All addresses of this host at which its instances may be announced, the advertise address among them.
    /// What other hosts announce at one of these is not believed.
    pub own_addresses: Vec<IpAddr>,
    /// Where service ports are served. What other hosts announce at one of these is not believed.
    pub service_addresses: Vec<IpAddr>,
    /// The Unix time in milliseconds. It only has to be later than at this host's last start, and even that
    /// only where no peer remembers it.
    pub unix_ms: u64,
}

//! What follows from who listens on this host, and how many connections wait: five times a second.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::time::Instant;

use model::{Protocol, PublishedPort};
use shim_wire::FromRegistrar;
use sock_diag::Listener;
use tracing::{info, warn};
use xds::ResourceType;
use xds::resources::{self, names};

use super::Host;
use super::unproxied::{catching, catching_port};
use crate::missing_listeners::{Has, Mend};
use crate::watchdog::{Queues, Steering};

impl Host {
    /// Where Envoy takes no connections, new ones are given to the shim, until it does.
    pub(super) fn watch_over(&mut self, listeners: &[Listener], now: Instant) {
        let mut queues = Queues::new();
        for listener in listeners {
            let address = listener.address;
            let port = PublishedPort { address: address.ip(), port: address.port(), protocol: Protocol::Tcp };
            let Some((_, registration)) = self.catalog.registration_of(&port) else { continue };
            if listener.inode != registration.socket_inode {
                *queues.entry(port).or_default() += listener.accept_queue;
            }
        }
        let addresses: HashSet<_> = listeners.iter().map(|listener| listener.address).collect();
        let shimless = self.catalog.shimless_ports();
        let listening: BTreeSet<_> = shimless.filter(|port| addresses.contains(&port.socket_address())).collect();
        self.standby.look(listeners, now);
        let is_catch = |address: &&SocketAddr| **address == catching(address.ip());
        let catches = addresses.iter().filter(|address| self.catalog.serves_unproxied() && is_catch(address)).count();
        let heard = self.standby.served_by_envoy() + catches;
        self.mend_listeners(heard, |port| queues.contains_key(port) || listening.contains(port));
        self.catalog.set_listening(listening);
        for listener in listeners.iter().filter(|listener| listener.address == catching(listener.address.ip())) {
            *queues.entry(catching_port(listener.address.ip())).or_default() += listener.accept_queue;
        }
        for (port, steering) in self.watchdog.look(&queues) {
            self.steer(&port, steering);
        }
        self.look_at_unproxied(|address| addresses.contains(&catching(address)));
        self.listened = addresses;
    }

    /// A port that Envoy serves, and for which no shim came back, lost its shim before this registrar started, or has
    /// one that hangs: it stays Envoy's, since nobody else would answer there.
    pub(super) fn adopt_ports(&mut self) {
        let is_envoys = |port: &PublishedPort| {
            let has_it = !self.hub.is_released(ResourceType::Listener, &names::port_listener(port));
            port.protocol == Protocol::Tcp && has_it && self.listened.contains(&port.socket_address())
        };
        let ports: Vec<_> = self.catalog.unregistered_ports().map(|(port, _)| *port).filter(is_envoys).collect();
        for port in ports {
            warn!(%port, "its shim was killed before this registrar started, or hangs: Envoy serves it alone");
            self.catalog.adopt(port);
        }
        // What is to be captured is read as a whole when the gate opens, which is now.
        drop(self.take_port_changes());
    }

    /// Where Envoy has a listener and does not listen, it is given the listener anew.
    fn mend_listeners(&mut self, others: usize, is_heard: impl Fn(&PublishedPort) -> bool) {
        let bound = self.catalog.proxied_ports().filter(|port| port.is_bound);
        let is_well = |port: &PublishedPort| is_heard(port) && !self.missing_listeners.is_withdrawn(port);
        let (heard, missing): (Vec<_>, Vec<_>) = bound.map(|port| port.published).partition(is_well);
        let missing: Vec<_> = missing.into_iter().map(|port| (port, Has::of(&port, &self.hub))).collect();
        for (port, mend) in self.missing_listeners.look(heard.len() + others, missing) {
            match (mend, self.catalog.proxied_port(&port)) {
                (Mend::Restore, Some(proxied)) => self.hub.apply(resources::set(proxied, &self.settings)),
                (Mend::Restore, None) => {}
                (Mend::Withdraw, _) => {
                    warn!(%port, "Envoy took the port but does not listen: it is given anew");
                    self.hub.apply([resources::withdraw_listener(&port)]);
                }
            }
        }
    }

    pub(super) fn steer(&self, port: &PublishedPort, steering: Steering) {
        let Some((id, _)) = self.catalog.registration_of(port) else { return };
        match steering {
            Steering::Standby => warn!(%port, "Envoy takes no connections: the shim is given new ones"),
            Steering::Envoy => info!(%port, "Envoy takes connections again, and is given new ones"),
        }
        self.reply(id, FromRegistrar::Steer { to_envoy: steering == Steering::Envoy });
    }
}

//! What carries the port's traffic: TCP or UDP, to the loop they are the same.

use std::net::SocketAddr;
use std::time::Instant;

use evidence::Finding;
use model::Protocol;
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;

use crate::event_loop::{EventLoop, Side};
use crate::forward_tcp::TcpForwarder;
use crate::forward_udp::UdpForwarder;
use crate::port::Port;
use crate::slots::Key;

/// The traffic of one port.
#[derive(Debug)]
pub(crate) enum Forwarder {
    /// Connections.
    Tcp(TcpForwarder),
    /// Sessions.
    Udp(UdpForwarder),
}

impl Forwarder {
    /// Begins to serve the port. `descriptors` is the limit of open files.
    ///
    /// # Errors
    /// The kernel refuses to watch the port's socket.
    pub(crate) fn start(
        port: &Port,
        container: SocketAddr,
        descriptors: u64,
        events: &EventLoop,
    ) -> Result<Self, Errno> {
        match port.published().protocol {
            Protocol::Tcp => TcpForwarder::start(port, container, descriptors, events).map(Self::Tcp),
            Protocol::Udp => UdpForwarder::start(port, container, descriptors, events).map(Self::Udp),
            Protocol::Sctp => Err(Errno::EPROTONOSUPPORT),
        }
    }

    /// When [`Self::on_turn`] wants to be called without any event.
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        match self {
            Self::Tcp(tcp) => tcp.deadline(now),
            Self::Udp(udp) => udp.deadline(),
        }
    }

    /// Whether to look at the first bytes of new connections. UDP has none.
    pub(crate) const fn watch(&mut self, watches: bool) {
        if let Self::Tcp(tcp) = self {
            tcp.watch(watches);
        }
    }

    /// The strongest of what connections have shown since this was asked last.
    pub(crate) const fn take_finding(&mut self) -> Option<Finding> {
        match self {
            Self::Tcp(tcp) => tcp.take_finding(),
            Self::Udp(_) => None,
        }
    }

    /// Something arrived at the port.
    pub(crate) fn on_port(&mut self, port: &Port, events: &EventLoop, now: Instant) {
        match self {
            Self::Tcp(tcp) => tcp.on_port(port, events, now),
            Self::Udp(udp) => udp.on_port(port, events, now),
        }
    }

    /// Something happened to a connection or session.
    pub(crate) fn on_event(&mut self, side: Side, key: Key, flags: EpollFlags, port: &Port, now: Instant) {
        match self {
            Self::Tcp(tcp) => tcp.on_event(side, key, flags, now),
            Self::Udp(udp) => udp.on_event(key, port, now),
        }
    }

    /// Does what is due; to be called after every batch of events.
    pub(crate) fn on_turn(&mut self, port: &Port, events: &EventLoop, now: Instant) {
        match self {
            Self::Tcp(tcp) => tcp.on_turn(port, events, now),
            Self::Udp(udp) => udp.on_turn(port, now),
        }
    }
}

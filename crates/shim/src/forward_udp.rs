//! UDP, which Envoy does not take over: each client gets a socket towards the container, and the container's answers
//! leave from the address that the client spoke to.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket};

use crate::datagrams::{Batch, Route, SLOTS};
use crate::event_loop::{EventLoop, Side, Token, earlier};
use crate::merging::Merging;
use crate::port::Port;
use crate::slots::Key;
use crate::udp_sessions::Sessions;

/// Batches of datagrams before others get their turn.
const TURN: usize = 8;
/// File descriptors for everything but sessions.
const DESCRIPTORS_RESERVED: u64 = 32;
/// How long the buffers keep their memory without a datagram: sessions last longer, and most shims mostly sleep.
const MEMORY_KEPT: Duration = Duration::from_secs(1);
/// What may wait at the port for us, in bytes: all clients share it.
const RECEIVE_BUFFER: usize = 4 << 20;

/// The UDP sessions of one port.
#[derive(Debug)]
pub(crate) struct UdpForwarder {
    container: SocketAddr,
    sessions: Sessions<OwnedFd>,
    /// There while there are sessions.
    batch: Option<Batch>,
    /// When the batch is to give its memory back, if it has any.
    release_at: Option<Instant>,
    /// Answers in the batch: where they go.
    answers: Vec<Route>,
    /// Whether the kernel merges what comes to the port.
    is_merged: bool,
    to_container: Merging,
    to_clients: Merging,
}

impl UdpForwarder {
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
        // Without the permission it is the system's default.
        let _ = setsockopt(&port.socket, RcvBufForce, &RECEIVE_BUFFER);
        events.watch(&port.socket, Token::Port, EpollFlags::EPOLLIN)?;
        let capacity = usize::try_from(descriptors.saturating_sub(DESCRIPTORS_RESERVED)).unwrap_or(usize::MAX);
        Ok(Self {
            container,
            sessions: Sessions::new(capacity),
            batch: None,
            release_at: None,
            answers: Vec::new(),
            is_merged: false,
            to_container: Merging::default(),
            to_clients: Merging::default(),
        })
    }

    /// When [`Self::on_turn`] wants to be called without any event.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        earlier(self.sessions.deadline(), self.release_at)
    }

    /// Datagrams from clients.
    pub(crate) fn on_port(&mut self, port: &Port, events: &EventLoop, now: Instant) {
        self.flush(port);
        self.release_at = Some(now + MEMORY_KEPT);
        let mut batch = self.batch.take().unwrap_or_else(Batch::new);
        for _ in 0..TURN {
            let count = match batch.receive(port.socket.as_fd(), 0..SLOTS) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(_) => break,
            };
            self.forward(&mut batch, count, port, events, now);
            if count < SLOTS {
                break;
            }
        }
        self.batch = Some(batch);
    }

    /// Sends the first `count` datagrams on, those of one client together.
    fn forward(&mut self, batch: &mut Batch, count: usize, port: &Port, events: &EventLoop, now: Instant) {
        let mut start = 0;
        while start < count {
            let route = batch.route(start);
            let end = (start + 1..count).find(|slot| batch.route(*slot) != route).unwrap_or(count);
            let key = route.and_then(|route| self.session(route, events, now));
            if let Some(session) = key.and_then(|key| self.sessions.touch(key, now)) {
                self.to_container.send(batch, session.socket.as_fd(), start..end, None);
            }
            self.is_merged = self.to_container.merge(&port.socket, self.is_merged, end - start, batch.size(start));
            start = end;
        }
    }

    fn session(&mut self, route: Route, events: &EventLoop, now: Instant) -> Option<Key> {
        if let Some(key) = self.sessions.find(&route, now) {
            return Some(key);
        }
        // Where there is none to be had the datagram is lost, and the client will ask again.
        let socket = open(self.container).ok()?;
        let key = self.sessions.insert(route, socket, now);
        let session = self.sessions.touch(key, now)?;
        if events.watch(&session.socket, Token::Flow(Side::Container, key), EpollFlags::EPOLLIN).is_err() {
            // Its answers would never be read.
            self.sessions.remove(key);
            return None;
        }
        Some(key)
    }

    /// Answers from the container, for one client.
    pub(crate) fn on_event(&mut self, key: Key, port: &Port, now: Instant) {
        let Some(session) = self.sessions.touch(key, now) else { return };
        let batch = self.batch.get_or_insert_with(Batch::new);
        let first = self.answers.len();
        let slots = first..SLOTS.min(first + session.expected);
        // An error is the container's "port unreachable" for an earlier datagram. It may listen again soon.
        let count = match slots.len() {
            1 if !session.is_merged => batch.receive_one(session.socket.as_fd(), first).map_or(0, |()| 1),
            _ => batch.receive(session.socket.as_fd(), slots).unwrap_or(0),
        };
        self.release_at = Some(now + MEMORY_KEPT);
        session.expected = (2 * count).clamp(1, SLOTS);
        if count > 0 {
            session.is_merged = self.to_clients.merge(&session.socket, session.is_merged, count, batch.size(first));
        }
        self.answers.extend(std::iter::repeat_n(session.route, count));
        if self.answers.len() == SLOTS {
            self.flush(port);
        }
    }

    /// Sends the answers that were gathered, those for one client together.
    fn flush(&mut self, port: &Port) {
        let Some(batch) = &mut self.batch else { return };
        let mergeable_runs = self.answers.chunk_by(|a, b| a == b).any(|run| run.len() > 1);
        if !mergeable_runs && !self.answers.is_empty() {
            self.to_clients.send(batch, port.socket.as_fd(), 0..self.answers.len(), Some(&self.answers));
        } else {
            let mut start = 0;
            for run in self.answers.chunk_by(|a, b| a == b) {
                let slots = start..start + run.len();
                start = slots.end;
                self.to_clients.send(batch, port.socket.as_fd(), slots, Some(&self.answers));
            }
        }
        self.answers.clear();
    }

    /// Does what is due; to be called after every batch of events.
    pub(crate) fn on_turn(&mut self, port: &Port, now: Instant) {
        self.flush(port);
        self.sessions.expire(now);
        if self.release_at.is_some_and(|at| at <= now) {
            self.release_at = None;
            self.batch.iter_mut().for_each(Batch::release_memory);
            // Paths change.
            (self.to_container, self.to_clients) = Default::default();
        }
        if self.sessions.is_empty() {
            self.batch = None;
            self.release_at = None;
            self.answers = Vec::new();
        }
    }
}

fn open(container: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if container.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(container))?;
    Ok(socket)
}

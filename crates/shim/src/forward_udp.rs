//! UDP, which Envoy does not take over: each client gets a socket towards the container, and the container's answers
//! leave from the address that the client spoke to.

use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::sockopt::{RcvBufForce, UdpGroSegment};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket};

use crate::datagrams::{Batch, Route, SLOTS};
use crate::event_loop::{EventLoop, Side, Token, earlier};
use crate::port::Port;
use crate::slots::Key;
use crate::udp_sessions::Sessions;

/// Batches of datagrams before others get their turn.
const TURN: usize = 8;
/// File descriptors for everything but sessions.
const DESCRIPTORS_RESERVED: u64 = 32;
/// How long the buffers keep their memory without a datagram: sessions last longer, and most shims mostly sleep.
const MEMORY_KEPT: Duration = Duration::from_secs(1);
/// Answers at once to one client from which on the kernel is asked to merge them.
const STREAM: usize = 4;
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
    to_container: Merging,
    to_clients: Merging,
}

/// Up to which size datagrams are left for the kernel to cut: what fits the path's MTU, which failures tell.
#[derive(Clone, Copy, Debug)]
struct Merging {
    largest: u16,
}

impl Merging {
    /// Sends all of it as one; yields whether there is nothing more to be done for it.
    fn send(
        &mut self,
        batch: &mut Batch,
        socket: BorrowedFd<'_>,
        slots: Range<usize>,
        route: Option<&Route>,
        segment: u16,
    ) -> bool {
        if segment > self.largest {
            return false;
        }
        match batch.send_merged(socket, slots, route, segment) {
            Ok(()) | Err(Errno::EAGAIN) => true,
            Err(error) => {
                // Longer than the path's MTU, or a device that can't: not tried again.
                if matches!(error, Errno::EINVAL | Errno::EMSGSIZE | Errno::EIO) {
                    self.largest = segment - 1;
                }
                false
            }
        }
    }
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
        // Before Linux 5.0 they stay apart.
        let _ = setsockopt(&port.socket, UdpGroSegment, &true);
        events.watch(&port.socket, Token::Port, EpollFlags::EPOLLIN)?;
        let capacity = usize::try_from(descriptors.saturating_sub(DESCRIPTORS_RESERVED)).unwrap_or(usize::MAX);
        Ok(Self {
            container,
            sessions: Sessions::new(capacity),
            batch: None,
            release_at: None,
            answers: Vec::new(),
            to_container: Merging { largest: u16::MAX },
            to_clients: Merging { largest: u16::MAX },
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
            self.forward(&mut batch, count, events, now);
            if count < SLOTS {
                break;
            }
        }
        self.batch = Some(batch);
    }

    /// Sends the first `count` datagrams on, those of one client together.
    fn forward(&mut self, batch: &mut Batch, count: usize, events: &EventLoop, now: Instant) {
        let mut start = 0;
        while start < count {
            let route = batch.route(start);
            let end = (start + 1..count).find(|slot| batch.route(*slot) != route).unwrap_or(count);
            let key = route.and_then(|route| self.session(route, events, now));
            if let Some(session) = key.and_then(|key| self.sessions.touch(key, now)) {
                send(batch, session.socket.as_fd(), start..end, None, &mut self.to_container);
            }
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
        events.watch(&session.socket, Token::Flow(Side::Container, key), EpollFlags::EPOLLIN).ok()?;
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
        if count >= STREAM && !session.is_merged {
            session.is_merged = setsockopt(&session.socket, UdpGroSegment, &true).is_ok();
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
            send(batch, port.socket.as_fd(), 0..self.answers.len(), Some(&self.answers), &mut self.to_clients);
        } else {
            let mut start = 0;
            for run in self.answers.chunk_by(|a, b| a == b) {
                let slots = start..start + run.len();
                start = slots.end;
                send(batch, port.socket.as_fd(), slots, Some(&self.answers), &mut self.to_clients);
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
        }
        if self.sessions.is_empty() {
            self.batch = None;
            self.release_at = None;
            self.answers = Vec::new();
        }
    }
}

/// Sends datagrams: as one where that is possible, else one by one. What the kernel does not take is lost, as
/// datagrams are.
fn send(
    batch: &mut Batch,
    socket: BorrowedFd<'_>,
    slots: Range<usize>,
    routes: Option<&[Route]>,
    merging: &mut Merging,
) {
    let mut start = slots.start;
    while start < slots.end {
        if let Some(segment) = batch.segment(start) {
            send_what_came_merged(batch, socket, start, routes, segment, merging);
            start += 1;
        } else {
            let end = (start..slots.end).find(|slot| batch.segment(*slot).is_some()).unwrap_or(slots.end);
            send_singles(batch, socket, start..end, routes, merging);
            start = end;
        }
    }
}

fn send_what_came_merged(
    batch: &mut Batch,
    socket: BorrowedFd<'_>,
    slot: usize,
    routes: Option<&[Route]>,
    segment: u16,
    merging: &mut Merging,
) {
    let route = routes.and_then(|routes| routes.get(slot));
    if !merging.send(batch, socket, slot..slot + 1, route, segment) {
        batch.send_apart(socket, slot, route, segment);
    }
}

fn send_singles(
    batch: &mut Batch,
    socket: BorrowedFd<'_>,
    slots: Range<usize>,
    routes: Option<&[Route]>,
    merging: &mut Merging,
) {
    let one_route = routes.is_none_or(|routes| routes[slots.clone()].windows(2).all(|pair| pair[0] == pair[1]));
    if let Some(segment) = batch.mergeable(slots.clone()).filter(|_| one_route) {
        let route = routes.and_then(|routes| routes.get(slots.start));
        if merging.send(batch, socket, slots.clone(), route, segment) {
            return;
        }
    }
    let mut rest = slots;
    let mut refused = false;
    while !rest.is_empty() {
        match batch.send(socket, rest.clone(), routes) {
            Ok(count) => rest.start += count.max(1),
            // The answer to an earlier datagram; this one was not sent yet.
            Err(Errno::ECONNREFUSED) if !refused => refused = true,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return,
            Err(_) => rest.start += 1,
        }
    }
}

fn open(container: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if container.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None)?;
    connect(socket.as_raw_fd(), &SockaddrStorage::from(container))?;
    Ok(socket)
}

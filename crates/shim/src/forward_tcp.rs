//! All TCP connections of the port: accepts them, keeps them, and sees them to their end.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use evidence::Finding;
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;

use crate::connection::{self, Connection, State};
use crate::descriptor;
use crate::event_loop::{EventLoop, Side, Token, earlier};
use crate::port::Port;
use crate::pump::Pipes;
use crate::slots::{Key, Slots};

/// Connections accepted before others get their turn.
const ACCEPTS_PER_TURN: usize = 64;
/// File descriptors that one connection can come to hold: two sockets, and a pipe each way.
const DESCRIPTORS_PER_CONNECTION: u64 = 6;
/// File descriptors for everything else.
const DESCRIPTORS_RESERVED: u64 = 32;
/// The wait after accepting failed, for want of something mostly.
const WANT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is looked whether a peer has everything before its connection is reset.
const PARTING_LOOK: Duration = Duration::from_millis(20);
/// How long a peer may take nothing of it. A slow one gets everything, as from docker-proxy, whose kernel goes on sending
/// for it.
const PARTING_PATIENCE: Duration = Duration::from_secs(60);

const BOTH_WAYS: EpollFlags =
    EpollFlags::EPOLLIN.union(EpollFlags::EPOLLOUT).union(EpollFlags::EPOLLRDHUP).union(EpollFlags::EPOLLET);

/// The connections of one port.
#[derive(Debug)]
pub(crate) struct TcpForwarder {
    container: SocketAddr,
    /// How many connections there may be; the others wait in the kernel's queue.
    capacity: usize,
    connections: Slots<Connection>,
    pipes: Pipes,
    /// Those that have more to do.
    unfinished: Vec<Key>,
    /// Those that wait for a pipe.
    starved: Vec<Key>,
    /// Sockets whose peer is to be reset as soon as it has everything.
    parting: Vec<Parting>,
    /// Whether accepting is suspended, and until when at the latest (`None`: until a connection ends).
    paused: Option<Option<Instant>>,
    /// When the starved and the parting are looked at next.
    look_at: Option<Instant>,
    /// Whether new connections are watched.
    watches: bool,
    /// The strongest of what they showed.
    found: Option<Finding>,
}

/// A socket whose peer is to be reset as soon as it has everything.
#[derive(Debug)]
struct Parting {
    socket: OwnedFd,
    /// Bytes that the peer had not taken at the last look.
    left: usize,
    /// When it is reset if it takes nothing until then.
    deadline: Instant,
}

impl Parting {
    fn begin(socket: OwnedFd, now: Instant) -> Self {
        Self { left: connection::undelivered(&socket), socket, deadline: now + PARTING_PATIENCE }
    }

    /// Itself, if there is still something to wait for; otherwise the peer was reset.
    fn look(self, now: Instant) -> Option<Self> {
        let left = connection::undelivered(&self.socket);
        let deadline = if left < self.left { now + PARTING_PATIENCE } else { self.deadline };
        if left > 0 && now < deadline {
            return Some(Self { left, deadline, ..self });
        }
        connection::reset(self.socket);
        None
    }
}

impl TcpForwarder {
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
        // Accepted connections inherit them.
        connection::set_options(port.socket.as_fd())?;
        events.watch(&port.socket, Token::Port, EpollFlags::EPOLLIN)?;
        Ok(Self {
            container,
            capacity: capacity(descriptors),
            connections: Slots::new(),
            pipes: Pipes::default(),
            unfinished: Vec::new(),
            starved: Vec::new(),
            parting: Vec::new(),
            paused: None,
            look_at: None,
            watches: false,
            found: None,
        })
    }

    /// When [`Self::on_turn`] wants to be called without any event.
    #[must_use]
    pub(crate) fn deadline(&self, now: Instant) -> Option<Instant> {
        if !self.unfinished.is_empty() {
            return Some(now);
        }
        earlier(self.look_at, self.paused.flatten())
    }

    /// Whether to look at the first bytes of new connections.
    pub(crate) const fn watch(&mut self, watches: bool) {
        self.watches = watches;
    }

    /// The strongest of what connections have shown since this was asked last.
    pub(crate) const fn take_finding(&mut self) -> Option<Finding> {
        self.found.take()
    }

    /// Connections wait to be accepted.
    pub(crate) fn on_port(&mut self, port: &Port, events: &EventLoop, now: Instant) {
        if self.paused.is_some() {
            // Of a socket that nobody asks about, the kernel tells only that it was ended, and again and again.
            port.listen_again();
        }
        for _ in 0..ACCEPTS_PER_TURN {
            if self.connections.len() + self.parting.len() >= self.capacity {
                return self.pause(None, port, events);
            }
            match descriptor::accept(port.socket.as_fd()) {
                Ok(client) => self.add(client, events, now),
                Err(Errno::EAGAIN) => return,
                // The connection that was to be accepted is gone already, or a firewall forbids it.
                Err(Errno::ECONNABORTED | Errno::EINTR | Errno::EPERM | Errno::EPROTO) => {}
                Err(errno) => {
                    if errno == Errno::EINVAL {
                        port.listen_again();
                    }
                    return self.pause(Some(now + WANT_PAUSE), port, events);
                }
            }
        }
    }

    fn add(&mut self, client: OwnedFd, events: &EventLoop, now: Instant) {
        // Out of reach: the client is hung up on, as by docker-proxy.
        let Ok(connection) = Connection::open(client, self.container, self.watches) else { return };
        let key = self.connections.insert(connection);
        let Some(connection) = self.connections.get_mut(key) else { return };
        let watched = [Side::Container, Side::Client]
            .into_iter()
            .try_for_each(|side| events.watch(connection.socket(side), Token::Flow(side, key), BOTH_WAYS));
        match watched {
            Ok(()) => {
                let state = connection.go_on(&mut self.pipes);
                self.settle(key, state, now);
            }
            Err(_) => drop(self.connections.remove(key)),
        }
    }

    /// Something happened on one side of a connection.
    pub(crate) fn on_event(&mut self, side: Side, key: Key, flags: EpollFlags, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let state = connection.on_event(side, flags, &mut self.pipes);
        self.settle(key, state, now);
    }

    fn settle(&mut self, key: Key, state: State, now: Instant) {
        let found = self.connections.get_mut(key).and_then(Connection::take_finding);
        self.found = self.found.max(found);
        match state {
            State::Open => {}
            State::Unfinished | State::Starved => self.queue(key, state, now),
            State::Closed | State::Refused => drop(self.connections.remove(key)),
            State::Broken => self.part(key, now),
        }
    }

    fn queue(&mut self, key: Key, state: State, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if std::mem::replace(&mut connection.queued, true) {
            return;
        }
        if state == State::Starved {
            self.starved.push(key);
            self.look_at.get_or_insert(now + WANT_PAUSE);
        } else {
            self.unfinished.push(key);
        }
    }

    /// Passes a failure on to the other side: a reset, once everything from before is delivered.
    fn part(&mut self, key: Key, now: Instant) {
        for socket in self.connections.remove(key).into_iter().flat_map(Connection::into_sockets) {
            if connection::undelivered(&socket) == 0 {
                connection::reset(socket);
            } else {
                self.parting.push(Parting::begin(socket, now));
                self.look_at = earlier(self.look_at, Some(now + PARTING_LOOK));
            }
        }
    }

    /// Does what is due; to be called after every batch of events.
    pub(crate) fn on_turn(&mut self, port: &Port, events: &EventLoop, now: Instant) {
        for key in std::mem::take(&mut self.unfinished) {
            self.go_on(key, now);
        }
        if self.look_at.is_some_and(|at| at <= now) {
            self.look(now);
        }
        let room = self.connections.len() + self.parting.len() < self.capacity;
        if room && self.paused.is_some_and(|until| until.is_none_or(|until| until <= now)) {
            self.paused = None;
            // Cannot fail: the socket is watched.
            let _ = events.change(&port.socket, Token::Port, EpollFlags::EPOLLIN);
        }
    }

    fn go_on(&mut self, key: Key, now: Instant) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.queued = false;
        let state = connection.go_on(&mut self.pipes);
        self.settle(key, state, now);
    }

    fn look(&mut self, now: Instant) {
        self.look_at = None;
        for parting in std::mem::take(&mut self.parting) {
            self.parting.extend(parting.look(now));
        }
        if !self.parting.is_empty() {
            self.look_at = Some(now + PARTING_LOOK);
        }
        for key in std::mem::take(&mut self.starved) {
            self.go_on(key, now);
        }
    }

    fn pause(&mut self, until: Option<Instant>, port: &Port, events: &EventLoop) {
        self.paused = Some(until);
        let _ = events.change(&port.socket, Token::Port, EpollFlags::empty());
    }
}

fn capacity(descriptors: u64) -> usize {
    let room = descriptors.saturating_sub(DESCRIPTORS_RESERVED) / DESCRIPTORS_PER_CONNECTION;
    usize::try_from(room).unwrap_or(usize::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_what_the_limit_of_open_files_allows() {
        assert_eq!(capacity(1024), 165);
        assert_eq!(capacity(1_048_576), 174_757);
        assert_eq!(capacity(0), 1);
    }
}

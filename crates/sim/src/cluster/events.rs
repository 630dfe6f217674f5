//! What happens between hosts: datagrams, connections, probes and time-outs, each at its moment.

use std::net::SocketAddr;
use std::time::Instant;

use gossip::{Gossip, HostStatus, OpenFailure, Order, Output, ProbeId, StreamId};
use model::HostName;

use super::Cluster;
use crate::host::{Connection, number_of};

#[derive(Debug)]
pub(super) enum Event {
    Datagram {
        to: usize,
        bytes: Vec<u8>,
    },
    Wake {
        host: usize,
    },
    /// A connection's first packet arrives.
    Connect {
        connection: Connection,
    },
    /// The opener learns what came of it.
    Connected {
        connection: Connection,
        accepted: bool,
    },
    Data {
        connection: Connection,
        to_opener: bool,
        bytes: Vec<u8>,
    },
    Closed {
        connection: Connection,
        to_opener: bool,
    },
    Probed {
        host: usize,
        life: u32,
        probe: ProbeId,
        reachable: bool,
    },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    host: usize,
    life: u32,
    stream: Option<StreamId>,
    /// What was sent first arrives first.
    last_arrival: Instant,
}

impl Cluster {
    pub(super) fn push(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.events.insert((at, self.sequence), event);
    }

    /// The host that an event is for, if it stands still: then the event waits.
    fn stands_still(&mut self, event: &Event) -> Option<Instant> {
        let host = match event {
            Event::Datagram { to, .. } => *to,
            Event::Wake { host } | Event::Probed { host, .. } => *host,
            Event::Connect { .. } => return None,
            Event::Connected { connection, .. } => self.connections.get(connection)?[0].host,
            Event::Data { connection, to_opener, .. } | Event::Closed { connection, to_opener } => {
                self.connections.get(connection)?[usize::from(!to_opener)].host
            }
        };
        let until = self.hosts[host].paused_until?;
        if until <= self.now {
            self.hosts[host].paused_until = None;
            return None;
        }
        Some(until)
    }

    pub(super) fn handle(&mut self, event: Event) {
        if let Some(until) = self.stands_still(&event) {
            return self.push(until, event);
        }
        match event {
            Event::Datagram { to, bytes } => self.with(to, |gossip, now| gossip.handle_datagram(now, &bytes)),
            Event::Wake { host } => {
                if self.hosts[host].wake_at.is_some_and(|at| at <= self.now) {
                    self.hosts[host].wake_at = None;
                    self.with(host, Gossip::handle_timeout);
                }
            }
            Event::Connect { connection } => self.handle_connect(connection),
            Event::Connected { connection, accepted } => self.handle_connected(connection, accepted),
            Event::Data { connection, to_opener, bytes } => {
                if let Some((host, stream)) = self.end(connection, to_opener) {
                    self.with(host, |gossip, now| gossip.handle_stream_data(now, stream, &bytes));
                }
            }
            Event::Closed { connection, to_opener } => {
                if let Some((host, stream)) = self.end(connection, to_opener) {
                    self.hosts[host].streams.remove(&stream);
                    self.with(host, |gossip, now| gossip.handle_stream_closed(now, stream));
                }
                if to_opener || self.connections.get(&connection).is_some_and(|ends| ends[1].stream.is_some()) {
                    self.connections.remove(&connection);
                }
            }
            Event::Probed { host, life, probe, reachable } => {
                if self.hosts[host].life == life {
                    self.with(host, |gossip, now| gossip.handle_probe_result(now, probe, reachable));
                }
            }
        }
    }

    /// The host and stream at one end, while the host still lives the life that opened it.
    fn end(&self, connection: Connection, opener: bool) -> Option<(usize, StreamId)> {
        let end = self.connections.get(&connection)?[usize::from(!opener)];
        let stream = end.stream.filter(|stream| self.hosts[end.host].streams.contains_key(stream))?;
        (self.hosts[end.host].life == end.life).then_some((end.host, stream))
    }

    fn handle_connect(&mut self, connection: Connection) {
        let Some(ends) = self.connections.get(&connection) else { return };
        let (opener, target) = (ends[0].host, ends[1].host);
        let from = self.hosts[opener].address;
        if !self.hosts[target].powered {
            return;
        }
        let now = self.now;
        let host = &mut self.hosts[target];
        // A host that stands still has a kernel that accepts for it.
        let stream = host.gossip.as_mut().and_then(|gossip| gossip.handle_stream_accepted(now, from));
        let life = host.life;
        if let Some(stream) = stream {
            host.streams.insert(stream, connection);
        }
        if let Some(ends) = self.connections.get_mut(&connection) {
            (ends[1].stream, ends[1].life) = (stream, life);
        }
        let is_running = self.hosts[target].gossip.is_some();
        let delay = self.network.delay(opener);
        self.push(now + delay, Event::Connected { connection, accepted: is_running });
        if is_running && stream.is_none() {
            self.push(now + delay * 2, Event::Closed { connection, to_opener: true });
        }
        self.carry_out(target);
    }

    fn handle_connected(&mut self, connection: Connection, accepted: bool) {
        let Some(ends) = self.connections.get(&connection) else { return };
        // A machine that is there says at once that nobody listens.
        let refused = ends[1].life > 0;
        // It may have been accepted and closed before the opener's time was over.
        if ends[1].stream.is_none() && !accepted {
            let end = self.end(connection, true);
            self.connections.remove(&connection);
            if let Some((host, stream)) = end {
                self.hosts[host].streams.remove(&stream);
                let why = if refused { OpenFailure::Refused } else { OpenFailure::TimedOut };
                self.with(host, |gossip, now| gossip.handle_stream_failed(now, stream, why));
            }
        } else if accepted && let Some((host, stream)) = self.end(connection, true) {
            self.with(host, |gossip, now| gossip.handle_stream_opened(now, stream));
        }
    }

    /// Does what a host's gossip asks for.
    pub(super) fn carry_out(&mut self, host: usize) {
        while let Some(output) = self.hosts[host].gossip.as_mut().and_then(Gossip::poll_output) {
            self.carry_out_one(host, output);
        }
        let next = self.hosts[host].gossip.as_ref().and_then(Gossip::poll_timeout).map(|at| at.max(self.now));
        let set = self.hosts[host].wake_at;
        if let Some(next) = next.filter(|next| set.is_none_or(|set| *next < set || set <= self.now)) {
            self.hosts[host].wake_at = Some(next);
            self.push(next, Event::Wake { host });
        }
    }

    fn carry_out_one(&mut self, host: usize, output: Output) {
        match output {
            Output::Datagram { to, bytes } => {
                if let Some(to) = self.number_at(to) {
                    for delay in self.network.datagram(host, to) {
                        self.push(self.now + delay, Event::Datagram { to, bytes: bytes.clone() });
                    }
                }
            }
            Output::OpenStream { stream, to } => self.open(host, stream, to),
            Output::WriteStream { stream, bytes } => {
                if let Some(connection) = self.hosts[host].streams.get(&stream).copied() {
                    self.send((host, stream), connection, |connection, to_opener| Event::Data {
                        connection,
                        to_opener,
                        bytes,
                    });
                }
            }
            Output::CloseStream { stream } => {
                if let Some(connection) = self.hosts[host].streams.remove(&stream) {
                    self.close((host, stream), connection);
                }
            }
            Output::Probe { probe, address } => self.probe(host, probe, address),
            Output::HostChanged(subject) => self.notice(host, &subject),
            Output::Ordered { order, what: Order::Drain { key, drains }, .. } => {
                let answer = self.obey(host, key, drains);
                self.with(host, |gossip, _| gossip.answer(order, answer));
            }
            Output::OrderEnded { order, outcome } => drop(self.outcomes.insert((host, order), outcome)),
            Output::ProblemsChanged => {}
            Output::Left => self.hosts[host].has_left = true,
        }
    }

    fn number_at(&self, address: SocketAddr) -> Option<usize> {
        number_of(address.ip()).filter(|number| *number < self.hosts.len())
    }

    fn open(&mut self, host: usize, stream: StreamId, to: SocketAddr) {
        self.sequence += 1;
        let connection = self.sequence;
        let end = |host, life, stream| End { host, life, stream, last_arrival: self.now };
        let target = self.number_at(to);
        let opener = end(host, self.hosts[host].life, Some(stream));
        let acceptor = end(target.unwrap_or(host), 0, None);
        self.connections.insert(connection, [opener, acceptor]);
        self.hosts[host].streams.insert(stream, connection);
        if let Some(delay) = target.and_then(|target| self.network.connect(host, target)) {
            self.push(self.now + delay, Event::Connect { connection });
        }
        self.push(self.now + gossip::CONNECT_TIMEOUT, Event::Connected { connection, accepted: false });
    }

    /// Sends something from one end of a connection to the other, behind all that was sent before.
    fn send(
        &mut self,
        (from, stream): (usize, StreamId),
        connection: Connection,
        event: impl FnOnce(Connection, bool) -> Event,
    ) {
        let Some(ends) = self.connections.get_mut(&connection) else { return };
        // A host may have a connection to itself.
        let to_opener = (ends[0].host, ends[0].stream) != (from, Some(stream));
        let there = &mut ends[usize::from(!to_opener)];
        let Some(delay) = self.network.stream(from, there.host) else { return };
        there.last_arrival = there.last_arrival.max(self.now + delay);
        let at = there.last_arrival;
        self.push(at, event(connection, to_opener));
    }

    pub(super) fn close(&mut self, end: (usize, StreamId), connection: Connection) {
        self.send(end, connection, |connection, to_opener| Event::Closed { connection, to_opener });
    }

    fn probe(&mut self, host: usize, probe: ProbeId, address: SocketAddr) {
        let life = self.hosts[host].life;
        let target = self.number_at(address).filter(|target| self.hosts[*target].powered);
        let way = target.and_then(|target| self.network.connect(host, target));
        let (after, reachable) = way.map_or((gossip::CONNECT_TIMEOUT, false), |delay| (delay * 2, true));
        self.push(self.now + after, Event::Probed { host, life, probe, reachable });
    }

    /// A host sees another one differently.
    fn notice(&mut self, observer: usize, subject: &HostName) {
        let Some(view) = self.hosts[observer].gossip.as_ref().and_then(|gossip| gossip.host(subject)) else { return };
        self.oracle.sees(observer, self.hosts[observer].life, &view);
        for change in self.tracked.iter_mut().filter(|change| change.subject == *subject) {
            if view.stamp >= Some(change.stamp) {
                change.known.entry(observer).or_insert(self.now - change.since);
            }
        }
        let subject = self.by_name.get(subject).copied().unwrap_or(usize::MAX);
        if view.status != HostStatus::Alive {
            self.losses.push((observer, subject, self.elapsed(), view.status));
        }
    }
}

//! One TCP connection: a client, the container, and a pump each way.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use evidence::Finding;
use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::sockopt::{KeepAlive, Linger, SocketError, TcpKeepIdle, TcpKeepInterval, TcpNoDelay};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getsockopt, setsockopt, socket};

use crate::descriptor;
use crate::event_loop::Side;
use crate::pump::{Pipes, Progress, Pump};
use crate::watch::{View, Watch};

/// Idle seconds before the kernel asks whether the peer is still there, and between its questions; as docker-proxy
/// (Go's default).
const KEEPALIVE_SECONDS: u32 = 15;

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It waits for the kernel.
    Open,
    /// It wants to go on once the others had their turn.
    Unfinished,
    /// It wants to go on once there are pipes again.
    Starved,
    /// Both streams came to their end.
    Closed,
    /// The container can't be reached: the client is hung up on, without a reset, as by docker-proxy.
    Refused,
    /// One end failed: so must the other.
    Broken,
}

/// The connection. Both sockets are non-blocking.
#[derive(Debug)]
pub(crate) struct Connection {
    client: OwnedFd,
    container: OwnedFd,
    connected: bool,
    to_container: Pump,
    to_client: Pump,
    /// The side that takes no more. What it said before is still passed on, then the other side fails, too.
    dead: Option<Side>,
    /// While there is something to see of it.
    watch: Option<Box<Watch>>,
    /// Whether it stands in one of its owner's queues; for the owner to keep.
    pub(crate) queued: bool,
}

impl Connection {
    /// Takes a client on, and begins to connect to the container. `watched`: whether to look at its first bytes.
    ///
    /// # Errors
    /// No socket is to be had, or the container is out of reach at once; the client is hung up on.
    pub(crate) fn open(client: OwnedFd, address: SocketAddr, watched: bool) -> Result<Self, Errno> {
        let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let container = socket(family, SockType::Stream, flags, None)?;
        set_options(container.as_fd())?;
        let connected = match connect(container.as_raw_fd(), &SockaddrStorage::from(address)) {
            Ok(()) => true,
            Err(Errno::EINPROGRESS) => false,
            Err(errno) => return Err(errno),
        };
        let (to_container, to_client) = (Pump::default(), Pump::default());
        let watch = watched.then(|| Box::new(Watch::new()));
        Ok(Self { client, container, connected, to_container, to_client, dead: None, watch, queued: false })
    }

    /// The socket of that side.
    #[must_use]
    pub(crate) fn socket(&self, side: Side) -> BorrowedFd<'_> {
        match side {
            Side::Client => self.client.as_fd(),
            Side::Container => self.container.as_fd(),
        }
    }

    /// Takes in what the kernel reports about one side.
    pub(crate) fn on_event(&mut self, side: Side, flags: EpollFlags, pipes: &mut Pipes) -> State {
        let failed = flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        if !self.connected {
            return self.on_event_while_connecting(side, failed, pipes);
        }
        let (from_side, to_side) = match side {
            Side::Client => (&self.to_container, &self.to_client),
            Side::Container => (&self.to_client, &self.to_container),
        };
        let readable = failed || flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP);
        let writable = to_side.is_blocked() && (failed || flags.contains(EpollFlags::EPOLLOUT));
        // With its stream at the end already, nobody would read the error.
        let broken = flags.contains(EpollFlags::EPOLLERR) && from_side.is_finished();
        match side {
            _ if broken => State::Broken,
            Side::Client => self.run(readable, writable, pipes),
            Side::Container => self.run(writable, readable, pipes),
        }
    }

    fn on_event_while_connecting(&mut self, side: Side, failed: bool, pipes: &mut Pipes) -> State {
        match side {
            Side::Client if failed => State::Broken,
            Side::Client => State::Open,
            Side::Container => self.on_connected(pipes),
        }
    }

    fn on_connected(&mut self, pipes: &mut Pipes) -> State {
        let error = getsockopt(&self.container, SocketError).map_or_else(|errno| errno, Errno::from_raw);
        match error {
            // Connected, and reset before we looked.
            Errno::ECONNRESET => self.dead = Some(Side::Container),
            _ if error as i32 != 0 => return State::Refused,
            _ => {}
        }
        self.connected = true;
        self.go_on(pipes)
    }

    /// Goes on in both directions.
    pub(crate) fn go_on(&mut self, pipes: &mut Pipes) -> State {
        if self.connected { self.run(true, true, pipes) } else { State::Open }
    }

    fn run(&mut self, to_container: bool, to_client: bool, pipes: &mut Pipes) -> State {
        let up = if to_container { self.run_towards(Side::Container, pipes) } else { Progress::Waiting };
        let to_client = to_client || up == Progress::ReceiverFailed;
        let down = if to_client { self.run_towards(Side::Client, pipes) } else { Progress::Waiting };
        let up = if down == Progress::ReceiverFailed { self.run_towards(Side::Container, pipes) } else { up };
        self.state([up, down])
    }

    fn run_towards(&mut self, receiver: Side, pipes: &mut Pipes) -> Progress {
        if self.dead == Some(receiver) {
            return Progress::Waiting;
        }
        let (client, container) = (self.client.as_fd(), self.container.as_fd());
        let sender = if receiver == Side::Client { Side::Container } else { Side::Client };
        let view = self.watch.as_deref_mut().map(|watch| View::new(watch, sender));
        let pass_end = self.dead.is_none();
        let progress = match receiver {
            Side::Container => self.to_container.run(client, container, pass_end, pipes, view),
            Side::Client => self.to_client.run(container, client, pass_end, pipes, view),
        };
        if progress == Progress::ReceiverFailed {
            self.dead = Some(receiver);
        }
        progress
    }

    fn state(&self, progress: [Progress; 2]) -> State {
        let (up_finished, down_finished) = (self.to_container.is_finished(), self.to_client.is_finished());
        let run_out = match self.dead {
            None => up_finished && down_finished,
            Some(Side::Container) => down_finished,
            Some(Side::Client) => up_finished,
        };
        if progress.contains(&Progress::SenderFailed) || (run_out && self.dead.is_some()) {
            State::Broken
        } else if run_out {
            State::Closed
        } else if progress.contains(&Progress::Unfinished) {
            State::Unfinished
        } else if progress.contains(&Progress::Starved) {
            State::Starved
        } else {
            State::Open
        }
    }

    /// What its first bytes have shown, once; where there is nothing more to see, they are no longer looked at.
    pub(crate) fn take_finding(&mut self) -> Option<Finding> {
        self.watch.take_if(|watch| watch.is_over())?.found()
    }

    /// Its two sockets.
    pub(crate) fn into_sockets(self) -> [OwnedFd; 2] {
        [self.client, self.container]
    }
}

/// Sets what docker-proxy's connections have. A listener's own pass to what it accepts.
///
/// # Errors
/// Those of `setsockopt`.
pub(crate) fn set_options(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    setsockopt(&socket, TcpNoDelay, &true)?;
    setsockopt(&socket, KeepAlive, &true)?;
    setsockopt(&socket, TcpKeepIdle, &KEEPALIVE_SECONDS)?;
    setsockopt(&socket, TcpKeepInterval, &KEEPALIVE_SECONDS)
}

/// How many bytes that were sent to a socket's peer it has not taken yet.
#[must_use]
pub(crate) fn undelivered(socket: &OwnedFd) -> usize {
    descriptor::unsent(socket.as_fd()).unwrap_or(0)
}

/// Ends a connection by a reset, which throws away what the peer has not got yet.
pub(crate) fn reset(socket: OwnedFd) {
    // Where it fails the peer sees an ordinary end.
    let _ = setsockopt(&socket, Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
    drop(socket);
}

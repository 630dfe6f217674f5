//! The connection to the registrar: its socket, and the bytes both ways.
//!
//! What is said, and when it is tried again, is decided in `registration`. The clock alone says when to try: to end a
//! watch of the socket's folder (inotify), the kernel makes its caller wait for milliseconds, on a busy machine for
//! seconds, and a host has room for 128 of them.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use evidence::Finding;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket};
use nix::unistd::geteuid;
use shim_wire::{Decoder, FromRegistrar, FromShim, Message};

use crate::event_loop::{EventLoop, Token};
use crate::findings::Findings;
use crate::log;
use crate::port::Port;
use crate::registration::{Loss, Registration, Step};
use crate::steering::Steering;

/// Bytes read from the registrar at once.
const READ_LENGTH: usize = 512;

/// The registrar's word on a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// None yet.
    Nothing,
    /// It waits for Envoy.
    Releasing,
    /// Envoy has let go.
    Released,
}

/// Our end of the conversation.
#[derive(Debug)]
pub(crate) struct RegistrarLink {
    path: PathBuf,
    registration: Registration,
    stream: Option<UnixStream>,
    decoder: Decoder<FromRegistrar>,
    retry_at: Option<Instant>,
    heard: Heard,
    /// What the kernel does.
    steering: Steering,
    findings: Findings,
}

impl RegistrarLink {
    /// A link to the socket at `path`, not connected yet.
    #[must_use]
    pub(crate) fn new(path: PathBuf, registration: Registration) -> Self {
        let (stream, decoder) = (None, Decoder::default());
        let (steering, findings) = (Steering::TO_ENVOY, Findings::default());
        Self { path, registration, stream, decoder, retry_at: None, heard: Heard::Nothing, steering, findings }
    }

    /// When [`Self::connect`] is due.
    #[must_use]
    pub(crate) const fn deadline(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Whether a connection stands.
    #[must_use]
    pub(crate) const fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    /// What the registrar has said since [`Self::release`].
    #[must_use]
    pub(crate) const fn heard(&self) -> Heard {
        self.heard
    }

    /// Tries to connect; where that fails, sees to it that it is tried again.
    pub(crate) fn connect(&mut self, events: &EventLoop, now: Instant) {
        if self.stream.is_some() {
            return;
        }
        match self.attempt().and_then(|stream| self.start(stream, events)) {
            Ok(()) => {}
            Err(why) => self.hang_up(why, now),
        }
    }

    fn attempt(&self) -> Result<UnixStream, Loss> {
        let address = UnixAddr::new(&self.path).map_err(|_| Loss::Refused)?;
        // Non-blocking, since a connect waits where the registrar's queue is full.
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(|_| Loss::Failed)?;
        connect(socket.as_raw_fd(), &address).map_err(|_| Loss::Failed)?;
        let peer = getsockopt(&socket, PeerCredentials).map_err(|_| Loss::Failed)?.uid();
        if peer != 0 && peer != geteuid().as_raw() {
            log::warn(&format!("{} belongs to uid {peer}: not trusted", self.path.display()));
            return Err(Loss::Refused);
        }
        Ok(socket.into())
    }

    fn start(&mut self, stream: UnixStream, events: &EventLoop) -> Result<(), Loss> {
        events.watch(&stream, Token::Registrar, EpollFlags::EPOLLIN).map_err(|_| Loss::Failed)?;
        self.stream = Some(stream);
        self.decoder = Decoder::default();
        self.retry_at = None;
        self.registration.connected();
        Ok(())
    }

    fn hang_up(&mut self, why: Loss, now: Instant) {
        self.stream = None;
        self.findings.lost_registrar();
        self.retry_at = Some(now + self.registration.lost(why));
    }

    /// The registrar has said something, or is gone.
    pub(crate) fn on_readable(&mut self, port: &mut Port, now: Instant) {
        if let Err(why) = self.read_some(port) {
            self.hang_up(why, now);
        }
    }

    fn read_some(&mut self, port: &mut Port) -> Result<(), Loss> {
        let mut bytes = [0; READ_LENGTH];
        let Some(stream) = &mut self.stream else { return Ok(()) };
        let length = match stream.read(&mut bytes) {
            Ok(0) => return Err(Loss::Failed),
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
            Err(_) => return Err(Loss::Failed),
        };
        self.decoder.push(&bytes[..length]);
        loop {
            match self.decoder.next_message() {
                Ok(Some(message)) => self.take(message, port)?,
                Ok(None) => return Ok(()),
                Err(error) => {
                    log::warn(&format!("what the registrar says can't be understood: {error}"));
                    return Err(Loss::Failed);
                }
            }
        }
    }

    fn take(&mut self, message: FromRegistrar, port: &mut Port) -> Result<(), Loss> {
        match self.registration.take(message) {
            Step::Nothing => Ok(()),
            Step::GiveSocket { uid } => {
                // Who steered the port to us may be gone, and nobody else would take it back.
                self.steer(port, Steering::TO_ENVOY);
                let outcome = port.give_to(uid);
                let announcement = self.registration.given(outcome);
                self.send(announcement)
            }
            Step::Refused { reason } => {
                log::warn(&format!("the registrar refuses {}: {reason}", port.published()));
                Err(Loss::Refused)
            }
            Step::Releasing => {
                self.heard = Heard::Releasing;
                Ok(())
            }
            Step::Released => {
                self.heard = Heard::Released;
                Ok(())
            }
            Step::Steer { to_envoy } => {
                self.steer(port, Steering { to_envoy, ..self.steering.clone() });
                Ok(())
            }
            Step::Bypass { clients } => {
                self.steer(port, Steering { bypassing: clients, ..self.steering });
                Ok(())
            }
            Step::Observe { observes } => {
                self.findings.observe(observes);
                self.tell()
            }
        }
    }

    fn steer(&mut self, port: &Port, steering: Steering) {
        if self.steering == steering {
            return;
        }
        match steering.apply(port) {
            Ok(()) => self.steering = steering,
            Err(problem) => log::warn(&problem),
        }
    }

    /// Whether new connections are to be watched.
    #[must_use]
    pub(crate) const fn observes(&self) -> bool {
        self.findings.observes()
    }

    /// A connection has shown something; the registrar is told when it wants to know.
    pub(crate) fn found(&mut self, finding: Finding, now: Instant) {
        self.findings.found(finding);
        if let Err(why) = self.tell() {
            self.hang_up(why, now);
        }
    }

    fn tell(&mut self) -> Result<(), Loss> {
        if let Some(finding) = self.findings.next() {
            self.send(Some(FromShim::Seen { finding: finding.code() }))?;
            self.findings.was_told(finding);
        }
        Ok(())
    }

    /// Announces the port again: on the connection that stands, or on a new one.
    pub(crate) fn announce(&mut self, events: &EventLoop, now: Instant) {
        let announcement = self.registration.announce();
        match self.send(announcement) {
            Ok(()) => self.connect(events, now),
            Err(why) => self.hang_up(why, now),
        }
    }

    /// Asks for the release; yields whether there is an answer to wait for.
    pub(crate) fn release(&mut self) -> bool {
        let release = self.registration.release();
        release.is_some() && self.send(release).is_ok()
    }

    fn send(&mut self, message: Option<FromShim>) -> Result<(), Loss> {
        let (Some(message), Some(stream)) = (message, &mut self.stream) else { return Ok(()) };
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        // The kernel takes it in one piece, unless the registrar has not read anything for hundreds of messages.
        match stream.write(&bytes) {
            Ok(length) if length == bytes.len() => Ok(()),
            _ => Err(Loss::Failed),
        }
    }
}

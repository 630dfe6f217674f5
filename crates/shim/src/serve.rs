//! The one loop: everything that happens to a running shim passes through here.

use std::path::PathBuf;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::args::Mapping;
use crate::event_loop::{self, BATCH, EventLoop, Token, earlier};
use crate::forwarder::Forwarder;
use crate::log;
use crate::port::Port;
use crate::registrar_link::{Heard, RegistrarLink};
use crate::registration::Registration;
use crate::release::{Answer, Next, Release};
use crate::signals::{Signals, Wish};

/// A shim that serves its port.
#[derive(Debug)]
pub(crate) struct Shim {
    events: EventLoop,
    signals: Signals,
    port: Port,
    forwarder: Forwarder,
    registrar: RegistrarLink,
    release: Option<Release>,
}

impl Shim {
    /// Puts everything together; asks nobody anything.
    ///
    /// # Errors
    /// No memory or file descriptors left.
    pub(crate) fn new(
        port: Port,
        mapping: Mapping,
        registrar: PathBuf,
        registration: Registration,
    ) -> Result<Self, Errno> {
        let events = EventLoop::new()?;
        let signals = Signals::block()?;
        events.watch(&signals, Token::Signal, EpollFlags::EPOLLIN)?;
        let forwarder = Forwarder::start(&port, mapping.container, raise_descriptor_limit(), &events)?;
        let registrar = RegistrarLink::new(registrar, registration);
        Ok(Self { events, signals, port, forwarder, registrar, release: None })
    }

    /// Serves until dockerd says stop and Envoy has let go of the port.
    ///
    /// # Errors
    /// None in a working program: the kernel refuses to wait for events.
    pub(crate) fn run(mut self) -> Result<(), Errno> {
        self.registrar.connect(&self.events, Instant::now());
        loop {
            let now = Instant::now();
            let wake = match self.next_release_step(now) {
                None => None,
                Some(Next::Wait(until)) => Some(until),
                Some(Next::Destroy) => {
                    self.destroy_others();
                    return Ok(());
                }
                Some(Next::Exit) => return Ok(()),
            };
            let deadline = earlier(wake, earlier(self.forwarder.deadline(now), self.registrar.deadline()));
            self.turn(deadline)?;
        }
    }

    fn turn(&mut self, deadline: Option<Instant>) -> Result<(), Errno> {
        let mut batch = [EpollEvent::empty(); BATCH];
        let count = self.events.wait(&mut batch, deadline)?;
        let now = Instant::now();
        for (token, flags) in batch[..count].iter().filter_map(event_loop::read) {
            match token {
                Token::Port => self.forwarder.on_port(&self.port, &self.events, now),
                Token::Flow(side, key) => self.forwarder.on_event(side, key, flags, &self.port, now),
                Token::Signal => self.on_signal(now),
                Token::Registrar => self.registrar.on_readable(&mut self.port, now),
            }
        }
        self.forwarder.on_turn(&self.port, &self.events, now);
        if let Some(finding) = self.forwarder.take_finding() {
            self.registrar.found(finding, now);
        }
        self.forwarder.watch(self.registrar.observes());
        if self.registrar.deadline().is_some_and(|at| at <= now) {
            self.registrar.connect(&self.events, now);
        }
        Ok(())
    }

    fn on_signal(&mut self, now: Instant) {
        while let Some(wish) = self.signals.next_wish() {
            match (wish, &mut self.release) {
                (Wish::Announce, None) => self.registrar.announce(&self.events, now),
                (Wish::Announce, Some(_)) => {}
                (Wish::Stop, None) => {
                    let answer = if self.registrar.release() { Answer::Pending } else { Answer::None };
                    self.release = Some(Release::begin(now, answer));
                }
                (Wish::Stop, Some(release)) => release.answered(Answer::None, now),
            }
        }
    }

    fn next_release_step(&mut self, now: Instant) -> Option<Next> {
        let release = self.release.as_mut()?;
        let answer = match (self.registrar.heard(), self.registrar.is_connected()) {
            (Heard::Released, _) => Answer::Released,
            (Heard::Releasing, true) => Answer::Heard,
            (Heard::Nothing, true) => Answer::Pending,
            (Heard::Releasing | Heard::Nothing, false) => Answer::None,
        };
        release.answered(answer, now);
        Some(release.next(now, || self.port.others().map_or(0, |others| others.len())))
    }

    /// The last resort: whoever still shares the port is ended by the kernel.
    fn destroy_others(&self) {
        let published = self.port.published();
        for other in self.port.others().unwrap_or_default() {
            let outcome = match sock_diag::destroy(&other) {
                Ok(()) => "its socket was ended".to_owned(),
                Err(error) => format!("its socket can't be ended: {error}"),
            };
            log::warn(&format!("Envoy (uid {}) did not let go of {published} in time; {outcome}", other.uid));
        }
    }
}

/// Raises the soft limit of open files to the hard one; yields what it is then.
fn raise_descriptor_limit() -> u64 {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() => soft,
        Ok((_, hard)) => hard,
        Err(_) => 1024, // cannot fail; the traditional limit
    }
}

//! What follows from what shims and Envoy see on unlabelled ports: how a port is treated, and who goes past Envoy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use catalog::{PortChange, ProgramPort, RegistrationId};
use evidence::{Finding, Reason};
use model::{Protocol, ProxiedPort, PublishedPort, Treatment};
use shim_wire::FromRegistrar;
use tracing::{debug, info, warn};

use super::Host;
use crate::refusals::{Needs, Refusal};

impl Host {
    /// A shim saw how the application behind its port answers.
    pub(super) fn seen(&mut self, id: RegistrationId, code: u8, now: Instant) {
        let Some(port) = self.catalog.registration(id).map(|registration| registration.published) else { return };
        match Finding::from_code(code) {
            // Another shim may have the port by now, and another program be behind it.
            Some(_) if self.catalog.registration_of(&port).is_none_or(|(newest, _)| newest != id) => {}
            Some(finding) => self.learn(&port, finding, now),
            None => debug!(%port, code, "a shim saw something that this registrar does not know"),
        }
    }

    /// Envoy refused something on a learned port.
    pub(super) fn refused(&mut self, refusal: &Refusal, now: Instant) {
        let Some(port) = self.learned_port_at(refusal.asked) else { return };
        match refusal.needs() {
            Some(Needs::Everyone) => self.learn(&port, Finding::Tcp(Reason::RefusedByEnvoy), now),
            Some(Needs::Client) => self.bypass(port, refusal, now),
            None => {}
        }
    }

    fn learn(&mut self, port: &PublishedPort, finding: Finding, now: Instant) {
        if self.catalog.is_clients_own(port, finding) {
            // The client that does it goes past Envoy already. The shim looked no further; it is to go on.
            return self.observe_anew(port);
        }
        if let Some(subject) = self.catalog.saw(port, finding) {
            self.learned(&subject, finding, now);
        }
        if matches!(finding, Finding::Tcp(_)) && self.bypasses.clear(port) {
            self.tell_bypass(port);
        }
    }

    /// Takes in what passed checks have shown.
    pub(super) fn take_evidence(&mut self, now: Instant) {
        for subject in self.cluster.take_evidence() {
            if self.catalog.learn(&subject, Finding::Http) {
                self.learned(&subject, Finding::Http, now);
            }
        }
    }

    fn learned(&mut self, subject: &ProgramPort, finding: Finding, now: Instant) {
        let ProgramPort { program, container_port } = subject;
        match finding {
            Finding::Http => {
                info!(program, container_port, "its answers are safe for HTTP treatment: Envoy takes the port");
            }
            Finding::Tcp(reason) => info!(program, container_port, %reason, "the port is for bytes"),
        }
        self.cluster.learned(subject, finding, now);
        self.lessons.send_replace(self.catalog.lessons().clone());
    }

    /// The port by which Envoy treats connections to this address as HTTP because of what was learned.
    fn learned_port_at(&self, asked: SocketAddr) -> Option<PublishedPort> {
        let any = if asked.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
        let port = |address| PublishedPort { address, port: asked.port(), protocol: Protocol::Tcp };
        let is_learned = |port: &PublishedPort| {
            self.catalog.proxied_port(port).is_some_and(|port| port.treatment == Treatment::LearnedHttp)
        };
        [port(asked.ip()), port(any)].into_iter().find(is_learned)
    }

    fn bypass(&mut self, port: PublishedPort, refusal: &Refusal, now: Instant) {
        // Told each time: an order may be lost on its way to a shim that is busy.
        let is_news = self.bypasses.add(port, refusal.client, now);
        self.tell_bypass(&port);
        if is_news {
            warn!(
                %port, client = %refusal.client, envoy = refusal.details,
                "Envoy refused a request: the client's next connections are forwarded as bytes, without traces, for a week"
            );
        }
    }

    fn observe_anew(&self, port: &PublishedPort) {
        if let Some((id, _)) = self.catalog.registration_of(port) {
            [false, true].into_iter().for_each(|observes| self.reply(id, FromRegistrar::Observe { observes }));
        }
    }

    /// Nobody need go past Envoy where it does not treat the port as learned HTTP any longer, or serves another container.
    pub(super) fn end_bypasses(&mut self, change: &PortChange) {
        let is_learned = |port: &&ProxiedPort| port.treatment == Treatment::LearnedHttp;
        let [before, after] = [&change.before, &change.after].map(|port| port.as_ref().filter(is_learned));
        let goes_on = before.zip(after).is_some_and(|(before, after)| before.container == after.container);
        if let Some(before) = before.filter(|_| !goes_on)
            && self.bypasses.clear(&before.published)
        {
            self.tell_bypass(&before.published);
        }
    }

    pub(super) fn expire_bypasses(&mut self, now: Instant) {
        for port in self.bypasses.expire(now) {
            self.tell_bypass(&port);
        }
    }

    /// Tells the port's shim which clients it is to take itself.
    pub(super) fn tell_bypass(&self, port: &PublishedPort) {
        if let Some((id, registration)) = self.catalog.registration_of(port)
            && registration.observes
        {
            self.reply(id, FromRegistrar::Bypass { clients: self.bypasses.clients(port) });
        }
    }
}

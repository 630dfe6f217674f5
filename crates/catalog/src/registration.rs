//! One shim's claim on its published port, joined with the container behind it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use evidence::Finding;
use model::labels::{ContainerFacts, Defaults, PortMeaning};
use model::{ContainerId, Protocol, ProxiedPort, ProxyMode, PublishedPort, Treatment};

use crate::lessons::ProgramPort;

/// How long a released registration is kept from Envoy. dockerd signals a container's shims within
/// milliseconds of each other; a shim that lives on after this was not meant.
pub(crate) const RELEASE_HOLD: Duration = Duration::from_secs(10);

/// Tells one connection of a shim from all others; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistrationId(pub u64);

/// What a shim registered, as it came over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// The host's side.
    pub published: PublishedPort,
    /// The container's side.
    pub container: SocketAddr,
    /// The shim's process id, as the kernel says it.
    pub shim_pid: u32,
    /// Whether Envoy may listen beside the shim.
    pub shareable: bool,
    /// The inode of the shim's listening socket; 0 where there is none.
    pub socket_inode: u32,
    /// Whether the shim can say what it sees of the connections that it forwards.
    pub observes: bool,
    /// What the shim says is wrong; empty for nothing.
    pub problem: String,
    /// When it was announced last.
    pub announced_at: SystemTime,
}

/// A container as Docker knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Docker's id.
    pub id: ContainerId,
    /// Name, image and labels.
    pub facts: ContainerFacts,
}

/// Where dockerd has a shim reach its container. It is right wherever Docker's listing names several networks, and there
/// before the listing is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShimTarget {
    /// Whose port it is.
    pub container: ContainerId,
    /// The container's address.
    pub address: IpAddr,
}

/// A registration and what became of it.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) registration: Registration,
    /// How many claims had been made when this one was.
    pub(crate) number: u64,
    pub(crate) container: Option<Arc<Container>>,
    pub(crate) meaning: Option<PortMeaning>,
    /// Envoy must not serve the port before this.
    pub(crate) released_until: Option<Instant>,
    /// What was learned of the port; counts where its mode is `auto`.
    pub(crate) lesson: Option<Finding>,
}

impl Claim {
    pub(crate) fn new(registration: Registration, number: u64) -> Self {
        Self { registration, number, container: None, meaning: None, released_until: None, lesson: None }
    }

    pub(crate) fn join(&mut self, container: &Arc<Container>, defaults: &Defaults) {
        let port = self.registration.container.port();
        self.meaning = Some(container.facts.meaning_for(port, defaults));
        self.container = Some(Arc::clone(container));
    }

    /// Where the shim reaches its container, once that is known.
    pub(crate) fn target(&self) -> Option<ShimTarget> {
        let container = self.container.as_ref()?.id.clone();
        Some(ShimTarget { container, address: self.registration.container.ip() })
    }

    /// What Envoy is to serve for this claim.
    pub(crate) fn proxied(&self) -> Option<ProxiedPort> {
        self.proxied_as(self.treatment())
    }

    /// The same where no shim is left that could forward what Envoy does not serve.
    pub(crate) fn proxied_alone(&self) -> Option<ProxiedPort> {
        let mode = self.meaning.as_ref()?.mode;
        self.proxied_as(treatment_without_shim(mode, self.lesson))
    }

    fn proxied_as(&self, treatment: Option<Treatment>) -> Option<ProxiedPort> {
        let is_envoys = self.registration.published.protocol == Protocol::Tcp
            && self.registration.shareable
            && self.released_until.is_none();
        let treatment = treatment.filter(|_| is_envoys)?;
        Some(ProxiedPort {
            published: self.registration.published,
            container: self.registration.container,
            service: self.meaning.as_ref()?.service.clone(),
            treatment,
            is_bound: true,
        })
    }

    /// How Envoy is to treat the port; `None` where it is not to serve it: by mode, or since it is still unknown how.
    pub(crate) fn treatment(&self) -> Option<Treatment> {
        let mode = self.meaning.as_ref()?.mode;
        match self.lesson {
            _ if mode != ProxyMode::Auto => treatment_without_shim(mode, None),
            // Whom Envoy refuses something could not be given to such a shim.
            Some(Finding::Http) if !self.registration.observes => Some(Treatment::Tcp),
            None if self.registration.observes => None,
            lesson => treatment_without_shim(mode, lesson),
        }
    }

    /// Whether the shim is to say what it sees of the connections that it forwards: until it is clear that the port is
    /// for bytes.
    pub(crate) fn is_observed(&self) -> bool {
        let is_open = self.meaning.as_ref().is_some_and(|meaning| meaning.mode == ProxyMode::Auto);
        is_open && self.registration.observes && !matches!(self.lesson, Some(Finding::Tcp(_)))
    }

    /// What lessons about this claim's port are kept under.
    pub(crate) fn subject(&self) -> Option<ProgramPort> {
        ProgramPort::of(&self.container.as_ref()?.facts, self.registration.container.port())
    }

    /// Whether the port's traffic is to be brought to its sockets: a shim forwards what Envoy does not, but a
    /// port of mode `none` keeps Docker's own path.
    pub(crate) fn is_captured(&self) -> bool {
        let mode = self.meaning.as_ref().map(|meaning| meaning.mode);
        self.registration.published.protocol == Protocol::Tcp && mode.is_some_and(|mode| mode != ProxyMode::None)
    }

    /// All that is wrong, in words for the operator.
    pub(crate) fn problems(&self) -> Vec<String> {
        let own = (!self.registration.problem.is_empty()).then(|| self.registration.problem.clone());
        let labels = self.meaning.iter().flat_map(|meaning| meaning.problems.iter().cloned());
        own.into_iter().chain(labels).collect()
    }
}

/// How Envoy treats a port that nobody could forward in its stead: as bytes where nothing is known.
pub(crate) fn treatment_without_shim(mode: ProxyMode, lesson: Option<Finding>) -> Option<Treatment> {
    match (mode, lesson) {
        (ProxyMode::None, _) => None,
        (ProxyMode::Auto, Some(Finding::Http)) => Some(Treatment::LearnedHttp),
        (ProxyMode::Auto, Some(Finding::Tcp(_)) | None) => Some(Treatment::Tcp),
        (ProxyMode::Http | ProxyMode::Tcp, _) => Treatment::asked_by(mode),
    }
}

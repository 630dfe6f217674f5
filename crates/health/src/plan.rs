//! Which check an instance gets: what was asked for where that can be done, else the default.
//!
//! To be asked again whenever the labels, the ports or Docker's word change; the same answer changes nothing
//! in the [`crate::Checker`].

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use model::{CheckKind, CheckSettings, Protocol};

use crate::check::{Check, Peer, Probe};
use crate::docker::DockerHealth;
use crate::target::{self, TargetError};
use crate::template::{self, TemplateError, Values};

/// An instance, as far as it decides how it is checked.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// This host's name: `{{ container }}`, which is the host's name in Sidecar too.
    pub host_name: &'a str,
    /// The address that this host is announced at: `{{ host }}`. Loopback where there is none.
    pub host_address: IpAddr,
    /// All addresses of this host.
    pub host_addresses: &'a BTreeSet<IpAddr>,
    /// Its ports.
    pub ports: &'a [CheckedPort],
    /// Docker's word on the image's own HEALTHCHECK; `None` where it has none.
    pub docker_health: Option<DockerHealth>,
}

/// A port of an instance, as far as it decides how it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckedPort {
    /// The transport protocol.
    pub protocol: Protocol,
    /// Its service port, where it has one.
    pub service_port: Option<u16>,
    /// Where it is published: our proxy answers there. The unspecified address stands for any of this host.
    pub published: SocketAddr,
    /// Where the instance itself answers: the container's own address and port, or a static service's address.
    /// `None` where Docker names no address.
    pub direct: Option<SocketAddr>,
}

/// What the configuration allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `External` may be used: `--allow-external-checks`.
    pub allow_external: bool,
    /// A check may be aimed at others than the instance itself: `--allow-other-check-targets`. Static services
    /// are the operator's own word, so it holds for them anyway.
    pub allow_other_targets: bool,
}

/// Which check an instance gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The check.
    pub check: Check,
    /// Why it is not the one that was asked for, in words for the operator.
    pub problem: Option<String>,
}

/// Why the check that was asked for can't be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum PlanError {
    #[error("{0}")]
    Template(#[from] TemplateError),
    #[error("{0}")]
    Target(#[from] TargetError),
    #[error("commands are run only with --allow-external-checks")]
    ExternalNotAllowed,
    #[error("expected a command line in HealthCheckArgs")]
    NoCommand,
    #[error("a quote or backslash at its end is left open")]
    OpenQuote,
}

/// Which check an instance gets.
#[must_use]
pub fn plan(settings: &CheckSettings, subject: &Subject<'_>, policy: Policy) -> Plan {
    let Some(kind) = settings.kind else {
        return Plan { check: default(settings, subject), problem: None };
    };
    let args = settings.args.as_deref().unwrap_or_default();
    asked_for(kind, args, settings, subject, policy).map_or_else(
        |reason| {
            let check = default(settings, subject);
            // The argument itself may hold a secret.
            let problem = format!("health check {kind}: {reason}; what counts instead: {check}");
            Plan { check, problem: Some(problem) }
        },
        |check| Plan { check, problem: None },
    )
}

fn asked_for(
    kind: CheckKind,
    args: &str,
    settings: &CheckSettings,
    subject: &Subject<'_>,
    policy: Policy,
) -> Result<Check, PlanError> {
    let probe = match kind {
        CheckKind::AlwaysSuccessful => return Ok(Check::AlwaysSuccessful),
        CheckKind::HttpGet => Probe::HttpGet(target::http_get(&filled_in(args, subject, true)?, subject, policy)?),
        CheckKind::Tcp => Probe::Tcp(target::tcp(&filled_in(args, subject, true)?, subject, policy)?),
        CheckKind::External if !policy.allow_external => return Err(PlanError::ExternalNotAllowed),
        CheckKind::External => Probe::External(words(&filled_in(args, subject, false)?)?),
    };
    Ok(Check::Probed(probe, settings.timing))
}

/// What counts where nothing is asked for: Docker's own check, else whether a service port accepts connections,
/// else that the instance runs.
fn default(settings: &CheckSettings, subject: &Subject<'_>) -> Check {
    match (subject.docker_health, target::own_address(subject)) {
        (Some(health), _) => Check::Docker(health),
        (None, Some(own)) => Check::Probed(Probe::Tcp(Peer::Address(own)), settings.timing),
        (None, None) => Check::Running,
    }
}

fn filled_in(args: &str, subject: &Subject<'_>, in_brackets: bool) -> Result<String, TemplateError> {
    let port = |protocol, service_port| published_port(subject, protocol, service_port);
    template::expand(
        args,
        &Values { host: subject.host_address, in_brackets, container: subject.host_name, port: &port },
    )
}

/// The host's port that is published for a service port; of several, one of `{{ host }}`'s family, then the
/// lowest.
fn published_port(subject: &Subject<'_>, protocol: Protocol, service_port: u16) -> Option<u16> {
    let is_asked_for = |port: &&CheckedPort| port.protocol == protocol && port.service_port == Some(service_port);
    let published = subject.ports.iter().filter(is_asked_for).map(|port| port.published);
    published.min_by_key(|at| (at.is_ipv6() != subject.host_address.is_ipv6(), at.port())).map(|at| at.port())
}

/// The words of a command line, as a shell parts them; nothing else of a shell is done.
fn words(line: &str) -> Result<Vec<String>, PlanError> {
    let words = shlex::split(line).ok_or(PlanError::OpenQuote)?;
    if words.first().is_none_or(String::is_empty) { Err(PlanError::NoCommand) } else { Ok(words) }
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;

//! What a container's labels announce to the cluster, and how its health is to be checked.
//!
//! This file is the reference for these labels; those that hold for published ports are in [`crate::labels`].
//! Here too nothing can fail: a bad label is reported and its default applies.
//!
//! | label | meaning | default |
//! |---|---|---|
//! | `ServicePort_N` | container port N is this service's port P in the whole cluster; 0: none; not 15001 and 15002, which are Envoy's | none |
//! | `HealthCheck` | `HttpGet`, `Tcp`, `External`, `AlwaysSuccessful` | by what the container is, see the crate `health` |
//! | `HealthCheckArgs` | `HttpGet`: a URL or path; `Tcp`: address:port; `External`: a command line | the container's lowest service port, path `/`; `External` needs one |
//! | `HealthCheckInterval`, `HealthCheckTimeout` | durations such as `3s`, `500ms`, `1m` | `3s`, `3s` |
//! | `HealthCheckRise`, `HealthCheckFall` | how many results in a row count | `1`, `2` |
//! | `SidecarDiscover` | `false`: neither announced nor given a service port | `true` |
//! | `SidecarListener` | the service port at which this container hears of changes | none |
//!
//! Docker lists a container's labels and its image's in one. Three labels make the host act: `External` runs a command on
//! it, `SidecarListener` has it send the whole catalogue to the container, and the target of a check may lie elsewhere in
//! the operator's network. None of these is taken from an image: the builder of an image must not rule the hosts that
//! run it. A label counts as the image's where the image has the same one with the same value.

use std::collections::{BTreeMap, HashMap};

use crate::check::{self, ARGS_MAX_LENGTH, BadTiming, CheckKind, CheckSettings, INTERVAL_RANGE, TIMEOUT_RANGE, Timing};
use crate::instance::PORTS_MAX;
use crate::labels::ContainerFacts;
use crate::service_port::check_service_port;

/// With `_N`: the service port of container port N.
pub const SERVICE_PORT: &str = "ServicePort";
/// How health is checked.
pub const HEALTH_CHECK: &str = "HealthCheck";
/// What the check is given.
pub const HEALTH_CHECK_ARGS: &str = "HealthCheckArgs";
/// How often.
pub const HEALTH_CHECK_INTERVAL: &str = "HealthCheckInterval";
/// How long a check may take.
pub const HEALTH_CHECK_TIMEOUT: &str = "HealthCheckTimeout";
/// How many successes make it alive.
pub const HEALTH_CHECK_RISE: &str = "HealthCheckRise";
/// How many failures make it unhealthy.
pub const HEALTH_CHECK_FALL: &str = "HealthCheckFall";
/// Exactly `false` keeps a container out of the cluster's sight.
pub const SIDECAR_DISCOVER: &str = "SidecarDiscover";
/// Where the container hears of changes.
pub const SIDECAR_LISTENER: &str = "SidecarListener";

/// The most problems that are reported of one container.
pub const PROBLEMS_MAX: usize = 16;

/// What a container's labels announce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announcement {
    /// Whether the cluster is to know of the container at all.
    pub discover: bool,
    /// Service ports by container port: at most [`PORTS_MAX`], and no service port twice.
    pub service_ports: BTreeMap<u16, u16>,
    /// Whether there is any `ServicePort_N`, a bad one or 0 as well: implicit service ports are for
    /// containers without.
    pub has_service_port_labels: bool,
    /// How health is to be checked. `External` and its command are never the image's own.
    pub check: CheckSettings,
    /// Whether the check's argument may be the image's own: then it must be aimed at the container itself.
    pub args_may_be_the_images: bool,
    /// The service port at which the container hears of changes. Never the image's own word.
    pub listener: Option<u16>,
    /// What was wrong with the labels, in words for the operator: at most [`PROBLEMS_MAX`].
    pub problems: Vec<String>,
}

impl ContainerFacts {
    /// What the labels announce. `image_labels` are those of the container's image alone, which Docker tells
    /// only of the image itself; `None` where they are not known: then nothing that must not be the image's is taken from
    /// anybody. They matter only where [`need_image_labels`] says so.
    #[must_use]
    pub fn announcement(&self, image_labels: Option<&HashMap<String, String>>) -> Announcement {
        let mut reading = Reading { labels: &self.labels, image_labels, problems: Vec::new() };
        let (service_ports, has_service_port_labels) = reading.service_ports();
        let check = reading.check();
        let listener = reading.listener(&service_ports);
        Announcement {
            discover: reading.get(SIDECAR_DISCOVER) != Some("false"),
            service_ports,
            has_service_port_labels,
            check,
            args_may_be_the_images: reading.may_be_the_images(HEALTH_CHECK_ARGS).is_some(),
            listener,
            problems: bounded(reading.problems),
        }
    }
}

impl ContainerFacts {
    /// The service port that the labels give this container port, as far as that can be said without the others; 0 is
    /// none. What is wrong with the label, in words for the operator.
    pub(crate) fn service_port_problem(&self, container_port: u16) -> Option<String> {
        let key = format!("{SERVICE_PORT}_{container_port}");
        let value = self.labels.get(&key).filter(|_| container_port != 0)?;
        let reason = service_port(Some(container_port), value, &BTreeMap::new()).err()?;
        Some(problem(&key, value, &format!("{reason}; it is left out")))
    }
}

/// Whether the labels ask for something that is never taken from an image, so that the image's own must be known.
#[must_use]
pub fn need_image_labels(labels: &HashMap<String, String>) -> bool {
    let asks_for_a_command = labels.get(HEALTH_CHECK).is_some_and(|kind| kind == CheckKind::External.as_str());
    let may_be_aimed_elsewhere = labels.get(HEALTH_CHECK_ARGS).is_some_and(|args| !args.trim().starts_with('/'));
    asks_for_a_command || may_be_aimed_elsewhere || labels.contains_key(SIDECAR_LISTENER)
}

/// One look at a container's labels.
struct Reading<'a> {
    labels: &'a HashMap<String, String>,
    image_labels: Option<&'a HashMap<String, String>>,
    problems: Vec<String>,
}

impl<'a> Reading<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.labels.get(key).map(String::as_str)
    }

    fn report(&mut self, label: &str, value: &str, reason: &str) {
        self.problems.push(problem(label, value, reason));
    }

    /// The value is left out: it may hold a secret.
    fn report_args(&mut self, reason: &str) {
        self.problems.push(format!("label {HEALTH_CHECK_ARGS}: {reason}"));
    }

    fn service_ports(&mut self) -> (BTreeMap<u16, u16>, bool) {
        let prefixed = |(key, value): (&'a String, &'a String)| {
            let container_port = key.strip_prefix(SERVICE_PORT)?.strip_prefix('_')?;
            Some((port(container_port), key.as_str(), value.as_str()))
        };
        let mut labels: Vec<_> = self.labels.iter().filter_map(prefixed).collect();
        // In the order of container ports, so that the same labels always mean the same.
        labels.sort_unstable();
        let mut ports = BTreeMap::new();
        for (container_port, key, value) in &labels {
            match service_port(*container_port, value, &ports) {
                Ok(Some((container_port, service_port))) => {
                    ports.insert(container_port, service_port);
                }
                Ok(None) => {}
                Err(reason) => self.report(key, value, &format!("{reason}; it is left out")),
            }
        }
        (ports, !labels.is_empty())
    }

    fn check(&mut self) -> CheckSettings {
        let args = self.args();
        let kind = self.kind();
        if kind.is_none() && args.is_some() && self.get(HEALTH_CHECK).is_none() {
            self.report_args("without the label HealthCheck it has no meaning");
        }
        CheckSettings { kind, args: kind.and(args).map(str::to_owned), timing: self.timing() }
    }

    fn args(&mut self) -> Option<&'a str> {
        let args = self.get(HEALTH_CHECK_ARGS).map(str::trim).filter(|args| !args.is_empty())?;
        if args.len() > ARGS_MAX_LENGTH {
            self.report_args(&format!("longer than {ARGS_MAX_LENGTH} bytes; it is left out"));
            return None;
        }
        Some(args)
    }

    fn kind(&mut self) -> Option<CheckKind> {
        let text = self.get(HEALTH_CHECK)?;
        let checked = text.parse().map_err(|error: check::UnknownCheckKind| error.to_string());
        let allowed = checked.and_then(|kind| if kind == CheckKind::External { self.external() } else { Ok(kind) });
        allowed.map_err(|reason| self.report(HEALTH_CHECK, text, &format!("{reason}; the default applies"))).ok()
    }

    /// `External`, where it is the container's own word.
    fn external(&self) -> Result<CheckKind, String> {
        let images = [HEALTH_CHECK, HEALTH_CHECK_ARGS].into_iter().find_map(|key| self.may_be_the_images(key));
        images.map_or(Ok(CheckKind::External), |reason| Err(format!("{reason}, and External is never taken from one")))
    }

    /// Why this label may not be the container's own, if so.
    fn may_be_the_images(&self, key: &str) -> Option<String> {
        let value = self.labels.get(key)?;
        match self.image_labels {
            None => Some(format!("the labels of its image are not known, and {key} may be from the image")),
            Some(image) => (image.get(key) == Some(value)).then(|| format!("{key} came with the image")),
        }
    }

    fn timing(&mut self) -> Timing {
        let default = Timing::default();
        Timing {
            interval: self.or(HEALTH_CHECK_INTERVAL, default.interval, |text| check::duration(text, INTERVAL_RANGE)),
            timeout: self.or(HEALTH_CHECK_TIMEOUT, default.timeout, |text| check::duration(text, TIMEOUT_RANGE)),
            rise: self.or(HEALTH_CHECK_RISE, default.rise, check::streak),
            fall: self.or(HEALTH_CHECK_FALL, default.fall, check::streak),
        }
    }

    fn or<T>(&mut self, label: &str, default: T, parse: impl Fn(&str) -> Result<T, BadTiming>) -> T {
        let Some(text) = self.get(label) else { return default };
        parse(text).unwrap_or_else(|reason| {
            self.report(label, text, &format!("{reason}; the default applies"));
            default
        })
    }

    fn listener(&mut self, service_ports: &BTreeMap<u16, u16>) -> Option<u16> {
        let text = self.get(SIDECAR_LISTENER)?;
        if let Some(reason) = self.may_be_the_images(SIDECAR_LISTENER) {
            self.report(SIDECAR_LISTENER, text, &format!("{reason}, which can't ask for it; it hears nothing"));
            return None;
        }
        // A container without labels of service ports may have implicit ones.
        let is_own = |listener: &u16| service_ports.is_empty() || service_ports.values().any(|port| port == listener);
        let listener = port(text).filter(is_own);
        if listener.is_none() {
            self.report(SIDECAR_LISTENER, text, "expected one of this container's own service ports; it hears nothing");
        }
        listener
    }
}

fn problem(label: &str, value: &str, reason: &str) -> String {
    let value: String = value.chars().take(64).collect();
    format!("label {label}={value:?}: {reason}")
}

/// What one `ServicePort_N` adds to those before it; `None` for the service port 0, Sidecar's word for none.
fn service_port(
    container_port: Option<u16>,
    value: &str,
    before: &BTreeMap<u16, u16>,
) -> Result<Option<(u16, u16)>, String> {
    let container_port = container_port.ok_or("the label must end in a container port, 1 to 65535")?;
    if value == "0" {
        return Ok(None);
    }
    let service_port = port(value).ok_or("expected a port, 1 to 65535")?;
    check_service_port(service_port).map_err(|error| error.to_string())?;
    if let Some((other, _)) = before.iter().find(|(_, taken)| **taken == service_port) {
        return Err(format!("container port {other} has this service port already"));
    }
    if before.len() >= PORTS_MAX {
        return Err(format!("a container has at most {PORTS_MAX} service ports"));
    }
    Ok(Some((container_port, service_port)))
}

/// A port as Docker writes it: digits without a leading zero, 1 to 65535.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    if is_plain { text.parse().ok() } else { None }
}

/// The first [`PROBLEMS_MAX`]; the last of them says how many there are more.
fn bounded(mut problems: Vec<String>) -> Vec<String> {
    if problems.len() > PROBLEMS_MAX {
        let unsaid = problems.len() - PROBLEMS_MAX + 1;
        problems.truncate(PROBLEMS_MAX - 1);
        problems.push(format!("and {unsaid} more bad labels"));
    }
    problems
}

#[cfg(test)]
#[path = "service_labels/tests.rs"]
mod tests;

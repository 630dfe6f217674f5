//! `shimctl explain`: in plain sentences, how a connection to a port or a service goes now, and what would change if
//! Envoy died. Made of the registrar's answers, and of what this host's
//! firewall does with connections from other hosts.

use admin_api::{Envoy, Port, ServedBy, Service, Shim};
use serde::Serialize;

use crate::args::Output;
use crate::check;
use crate::client::{Client, ClientError};
use crate::firewall::{self, Firewall, Interface, Reach};
use crate::print;
use crate::show_ports::published;
use crate::show_services::{ALIVE, address, reason};
use crate::subject::Subject;
use crate::table::printable;

/// How many instances are named.
const NAMED_MAX: usize = 8;

/// One port or service, explained.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Explanation {
    /// Which.
    subject: String,
    /// What is to be said, in order.
    sentences: Vec<String>,
}

/// What the registrar says, and this host's firewall.
struct Answers {
    ports: Vec<Port>,
    services: Vec<Service>,
    envoy: Envoy,
    /// Whether Docker's firewall is on.
    has_firewall: bool,
    firewall: Firewall,
    interfaces: Vec<Interface>,
}

/// Asks the registrar and prints the explanation. False where there is nothing to explain.
///
/// # Errors
/// In words: the registrar does not answer, or does not know the subject.
pub(crate) fn run(client: &Client, subject: &Subject, output: Output) -> Result<bool, String> {
    let answers = ask(client).map_err(|error| error.to_string())?;
    let explanations = explain(subject, &answers);
    if explanations.is_empty() {
        return Err(subject.unknown());
    }
    match output {
        Output::Json => print(&serde_json::to_string(&explanations).map_err(|error| error.to_string())?),
        Output::Table => print(&explanations.iter().map(Explanation::in_words).collect::<Vec<_>>().join("\n")),
    }
}

fn ask(client: &Client) -> Result<Answers, ClientError> {
    Ok(Answers {
        ports: client.get("/api/v1/ports")?.parse()?,
        services: client.get("/api/v1/services")?.parse()?,
        envoy: client.get("/api/v1/envoy")?.parse()?,
        has_firewall: check::docker_has_firewall(),
        firewall: firewall::read(),
        interfaces: firewall::interfaces(),
    })
}

impl Explanation {
    fn in_words(&self) -> String {
        let sentences = self.sentences.iter().map(|sentence| format!("  {}\n", printable(sentence)));
        format!("{}\n{}", printable(&self.subject), sentences.collect::<String>())
    }
}

fn explain(subject: &Subject, answers: &Answers) -> Vec<Explanation> {
    let ports = answers.ports.iter().filter(|port| subject.is_port(port)).map(|port| of_port(port, answers));
    // A service without a service port is explained by its published ports.
    let addresses: Vec<_> = answers.envoy.service_addresses.iter().map(|at| at.address).collect();
    let services = answers.services.iter().filter(|service| subject.is_service(service, &addresses));
    let services = services.filter_map(|service| {
        let port = service.service_port?;
        Some(match holder_of(port, &answers.services).filter(|holder| name_of(holder) != name_of(service)) {
            Some(holder) => of_service_without_its_port(service, port, holder),
            None => of_service(service, port, &answers.envoy),
        })
    });
    ports.chain(services).collect()
}

/// Of all services that claim a service port, the one that gets it is the first by name.
fn holder_of(port: u16, services: &[Service]) -> Option<&Service> {
    services.iter().filter(|service| service.service_port == Some(port)).min_by_key(|service| name_of(service))
}

fn name_of(service: &Service) -> (&str, &str) {
    (&service.service_name, &service.environment_name)
}

fn of_port(port: &Port, answers: &Answers) -> Explanation {
    let envoy = &answers.envoy;
    let sentences = [
        Some(whose(port)),
        Some(who_answers(port)),
        closed(port, answers).or_else(|| from_elsewhere(port, envoy)),
        Some(if_envoy_died(port, envoy)),
        port.problem.as_ref().map(|problem| format!("Problem: {problem}.")),
    ];
    Explanation {
        subject: published(port.host_address, port.host_port, &port.protocol),
        sentences: sentences.into_iter().flatten().collect(),
    }
}

fn whose(port: &Port) -> String {
    let number = port.container_port;
    let Some(container) = &port.container_name else {
        return format!("It leads to port {number} of a container that the registrar has not found yet.");
    };
    let environment = port.environment_name.as_deref().unwrap_or_default();
    let service = full_name(port.service_name.as_deref().unwrap_or_default(), environment);
    format!("It leads to port {number} of the container {container}, which is the service {service}.")
}

fn who_answers(port: &Port) -> String {
    let mode = port.proxy_mode.as_deref().unwrap_or("auto");
    match port.served_by {
        ServedBy::Envoy => {
            let what = match mode {
                "tcp" => "passes its bytes on, and counts and logs it",
                "auto" => {
                    "treats it as http if it begins like that, else passes its bytes on; both are counted and logged"
                }
                _ => "passes its requests on, and counts, logs and traces them",
            };
            format!("Envoy answers: the kernel gives it every new connection, and it {what} (mode {mode}).")
        }
        ServedBy::Pending => "The shim answers and forwards until Envoy listens, which is on its way.".to_owned(),
        ServedBy::Docker => "Docker's own path serves it: no shim of ours runs for it.".to_owned(),
        ServedBy::Shim => format!("The shim answers, and forwards as docker-proxy would: {}.", why_the_shim(port)),
    }
}

fn why_the_shim(port: &Port) -> &'static str {
    if port.protocol != "tcp" {
        "only TCP passes Envoy"
    } else if port.proxy_mode.as_deref() == Some("none") {
        "the mode is none"
    } else {
        "Envoy does not serve the port, see below"
    }
}

/// How it is for connections that do not begin on this host.
fn from_elsewhere(port: &Port, envoy: &Envoy) -> Option<String> {
    if port.served_by == ServedBy::Docker {
        return None;
    }
    if port.host_address.is_loopback() {
        return Some("Only this host itself reaches it.".to_owned());
    }
    let is_captured = port.protocol == "tcp" && port.proxy_mode.as_deref() != Some("none");
    Some(match envoy.capture.as_str() {
        "divert" if is_captured => {
            "From other hosts it is the same: where Docker's firewall would lead them past, they are diverted here."
                .to_owned()
        }
        "off" => format!("From other hosts: {}.", envoy.capture_reason),
        "left-alone" => {
            format!("From other hosts Docker's own rules lead straight to the container: {}.", envoy.capture_reason)
        }
        _ => "From other hosts Docker's own rules lead straight to the container.".to_owned(),
    })
}

/// What this host's firewall keeps out, if anything.
fn closed(port: &Port, answers: &Answers) -> Option<String> {
    let door = firewall::door_of(port, &answers.envoy, answers.has_firewall)?;
    let reach = firewall::reach(&door, &answers.firewall, &answers.interfaces);
    let fix = |cause| firewall::openers(&[(&door, cause)]).join(" && ");
    match &reach {
        Reach::Closed(cause) => {
            Some(format!("Other hosts can't reach it: {} closes it. To allow it: {}.", cause.in_words(), fix(cause)))
        }
        Reach::ForSome(cause) => {
            Some(format!("Only some hosts reach it: {} closes it. To allow all: {}.", cause.in_words(), fix(cause)))
        }
        Reach::Unclear(cause) => {
            Some(format!("Whether other hosts reach it can't be told from the rules of {}.", cause.in_words()))
        }
        Reach::Open => {
            let reason = answers.firewall.unseen.as_ref()?;
            Some(format!(
                "Whether this host's firewall lets other hosts reach it can't be told: {reason}; run this as root."
            ))
        }
    }
}

fn if_envoy_died(port: &Port, envoy: &Envoy) -> String {
    match (port.served_by, port.shim_pid) {
        (ServedBy::Envoy, Some(pid)) => format!(
            "If Envoy died, the kernel would give new connections to the shim (process {pid}) at once, and it would \
             forward them unseen; those that are open through Envoy would end."
        ),
        (ServedBy::Envoy, None) if port.shim != Shim::Lost && envoy.capture_unproxied => {
            "If Envoy died, new connections would be refused for some milliseconds, until Docker's own path has the port."
                .to_owned()
        }
        (ServedBy::Envoy, None) => {
            "If Envoy died, nobody would take its place, because the shim is gone: restart the container.".to_owned()
        }
        (ServedBy::Pending, _) => "If Envoy died, the shim would go on.".to_owned(),
        (ServedBy::Shim | ServedBy::Docker, _) => "If Envoy died, nothing would change.".to_owned(),
    }
}

fn of_service_without_its_port(service: &Service, port: u16, holder: &Service) -> Explanation {
    let sentence = format!(
        "Nothing comes to it at this port: connections to a service address at port {port} go to the service {}, which \
         claims it as well and comes first by name.",
        full_name(&holder.service_name, &holder.environment_name)
    );
    let problem = service.problem.as_ref().map(|problem| format!("Problem: {problem}."));
    Explanation { subject: service_at(service, port), sentences: std::iter::once(sentence).chain(problem).collect() }
}

fn full_name(service: &str, environment: &str) -> String {
    match environment {
        "" => service.to_owned(),
        environment => format!("{service} in the environment {environment}"),
    }
}

fn service_at(service: &Service, port: u16) -> String {
    format!("service {}, service port {port}", full_name(&service.service_name, &service.environment_name))
}

fn of_service(service: &Service, port: u16, envoy: &Envoy) -> Explanation {
    let (alive, others): (Vec<_>, Vec<_>) =
        service.instances.iter().partition(|instance| instance.status == ALIVE && instance.address.is_some());
    let named = |instances: &[&admin_api::Instance], word: &dyn Fn(&admin_api::Instance) -> String| {
        let names = instances.iter().take(NAMED_MAX).map(|instance| format!("{} {}", instance.id, word(instance)));
        let more = instances.len().saturating_sub(NAMED_MAX);
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        names.collect::<Vec<_>>().join(", ") + &more
    };
    let mut sentences = vec![format!(
        "A connection to a service address at port {port} comes to the Envoy of the host that it begins on."
    )];
    sentences.push(match alive.len() {
        0 => "No instance is alive, so requests fail until one is.".to_owned(),
        _ => format!(
            "Envoy gives it to one of these: {}.",
            named(&alive, &|instance| { format!("at {}", address(instance).unwrap_or_default()) })
        ),
    });
    if !others.is_empty() {
        sentences.push(format!("These get nothing new: {}.", named(&others, &why_not)));
    }
    sentences.push(if envoy.connected {
        "If this host's Envoy died, the registrar would pass connections to service ports on until it is back.".to_owned()
    } else {
        "On this host no Envoy is connected to the registrar: if none runs, the registrar passes connections to service \
         ports on."
            .to_owned()
    });
    sentences.extend(service.problem.as_ref().map(|problem| format!("Problem: {problem}.")));
    Explanation { subject: service_at(service, port), sentences }
}

/// Why an instance gets nothing.
fn why_not(instance: &admin_api::Instance) -> String {
    let reason = reason(instance).map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("({}{reason})", instance.status)
}

#[cfg(test)]
#[path = "explain_tests.rs"]
mod tests;

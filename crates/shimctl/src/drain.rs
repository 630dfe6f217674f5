//! `shimctl drain` and `undrain`: which instance is meant, and what to say of it.

use std::collections::BTreeMap;

use admin_api::{Port, Service};
use model::InstanceId;

use crate::args::AdminSocket;
use crate::client::Client;
use crate::complain;
use crate::show_services::ALIVE;

/// The fewest digits of an id that name an instance.
const PREFIX_MIN: usize = 4;
/// How many instances are named where several are meant.
const NAMED_MAX: usize = 8;

/// An instance as an operator names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    /// `HOST/12 hexadecimal digits`.
    Id(InstanceId),
    /// A container's name or the beginning of its id.
    Container(String),
}

impl Named {
    /// Whatever has a slash has to be a whole id.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return text.parse::<InstanceId>().map(Self::Id).map_err(|error| error.to_string());
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if text.is_empty() || !text.chars().all(is_name) {
            return Err(
                "expected HOST/ID as listed by `shimctl services --instances`, or a container's name or id".to_owned()
            );
        }
        Ok(Self::Container(text.to_owned()))
    }
}

/// Takes an instance out of service.
///
/// # Errors
/// In words: no instance, or more than one, is called so, or the order was not carried out.
pub(crate) fn drain(client: &Client, registrar: &AdminSocket, named: &Named) -> Result<bool, String> {
    let services = services(client);
    let instance = resolve(client, named, services.as_deref())?;
    registrar.order("POST", &format!("/api/v1/instances/{instance}/drain"))?;
    let consequence = consequence(&instance.to_string(), services.as_deref().unwrap_or_default());
    complain(&format!(
        "{instance} drains: {consequence}. It lasts until the container stops, or shimctl undrain {instance}"
    ));
    Ok(true)
}

/// Takes [`drain`] back.
///
/// # Errors
/// As [`drain`].
pub(crate) fn undrain(client: &Client, registrar: &AdminSocket, named: &Named) -> Result<bool, String> {
    let instance = resolve(client, named, services(client).as_deref())?;
    registrar.order("DELETE", &format!("/api/v1/instances/{instance}/drain"))?;
    complain(&format!("{instance} is in service again, as far as it is healthy"));
    Ok(true)
}

fn services(client: &Client) -> Option<Vec<Service>> {
    client.get("/api/v1/services").and_then(|answer| answer.parse()).ok()
}

/// Which instance is meant. A whole id is taken as it is, so that the order needs nothing but its own socket.
fn resolve(client: &Client, named: &Named, services: Option<&[Service]>) -> Result<InstanceId, String> {
    let name = match named {
        Named::Id(instance) => return Ok(instance.clone()),
        Named::Container(name) => name,
    };
    let ports: Vec<Port> =
        client.get("/api/v1/ports").and_then(|answer| answer.parse()).map_err(|error| error.to_string())?;
    let found = meant(name, services.unwrap_or_default(), &ports);
    match found.as_slice() {
        [instance] => instance.parse::<InstanceId>().map_err(|error| error.to_string()),
        [] => Err(format!(
            "no instance is called {name}: name a container of this host that publishes a port, at least {PREFIX_MIN} \
             digits of an id, or HOST/ID as listed by `shimctl services --instances`"
        )),
        several => {
            let names = several.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
            Err(format!("{name} may mean {names}: name one of them"))
        }
    }
}

/// The ids of the instances that `name` may mean: a container's name on this host, or the beginning of an id.
fn meant(name: &str, services: &[Service], ports: &[Port]) -> Vec<String> {
    let named: Vec<_> = ports.iter().filter(|port| port.container_name.as_deref() == Some(name)).collect();
    let is_prefix = |id: &str| name.len() >= PREFIX_MIN && id.starts_with(&name.to_lowercase());
    let instances = services.iter().flat_map(|service| &service.instances);
    let all: BTreeMap<_, _> = instances.map(|instance| (&instance.id, instance)).collect();
    let of_container = |id: &Option<String>| id.is_some() && named.iter().any(|port| port.container_id == *id);
    let by_name = all.values().filter(|instance| of_container(&instance.container_id));
    let by_name: Vec<_> = by_name.map(|instance| instance.id.clone()).collect();
    if !by_name.is_empty() {
        return by_name;
    }
    let by_id = all.values().filter(|instance| {
        let digits = instance.id.rsplit('/').next().unwrap_or_default();
        is_prefix(digits) || instance.container_id.as_deref().is_some_and(is_prefix)
    });
    by_id.map(|instance| instance.id.clone()).collect()
}

/// Where requests go from now on.
fn consequence(instance: &str, services: &[Service]) -> String {
    let is_its =
        |service: &&Service| service.service_port.is_some() && service.instances.iter().any(|own| own.id == instance);
    let has_others = |service: &Service| service.instances.iter().any(|it| it.id != instance && it.status == ALIVE);
    match services.iter().filter(is_its).find(|service| !has_others(service)) {
        Some(service) => format!(
            "no other instance of {} is alive, so new requests to its service port fail until one is; those under way \
             finish",
            service.service_name
        ),
        None => "new requests to its service ports go to other instances, those under way finish".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use admin_api::Instance;

    use super::*;
    use crate::show_ports::tests::port;
    use crate::show_services::tests::{instance, service};

    fn of(id: &str, container: &str) -> Instance {
        Instance { container_id: Some(container.repeat(16)), ..instance(id, "alive") }
    }

    #[test]
    fn an_instance_is_meant_by_its_containers_name_or_the_beginning_of_its_id() {
        let instances = vec![of("a/abcd00000001", "abcd"), of("b/abce00000002", "abce")];
        let services = [service("web", Some(9500), instances.clone()), service("web", Some(9501), instances)];
        let web = Port {
            container_name: Some("shop_web_1".to_owned()),
            container_id: Some("abcd".repeat(16)),
            ..port("0.0.0.0:80", "tcp", None, 0)
        };
        let meant = |name: &str| meant(name, &services, std::slice::from_ref(&web));
        assert_eq!(meant("shop_web_1"), ["a/abcd00000001"]);
        assert_eq!(meant("ABCE"), ["b/abce00000002"]);
        assert_eq!(meant("abcdabcd"), ["a/abcd00000001"]);
        assert_eq!(meant("abc"), Vec::<String>::new(), "too short to be meant");
        assert_eq!(meant("web"), Vec::<String>::new());
    }

    #[test]
    fn the_last_instance_of_a_service_has_nobody_to_take_its_requests() {
        let two = vec![of("a/abcd00000001", "abcd"), of("b/abce00000002", "abce")];
        let services = [service("web", Some(9500), two.clone()), service("db", Some(9501), two[..1].to_vec())];
        assert!(consequence("b/abce00000002", &services).contains("go to other instances"));
        assert!(consequence("a/abcd00000001", &services).contains("no other instance of db is alive"));
    }

    #[test]
    fn what_has_a_slash_is_a_whole_id() {
        assert!(matches!(Named::parse("web1/0123456789ab"), Ok(Named::Id(_))));
        assert_eq!(Named::parse("shop_web-1.x"), Ok(Named::Container("shop_web-1.x".to_owned())));
        for wrong in ["a/12", "a b", "a b/0123456789ab", "", "x\ny"] {
            assert!(Named::parse(wrong).is_err(), "{wrong}");
        }
    }
}

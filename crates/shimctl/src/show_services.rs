//! The cluster's services, and their instances, as tables.

use std::net::SocketAddr;

use admin_api::{Instance, Service};

use crate::age::ago;
use crate::table::{NOTHING, table};

const HEADER: [&str; 6] = ["SERVICE", "ENVIRONMENT", "PORT", "MODE", "INSTANCES", "PROBLEM"];

const INSTANCES_HEADER: [&str; 9] =
    ["SERVICE", "ENVIRONMENT", "PORT", "INSTANCE", "STATUS", "ADDRESS", "IMAGE", "CREATED", "REASON"];

/// What an instance is called that gets its share of requests.
pub(crate) const ALIVE: &str = "alive";

/// One line for every service and service port.
pub(crate) fn table_of(services: &[Service]) -> String {
    table(HEADER, sorted(services).into_iter().map(row).collect())
}

/// One line for every instance of every service, with their ages at `now_ms`.
pub(crate) fn table_of_instances(services: &[Service], now_ms: u64) -> String {
    let rows = sorted(services).into_iter().flat_map(|service| {
        let mut instances: Vec<_> = service.instances.iter().collect();
        instances.sort_by(|a, b| a.id.cmp(&b.id));
        instances.into_iter().map(move |instance| instance_row(service, instance, now_ms))
    });
    table(INSTANCES_HEADER, rows.collect())
}

/// How many of the service's instances are alive.
pub(crate) fn alive(service: &Service) -> usize {
    service.instances.iter().filter(|instance| instance.status == ALIVE).count()
}

fn sorted(services: &[Service]) -> Vec<&Service> {
    let mut services: Vec<_> = services.iter().collect();
    services.sort_by_key(|service| (&service.service_name, &service.environment_name, service.service_port));
    services
}

fn row(service: &Service) -> [String; 6] {
    [
        service.service_name.clone(),
        service.environment_name.clone(),
        port(service.service_port),
        service.proxy_mode.clone().unwrap_or_else(|| NOTHING.to_owned()),
        format!("{}/{} alive", alive(service), service.instances.len()),
        service.problem.clone().unwrap_or_else(|| NOTHING.to_owned()),
    ]
}

fn instance_row(service: &Service, instance: &Instance, now_ms: u64) -> [String; 9] {
    [
        service.service_name.clone(),
        service.environment_name.clone(),
        port(service.service_port),
        instance.id.clone(),
        instance.status.clone(),
        address(instance).unwrap_or_else(|| NOTHING.to_owned()),
        instance.image.clone(),
        ago(now_ms, instance.since),
        reason(instance).unwrap_or_else(|| NOTHING.to_owned()),
    ]
}

/// Why it is not alive. Hosts don't tell each other.
pub(crate) fn reason(instance: &Instance) -> Option<String> {
    let elsewhere = (instance.status == "unhealthy").then(|| format!("ask on {}", instance.host));
    instance.reason.clone().or(elsewhere)
}

/// Where other hosts reach it, if they do.
pub(crate) fn address(instance: &Instance) -> Option<String> {
    let (address, port) = (instance.address?, instance.port?);
    Some(SocketAddr::new(address, port).to_string())
}

fn port(port: Option<u16>) -> String {
    port.map_or_else(|| NOTHING.to_owned(), |port| port.to_string())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An instance `id` at port 8000 of 10.0.0.1.
    pub(crate) fn instance(id: &str, status: &str) -> Instance {
        Instance {
            id: id.to_owned(),
            host: id.split('/').next().unwrap().to_owned(),
            address: Some("10.0.0.1".parse().unwrap()),
            port: Some(8000),
            status: status.to_owned(),
            reason: None,
            container_id: None,
            image: "web:1".to_owned(),
            version: "1".to_owned(),
            since: 1_000,
        }
    }

    /// A service at a service port.
    pub(crate) fn service(name: &str, port: Option<u16>, instances: Vec<Instance>) -> Service {
        Service {
            service_name: name.to_owned(),
            environment_name: "test".to_owned(),
            service_port: port,
            proxy_mode: Some("http".to_owned()),
            problem: None,
            instances,
        }
    }

    fn services() -> [Service; 2] {
        let away = Instance { address: None, port: None, ..instance("b/0123456789ab", "alive") };
        let reason = Some("GET http://172.17.0.2:80/: 500".to_owned());
        let here = Instance { reason, ..instance("a/0123456789ab", "unhealthy") };
        let web = service("web", Some(9500), vec![away, here, instance("c/0123456789ab", "unhealthy")]);
        let problem = Some("port 9501 is claimed by web too".to_owned());
        [web, Service { problem, proxy_mode: None, ..service("db", None, Vec::new()) }]
    }

    #[test]
    fn services_are_listed_by_name_with_how_many_instances_are_alive() {
        let expected = "\
SERVICE  ENVIRONMENT  PORT  MODE  INSTANCES  PROBLEM
db       test         -     -     0/0 alive  port 9501 is claimed by web too
web      test         9500  http  1/3 alive  -
";
        assert_eq!(table_of(&services()), expected);
    }

    #[test]
    fn instances_are_listed_by_id_with_where_they_are_and_how_they_are() {
        let expected = "\
SERVICE  ENVIRONMENT  PORT  INSTANCE        STATUS     ADDRESS        IMAGE  CREATED  REASON
web      test         9500  a/0123456789ab  unhealthy  10.0.0.1:8000  web:1  5 s ago  GET http://172.17.0.2:80/: 500
web      test         9500  b/0123456789ab  alive      -              web:1  5 s ago  -
web      test         9500  c/0123456789ab  unhealthy  10.0.0.1:8000  web:1  5 s ago  ask on c
";
        assert_eq!(table_of_instances(&services(), 6_000), expected);
    }
}

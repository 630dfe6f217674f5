//! The operator's view of the services, as JSON types. Pure.

use std::collections::BTreeSet;

use catalog::{ServiceInstance, ServiceRow};
use model::{InstanceId, Service};

/// One row for each service and service port. Of those that would be named alike, each but the first has its mark: a name
/// is what tells one from another.
pub(crate) fn services(rows: &[ServiceRow]) -> Vec<admin_api::Service> {
    let mut named = BTreeSet::new();
    rows.iter()
        .map(|row| {
            let Service { name, environment } = &row.service;
            let is_first = named.insert((name.as_str(), environment.as_str(), row.service_port));
            if is_first {
                service(row, name.to_string(), environment.to_string())
            } else {
                service(row, name.marked(), environment.marked())
            }
        })
        .collect()
}

fn service(row: &ServiceRow, service_name: String, environment_name: String) -> admin_api::Service {
    admin_api::Service {
        service_name,
        environment_name,
        service_port: row.service_port,
        proxy_mode: row.mode.map(|mode| mode.to_string()),
        problem: row.problem.clone(),
        instances: row.instances.iter().map(instance).collect(),
    }
}

fn instance(listed: &ServiceInstance) -> admin_api::Instance {
    let ServiceInstance { host, instance, port, reason } = listed;
    admin_api::Instance {
        id: InstanceId { host: host.clone(), key: instance.key() }.to_string(),
        host: host.to_string(),
        address: port.as_ref().map(|port| port.address),
        port: port.as_ref().map(|port| port.port),
        status: instance.status.to_string(),
        reason: reason.clone(),
        container_id: instance.origin.container().map(ToString::to_string),
        image: instance.image.as_str().to_owned(),
        version: instance.version.as_str().to_owned(),
        since: instance.since_ms,
    }
}

#[cfg(test)]
mod tests {
    use model::{EnvironmentName, ServiceName};

    use super::*;

    #[test]
    fn services_that_would_be_named_alike_are_named_apart() {
        let row = |name: &str, service_port| ServiceRow {
            service: Service { name: ServiceName::corrected(name).unwrap().0, environment: EnvironmentName::default() },
            service_port,
            mode: None,
            instances: Vec::new(),
            problem: None,
        };
        let rows = [row("shop web", Some(80)), row("shop/web", Some(80)), row("shop/web", Some(81))];
        let names: Vec<_> = services(&rows).into_iter().map(|service| service.service_name).collect();
        assert_eq!([&names[0], &names[2]], ["shop-web", "shop-web"]);
        assert!(names[1].starts_with("shop-web-"), "{names:?}");
    }
}

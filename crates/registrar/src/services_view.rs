//! The operator's view of the services, as JSON types. Pure.

use catalog::{ServiceInstance, ServiceRow};
use model::InstanceId;

/// One row for each service and service port.
pub(crate) fn services(rows: &[ServiceRow]) -> Vec<admin_api::Service> {
    rows.iter().map(service).collect()
}

fn service(row: &ServiceRow) -> admin_api::Service {
    admin_api::Service {
        service_name: row.service.name.to_string(),
        environment_name: row.service.environment.to_string(),
        service_port: row.service_port,
        proxy_mode: row.mode.map(|mode| mode.to_string()),
        problem: row.problem.clone(),
        instances: row.instances.iter().map(instance).collect(),
    }
}

fn instance(listed: &ServiceInstance) -> admin_api::Instance {
    let ServiceInstance { host, instance, port } = listed;
    admin_api::Instance {
        id: InstanceId { host: host.clone(), key: instance.key() }.to_string(),
        host: host.to_string(),
        address: port.as_ref().map(|port| port.address),
        port: port.as_ref().map(|port| port.port),
        status: instance.status.to_string(),
        container_id: instance.origin.container().map(ToString::to_string),
        image: instance.image.as_str().to_owned(),
        version: instance.version.as_str().to_owned(),
        since: instance.since_ms,
    }
}

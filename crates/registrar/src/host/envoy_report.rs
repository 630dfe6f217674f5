//! What an operator is told of Envoy, and of how traffic comes to it.

use std::time::SystemTime;

use xds::ResourceType;
use xds::resources::Tracing;

use super::{Host, unix_ms};

impl Host {
    pub(super) fn envoy(&mut self) -> admin_api::Envoy {
        let status = self.hub.status();
        // A stranger may be connected too. Envoy asks for all listeners, and takes them.
        let shown = status.streams.iter().max_by_key(|stream| (stream.listens, stream.in_sync, stream.id));
        if let Some(stream) = shown {
            self.last_envoy = Some((stream.node_id.clone(), stream.envoy_version.clone()));
        }
        let (node_id, version) = self.last_envoy.clone().unzip();
        let capture = self.capture.status();
        let counts = status.resources;
        let resources =
            [("clusters", counts.clusters), ("endpoints", counts.endpoints), ("listeners", counts.listeners)];
        admin_api::Envoy {
            connected: !status.streams.is_empty(),
            node_id: node_id.filter(|id| !id.is_empty()),
            version: version.filter(|version| !version.is_empty()),
            in_sync: shown.is_some_and(|stream| stream.in_sync),
            capture: capture.mode.as_str().to_owned(),
            capture_reason: capture.reason,
            capture_problem: capture.problem,
            capture_setting: self.capture.asked().as_str().to_owned(),
            docker_problem: self.docker_problem.clone(),
            trace_collector: self.settings.tracing.as_ref().map(collector),
            capture_unproxied: self.catalog.serves_unproxied(),
            service_addresses: self.standby.report(),
            resources: resources.map(|(name, count)| (name.to_owned(), count)).into(),
            nacks: status.nack_count,
            last_nack: status.last_nack.as_ref().map(nack),
        }
    }
}

/// As people write it, with brackets where it is IPv6.
fn collector(tracing: &Tracing) -> String {
    let (host, port) = (&tracing.collector_host, tracing.collector_port);
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn nack(nack: &xds::Nack) -> admin_api::Nack {
    let time = SystemTime::now() - nack.time.elapsed();
    admin_api::Nack {
        resource_type: match nack.resource_type {
            ResourceType::Cluster => "clusters",
            ResourceType::Endpoint => "endpoints",
            ResourceType::Listener => "listeners",
        }
        .to_owned(),
        resource: Some(nack.resource.clone()).filter(|name| !name.is_empty()),
        message: nack.message.clone(),
        time_ms: unix_ms(time),
    }
}

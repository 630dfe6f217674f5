//! One Envoy in a network of its own, with the bootstrap that users copy, and its configuration in files.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryResponse;
use envoy_types::pb::google::protobuf::Any;
use lab::http::{Request, Response, escaped};
use lab::namespace::Namespace;
use lab::process::Process;
use lab::{Lab, eventually, parts};
use prost::Message;
use xds::{Change, ResourceType};

use crate::app::App;

const ADMIN: &str = "http://127.0.0.1:9901";
const LIMIT: Duration = Duration::from_secs(20);

/// An Envoy that runs.
pub(crate) struct Envoy {
    process: Process,
    namespace: Namespace,
}

impl Envoy {
    /// Starts it and waits until it serves what these changes set.
    pub(crate) fn start(changes: &[Change]) -> Self {
        let lab = Lab::of_this_test();
        let folder = lab.logs().to_owned();
        let namespace = Namespace::new("envoy");
        fs::write(folder.join("envoy.yaml"), bootstrap(&folder)).unwrap();
        write(&folder, changes);
        let mut command = Command::new(parts::envoy());
        command.arg("--config-path").arg(folder.join("envoy.yaml"));
        command.args(["--concurrency", "1", "--drain-time-s", "5", "--drain-strategy", "immediate"]);
        let process = Process::start("envoy", &namespace, &mut command, &folder.join("envoy.log"));
        let this = Self { process, namespace };
        eventually("Envoy is ready", LIMIT, || match this.send(&Request::get(&format!("{ADMIN}/ready"))) {
            Ok(answer) if answer.status == 200 => Ok(()),
            other => Err(format!("{other:?}: {}", this.process.log())),
        });
        this
    }

    /// Starts an application at this address of the network.
    pub(crate) fn app(&self, address: &str, answer: &str) -> App {
        App::start(self.namespace.network(), address, answer)
    }

    pub(crate) fn send(&self, request: &Request) -> io::Result<Response> {
        self.namespace.in_network(|| request.send())
    }

    pub(crate) fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The sum of all counters and gauges whose names the regular expression finds.
    pub(crate) fn stat(&self, pattern: &str) -> u64 {
        let url = format!("{ADMIN}/stats?format=json&filter={}", escaped(pattern));
        let answer = self.send(&Request::get(&url)).unwrap().json();
        let stats = answer["stats"].as_array().into_iter().flatten();
        stats.filter_map(|stat| stat["value"].as_u64()).sum()
    }
}

/// The bootstrap that users copy, with files in the registrar's place.
fn bootstrap(folder: &Path) -> String {
    let text = fs::read_to_string(parts::envoy_bootstrap()).unwrap();
    let (start, rest) = text.split_once("dynamic_resources:").unwrap();
    let (_, end) = rest.split_once("static_resources:").unwrap();
    let file = |kind: &str| {
        let path = folder.join(format!("{kind}.pb"));
        let folder = folder.display();
        format!(
            "  {kind}_config:\n    resource_api_version: V3\n    path_config_source: {{ path: {path:?}, watched_directory: {{ path: \"{folder}\" }} }}\n",
        )
    };
    // Spans are sent at once, as the tests can't wait for several.
    let runtime = "http_reject_path_with_fragment: false";
    let spans = "tracing.opentelemetry.min_flush_spans: 1\n        tracing.zipkin.min_flush_spans: 1";
    let end = end.replace(runtime, &format!("{runtime}\n        {spans}"));
    format!("{start}dynamic_resources:\n{}{}\nstatic_resources:{end}", file("cds"), file("lds"))
}

fn write(folder: &Path, changes: &[Change]) {
    put(folder, "cds", ResourceType::Cluster, clusters(changes));
    put(folder, "lds", ResourceType::Listener, bodies(changes, ResourceType::Listener));
}

fn bodies(changes: &[Change], kind: ResourceType) -> Vec<Vec<u8>> {
    let of_kind = changes.iter().filter(|change| change.resource_type == kind);
    of_kind.filter_map(|change| change.body.as_ref().map(|body| body.to_vec())).collect()
}

/// The Envoy clusters with their endpoints in them.
fn clusters(changes: &[Change]) -> Vec<Vec<u8>> {
    let decode = |body: Vec<u8>| ClusterLoadAssignment::decode(&*body).unwrap();
    let endpoints: Vec<_> = bodies(changes, ResourceType::Endpoint).into_iter().map(decode).collect();
    let clusters = bodies(changes, ResourceType::Cluster).into_iter().map(|body| {
        let mut cluster = Cluster::decode(&*body).unwrap();
        if cluster.eds_cluster_config.take().is_some() {
            cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into()));
            cluster.load_assignment = endpoints.iter().find(|own| own.cluster_name == cluster.name).cloned();
        }
        cluster.encode_to_vec()
    });
    clusters.collect()
}

fn put(folder: &Path, name: &str, kind: ResourceType, bodies: Vec<Vec<u8>>) {
    let type_url = kind.type_url().to_owned();
    let resources = bodies.into_iter().map(|value| Any { type_url: type_url.clone(), value }).collect();
    let response = DiscoveryResponse { resources, type_url: type_url.clone(), ..Default::default() };
    let new = folder.join(format!("{name}.new"));
    fs::write(&new, response.encode_to_vec()).unwrap();
    // Envoy looks at a file when another is put in its place.
    fs::rename(new, folder.join(format!("{name}.pb"))).unwrap();
}

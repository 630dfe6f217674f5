//! What was typed, exported or written into the configuration file, before anything is made of it.
//!
//! One struct for all three: a flag beats the environment, which beats the file, which beats the defaults.
//! What the values mean, and the defaults, are in `config`.

use std::path::{Path, PathBuf};

use clap::Parser;
use serde::Deserialize;

use crate::yaml;

/// Read where it exists and no other is named.
pub const DEFAULT_CONFIG_FILE: &str = "/etc/envoy-docker-shim/registrar.yaml";

/// The registrar of Envoy Docker Shim: joins the ports that shims register with Docker's labels, and has
/// Envoy serve them.
///
/// Every option can also be given in the environment (REGISTRAR_ and its name in capitals, _ for -) and in
/// the configuration file (its name without --). A flag beats the environment, which beats the file.
#[derive(Debug, Default, Parser, Deserialize)]
#[command(name = "envoy-docker-registrar", version, next_line_help = true)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Args {
    /// The configuration file, YAML [default: /etc/envoy-docker-shim/registrar.yaml, if it exists]
    #[arg(long, env = "REGISTRAR_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,

    /// Checks the configuration, says what is wrong with it, and exits
    #[arg(long)]
    #[serde(skip)]
    pub check_config: bool,

    /// The Unix socket that shims register at [default: /run/envoy-docker-shim/registrar.sock]
    #[arg(long, env = "REGISTRAR_SHIM_SOCKET", value_name = "PATH")]
    pub shim_socket: Option<PathBuf>,

    /// The Unix socket where changes are taken, from root alone [default: /run/envoy-docker-shim/admin.sock]
    #[arg(long, env = "REGISTRAR_ADMIN_SOCKET", value_name = "PATH")]
    pub admin_socket: Option<PathBuf>,

    /// Where Envoy subscribes: unix:PATH, or ADDRESS:PORT (whoever can reach that port can read all of it)
    /// [default: unix:/run/envoy-docker-shim/xds.sock]
    #[arg(long, env = "REGISTRAR_XDS_LISTEN", value_name = "ADDRESS")]
    pub xds_listen: Option<String>,

    /// The user that Envoy runs as, name or uid [default: root]
    ///
    /// Only this user can connect to the xDS socket, and the shims' sockets are given to it, so that Envoy can
    /// listen beside them.
    #[arg(long, env = "REGISTRAR_ENVOY_USER", value_name = "USER")]
    pub envoy_user: Option<String>,

    /// Where the read API, metrics, health and readiness are served [default: 127.0.0.1:7777]
    #[arg(long, env = "REGISTRAR_HTTP_LISTEN", value_name = "ADDRESS:PORT")]
    pub http_listen: Option<String>,

    /// Docker's API: unix://PATH or tcp://HOST:PORT, or none for a host without Docker
    /// [default: $DOCKER_HOST, else unix:///var/run/docker.sock]
    ///
    /// With tcp, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH are honoured as by docker itself.
    #[arg(long, env = "REGISTRAR_DOCKER_HOST", value_name = "HOST")]
    pub docker_host: Option<String>,

    /// How traffic comes to Envoy where Docker's firewall is on: auto, divert or none [default: auto]
    ///
    /// With auto it is diverted where Docker's rules would take it past Envoy, unless DOCKER-USER holds rules of
    /// yours, which would no longer see it. `shimctl envoy` says what is done and why.
    #[arg(long, env = "REGISTRAR_CAPTURE", value_name = "HOW")]
    pub capture: Option<String>,

    /// Has Envoy serve the TCP ports, too, that Docker publishes without a shim: where its userland proxy is off, or is
    /// another program. Only where traffic is diverted (see --capture); while Envoy is away, Docker's own path serves
    #[arg(long, env = "REGISTRAR_CAPTURE_UNPROXIED")]
    pub capture_unproxied: bool,

    /// How ports without the label ProxyMode are treated: http, ws, tcp, auto or none [default: auto]
    #[arg(long, env = "REGISTRAR_DEFAULT_PROXY_MODE", value_name = "MODE")]
    pub default_proxy_mode: Option<String>,

    /// Finds the service name in the container's name where there is no label: the expression's first group
    #[arg(long, env = "REGISTRAR_NAME_PATTERN", value_name = "REGEX")]
    pub name_pattern: Option<String>,

    /// This host's name in the cluster [default: the system's host name]
    #[arg(long, env = "REGISTRAR_HOST_NAME", value_name = "NAME")]
    pub host_name: Option<String>,

    /// Where gossip listens, UDP and TCP [default: 0.0.0.0:7946]
    #[arg(long, env = "REGISTRAR_GOSSIP_LISTEN", value_name = "ADDRESS:PORT")]
    pub gossip_listen: Option<String>,

    /// Where other hosts reach this one [default: the address of the default route's interface]
    #[arg(long, env = "REGISTRAR_ADVERTISE_ADDRESS", value_name = "ADDRESS")]
    pub advertise_address: Option<String>,

    /// A host to find the others by; repeatable. One that can't be reached is tried again and again
    #[arg(long, env = "REGISTRAR_SEED", value_name = "HOST[:PORT]", value_delimiter = ',')]
    pub seed: Vec<String>,

    /// Which cluster this host belongs to; others are not listened to [default: default]
    #[arg(long, env = "REGISTRAR_CLUSTER_NAME", value_name = "NAME")]
    pub cluster_name: Option<String>,

    /// The keys that the cluster shares, one a line as `shimctl keygen` prints them, mode 0600. Without, gossip stays off
    #[arg(long, env = "REGISTRAR_GOSSIP_KEY_FILE", value_name = "FILE")]
    pub gossip_key_file: Option<PathBuf>,

    /// Gossips without a key: everybody on the network can join, and read and change what is served
    #[arg(long, env = "REGISTRAR_INSECURE_GOSSIP")]
    pub insecure_gossip: bool,

    /// Where service ports are served; repeatable, none for nowhere [default: 192.168.168.168]
    #[arg(long, env = "REGISTRAR_SERVICE_ADDRESS", value_name = "ADDRESS", value_delimiter = ',')]
    pub service_address: Vec<String>,

    /// Gives the service addresses to lo where the host does not have them; needs CAP_NET_ADMIN
    #[arg(long, env = "REGISTRAR_ASSIGN_SERVICE_ADDRESS")]
    pub assign_service_address: bool,

    /// Prefers instances of this host; without, all hosts' get the same share
    #[arg(long, env = "REGISTRAR_PREFER_LOCAL")]
    pub prefer_local: bool,

    /// Takes each published container port as service port, where a container has no ServicePort_N label
    #[arg(long, env = "REGISTRAR_IMPLICIT_SERVICE_PORTS")]
    pub implicit_service_ports: bool,

    /// Services that no Docker knows, YAML or JSON (Sidecar's static.json too); read again when it changes
    #[arg(long, env = "REGISTRAR_STATIC_SERVICES", value_name = "FILE")]
    pub static_services: Option<PathBuf>,

    /// Where changes of the catalogue are posted, in Sidecar's shape; repeatable. As the label SidecarListener does for
    /// a container
    #[arg(long, env = "REGISTRAR_LISTENER_URL", value_name = "URL", value_delimiter = ',')]
    pub listener_url: Vec<String>,

    /// Allows health checks that run commands on this host, as the registrar's user; never an image's own
    #[arg(long, env = "REGISTRAR_ALLOW_EXTERNAL_CHECKS")]
    pub allow_external_checks: bool,

    /// Allows health checks of other targets than the container itself
    #[arg(long, env = "REGISTRAR_ALLOW_OTHER_CHECK_TARGETS")]
    pub allow_other_check_targets: bool,

    /// Where Envoy sends spans: none, otlp or zipkin [default: otlp if there is a collector, else none]
    #[arg(long, env = "REGISTRAR_TRACING", value_name = "KIND")]
    pub tracing: Option<String>,

    /// The trace collector. OTLP is spoken over gRPC, to port 4318 over HTTP
    #[arg(long, env = "REGISTRAR_TRACE_COLLECTOR", value_name = "HOST:PORT")]
    pub trace_collector: Option<String>,

    /// How many of 100 requests are traced [default: 100]
    #[arg(long, env = "REGISTRAR_TRACE_SAMPLING", value_name = "PERCENT")]
    pub trace_sampling: Option<f64>,

    /// Where Envoy logs requests: stdout (its own) or none [default: stdout]
    #[arg(long, env = "REGISTRAR_ACCESS_LOG", value_name = "WHERE")]
    pub access_log: Option<String>,

    /// What the registrar itself logs: error, warn, info, debug or trace [default: info]
    #[arg(long, env = "REGISTRAR_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,

    /// How it logs: text or json [default: text]
    #[arg(long, env = "REGISTRAR_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
}

/// Why the configuration file could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct FileError {
    path: PathBuf,
    reason: String,
}

impl Args {
    /// What was typed and exported, completed by the configuration file.
    ///
    /// # Errors
    /// A file that was named, or the default one where it exists, can't be read or is not right.
    pub fn with_file(self) -> Result<Self, FileError> {
        let (path, must_exist) = match &self.config {
            Some(path) => (path.clone(), true),
            None => (PathBuf::from(DEFAULT_CONFIG_FILE), false),
        };
        if !must_exist && !path.exists() {
            return Ok(self);
        }
        let file = Self::read(&path).map_err(|reason| FileError { path, reason })?;
        Ok(self.or(file))
    }

    fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: Option<Self> = yaml::shaped(yaml::parse(text)?).map_err(|error| error.to_string())?;
        Ok(file.unwrap_or_default())
    }

    fn or(self, file: Self) -> Self {
        Self {
            config: self.config,
            check_config: self.check_config,
            shim_socket: self.shim_socket.or(file.shim_socket),
            admin_socket: self.admin_socket.or(file.admin_socket),
            xds_listen: self.xds_listen.or(file.xds_listen),
            envoy_user: self.envoy_user.or(file.envoy_user),
            http_listen: self.http_listen.or(file.http_listen),
            docker_host: self.docker_host.or(file.docker_host),
            capture: self.capture.or(file.capture),
            capture_unproxied: self.capture_unproxied || file.capture_unproxied,
            default_proxy_mode: self.default_proxy_mode.or(file.default_proxy_mode),
            name_pattern: self.name_pattern.or(file.name_pattern),
            host_name: self.host_name.or(file.host_name),
            gossip_listen: self.gossip_listen.or(file.gossip_listen),
            advertise_address: self.advertise_address.or(file.advertise_address),
            seed: if self.seed.is_empty() { file.seed } else { self.seed },
            cluster_name: self.cluster_name.or(file.cluster_name),
            gossip_key_file: self.gossip_key_file.or(file.gossip_key_file),
            insecure_gossip: self.insecure_gossip || file.insecure_gossip,
            service_address: if self.service_address.is_empty() { file.service_address } else { self.service_address },
            assign_service_address: self.assign_service_address || file.assign_service_address,
            prefer_local: self.prefer_local || file.prefer_local,
            implicit_service_ports: self.implicit_service_ports || file.implicit_service_ports,
            static_services: self.static_services.or(file.static_services),
            listener_url: if self.listener_url.is_empty() { file.listener_url } else { self.listener_url },
            allow_external_checks: self.allow_external_checks || file.allow_external_checks,
            allow_other_check_targets: self.allow_other_check_targets || file.allow_other_check_targets,
            tracing: self.tracing.or(file.tracing),
            trace_collector: self.trace_collector.or(file.trace_collector),
            trace_sampling: self.trace_sampling.or(file.trace_sampling),
            access_log: self.access_log.or(file.access_log),
            log_level: self.log_level.or(file.log_level),
            log_format: self.log_format.or(file.log_format),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flag_beats_the_file() {
        let typed = Args::parse_from(["registrar", "--envoy-user", "envoy"]);
        let file = Args::parse("envoy-user: root\nlog-level: debug\n").unwrap();
        let args = typed.or(file);
        assert_eq!(args.envoy_user.as_deref(), Some("envoy"));
        assert_eq!(args.log_level.as_deref(), Some("debug"));
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = Args::parse("envoy_user: root").unwrap_err();
        assert!(error.contains("envoy_user"), "{error}");
    }

    #[test]
    fn an_empty_file_changes_nothing() {
        assert!(Args::parse("# nothing yet\n").unwrap().envoy_user.is_none());
    }

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        Args::command().debug_assert();
    }
}

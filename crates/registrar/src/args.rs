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
    #[arg(long, env = "REGISTRAR_CAPTURE_UNPROXIED", value_name = "YES", num_args = 0..=1, default_missing_value = "true", value_parser = yaml::yes_or_no)]
    #[serde(deserialize_with = "yaml::switch")]
    pub capture_unproxied: Option<bool>,

    /// How ports without the label ProxyMode are treated: http, ws, tcp, auto or none [default: auto]
    #[arg(long, env = "REGISTRAR_DEFAULT_PROXY_MODE", value_name = "MODE")]
    pub default_proxy_mode: Option<String>,

    /// Where what was learned of unlabelled ports is kept over restarts [default: /var/lib/envoy-docker-shim]
    #[arg(long, env = "REGISTRAR_STATE_FOLDER", value_name = "FOLDER")]
    pub state_folder: Option<PathBuf>,

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
    #[serde(deserialize_with = "yaml::list")]
    pub seed: Vec<String>,

    /// Which cluster this host belongs to; others are not listened to [default: default]
    #[arg(long, env = "REGISTRAR_CLUSTER_NAME", value_name = "NAME")]
    pub cluster_name: Option<String>,

    /// The keys that the cluster shares, one a line as `shimctl keygen` prints them, mode 0600. Without, gossip stays off
    #[arg(long, env = "REGISTRAR_GOSSIP_KEY_FILE", value_name = "FILE")]
    pub gossip_key_file: Option<PathBuf>,

    /// Gossips without a key: everybody on the network can join, and read and change what is served
    #[arg(long, env = "REGISTRAR_INSECURE_GOSSIP", value_name = "YES", num_args = 0..=1, default_missing_value = "true", value_parser = yaml::yes_or_no)]
    #[serde(deserialize_with = "yaml::switch")]
    pub insecure_gossip: Option<bool>,

    /// Where service ports are served; repeatable, none for nowhere [default: 192.168.168.168]
    #[arg(long, env = "REGISTRAR_SERVICE_ADDRESS", value_name = "ADDRESS", value_delimiter = ',')]
    #[serde(deserialize_with = "yaml::list")]
    pub service_address: Vec<String>,

    /// Gives the service addresses to lo where the host does not have them; needs CAP_NET_ADMIN
    #[arg(long, env = "REGISTRAR_ASSIGN_SERVICE_ADDRESS", value_name = "YES", num_args = 0..=1, default_missing_value = "true", value_parser = yaml::yes_or_no)]
    #[serde(deserialize_with = "yaml::switch")]
    pub assign_service_address: Option<bool>,

    /// Prefers instances of this host; without, all hosts' get the same share
    #[arg(long, env = "REGISTRAR_PREFER_LOCAL", value_name = "YES", num_args = 0..=1, default_missing_value = "true", value_parser = yaml::yes_or_no)]
    #[serde(deserialize_with = "yaml::switch")]
    pub prefer_local: Option<bool>,

    /// Takes each published container port as service port, where a container has no ServicePort_N label
    #[arg(long, env = "REGISTRAR_IMPLICIT_SERVICE_PORTS", value_name = "YES", num_args = 0..=1, default_missing_value = "true", value_parser = yaml::yes_or_no)]
    #[serde(deserialize_with = "yaml::switch")]
    pub implicit_service_ports: Option<bool>,

    /// Services that no Docker knows, YAML or JSON (Sidecar's static.json too); read again when it changes
    #[arg(long, env = "REGISTRAR_STATIC_SERVICES", value_name = "FILE")]
    pub static_services: Option<PathBuf>,

    /// Where changes of the catalogue are posted, in Sidecar's shape; repeatable. As the label SidecarListener does for
    /// a container
    #[arg(long, env = "REGISTRAR_LISTENER_URL", value_name = "URL", value_delimiter = ',')]
    #[serde(deserialize_with = "yaml::list")]
    pub listener_url: Vec<String>,

    /// Allows health checks that run commands on this host, as the registrar's user; never an image's own
    #[arg(long, env = "REGISTRAR_ALLOW_EXTERNAL_CHECKS", value_name = "YES", num_args = 0..=1, default_missing_value = "true", value_parser = yaml::yes_or_no)]
    #[serde(deserialize_with = "yaml::switch")]
    pub allow_external_checks: Option<bool>,

    /// Allows health checks of other targets than the container itself
    #[arg(long, env = "REGISTRAR_ALLOW_OTHER_CHECK_TARGETS", value_name = "YES", num_args = 0..=1, default_missing_value = "true", value_parser = yaml::yes_or_no)]
    #[serde(deserialize_with = "yaml::switch")]
    pub allow_other_check_targets: Option<bool>,

    /// Where Envoy sends spans: none, otlp or zipkin [default: otlp if there is a collector, else none]
    #[arg(long, env = "REGISTRAR_TRACING", value_name = "KIND")]
    pub tracing: Option<String>,

    /// The trace collector. OTLP is spoken over gRPC, to port 4318 over HTTP
    #[arg(long, env = "REGISTRAR_TRACE_COLLECTOR", value_name = "HOST:PORT")]
    pub trace_collector: Option<String>,

    /// How many of 100 requests are traced [default: 100]
    #[arg(long, env = "REGISTRAR_TRACE_SAMPLING", value_name = "PERCENT")]
    pub trace_sampling: Option<String>,

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
            return Ok(self.or(Self::default()));
        }
        let file = Self::read(&path).map_err(|reason| FileError { path, reason })?;
        Ok(self.or(file))
    }

    fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, String> {
        if yaml::parse(text)? == yaml::Value::Null {
            return Ok(Self::default());
        }
        yaml::typed(text).map_err(|error| error.to_string())
    }

    fn or(self, file: Self) -> Self {
        Self {
            config: self.config,
            check_config: self.check_config,
            shim_socket: self.shim_socket.or(file.shim_socket),
            admin_socket: self.admin_socket.or(file.admin_socket),
            xds_listen: said(self.xds_listen).or_else(|| said(file.xds_listen)),
            envoy_user: said(self.envoy_user).or_else(|| said(file.envoy_user)),
            http_listen: said(self.http_listen).or_else(|| said(file.http_listen)),
            docker_host: said(self.docker_host).or_else(|| said(file.docker_host)),
            capture: said(self.capture).or_else(|| said(file.capture)),
            capture_unproxied: self.capture_unproxied.or(file.capture_unproxied),
            default_proxy_mode: said(self.default_proxy_mode).or_else(|| said(file.default_proxy_mode)),
            state_folder: self.state_folder.or(file.state_folder),
            name_pattern: said(self.name_pattern).or_else(|| said(file.name_pattern)),
            host_name: said(self.host_name).or_else(|| said(file.host_name)),
            gossip_listen: said(self.gossip_listen).or_else(|| said(file.gossip_listen)),
            advertise_address: said(self.advertise_address).or_else(|| said(file.advertise_address)),
            seed: either(self.seed, file.seed),
            cluster_name: said(self.cluster_name).or_else(|| said(file.cluster_name)),
            gossip_key_file: self.gossip_key_file.or(file.gossip_key_file),
            insecure_gossip: self.insecure_gossip.or(file.insecure_gossip),
            service_address: either(self.service_address, file.service_address),
            assign_service_address: self.assign_service_address.or(file.assign_service_address),
            prefer_local: self.prefer_local.or(file.prefer_local),
            implicit_service_ports: self.implicit_service_ports.or(file.implicit_service_ports),
            static_services: self.static_services.or(file.static_services),
            listener_url: either(self.listener_url, file.listener_url),
            allow_external_checks: self.allow_external_checks.or(file.allow_external_checks),
            allow_other_check_targets: self.allow_other_check_targets.or(file.allow_other_check_targets),
            tracing: said(self.tracing).or_else(|| said(file.tracing)),
            trace_collector: said(self.trace_collector).or_else(|| said(file.trace_collector)),
            trace_sampling: said(self.trace_sampling).or_else(|| said(file.trace_sampling)),
            access_log: said(self.access_log).or_else(|| said(file.access_log)),
            log_level: said(self.log_level).or_else(|| said(file.log_level)),
            log_format: said(self.log_format).or_else(|| said(file.log_format)),
        }
    }
}

/// An empty text says nothing: so are variables that are exported without a value.
fn said(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn either(typed: Vec<String>, file: Vec<String>) -> Vec<String> {
    let said = |list: Vec<String>| list.into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>();
    let typed = said(typed);
    if typed.is_empty() { said(file) } else { typed }
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
    fn what_a_file_plainly_means_is_taken_for_that() {
        let file = "envoy-user: 101\nhost-name: 42\nseed: web1\nservice-address: none\nprefer-local: yes\n\
                    insecure-gossip: off\nname-pattern: 0017\ntrace-sampling: 50\ncluster-name: 1e3\nlog-level:\n";
        let args = Args::parse(file).unwrap();
        assert_eq!((args.envoy_user.as_deref(), args.host_name.as_deref()), (Some("101"), Some("42")));
        assert_eq!((args.seed, args.service_address), (vec!["web1".to_owned()], vec!["none".to_owned()]));
        assert_eq!((args.prefer_local, args.insecure_gossip), (Some(true), Some(false)));
        assert_eq!((args.name_pattern.as_deref(), args.cluster_name.as_deref()), (Some("0017"), Some("1e3")));
        assert_eq!((args.trace_sampling.as_deref(), args.log_level), (Some("50"), None));
        assert_eq!(Args::parse("seed: web1, web2").unwrap().seed, ["web1", "web2"]);
        assert_eq!(Args::parse("seed: [web1, 7]").unwrap().seed, ["web1", "7"]);
        let error = Args::parse("prefer-local: perhaps").unwrap_err();
        assert!(error.contains("prefer-local") && error.contains("yes or no"), "{error}");
    }

    #[test]
    fn each_switch_can_be_set_back_by_a_flag() {
        use clap::CommandFactory;
        let takes_one = |argument: &&clap::Arg| argument.get_value_names().is_some_and(|names| names == ["YES"]);
        let command = Args::command();
        let switches: Vec<_> = command.get_arguments().filter(takes_one).filter_map(clap::Arg::get_long).collect();
        assert_eq!(switches.len(), 7);
        for switch in switches {
            let of = |typed: &[&str], file: &str| {
                let args = Args::parse_from([&["registrar"], typed].concat()).or(Args::parse(file).unwrap());
                let all = [
                    args.capture_unproxied,
                    args.insecure_gossip,
                    args.assign_service_address,
                    args.prefer_local,
                    args.implicit_service_ports,
                    args.allow_external_checks,
                    args.allow_other_check_targets,
                ];
                all.into_iter().flatten().collect::<Vec<_>>()
            };
            let file = format!("{switch}: true");
            let flag = format!("--{switch}");
            assert_eq!(of(&[], &file), [true], "{switch}");
            assert_eq!(of(&[&format!("{flag}=false")], &file), [false], "{switch}");
            assert_eq!(of(&[&flag, "no"], &file), [false], "{switch}");
            assert_eq!(of(&[&flag], ""), [true], "{switch}");
        }
    }

    #[test]
    fn an_empty_text_says_nothing() {
        let typed = Args { host_name: Some(String::new()), seed: vec![String::new()], ..Args::default() };
        let args = typed.or(Args::parse("host-name: a\nseed: b").unwrap());
        assert_eq!((args.host_name.as_deref(), args.seed), (Some("a"), vec!["b".to_owned()]));
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

//! What the configuration means: every value checked, every default filled in.
//!
//! Nothing is opened, bound or connected here, so `--check-config` can do all of it.

mod cluster;

use std::env;
use std::fmt;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use model::ProxyMode;
use model::labels::{Defaults, NamePattern};
use xds::resources::{AccessLog, Hops, Settings, Tracing, TracingProtocol};

pub use self::cluster::{ClusterConfig, GossipConfig};
use crate::args::Args;
use crate::static_services;

const DEFAULT_XDS_LISTEN: &str = "unix:/run/envoy-docker-shim/xds.sock";
const DEFAULT_STATE_FOLDER: &str = "/var/lib/envoy-docker-shim";
const DEFAULT_DOCKER_HOST: &str = "unix:///var/run/docker.sock";

/// The port that IANA assigned to OTLP over HTTP.
const OTLP_HTTP_PORT: u16 = 4318;

/// The registrar's configuration, ready for use.
#[derive(Debug)]
pub struct Config {
    /// Where shims register.
    pub shim_socket: PathBuf,
    /// Where changes are taken.
    pub admin_socket: PathBuf,
    /// Where Envoy subscribes.
    pub xds_listen: XdsListen,
    /// The uid of Envoy.
    pub envoy_uid: u32,
    /// Where the read API is served.
    pub http_listen: SocketAddr,
    /// Docker's API; `None` on a host without Docker.
    pub docker_host: Option<String>,
    /// This host among others.
    pub cluster: ClusterConfig,
    /// How traffic comes to Envoy where Docker's firewall is on.
    pub capture: capture::Asked,
    /// Whether Envoy is to serve the ports that Docker publishes without a shim.
    pub capture_unproxied: bool,
    /// What holds where labels say nothing.
    pub defaults: Defaults,
    /// What holds for all ports in Envoy.
    pub envoy: Settings,
    /// Where what was learned is kept over restarts.
    pub state_folder: PathBuf,
    /// What is logged, and how.
    pub log: Log,
}

/// Where Envoy subscribes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum XdsListen {
    /// A Unix socket that belongs to Envoy's user.
    Unix(PathBuf),
    /// A TCP address, open to all who can reach it.
    Tcp(SocketAddr),
}

impl fmt::Display for XdsListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp(address) => address.fmt(f),
        }
    }
}

/// What is logged, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is logged.
    pub level: tracing::Level,
    /// One JSON object a line instead of text.
    pub json: bool,
}

/// A value that makes no sense; names the option and says what was expected.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{option} {value:?}: {reason}")]
pub struct ConfigError {
    option: &'static str,
    value: String,
    reason: String,
}

impl Config {
    /// Checks what was given.
    ///
    /// # Errors
    /// The first value that makes no sense.
    pub fn resolve(args: Args) -> Result<Self, ConfigError> {
        let log = log(&args)?;
        let cluster = ClusterConfig::resolve(&args)?;
        Ok(Self {
            envoy: Settings {
                tracing: tracing(&args)?,
                access_log: access_log(&args)?,
                hops: hops(&cluster),
                refusals: None,
            },
            defaults: defaults(&args)?,
            cluster,
            capture: with("capture", args.capture, "auto", asked_capture)?,
            capture_unproxied: args.capture_unproxied.unwrap_or_default(),
            shim_socket: args.shim_socket.unwrap_or_else(|| shim_wire::DEFAULT_SOCKET.into()),
            admin_socket: args.admin_socket.unwrap_or_else(|| admin_api::DEFAULT_ADMIN_SOCKET.into()),
            xds_listen: with("xds-listen", args.xds_listen, DEFAULT_XDS_LISTEN, xds_listen)?,
            envoy_uid: with("envoy-user", args.envoy_user, "root", uid)?,
            http_listen: with("http-listen", args.http_listen, admin_api::DEFAULT_HTTP_ADDRESS, socket_address)?,
            docker_host: with(
                "docker-host",
                args.docker_host.or_else(docker_host_variable),
                DEFAULT_DOCKER_HOST,
                docker_host,
            )?,
            state_folder: args.state_folder.unwrap_or_else(|| DEFAULT_STATE_FOLDER.into()),
            log,
        })
    }
}

impl Config {
    /// Looks into the files that are read only later, for `--check-config`: a registrar starts without them.
    ///
    /// # Errors
    /// One is missing, or something in it is wrong.
    pub fn check_files(&self) -> Result<(), ConfigError> {
        let Some(path) = &self.cluster.static_services else { return Ok(()) };
        let wrong = |reason| ConfigError { option: "static-services", value: path.display().to_string(), reason };
        static_services::file::check(path).map_err(wrong)
    }
}

/// Parses what was given, or else the default.
fn with<T>(
    option: &'static str,
    given: Option<String>,
    default: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, ConfigError> {
    let value = given.unwrap_or_else(|| default.to_owned());
    parse(&value).map_err(|reason| ConfigError { option, value, reason })
}

fn xds_listen(text: &str) -> Result<XdsListen, String> {
    match text.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') => Ok(XdsListen::Unix(path.into())),
        Some(_) => Err("expected an absolute path after unix:".to_owned()),
        None => socket_address(text).map(XdsListen::Tcp).map_err(|_| "expected unix:PATH or ADDRESS:PORT".to_owned()),
    }
}

fn socket_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "expected ADDRESS:PORT, such as 127.0.0.1:7777 or [::1]:7777".to_owned())
}

/// `DOCKER_HOST` as docker itself reads it: set and not empty.
fn docker_host_variable() -> Option<String> {
    env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty())
}

fn docker_host(text: &str) -> Result<Option<String>, String> {
    let known = ["unix://", "tcp://", "http://", "https://"];
    match text {
        "none" => Ok(None),
        _ if known.iter().any(|scheme| text.starts_with(scheme)) => Ok(Some(text.to_owned())),
        _ => Err("expected unix://PATH, tcp://HOST:PORT, https://HOST:PORT or none".to_owned()),
    }
}

/// A uid, or a user of `/etc/passwd`. It is read here because a statically linked program has no other
/// sources of users at hand; a user of another source is given by its uid.
fn uid(text: &str) -> Result<u32, String> {
    if text == "root" {
        return Ok(0);
    }
    if let Ok(uid) = text.parse() {
        // The kernel takes this one for "no user".
        return if uid == u32::MAX { Err("there is no such uid".to_owned()) } else { Ok(uid) };
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    uid_in(&users, text).ok_or_else(|| "no such user in /etc/passwd: create it, or give its uid".to_owned())
}

/// The third field of the line whose first is `name` (passwd(5)).
fn uid_in(passwd: &str, name: &str) -> Option<u32> {
    passwd.lines().map(|line| line.split(':')).find_map(|mut fields| {
        let is_named = fields.next() == Some(name);
        is_named.then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

fn asked_capture(text: &str) -> Result<capture::Asked, String> {
    match text {
        "auto" => Ok(capture::Asked::Auto),
        "divert" => Ok(capture::Asked::Divert),
        "none" => Ok(capture::Asked::None),
        _ => Err("expected auto, divert or none".to_owned()),
    }
}

fn defaults(args: &Args) -> Result<Defaults, ConfigError> {
    let mode = with("default-proxy-mode", args.default_proxy_mode.clone(), "auto", |text| {
        text.parse::<ProxyMode>().map_err(|error| error.to_string())
    })?;
    let Some(pattern) = &args.name_pattern else { return Ok(Defaults { mode, name_pattern: None }) };
    let pattern = with("name-pattern", Some(pattern.clone()), "", |text| {
        text.parse::<NamePattern>().map_err(|error| error.to_string())
    })?;
    Ok(Defaults { mode, name_pattern: Some(pattern) })
}

fn hops(cluster: &ClusterConfig) -> Option<Hops> {
    let gossip = cluster.gossip.as_ref()?;
    Some(Hops::new(cluster.host_name.clone(), gossip.keys.hop_secrets().collect()))
}

/// Every value is looked at, whether it is used or not: what is wrong is found now, not when tracing is switched on.
fn tracing(args: &Args) -> Result<Option<Tracing>, ConfigError> {
    let sampling_percent = with("trace-sampling", args.trace_sampling.clone(), "100", percent)?;
    let given = args.trace_collector.clone().map(|given| with("trace-collector", Some(given), "", host_and_port));
    let collector = given.transpose()?;
    let default = if collector.is_some() { "otlp" } else { "none" };
    let kind = with("tracing", args.tracing.clone(), default, |text| match text {
        "none" => Ok(None),
        "otlp" => Ok(Some(TracingProtocol::OtlpGrpc)),
        "zipkin" => Ok(Some(TracingProtocol::Zipkin)),
        _ => Err("expected none, otlp or zipkin".to_owned()),
    })?;
    let Some(protocol) = kind else { return Ok(None) };
    let (collector_host, collector_port) = match collector {
        Some(collector) => collector,
        None => with("trace-collector", None, "", host_and_port)?,
    };
    let over_http = protocol == TracingProtocol::OtlpGrpc && collector_port == OTLP_HTTP_PORT;
    let protocol = if over_http { TracingProtocol::OtlpHttp } else { protocol };
    Ok(Some(Tracing { protocol, collector_host, collector_port, sampling_percent }))
}

fn percent(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (0.0..=100.0).contains(number));
    number.ok_or_else(|| "expected 0 to 100".to_owned())
}

/// `HOST:PORT`, an IPv6 address in brackets.
fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let expected = || "expected HOST:PORT, such as collector:4317 or [fd00::1]:4317".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(expected)?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_name = |name: &str| {
        !name.is_empty() && name.len() <= 253 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
    };
    match bare {
        Some(address) if address.parse::<IpAddr>().is_ok() => Ok((address.to_owned(), port)),
        None if is_name(host) => Ok((host.to_owned(), port)),
        _ => Err(expected()),
    }
}

fn access_log(args: &Args) -> Result<AccessLog, ConfigError> {
    with("access-log", args.access_log.clone(), "stdout", |text| match text {
        "stdout" => Ok(AccessLog::Stdout),
        "none" => Ok(AccessLog::None),
        _ => Err("expected stdout or none".to_owned()),
    })
}

fn log(args: &Args) -> Result<Log, ConfigError> {
    let level = with("log-level", args.log_level.clone(), "info", |text| {
        text.parse().map_err(|_| "expected error, warn, info, debug or trace".to_owned())
    })?;
    let json = with("log-format", args.log_format.clone(), "text", |text| match text {
        "text" => Ok(false),
        "json" => Ok(true),
        _ => Err("expected text or json".to_owned()),
    })?;
    Ok(Log { level, json })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(args: Args) -> String {
        Config::resolve(args).unwrap_err().to_string()
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn without_any_option_the_defaults_are_the_documented_ones() {
        let config = Config::resolve(Args { docker_host: some(DEFAULT_DOCKER_HOST), ..Args::default() }).unwrap();
        assert_eq!(config.shim_socket, PathBuf::from("/run/envoy-docker-shim/registrar.sock"));
        assert_eq!(config.xds_listen, XdsListen::Unix("/run/envoy-docker-shim/xds.sock".into()));
        assert_eq!((config.envoy_uid, config.http_listen.to_string()), (0, "127.0.0.1:7777".to_owned()));
        assert_eq!(config.envoy.tracing, None);
    }

    #[test]
    fn a_wrong_value_is_named_with_its_option_and_what_was_expected() {
        let cases = [
            (Args { xds_listen: some("nonsense"), ..Args::default() }, "--xds-listen \"nonsense\": expected unix:"),
            (
                Args { envoy_user: some("no-such-user"), ..Args::default() },
                "--envoy-user \"no-such-user\": no such user",
            ),
            (
                Args { http_listen: some("localhost"), ..Args::default() },
                "--http-listen \"localhost\": expected ADDRESS",
            ),
            (Args { docker_host: some("/var/x"), ..Args::default() }, "--docker-host \"/var/x\": expected unix://"),
            (Args { default_proxy_mode: some("HTTP"), ..Args::default() }, "--default-proxy-mode \"HTTP\": unknown"),
            (Args { capture: some("on"), ..Args::default() }, "--capture \"on\": expected auto, divert or none"),
            (Args { name_pattern: some("x"), ..Args::default() }, "--name-pattern \"x\": the expression has no group"),
            (Args { tracing: some("otlp"), ..Args::default() }, "--trace-collector \"\": expected HOST:PORT"),
            (Args { trace_collector: some("a b:1"), ..Args::default() }, "--trace-collector \"a b:1\": expected HOST"),
            (Args { log_level: some("loud"), ..Args::default() }, "--log-level \"loud\": expected error"),
        ];
        for (args, expected) in cases {
            let error = error(args);
            assert!(error.starts_with(expected), "{error}");
        }
        for sampling in ["101", "-1", "NaN", "much"] {
            let args = Args { trace_sampling: some(sampling), ..Args::default() };
            assert_eq!(error(args), format!("--trace-sampling {sampling:?}: expected 0 to 100"));
        }
        let unused = Args { trace_collector: some("nonsense"), tracing: some("none"), ..Args::default() };
        assert!(error(unused).starts_with("--trace-collector"), "although there is no tracing");
    }

    #[test]
    fn a_collector_alone_means_otlp_and_its_port_says_over_what() {
        let tracing = |collector: &str| {
            let args = Args { trace_collector: some(collector), docker_host: some("none"), ..Args::default() };
            Config::resolve(args).unwrap().envoy.tracing.unwrap()
        };
        assert_eq!(tracing("collector:4317").protocol, TracingProtocol::OtlpGrpc);
        assert_eq!(tracing("collector:4318").protocol, TracingProtocol::OtlpHttp);
        assert_eq!(tracing("[fd00::1]:4317").collector_host, "fd00::1");
    }

    #[test]
    fn a_user_is_found_by_its_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nenvoy:x:101:101::/:/bin/false\n";
        assert_eq!(uid_in(passwd, "envoy"), Some(101));
        assert_eq!(uid_in(passwd, "broken"), None);
        assert_eq!(uid("4711"), Ok(4711));
    }
}

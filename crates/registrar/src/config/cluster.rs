//! What the configuration says of this host among others: its name, gossip, service ports, checks.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use gossip::{ClusterName, KeyRing};
use health::Policy;
use model::HostName;
use model::name::Correction;
use nix::unistd::gethostname;

use super::{ConfigError, socket_address, with};
use crate::args::Args;
use crate::listeners::ListenerUrl;

const DEFAULT_GOSSIP_LISTEN: &str = "0.0.0.0:7946";
const DEFAULT_SERVICE_ADDRESS: &str = "192.168.168.168";

/// The most listeners that the configuration may name.
const LISTENER_URLS_MAX: usize = 16;

/// This host among others.
#[derive(Debug)]
pub struct ClusterConfig {
    /// Its name.
    pub host_name: HostName,
    /// How the name had to be changed, with the fix, if it had.
    pub host_name_problem: Option<String>,
    /// Which cluster it belongs to; it has a name without gossip too.
    pub cluster_name: ClusterName,
    /// Where others reach it, where that was given.
    pub advertise_address: Option<IpAddr>,
    /// How it finds others; `None`: not at all.
    pub gossip: Option<GossipConfig>,
    /// Where service ports are served.
    pub service_addresses: Vec<IpAddr>,
    /// Whether they are given to `lo`.
    pub assign_service_addresses: bool,
    /// Whether this host's instances are preferred.
    pub prefer_local: bool,
    /// Whether published container ports are service ports where labels say nothing.
    pub implicit_service_ports: bool,
    /// The file of static services.
    pub static_services: Option<PathBuf>,
    /// Where changes are posted, at most `LISTENER_URLS_MAX`.
    pub listener_urls: Vec<ListenerUrl>,
    /// What health checks may do.
    pub policy: Policy,
}

/// How hosts find each other.
#[derive(Debug)]
pub struct GossipConfig {
    /// Where it listens, UDP and TCP.
    pub listen: SocketAddr,
    /// `HOST:PORT` each.
    pub seeds: Vec<String>,
    /// Which cluster.
    pub cluster: ClusterName,
    /// The shared keys.
    pub keys: KeyRing,
}

impl ClusterConfig {
    pub(super) fn resolve(args: &Args) -> Result<Self, ConfigError> {
        let advertise = args.advertise_address.clone();
        let (host_name, correction) = with("host-name", args.host_name.clone().or_else(system_name), "", host_name)?;
        Ok(Self {
            host_name,
            host_name_problem: correction.map(|how| format!("{how}: give this host another --host-name")),
            advertise_address: advertise
                .map(|given| with("advertise-address", Some(given), "", host_address))
                .transpose()?,
            cluster_name: cluster_name(args)?,
            gossip: gossip(args)?,
            service_addresses: service_addresses(&args.service_address)?,
            assign_service_addresses: args.assign_service_address.unwrap_or_default(),
            prefer_local: args.prefer_local.unwrap_or_default(),
            implicit_service_ports: args.implicit_service_ports.unwrap_or_default(),
            static_services: args.static_services.clone(),
            listener_urls: listener_urls(&args.listener_url)?,
            policy: Policy {
                allow_external: args.allow_external_checks.unwrap_or_default(),
                allow_other_targets: args.allow_other_check_targets.unwrap_or_default(),
            },
        })
    }
}

fn system_name() -> Option<String> {
    gethostname().ok().and_then(|name| name.into_string().ok())
}

fn host_name(text: &str) -> Result<(HostName, Option<Correction>), String> {
    // A system's own name may have what a name may not; it must work without a flag all the same.
    HostName::corrected(text).ok_or_else(|| "expected a name".to_owned())
}

/// An address that other hosts can reach.
fn host_address(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| "expected an IP address".to_owned())?;
    let usable = !address.is_unspecified() && !address.is_loopback() && !address.is_multicast();
    usable.then_some(address).ok_or_else(|| "other hosts can't reach this one there".to_owned())
}

fn service_addresses(given: &[String]) -> Result<Vec<IpAddr>, ConfigError> {
    let given = if given.is_empty() { &[DEFAULT_SERVICE_ADDRESS.to_owned()][..] } else { given };
    if given == ["none"] {
        return Ok(Vec::new());
    }
    let parse = |text: &str| {
        let address: Option<IpAddr> = text.parse().ok();
        let usable = address.filter(|address| !address.is_unspecified() && !address.is_multicast());
        usable.ok_or_else(|| "expected an IP address, or none alone".to_owned())
    };
    given.iter().map(|text| with("service-address", Some(text.clone()), "", parse)).collect()
}

fn listener_urls(given: &[String]) -> Result<Vec<ListenerUrl>, ConfigError> {
    let parse = |text: &str| text.parse::<ListenerUrl>().map_err(|error| error.to_string());
    let mut urls = Vec::new();
    for text in given {
        let url = with("listener-url", Some(text.clone()), "", |text| {
            if urls.len() < LISTENER_URLS_MAX { parse(text) } else { Err(format!("there may be {LISTENER_URLS_MAX}")) }
        });
        let url = url.map_err(|error| ConfigError { value: shown(text).to_owned(), ..error })?;
        if !urls.contains(&url) {
            urls.push(url);
        }
    }
    Ok(urls)
}

/// What may be shown of a text that is no listener's URL: no password, and as of a good one no query.
fn shown(text: &str) -> &str {
    match text.split_once('?') {
        // The password may hold the question mark, or the query the at sign: nobody can tell.
        Some((_, query)) if query.contains('@') => "…",
        Some((start, _)) => start.rsplit('@').next().unwrap_or_default(),
        None => text.rsplit('@').next().unwrap_or_default(),
    }
}

fn cluster_name(args: &Args) -> Result<ClusterName, ConfigError> {
    with("cluster-name", args.cluster_name.clone(), "default", |text| {
        text.parse::<ClusterName>().map_err(|error| error.to_string())
    })
}

fn gossip(args: &Args) -> Result<Option<GossipConfig>, ConfigError> {
    let listen = with("gossip-listen", args.gossip_listen.clone(), DEFAULT_GOSSIP_LISTEN, |text| {
        let address = socket_address(text)?;
        let is_known = address.port() != 0;
        is_known.then_some(address).ok_or_else(|| "other hosts must know the port: it can't be 0".to_owned())
    })?;
    let cluster = cluster_name(args)?;
    let seed = |text: &String| with("seed", Some(text.clone()), "", |text| seed(text, listen.port()));
    let seeds = args.seed.iter().map(seed).collect::<Result<Vec<_>, _>>()?;
    let keys = match &args.gossip_key_file {
        Some(path) => with("gossip-key-file", Some(path.display().to_string()), "", |_| read_keys(path))?,
        None if args.insecure_gossip.unwrap_or_default() => KeyRing::insecure(),
        None if seeds.is_empty() => return Ok(None),
        None => {
            let reason =
                "gossip needs a key: make one with `shimctl keygen`, put it into a file of mode 0600 on every \
                          host, and name it with --gossip-key-file (or give --insecure-gossip)"
                    .to_owned();
            return Err(ConfigError { option: "seed", value: args.seed.join(","), reason });
        }
    };
    Ok(Some(GossipConfig { listen, seeds, cluster, keys }))
}

/// `HOST`, `HOST:PORT`, or an IPv6 address (in brackets with a port).
fn seed(text: &str, default_port: u16) -> Result<String, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::new(address, default_port).to_string());
    }
    let with_port = if text.rsplit_once(':').is_some() { text.to_owned() } else { format!("{text}:{default_port}") };
    let (host, port) = super::host_and_port(&with_port)?;
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    Ok(format!("{host}:{port}"))
}

fn read_keys(path: &Path) -> Result<KeyRing, String> {
    let mode = fs::metadata(path).map_err(|error| error.to_string())?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("others may read it (mode {mode:03o}): chmod 600 it"));
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    KeyRing::parse(&text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(args: &Args) -> Result<ClusterConfig, String> {
        ClusterConfig::resolve(args).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_key_gossip_is_off_and_service_ports_are_at_the_usual_address() {
        let config = resolve(&Args::default()).unwrap();
        assert!(config.gossip.is_none());
        assert_eq!(config.service_addresses, [IpAddr::from([192, 168, 168, 168])]);
    }

    #[test]
    fn a_host_name_that_had_to_be_changed_is_a_problem_that_names_the_option() {
        let named = |name: &str| resolve(&Args { host_name: Some(name.to_owned()), ..Args::default() }).unwrap();
        assert_eq!(named("web-1").host_name_problem, None);
        for (one, other) in [("web 1", "web_1 "), (&*"x".repeat(64), &*"x".repeat(65))] {
            assert_ne!(named(one).host_name, named(other).host_name);
            let problem = named(one).host_name_problem.unwrap();
            assert!(problem.contains("--host-name") && problem.contains(named(one).host_name.as_str()), "{problem}");
        }
    }

    #[test]
    fn a_seed_without_a_key_is_refused_with_the_way_to_a_key() {
        let seed = vec!["10.0.0.2".to_owned()];
        let refused = resolve(&Args { seed: seed.clone(), ..Args::default() }).unwrap_err();
        assert!(refused.contains("--seed \"10.0.0.2\"") && refused.contains("keygen"), "{refused}");
        let insecure = resolve(&Args { seed, insecure_gossip: Some(true), ..Args::default() }).unwrap();
        assert_eq!(insecure.gossip.unwrap().seeds, ["10.0.0.2:7946"]);
    }

    #[test]
    fn seeds_get_the_port_that_this_host_listens_on() {
        for (given, meant) in
            [("a", "a:7946"), ("a:1", "a:1"), ("fd00::1", "[fd00::1]:7946"), ("[fd00::1]:1", "[fd00::1]:1")]
        {
            assert_eq!(seed(given, 7946).as_deref(), Ok(meant));
        }
        assert!(seed("a b", 7946).is_err());
    }

    #[test]
    fn listener_urls_are_bounded_and_a_bad_one_is_named() {
        let urls = |given: &[&str]| listener_urls(&given.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(urls(&["http://a/x", "http://b:81/", "http://a/x"]).unwrap().len(), 2);
        let error = urls(&["http://a/", "https://b/"]).unwrap_err().to_string();
        assert!(error.starts_with("--listener-url \"https://b/\": https is not spoken"), "{error}");
        for (given, shown) in [
            ("https://b/x?token=secret", "https://b/x"),
            ("http://me:secret@b/?token=secret", "b/"),
            ("https://b/?token=1@secret", "…"),
            ("http://me:pass?secret@b/", "…"),
        ] {
            let error = urls(&[given]).unwrap_err().to_string();
            assert!(error.starts_with(&format!("--listener-url \"{shown}\": ")), "{given}: {error}");
        }
        let many: Vec<_> = (1..=LISTENER_URLS_MAX + 1).map(|port| format!("http://a:{port}/")).collect();
        assert_eq!(listener_urls(&many[1..]).unwrap().len(), LISTENER_URLS_MAX);
        assert!(listener_urls(&many).is_err());
    }

    #[test]
    fn none_alone_switches_service_ports_off() {
        let addresses = |given: &[&str]| service_addresses(&given.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(addresses(&["none"]), Ok(vec![]));
        assert!(addresses(&["none", "10.0.0.1"]).is_err() && addresses(&["0.0.0.0"]).is_err());
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(read_keys(&path).unwrap_err().contains("chmod 600"));
    }
}

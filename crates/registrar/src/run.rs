//! Puts the registrar together, and takes it apart on a signal.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use capture::{AssignedAddress, CATCH_PORT, Capture};
use catalog::{Catalog, Lessons, OwnHost, OwnSettings};
use gossip::Gossip;
use model::labels::Defaults;
use nix::unistd::gethostname;
use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use sd_notify::NotifyState;
use tokio::net::{TcpListener, UdpSocket};
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::timeout;
use tracing::{info, warn};
use xds::resources::service::{Binding, ServiceSettings};
use xds::resources::{ReportTo, Settings};

use crate::cluster::{Cluster, Start};
use crate::config::{ClusterConfig, Config, XdsListen};
use crate::door::Door;
use crate::door::shares::Shares;
use crate::drains::Drains;
use crate::drains::file::DrainFile;
use crate::event::{EVENT_QUEUE, Event};
use crate::gossip_net::GossipNet;
use crate::host::{Host, Left, Outlets, Signals, unix_ms};
use crate::http::Api;
use crate::lessons_file::LessonsFile;
use crate::listeners::{self, Surroundings};
use crate::readiness::DockerState;
use crate::refusal_log::RefusalLog;
use crate::runtime_files::{self, Lock, RuntimeFileError};
use crate::served_services::ServedServices;
use crate::sidecar::Identity;
use crate::standby::Standby;
use crate::watch::{Audience, Watching};
use crate::xds_server::XdsServer;
use crate::{admin, docker, firewall_watch, host_addresses, http, listener_watch, pulse, shim_socket, static_services};

/// Why the registrar could not start, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A socket, its folder or its lock is not to be had.
    #[error(transparent)]
    RuntimeFile(#[from] RuntimeFileError),
    /// A TCP address is not to be had.
    #[error("listening on {address} ({option}) failed: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The option that names it.
        option: &'static str,
        /// The system's reason.
        error: io::Error,
    },
    /// Gossip is on, and nothing says where others reach this host.
    #[error("this host has no default route: say where others reach it with --advertise-address")]
    NoAdvertiseAddress,
    /// The system denied something that every process needs.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The loop broke.
    #[error("the loop ended: see the log before this")]
    Loop,
    /// Envoy's server broke.
    #[error("the xDS server ended: {0}")]
    Xds(#[from] tonic::transport::Error),
}

/// Runs until SIGTERM or SIGINT. Envoy keeps what it was told, and shims wait for the next registrar.
///
/// # Errors
/// Something that is needed can't be had; nothing goes on in the background.
pub async fn run(config: Config) -> Result<(), RunError> {
    let stop_signals = StopSignals::catch()?;
    let shares = Shares::of_this_process();
    let sockets = Sockets::open(&config).await?;
    let (events, incoming) = mpsc::channel(EVENT_QUEUE);
    let (lookups, wanted) = watch::channel(None);
    let signals = Signals::default();
    let docker_state = if config.docker_host.is_some() { DockerState::Unheard } else { DockerState::Absent };
    let capture = Capture::new(config.capture);
    if let Err(error) = capture.watch().and_then(|watch| firewall_watch::spawn(watch, events.clone())) {
        info!(%error, "changes of the firewall are not heard of at once");
    }
    let assigned = assign_service_addresses(&config.cluster);
    let services = served_services(&config.cluster, &capture);
    let changed = Arc::new(Notify::new());
    let watching = Watching::start(shares.watchers, Arc::clone(&changed), events.clone());
    let (listeners, labelled) = watch::channel(Vec::new());
    let identity = Arc::new(Identity {
        cluster_name: config.cluster.cluster_name.as_str().to_owned(),
        host_name: config.cluster.host_name.clone(),
    });
    let surroundings =
        Surroundings { watching: watching.clone(), identity: Arc::clone(&identity), events: events.clone() };
    tokio::spawn(listeners::run(config.cluster.listener_urls.clone(), labelled, surroundings, rng()?));
    let audience = Audience { changed, listeners };
    let lessons_file = LessonsFile::in_folder(&config.state_folder);
    let lessons = lessons_file.load();
    let drains = Drains::new(DrainFile::beside(&config.shim_socket));
    let cluster =
        cluster(config.cluster, &config.defaults, drains, config.envoy_uid, lessons.clone(), events.clone(), audience)
            .await?;
    let catalog = Catalog::new(config.defaults).with_unproxied(config.capture_unproxied).with_lessons(lessons.clone());
    let (lessons, news) = watch::channel(lessons);
    tokio::spawn(lessons_file.keep(news));
    let envoy = Settings { refusals: Some(report_to(&config.xds_listen)), ..config.envoy };
    let standby = Standby::new(config.envoy_uid, shares.standby, rng()?, events.clone());
    let host =
        Host::new(catalog, envoy, (services, standby), cluster, capture, docker_state, Outlets { lookups, lessons });

    if let Some(docker_host) = config.docker_host {
        tokio::spawn(docker::run(docker_host, wanted, events.clone()));
    }
    tokio::spawn(admin::run(sockets.admin, Door::new(shares.admin), events.clone()));
    tokio::spawn(shim_socket::run(sockets.shims, Door::new(shares.shims), config.envoy_uid, events.clone()));
    let http_address = sockets.http.local_addr()?;
    let api = Api { events: events.clone(), host_name: own_name(), watching, identity };
    http::start(sockets.http.into_std()?, Door::new(shares.http), api)?;
    tokio::spawn(listener_watch::run(events.clone()));
    let refusals = RefusalLog::new(events.clone());
    tokio::spawn(host_addresses::watch(events.clone()));
    let envoys = XdsServer::new(events.clone(), Arc::clone(&signals.writable));
    pulse::guard(signals.pulse.clone())?;
    let mut ended = in_a_thread(host.run(incoming, signals.clone()))?;
    // The settings are good, and all sockets are open.
    pulse::tell_service_manager(NotifyState::Ready);
    info!(
        shims = %config.shim_socket.display(), xds = %config.xds_listen, http = %http_address,
        envoy_uid = config.envoy_uid, version = env!("CARGO_PKG_VERSION"), "the registrar runs"
    );
    tokio::select! {
        ended = &mut ended => {
            let left = ended.map_err(|_| RunError::Loop)?;
            take_back(assigned);
            info!("the registrar has left");
            left.answer();
            // The one who asked is to hear of it.
            tokio::time::sleep(FAREWELL).await;
            Ok(())
        }
        ended = serve_xds(sockets.xds, Door::new(shares.xds), envoys, refusals) => Ok(ended?),
        () = stop_signals.stopped() => {
            signals.stop.notify_one();
            // What it is at is done. A loop that stands still is not waited for.
            let _ = timeout(STOP_PATIENCE, ended).await;
            Ok(())
        }
    }
}

/// Runs the loop where nobody else's work keeps it waiting, and where it keeps nobody waiting. Yields how its end is
/// heard of.
fn in_a_thread(turns: impl Future<Output = Left> + Send + 'static) -> io::Result<oneshot::Receiver<Left>> {
    let (ends, ended) = oneshot::channel();
    let runtime = Handle::current();
    let turn = move || {
        let left = runtime.block_on(turns);
        // Nobody waits for it where the registrar is ending already.
        let _ = ends.send(left);
    };
    thread::Builder::new().name("loop".to_owned()).spawn(turn)?;
    Ok(ended)
}

/// Envoy reports what it refuses to where it subscribes.
fn report_to(xds_listen: &XdsListen) -> ReportTo {
    match xds_listen {
        XdsListen::Unix(path) => ReportTo::Unix(path.clone()),
        XdsListen::Tcp(address) => ReportTo::Tcp(*address),
    }
}

/// Gives the service addresses to `lo`, where that is asked for. They outlive a stop, as service ports do.
fn assign_service_addresses(config: &ClusterConfig) -> Vec<AssignedAddress> {
    let addresses = config.service_addresses.iter().filter(|_| config.assign_service_addresses);
    let assign = |address: &IpAddr| {
        AssignedAddress::assign(*address)
            .inspect_err(|error| warn!(%address, %error, "the service address could not be given to lo"))
            .ok()
    };
    addresses.filter_map(assign).collect()
}

fn take_back(assigned: Vec<AssignedAddress>) {
    for address in assigned {
        if let Err(error) = address.take_back() {
            warn!(%error, "a service address could not be taken from lo");
        }
    }
}

/// Service ports come by capture. Where nothing can be captured, Envoy binds them.
fn served_services(config: &ClusterConfig, capture: &Capture) -> ServedServices {
    let binding = match capture.try_services() {
        Ok(()) => Binding::Captured { catch_port: CATCH_PORT },
        Err(reason) => {
            info!(reason, "service ports can't be captured: Envoy binds them");
            Binding::Bound
        }
    };
    let addresses = config.service_addresses.clone();
    let settings = ServiceSettings { addresses, binding, prefer_local: config.prefer_local };
    ServedServices::new(settings, &host_addresses::reachable())
}

/// This host among others, with its gossip sockets open.
async fn cluster(
    config: ClusterConfig,
    defaults: &Defaults,
    drains: Drains,
    envoy_uid: u32,
    lessons: Lessons,
    events: mpsc::Sender<Event>,
    audience: Audience,
) -> Result<Cluster, RunError> {
    let mut addresses = host_addresses::all();
    let advertise_address = config.advertise_address.or_else(host_addresses::default_route);
    if config.gossip.is_some() && advertise_address.is_none() {
        return Err(RunError::NoAdvertiseAddress);
    }
    // A host by itself announces nothing to anybody.
    let advertise_address = advertise_address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    addresses.insert(advertise_address);
    let settings = OwnSettings {
        advertise_address,
        implicit_service_ports: config.implicit_service_ports,
        defaults: defaults.clone(),
    };
    let seeds = config.gossip.as_ref().map_or_else(Vec::new, |gossip| gossip.seeds.clone());
    let gossip = match config.gossip {
        Some(gossip) => {
            let config = gossip::Config {
                host: config.host_name.clone(),
                cluster: gossip.cluster,
                keys: gossip.keys,
                address: SocketAddr::new(advertise_address, gossip.listen.port()),
                own_addresses: host_addresses::announceable(&addresses, advertise_address),
                service_addresses: config.service_addresses.clone(),
                unix_ms: unix_ms(SystemTime::now()),
            };
            Some(gossip_with(config, gossip.listen, gossip.seeds, &events).await?)
        }
        None => {
            info!("gossip is off: no --gossip-key-file. This host knows no other");
            None
        }
    };
    let awaits_statics = config.static_services.is_some();
    if let Some(path) = config.static_services {
        tokio::spawn(static_services::file::watch(path, events.clone(), Event::StaticServices));
    }
    let own = OwnHost { name: config.host_name, addresses, settings, policy: config.policy };
    let service_addresses = config.service_addresses.into_iter().collect();
    if let Some(problem) = &config.host_name_problem {
        warn!(problem, "this host's name");
    }
    let (cluster_name, name_problem) = (config.cluster_name, config.host_name_problem);
    let start = Start { drains, awaits_statics, cluster_name, name_problem, seeds, envoy_uid, lessons };
    Ok(Cluster::new(own, service_addresses, gossip, start, events, audience))
}

async fn gossip_with(
    config: gossip::Config,
    address: SocketAddr,
    seeds: Vec<String>,
    events: &mpsc::Sender<Event>,
) -> Result<(Gossip, GossipNet), RunError> {
    let taken = |error| RunError::Listen { address, option: "--gossip-listen", error };
    let socket = UdpSocket::bind(address).await.map_err(taken)?;
    let listener = TcpListener::bind(address).await.map_err(taken)?;
    info!(host = %config.host, advertise = %config.address, cluster = config.cluster.as_str(), "gossip is on");
    let net = GossipNet::start(socket, listener, seeds, events.clone());
    Ok((Gossip::new(config, rng()?, Instant::now()), net))
}

fn rng() -> io::Result<StdRng> {
    StdRng::try_from_rng(&mut SysRng).map_err(io::Error::other)
}

/// How long a registrar that is to stop waits for the loop to finish what it is at.
const STOP_PATIENCE: Duration = Duration::from_secs(1);

/// How long the answer to an order to leave may take on its way.
const FAREWELL: Duration = Duration::from_millis(100);

/// All that the registrar listens on.
struct Sockets {
    shims: tokio::net::UnixListener,
    admin: tokio::net::UnixListener,
    xds: XdsSocket,
    http: TcpListener,
    _lock: Lock,
}

enum XdsSocket {
    Unix(tokio::net::UnixListener),
    Tcp(TcpListener),
}

impl Sockets {
    /// TCP first: where that fails, no file was touched.
    async fn open(config: &Config) -> Result<Self, RunError> {
        let lock = runtime_files::lock_beside(&config.shim_socket)?;
        let http = listen("--http-listen", config.http_listen).await?;
        let xds = match &config.xds_listen {
            XdsListen::Tcp(address) => XdsSocket::Tcp(listen("--xds-listen", *address).await?),
            XdsListen::Unix(path) => XdsSocket::Unix(listen_for(path, config.envoy_uid)?),
        };
        let own_uid = nix::unistd::geteuid().as_raw();
        let admin = listen_for(&config.admin_socket, own_uid)?;
        let shims = listen_for(&config.shim_socket, own_uid)?;
        Ok(Self { shims, admin, xds, http, _lock: lock })
    }
}

fn listen_for(path: &Path, owner: u32) -> Result<tokio::net::UnixListener, RuntimeFileError> {
    runtime_files::create_folder_of(path)?;
    runtime_files::listen(path, owner)
}

async fn listen(option: &'static str, address: SocketAddr) -> Result<TcpListener, RunError> {
    TcpListener::bind(address).await.map_err(|error| RunError::Listen { address, option, error })
}

async fn serve_xds(
    socket: XdsSocket,
    door: Arc<Door>,
    envoys: XdsServer,
    refusals: RefusalLog,
) -> Result<(), tonic::transport::Error> {
    match socket {
        XdsSocket::Unix(listener) => envoys.serve(listener, door, refusals).await,
        XdsSocket::Tcp(listener) => envoys.serve(listener, door, refusals).await,
    }
}

/// The signals that the registrar knows. From the moment this exists, none of them ends the process by itself.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl StopSignals {
    fn catch() -> io::Result<Self> {
        let [terminate, interrupt, hangup] =
            [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
        Ok(Self { terminate: terminate?, interrupt: interrupt?, hangup: hangup? })
    }

    /// Waits for one that ends the registrar.
    async fn stopped(mut self) {
        let name = loop {
            tokio::select! {
                _ = self.terminate.recv() => break "SIGTERM",
                _ = self.interrupt.recv() => break "SIGINT",
                Some(()) = self.hangup.recv() => {
                    info!("SIGHUP: the registrar goes on as it is; settings are read at its start, static services whenever they change");
                }
            }
        };
        info!("{name}: the registrar stops, Envoy keeps what it was told");
    }
}

/// The host's name, or nothing where it has none that is text.
fn own_name() -> Arc<str> {
    gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default().into()
}

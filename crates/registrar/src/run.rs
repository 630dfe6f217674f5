//! Puts the registrar together, and takes it apart on a signal.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use capture::Capture;
use nix::unistd::gethostname;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::transport::Server;
use tracing::info;

use crate::config::{Config, XdsListen};
use crate::event::EVENT_QUEUE;
use crate::host::Host;
use crate::readiness::DockerState;
use crate::runtime_files::{self, Lock, RuntimeFileError};
use crate::xds_server::XdsServer;
use crate::{admin, docker, firewall_watch, http, listener_watch, shim_socket};

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
    /// The system denied something that every process needs.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Envoy's server broke.
    #[error("the xDS server ended: {0}")]
    Xds(#[from] tonic::transport::Error),
}

/// Runs until SIGTERM or SIGINT. Envoy keeps what it was told, and shims wait for the next registrar.
///
/// # Errors
/// Something that is needed can't be had; nothing goes on in the background.
pub async fn run(config: Config) -> Result<(), RunError> {
    let sockets = Sockets::open(&config).await?;
    let (events, incoming) = mpsc::channel(EVENT_QUEUE);
    let (lookups, wanted) = watch::channel(None);
    let writable = Arc::new(Notify::new());
    let docker_state = if config.docker_host.is_some() { DockerState::Unheard } else { DockerState::Absent };
    let capture = Capture::new(config.capture);
    if let Err(error) = capture.watch().and_then(|watch| firewall_watch::spawn(watch, events.clone())) {
        info!(%error, "changes of the firewall are not heard of at once");
    }
    let host = Host::new(config.defaults, config.envoy, capture, docker_state, lookups);

    if let Some(docker_host) = config.docker_host {
        tokio::spawn(docker::run(docker_host, wanted, events.clone()));
    }
    tokio::spawn(admin::run(sockets.admin, events.clone()));
    tokio::spawn(shim_socket::run(sockets.shims, config.envoy_uid, events.clone()));
    let http_address = sockets.http.local_addr()?;
    tokio::spawn(http::run(sockets.http, own_name(), events.clone()));
    tokio::spawn(listener_watch::run(events.clone()));
    let envoys = XdsServer::new(events.clone(), Arc::clone(&writable));
    info!(
        shims = %config.shim_socket.display(), xds = %config.xds_listen, http = %http_address,
        envoy_uid = config.envoy_uid, version = env!("CARGO_PKG_VERSION"), "the registrar runs"
    );
    tokio::select! {
        () = host.run(incoming, writable) => {
            info!("the registrar has left");
            // The one who asked is to hear of it.
            tokio::time::sleep(FAREWELL).await;
            Ok(())
        }
        ended = serve_xds(sockets.xds, envoys) => Ok(ended?),
        stopped = stop_signal() => Ok(stopped?),
    }
}

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

async fn serve_xds(socket: XdsSocket, envoys: XdsServer) -> Result<(), tonic::transport::Error> {
    let server = Server::builder().add_service(envoys.into_service());
    match socket {
        XdsSocket::Unix(listener) => server.serve_with_incoming(UnixListenerStream::new(listener)).await,
        XdsSocket::Tcp(listener) => server.serve_with_incoming(TcpListenerStream::new(listener)).await,
    }
}

async fn stop_signal() -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: the registrar stops, Envoy keeps what it was told"),
        _ = interrupt.recv() => info!("SIGINT: the registrar stops, Envoy keeps what it was told"),
    }
    Ok(())
}

/// The host's name, or nothing where it has none that is text.
fn own_name() -> Arc<str> {
    gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default().into()
}

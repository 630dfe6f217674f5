//! The kinds of listeners, and what can be told of where a client comes from.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tracing::warn;

/// How long a client may take nothing of what waits for it, or be gone without a word, before its connection is ended.
const STUCK_MAX: Duration = Duration::from_secs(30);

/// Where a client comes from, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// This host itself.
    Local,
    /// Another host. Of IPv6 only the first 64 bits are kept: the others are a host's to choose.
    Remote(IpAddr),
}

impl Source {
    /// `own`: the address of this host that the client asked.
    pub(crate) fn of(client: IpAddr, own: IpAddr) -> Self {
        let client = client.to_canonical();
        match client {
            _ if client.is_loopback() || client == own.to_canonical() => Self::Local,
            IpAddr::V4(_) => Self::Remote(client),
            IpAddr::V6(address) => Self::Remote(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()),
        }
    }

    /// Of an accepted connection.
    pub(crate) fn of_tcp(stream: &TcpStream, peer: SocketAddr) -> Self {
        // One that has no address any longer has ended.
        let own = stream.local_addr().map_or(peer.ip(), |own| own.ip());
        Self::of(peer.ip(), own)
    }
}

/// What clients come to.
pub(crate) trait Listens: Send + Sync {
    /// A client's connection.
    type Stream: Send + Unpin + 'static;

    /// The next client.
    fn take(&self) -> impl Future<Output = io::Result<(Self::Stream, Source)>> + Send;

    /// The connection's descriptor.
    fn socket(stream: &Self::Stream) -> RawFd;

    /// Has the kernel end the connection where the client takes nothing.
    fn watch_over(stream: &Self::Stream);
}

impl Listens for TcpListener {
    type Stream = TcpStream;

    async fn take(&self) -> io::Result<(TcpStream, Source)> {
        let (stream, peer) = self.accept().await?;
        let source = Source::of_tcp(&stream, peer);
        Ok((stream, source))
    }

    fn socket(stream: &TcpStream) -> RawFd {
        stream.as_raw_fd()
    }

    fn watch_over(stream: &TcpStream) {
        let limit_ms = u32::try_from(STUCK_MAX.as_millis()).unwrap_or(u32::MAX);
        let kept = setsockopt(stream, sockopt::TcpUserTimeout, &limit_ms);
        if let Err(error) = kept.and_then(|()| setsockopt(stream, sockopt::KeepAlive, &true)) {
            warn!(%error, "a client that takes nothing can't be noticed");
        }
    }
}

impl Listens for UnixListener {
    type Stream = UnixStream;

    async fn take(&self) -> io::Result<(UnixStream, Source)> {
        self.accept().await.map(|(stream, _)| (stream, Source::Local))
    }

    fn socket(stream: &UnixStream) -> RawFd {
        stream.as_raw_fd()
    }

    fn watch_over(_: &UnixStream) {}
}

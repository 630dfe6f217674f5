//! Connections to what is checked, and the check that is nothing but one.

use std::io;
use std::net::SocketAddr;

use health::Peer;
use tokio::net::{TcpSocket, TcpStream, lookup_host};

use super::{Seen, text};

/// Healthy if a connection is accepted.
///
/// It is closed before its handshake is complete, with a reset instead of the last acknowledgement. So the
/// application never hears of it: no log line and no counted error every few seconds, as databases have them for
/// clients that connect and say nothing; and none of the two sides remembers it for a minute.
pub(super) async fn check(peer: &Peer) -> Seen {
    connect(peer, |socket| {
        socket.set_zero_linger()?;
        // Holds the last acknowledgement back. Where the kernel won't, the application sees a reset at most.
        let _ = rustix::net::sockopt::set_tcp_quickack(socket, false);
        Ok(())
    })
    .await
    .map(|_| "accepted".to_owned())
    .map_err(text)
}

/// Connects; a name may have several addresses, and the first that accepts is taken.
pub(super) async fn connect(peer: &Peer, prepare: fn(&TcpSocket) -> io::Result<()>) -> io::Result<TcpStream> {
    match peer {
        Peer::Address(address) => connect_to(*address, prepare).await,
        Peer::Name(name, port) => {
            let mut result = Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
            for address in lookup_host((name.as_str(), *port)).await? {
                result = connect_to(address, prepare).await;
                if result.is_ok() {
                    break;
                }
            }
            result
        }
    }
}

async fn connect_to(address: SocketAddr, prepare: fn(&TcpSocket) -> io::Result<()>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    prepare(&socket)?;
    socket.connect(address).await
}

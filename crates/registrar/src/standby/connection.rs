//! One connection that came to us instead of Envoy: whom it was meant for, and the bytes both ways.

use std::net::SocketAddr;
use std::pin::pin;

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::{Ip6tOriginalDst, OriginalDst};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use xds::resources::service::CONNECT_TIMEOUT;

/// Bytes that one direction of a connection holds at most.
const BUFFER: usize = 8 * 1024;

/// Where the client meant to go: before the kernel translated it, if it did.
pub(super) fn destination(client: &TcpStream) -> std::io::Result<SocketAddr> {
    let local = client.local_addr()?;
    let original = match local {
        SocketAddr::V4(_) => getsockopt(client, OriginalDst).map(|address| {
            let ip = u32::from_be(address.sin_addr.s_addr);
            SocketAddr::from((std::net::Ipv4Addr::from(ip), u16::from_be(address.sin_port)))
        }),
        SocketAddr::V6(_) => getsockopt(client, Ip6tOriginalDst).map(|address| {
            SocketAddr::from((std::net::Ipv6Addr::from(address.sin6_addr.s6_addr), u16::from_be(address.sin6_port)))
        }),
    };
    Ok(original.unwrap_or(local))
}

/// Passes bytes between the client and the first of the instances that takes the connection, until both have ended.
/// An end in one direction is passed on, and the other direction goes on. With nobody to take it the client is reset.
pub(super) async fn forward(mut client: TcpStream, instances: &[SocketAddr]) {
    let Some(mut server) = connect(instances).await else { return reset(&client) };
    let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
    let _ = super::socket::find_out_who_vanished(&server);
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let mut asked = pin!(pass(&mut from_client, &mut to_server));
    let mut answered = pin!(pass(&mut from_server, &mut to_client));
    let first = tokio::select! {
        end = &mut asked => First::Asked(end),
        end = &mut answered => First::Answered(end),
    };
    match first {
        // What the server said before it stopped to listen still arrives.
        First::Asked(End::Stream | End::ReceiverFailed) => {
            answered.await;
        }
        First::Answered(End::Stream) => {
            asked.await;
        }
        First::Asked(End::SenderFailed) | First::Answered(End::SenderFailed | End::ReceiverFailed) => {}
    }
}

/// Which direction came to its end first.
enum First {
    Asked(End),
    Answered(End),
}

/// How a direction came to its end.
enum End {
    /// The stream ended, and the receiver knows.
    Stream,
    /// The sender failed. Everything that it sent before was passed on.
    SenderFailed,
    /// The receiver takes no more.
    ReceiverFailed,
}

/// Passes bytes one way.
async fn pass(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> End {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) => return if to.shutdown().await.is_ok() { End::Stream } else { End::ReceiverFailed },
            Ok(length) if to.write_all(&buffer[..length]).await.is_err() => return End::ReceiverFailed,
            Ok(_) => {}
            Err(_) => return End::SenderFailed,
        }
    }
}

/// Has the kernel say "reset" instead of "end" when the connection is dropped.
pub(super) fn reset(client: &TcpStream) {
    let _ = client.set_zero_linger();
}

async fn connect(instances: &[SocketAddr]) -> Option<TcpStream> {
    for instance in instances {
        if let Ok(Ok(server)) = timeout(CONNECT_TIMEOUT, TcpStream::connect(instance)).await {
            return Some(server);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// A client, and what the kernel gave for it to us.
    async fn connected() -> (TcpStream, TcpStream) {
        let (listener, address) = listener().await;
        let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        (client.unwrap(), accepted.unwrap().0)
    }

    async fn closed_port() -> SocketAddr {
        listener().await.1
    }

    #[tokio::test]
    async fn an_instance_that_refuses_is_passed_over_and_each_end_is_passed_on_alone() {
        let (mut client, accepted) = connected().await;
        let (instance, address) = listener().await;
        let instances = [closed_port().await, address];
        let forwarding = tokio::spawn(async move { forward(accepted, &instances).await });
        let mut instance = instance.accept().await.unwrap().0;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut question = String::new();
        instance.read_to_string(&mut question).await.unwrap();
        instance.write_all(b"answer").await.unwrap();
        drop(instance);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((question.as_str(), answer.as_str()), ("question", "answer"));
        forwarding.await.unwrap();
    }

    #[tokio::test]
    async fn what_an_instance_said_before_it_stopped_to_listen_arrives() {
        let (mut client, accepted) = connected().await;
        let (instance, address) = listener().await;
        let forwarding = tokio::spawn(async move { forward(accepted, &[address]).await });
        let mut instance = instance.accept().await.unwrap().0;
        client.write_all(b"unread").await.unwrap();
        instance.readable().await.unwrap();
        let said = vec![7; 300_000];
        instance.write_all(&said).await.unwrap();
        // Its kernel forgets what it has not sent yet.
        tokio::time::sleep(Duration::from_millis(300)).await;
        // What it has not read makes this a reset, and what the client goes on to say fails.
        drop(instance);
        client.write_all(&[0; 1000]).await.unwrap();
        let mut heard = Vec::new();
        let _ = client.read_to_end(&mut heard).await;
        assert_eq!(heard.len(), said.len());
        forwarding.await.unwrap();
    }

    #[tokio::test]
    async fn with_nobody_to_take_it_the_client_is_reset() {
        for instances in [vec![], vec![closed_port().await]] {
            let (mut client, accepted) = connected().await;
            forward(accepted, &instances).await;
            assert_eq!(client.read(&mut [0]).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
        }
    }

    #[tokio::test]
    async fn what_was_not_translated_was_meant_for_where_it_came() {
        let (_client, accepted) = connected().await;
        assert_eq!(destination(&accepted).unwrap(), accepted.local_addr().unwrap());
    }
}

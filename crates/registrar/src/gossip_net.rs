//! The sockets of gossip: datagrams, streams and probes, moved between the network and the loop.
//!
//! What is said is the crate `gossip`'s. It asks for things to be done ([`Output`]), which are begun here and
//! never waited for; what comes of them comes back as an event.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gossip::{CONNECT_TIMEOUT, OpenFailure, Output, ProbeId, SEEDS_MAX, StreamId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::event::Event;
use crate::seed_names::{self, SeedLookup};

/// How much is read from a stream at once.
const READ_LENGTH: usize = 16 * 1024;

/// How long a peer may take to read what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// What the network brought.
#[derive(Debug)]
pub(crate) enum GossipEvent {
    Datagram(Vec<u8>),
    Accepted(TcpStream, SocketAddr),
    Opened(StreamId, TcpStream),
    NotOpened(StreamId, OpenFailure),
    Data(StreamId, Vec<u8>),
    Closed(StreamId),
    Probed(ProbeId, bool),
    /// What the name of the seed of this number led to.
    Seed(usize, SeedLookup),
}

/// The gossip sockets, and the streams that are open.
pub(crate) struct GossipNet {
    socket: Arc<UdpSocket>,
    events: mpsc::Sender<Event>,
    /// To write to; dropping it closes the stream once all is written. What waits is bounded by what peers ask.
    streams: HashMap<StreamId, mpsc::UnboundedSender<Vec<u8>>>,
}

impl GossipNet {
    /// Begins to listen on both sockets, and to look up the seeds.
    pub(crate) fn start(
        socket: UdpSocket,
        listener: TcpListener,
        seeds: Vec<String>,
        events: mpsc::Sender<Event>,
    ) -> Self {
        let socket = Arc::new(socket);
        tokio::spawn(receive(Arc::clone(&socket), events.clone()));
        tokio::spawn(accept(listener, events.clone()));
        for (number, seed) in seeds.into_iter().take(SEEDS_MAX).enumerate() {
            tokio::spawn(seed_names::follow(number, seed, events.clone()));
        }
        Self { socket, events, streams: HashMap::new() }
    }

    /// Begins what is asked for. The outputs that are about the view and about orders are the caller's.
    pub(crate) fn begin(&mut self, output: Output) {
        match output {
            // A full send buffer is a loss on the way.
            Output::Datagram { to, bytes } => drop(self.socket.try_send_to(&bytes, to)),
            Output::OpenStream { stream, to } => {
                tokio::spawn(open(stream, to, self.events.clone()));
            }
            Output::WriteStream { stream, bytes } => {
                if let Some(writer) = self.streams.get(&stream) {
                    let _ = writer.send(bytes);
                }
            }
            Output::CloseStream { stream } => drop(self.streams.remove(&stream)),
            Output::Probe { probe, address } => {
                tokio::spawn(try_port(probe, address, self.events.clone()));
            }
            Output::HostChanged(_)
            | Output::ProblemsChanged
            | Output::Ordered { .. }
            | Output::OrderEnded { .. }
            | Output::Left => {}
        }
    }

    /// A connection is known by this id from now on.
    pub(crate) fn adopt(&mut self, id: StreamId, stream: TcpStream) {
        let (reader, mut writer) = stream.into_split();
        let (outgoing, mut to_write) = mpsc::unbounded_channel::<Vec<u8>>();
        self.streams.insert(id, outgoing);
        tokio::spawn(read(id, reader, self.events.clone()));
        tokio::spawn(async move {
            while let Some(bytes) = to_write.recv().await {
                if !matches!(timeout(WRITE_TIMEOUT, writer.write_all(&bytes)).await, Ok(Ok(()))) {
                    return;
                }
            }
            let _ = writer.shutdown().await;
        });
    }

    /// The stream has ended.
    pub(crate) fn forget(&mut self, id: StreamId) {
        self.streams.remove(&id);
    }
}

async fn tell(events: &mpsc::Sender<Event>, event: GossipEvent) -> bool {
    events.send(Event::Gossip(event)).await.is_ok()
}

async fn receive(socket: Arc<UdpSocket>, events: mpsc::Sender<Event>) {
    // One byte more than is ever sent shows that it is too long; what is cut off fails to authenticate.
    let mut buffer = [0; gossip::DATAGRAM_MAX + 1];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, _)) => {
                if !tell(&events, GossipEvent::Datagram(buffer[..length].to_vec())).await {
                    return;
                }
            }
            // An earlier datagram did not arrive, says ICMP: a loss on the way.
            Err(error) => debug!(%error, "a gossip datagram"),
        }
    }
}

async fn accept(listener: TcpListener, events: mpsc::Sender<Event>) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                if !tell(&events, GossipEvent::Accepted(stream, from)).await {
                    return;
                }
            }
            Err(error) => {
                warn!(%error, "a gossip stream could not be accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn open(id: StreamId, to: SocketAddr, events: mpsc::Sender<Event>) {
    let event = match timeout(CONNECT_TIMEOUT, TcpStream::connect(to)).await {
        Ok(Ok(stream)) => GossipEvent::Opened(id, stream),
        Ok(Err(error)) => GossipEvent::NotOpened(id, failure(error.kind())),
        Err(_) => GossipEvent::NotOpened(id, OpenFailure::TimedOut),
    };
    tell(&events, event).await;
}

const fn failure(kind: io::ErrorKind) -> OpenFailure {
    match kind {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => OpenFailure::Refused,
        io::ErrorKind::TimedOut => OpenFailure::TimedOut,
        _ => OpenFailure::Unreachable,
    }
}

async fn read(id: StreamId, mut reader: OwnedReadHalf, events: mpsc::Sender<Event>) {
    let mut buffer = vec![0; READ_LENGTH];
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        if !tell(&events, GossipEvent::Data(id, buffer[..length].to_vec())).await {
            return;
        }
    }
    tell(&events, GossipEvent::Closed(id)).await;
}

async fn try_port(probe: ProbeId, address: SocketAddr, events: mpsc::Sender<Event>) {
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
    tell(&events, GossipEvent::Probed(probe, matches!(connected, Ok(Ok(_))))).await;
}

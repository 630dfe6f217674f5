//! The sockets of gossip: datagrams, streams and probes, moved between the network and the loop.
//!
//! What is said is the crate `gossip`'s. It asks for things to be done ([`Output`]), which are begun here and
//! never waited for; what comes of them comes back as an event.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gossip::{CONNECT_TIMEOUT, Gossip, OpenFailure, Output, ProbeId, SEEDS_MAX, StreamId};
use rand::TryRng as _;
use rand::rngs::SysRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::event::Event;
use crate::seed_names::{self, SeedLookup};

/// How much is read from a stream at once.
const READ_LENGTH: usize = 16 * 1024;

/// How long a peer may take to read what is written to it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The most bytes that may wait to be written on one stream: a peer asks for 32 records of at most 256 kB at a time, and
/// for more only when it has them.
const STREAM_WAITING_MAX: usize = 12 * 1024 * 1024;

/// The most bytes that may wait to be written on all streams together.
const WAITING_MAX: usize = 96 * 1024 * 1024;

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
    /// To write to; dropping it closes the stream once all is written.
    streams: HashMap<StreamId, Writer>,
    /// The bytes that wait on all streams together.
    waiting: Arc<AtomicUsize>,
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
        Self { socket, events, streams: HashMap::new(), waiting: Arc::default() }
    }

    /// Begins what is asked for. The outputs that are about the view and about orders are the caller's.
    pub(crate) fn begin(&mut self, output: Output) {
        match output {
            // A full send buffer is a loss on the way.
            Output::Datagram { to, bytes } => drop(self.socket.try_send_to(&bytes, to)),
            Output::OpenStream { stream, to } => {
                tokio::spawn(open(stream, to, self.events.clone()));
            }
            Output::WriteStream { stream, bytes } => self.write(stream, bytes),
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
        let (reader, writer) = stream.into_split();
        let (outgoing, to_write) = mpsc::unbounded_channel();
        let own = Arc::new(AtomicUsize::new(0));
        tokio::spawn(read(id, reader, self.events.clone()));
        let task = tokio::spawn(write(writer, to_write)).abort_handle();
        self.streams.insert(id, Writer { outgoing, waiting: own, task });
    }

    fn write(&mut self, id: StreamId, bytes: Vec<u8>) {
        let Some(writer) = self.streams.get(&id) else { return };
        let of_stream = writer.waiting.load(Ordering::Relaxed) + bytes.len();
        let of_all = self.waiting.load(Ordering::Relaxed) + bytes.len();
        if of_stream > STREAM_WAITING_MAX || of_all > WAITING_MAX {
            warn!(stream = %id, of_stream, of_all, "a peer asks for more than it takes: its gossip stream is ended");
            writer.task.abort();
            self.streams.remove(&id);
            // Should the loop be busy, the stream ends by its own time limit.
            let _ = self.events.try_send(Event::Gossip(GossipEvent::Closed(id)));
            return;
        }
        let counted = Waiting::new(bytes, [Arc::clone(&writer.waiting), Arc::clone(&self.waiting)]);
        let _ = writer.outgoing.send(counted);
    }

    /// The stream has ended.
    pub(crate) fn forget(&mut self, id: StreamId) {
        self.streams.remove(&id);
    }
}

/// Gives gossip fresh randomness before each turn: of a virtual machine that was copied with its memory, each copy then
/// draws its own nonces.
pub(crate) fn reseed(gossip: &mut Gossip) {
    let mut seed = [0; 32];
    match SysRng.try_fill_bytes(&mut seed) {
        Ok(()) => gossip.reseed(seed),
        Err(error) => debug!(%error, "the system gives no randomness: gossip goes on with what it has"),
    }
}

/// The way to one stream's writing task.
struct Writer {
    outgoing: mpsc::UnboundedSender<Waiting>,
    /// The bytes that wait.
    waiting: Arc<AtomicUsize>,
    task: AbortHandle,
}

/// Bytes that wait to be written. They are counted until they are written or dropped.
struct Waiting {
    bytes: Vec<u8>,
    counts: [Arc<AtomicUsize>; 2],
}

impl Waiting {
    fn new(bytes: Vec<u8>, counts: [Arc<AtomicUsize>; 2]) -> Self {
        for count in &counts {
            count.fetch_add(bytes.len(), Ordering::Relaxed);
        }
        Self { bytes, counts }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        for count in &self.counts {
            count.fetch_sub(self.bytes.len(), Ordering::Relaxed);
        }
    }
}

async fn write(mut writer: OwnedWriteHalf, mut to_write: mpsc::UnboundedReceiver<Waiting>) {
    while let Some(waiting) = to_write.recv().await {
        if !matches!(timeout(WRITE_TIMEOUT, writer.write_all(&waiting.bytes)).await, Ok(Ok(()))) {
            return;
        }
    }
    let _ = writer.shutdown().await;
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What a member asked for used to wait without a bound.
    #[tokio::test]
    async fn a_peer_that_asks_and_does_not_read_is_ended_and_nothing_of_it_stays_in_memory() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (peer, accepted) = tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
        let _peer = peer.unwrap();
        let (events, mut told) = mpsc::channel(16);
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut net = GossipNet::start(socket, listener, Vec::new(), events);
        let id = StreamId::default();
        net.adopt(id, accepted.unwrap().0);
        for _ in 0..200 {
            net.begin(Output::WriteStream { stream: id, bytes: vec![0; 256 * 1024] });
            assert!(net.waiting.load(Ordering::Relaxed) <= STREAM_WAITING_MAX);
        }
        assert!(matches!(told.recv().await, Some(Event::Gossip(GossipEvent::Closed(closed))) if closed == id));
        let is_free = async {
            while net.waiting.load(Ordering::Relaxed) > 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), is_free).await.unwrap();
    }
}

//! The socket that shims register at.
//!
//! One task per connection turns bytes into events and replies into bytes. A connection that breaks the
//! protocol is ended with the reason and touches no other. What a registration means is not decided here.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use catalog::RegistrationId;
use nix::unistd::{Uid, geteuid};
use shim_wire::{DecodeError, Decoder, FromRegistrar, FromShim, Message};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::door::{Busy, Door, Guarded, Visitor};
use crate::event::{Event, ShimEvent};

type Connection = Guarded<UnixStream>;

/// How many replies may wait for a shim that does not read. It is sent a handful in its whole life.
const REPLY_QUEUE: usize = 64;

/// How long a shim may take to take a reply in. One that is stopped must not hold up its connection's end.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection was ended by the registrar.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("not the protocol of shims: {0}")]
    Decode(#[from] DecodeError),
    #[error("the shim speaks version {0} of the protocol, this registrar {version} at most: upgrade the registrar", version = shim_wire::VERSION)]
    Version(u16),
    #[error("uid {0} may not register: only root and the registrar's own user may")]
    Peer(Uid),
    #[error("the registrar is stopping")]
    Stopping,
}

impl ConnectionError {
    /// Whether trying again at once would end the same way. A shim that is rejected waits for seconds; the next
    /// registrar must not have to wait for it.
    const fn is_the_peers(&self) -> bool {
        matches!(self, Self::Decode(_) | Self::Version(_) | Self::Peer(_))
    }
}

/// What is told to every shim and needed for every connection.
struct Context {
    envoy_uid: u32,
    events: mpsc::Sender<Event>,
    next_id: AtomicU64,
}

/// Accepts shims until the registrar ends.
pub(crate) async fn run(listener: UnixListener, door: Arc<Door>, envoy_uid: u32, events: mpsc::Sender<Event>) {
    let context = Arc::new(Context { envoy_uid, events, next_id: AtomicU64::new(1) });
    loop {
        let stream = door.accept(&listener).await;
        let context = Arc::clone(&context);
        tokio::spawn(async move { serve(stream, &context).await });
    }
}

async fn serve(stream: Connection, context: &Context) {
    let id = RegistrationId(context.next_id.fetch_add(1, Ordering::Relaxed));
    let peer = describe_peer(stream.stream());
    let trusted = trusted_peer(stream.stream());
    let visitor = stream.visitor().clone();
    let (reader, mut writer) = tokio::io::split(stream);
    let result = match trusted {
        Ok(pid) => converse((id, pid), &visitor, reader, &mut writer, context).await,
        Err(error) => Err(error),
    };
    // The loop forgets a registration that was never made.
    let _ = context.events.send(Event::Shim { id, event: ShimEvent::Gone }).await;
    match result {
        Ok(()) => debug!(peer, "a shim has gone"),
        Err(error) => {
            warn!(peer, %error, "a connection on the shims' socket was ended");
            if error.is_the_peers() {
                let reason = error.to_string();
                let _ = send(&mut writer, &FromRegistrar::Rejected { reason }).await;
            }
        }
    }
}

async fn converse(
    (id, pid): (RegistrationId, u32),
    visitor: &Visitor,
    mut reader: ReadHalf<Connection>,
    writer: &mut WriteHalf<Connection>,
    context: &Context,
) -> Result<(), ConnectionError> {
    // A shim that has registered may be silent for as long as it lives.
    let mut registered: Option<Busy> = None;
    send(writer, &FromRegistrar::Hello { version: shim_wire::VERSION, envoy_uid: context.envoy_uid }).await?;
    let (replies, mut outgoing) = mpsc::channel(REPLY_QUEUE);
    let mut decoder = Decoder::<FromShim>::default();
    let mut buffer = [0; 512];
    loop {
        tokio::select! {
            read = reader.read(&mut buffer) => match read? {
                0 => return Ok(()),
                length => decoder.push(&buffer[..length]),
            },
            Some(reply) = outgoing.recv() => {
                send(writer, &reply).await?;
                continue;
            }
        }
        while let Some(message) = decoder.next_message()? {
            let event = event_of(message, pid, &replies)?;
            registered.get_or_insert_with(|| visitor.busy());
            context.events.send(Event::Shim { id, event }).await.map_err(|_| ConnectionError::Stopping)?;
        }
    }
}

fn event_of(message: FromShim, pid: u32, replies: &mpsc::Sender<FromRegistrar>) -> Result<ShimEvent, ConnectionError> {
    match message {
        FromShim::Register(register) if register.version > shim_wire::VERSION => {
            Err(ConnectionError::Version(register.version))
        }
        FromShim::Register(register) => Ok(ShimEvent::Register { register, pid, replies: replies.clone() }),
        FromShim::Release => Ok(ShimEvent::Release),
        FromShim::Seen { finding } => Ok(ShimEvent::Seen { finding }),
    }
}

/// The peer's process id, if its user may register ports. The file's mode says the same; this holds even if
/// somebody opens it up.
fn trusted_peer(stream: &UnixStream) -> Result<u32, ConnectionError> {
    let credentials = stream.peer_cred()?;
    let uid = Uid::from_raw(credentials.uid());
    if !uid.is_root() && uid != geteuid() {
        return Err(ConnectionError::Peer(uid));
    }
    // A peer in another process id namespace shows as 0.
    Ok(credentials.pid().and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0))
}

fn describe_peer(stream: &UnixStream) -> String {
    stream.peer_cred().map_or_else(
        |error| format!("unknown: {error}"),
        |peer| format!("pid {} uid {}", peer.pid().unwrap_or(0), peer.uid()),
    )
}

async fn send(writer: &mut WriteHalf<Connection>, message: &FromRegistrar) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    timeout(WRITE_TIMEOUT, writer.write_all(&bytes)).await?
}

//! What the driver is asked to do.

use std::fmt;
use std::net::SocketAddr;

use model::HostName;

use crate::gossip::OrderError;
use crate::order::{Answer, Order};

/// Names a stream between driver and [`crate::Gossip`]. Never used twice; the default names none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub(crate) u64);

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a probe between driver and [`crate::Gossip`]. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProbeId(pub(crate) u64);

/// Names an order between driver and [`crate::Gossip`], on the host that gives it and on the one that it is given
/// to. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub(crate) StreamId);

/// Why a stream could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OpenFailure {
    /// The machine is there, and nobody listens at the port.
    Refused,
    /// Nothing answered within [`crate::CONNECT_TIMEOUT`].
    TimedOut,
    /// There is no way there, or the system would not try.
    Unreachable,
}

/// Something that the driver is to do. See [`crate::Gossip`] for the flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this datagram from the gossip socket; a failure to send counts as a loss on the way.
    Datagram {
        /// Where to.
        to: SocketAddr,
        /// At most [`crate::DATAGRAM_MAX`] bytes.
        bytes: Vec<u8>,
    },
    /// Connect by TCP, and give up after [`crate::CONNECT_TIMEOUT`]. Then call
    /// [`crate::Gossip::handle_stream_opened`] or [`crate::Gossip::handle_stream_failed`].
    OpenStream {
        /// By which the stream is known from now on.
        stream: StreamId,
        /// Where to.
        to: SocketAddr,
    },
    /// Write these bytes, after all that were to be written before.
    WriteStream {
        /// An open stream.
        stream: StreamId,
        /// At most what the other side asked for at once: some megabytes. One that asks again before it has read all is
        /// the driver's to end.
        bytes: Vec<u8>,
    },
    /// Close the stream once all has been written. Nothing of it is wanted any longer;
    /// [`crate::Gossip::handle_stream_closed`] may be called for it or not.
    CloseStream {
        /// A stream, open or not yet.
        stream: StreamId,
    },
    /// Find out whether somebody listens here: connect by TCP, close at once, give up after
    /// [`crate::CONNECT_TIMEOUT`]. Then call [`crate::Gossip::handle_probe_result`].
    Probe {
        /// By which the result is known.
        probe: ProbeId,
        /// A port of an instance of another host.
        address: SocketAddr,
    },
    /// What [`crate::Gossip::host`] says of this host is different now, or it is no longer known.
    HostChanged(HostName),
    /// What [`crate::Gossip::problems`] says is different now.
    ProblemsChanged,
    /// Another host wants this done, on behalf of its operator. Then call [`crate::Gossip::answer`].
    Ordered {
        /// By which the answer is known.
        order: OrderId,
        /// Who wants it.
        from: HostName,
        /// What is to be done.
        what: Order,
    },
    /// What came of a [`crate::Gossip::order`].
    OrderEnded {
        /// Which.
        order: OrderId,
        /// What the other host answered, or why it did not.
        outcome: Result<Answer, OrderError>,
    },
    /// The cluster was left. Nothing follows.
    Left,
}

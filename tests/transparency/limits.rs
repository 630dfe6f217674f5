//! What `ProxyMode=http` can't pass on as it was: each limit with its reason and with how it shows.

use crate::seen::Seen;
use crate::take_out::{self, status_is};

/// A limit of Envoy's that no setting removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum HttpLimit {
    /// What is not HTTP at all.
    NotHttp,
    /// Versions are spoken by each side for itself.
    Version,
    /// Requests of most methods without a body get `content-length: 0`.
    EmptyLength,
    /// Headers for the next hop end there.
    HopByHop,
    /// Requests that are malformed are refused.
    Malformed,
    /// HTTP/1.1 without Host is refused.
    NoHost,
    /// Paths with other bytes than ASCII are refused.
    NonAsciiPath,
    /// Requests of doubtful length are refused.
    DoubtfulLength,
    /// Transfer codings but `chunked` are refused.
    TransferCoding,
    /// Absolute targets become origin form and Host.
    AbsoluteTarget,
    /// Fragments are cut off.
    Fragment,
    /// Folded lines are unfolded.
    Folding,
    /// Lines end with CR LF.
    LineEnds,
    /// Empty lines around messages are dropped.
    ExtraLines,
    /// Names have the case that they had first; names of trailers, and `chunked`, are lower-case.
    NameCase,
    /// Well-known headers that come twice are joined.
    Joined,
    /// `Host` comes first, `Transfer-Encoding` last.
    HeaderOrder,
    /// Chunks' extensions are dropped.
    ChunkExtensions,
    /// A trace that the client began goes on with Envoy's span.
    TraceContinued,
    /// Headers in Envoy's name are dropped.
    EnvoyHeaders,
    /// The client's address is added to an `X-Forwarded-For` that is there.
    ForwardedFor,
    /// Answers that are malformed or of doubtful length are a 502.
    AnswerRefused,
    /// A connection that ends without an answer is a 503.
    NoAnswer,
    /// A client that ends its half is cut off.
    HalfClose,
    /// Upgrades to what Envoy was not told are refused.
    UnknownUpgrade,
    /// Upgrades to `h2c` and TLS are passed over.
    IgnoredUpgrade,
    /// An accepted upgrade to `h2c` or TLS does not come about.
    LostUpgrade,
    /// A WebSocket answered with 200 loses the answer's body.
    UpgradePassedOver,
    /// Bytes that a client sends before its upgrade is accepted wait.
    EarlyUpgradeBytes,
    /// The connection ends after an answer to what has not ended.
    ClosedAfterRefusal,
    /// Interim answers come once each, and only those that are known.
    Interim,
    /// Reason phrases that are missing are filled in.
    Reason,
    /// The application closes, and Envoy keeps the client's connection.
    KeptOpen,
    /// Answers that end with the connection become chunked.
    CloseDelimited,
    /// Lengths of answers without bodies change.
    LengthWithoutBody,
    /// Bytes after the end of an answer are dropped.
    AfterTheEnd,
    /// Nothing of an answer passes before the request.
    AnswerFirst,
    /// Requests that come at once reach the application one after another.
    Pipelining,
    /// Docker's way to take over a connection without an upgrade.
    Hijacking,
    /// Bodies without a length are dropped.
    NoLength,
    /// The application sees a connection when the first request is whole.
    LateConnection,
    /// HTTP/2's frames are each side's own.
    Http2Frames,
    /// `OPTIONS *` finds no route.
    Asterisk,
}

/// How a limit shows.
#[derive(Clone, Copy)]
pub(crate) enum Effect {
    /// The client gets Envoy's own answer with this status.
    Refused(u16),
    /// Some end sees less; what it sees is the same.
    Cut,
    /// Both see the same but for this, which is taken out of what was seen.
    Changed(fn(&mut Seen)),
    /// Something is lost or different.
    Differs,
}

impl HttpLimit {
    /// All of them.
    pub(crate) const ALL: [Self; 43] = [
        Self::NotHttp,
        Self::Version,
        Self::EmptyLength,
        Self::HopByHop,
        Self::Malformed,
        Self::NoHost,
        Self::NonAsciiPath,
        Self::DoubtfulLength,
        Self::TransferCoding,
        Self::AbsoluteTarget,
        Self::Fragment,
        Self::Folding,
        Self::LineEnds,
        Self::ExtraLines,
        Self::NameCase,
        Self::Joined,
        Self::HeaderOrder,
        Self::ChunkExtensions,
        Self::TraceContinued,
        Self::EnvoyHeaders,
        Self::ForwardedFor,
        Self::AnswerRefused,
        Self::NoAnswer,
        Self::HalfClose,
        Self::UnknownUpgrade,
        Self::IgnoredUpgrade,
        Self::LostUpgrade,
        Self::UpgradePassedOver,
        Self::EarlyUpgradeBytes,
        Self::ClosedAfterRefusal,
        Self::Interim,
        Self::Reason,
        Self::KeptOpen,
        Self::CloseDelimited,
        Self::LengthWithoutBody,
        Self::AfterTheEnd,
        Self::AnswerFirst,
        Self::Pipelining,
        Self::Hijacking,
        Self::NoLength,
        Self::LateConnection,
        Self::Http2Frames,
        Self::Asterisk,
    ];

    /// What happens and why, for the documentation.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::NotHttp => "what is not HTTP is refused with 400, or waits for ever: the label says that it is HTTP",
            Self::Version => {
                "an HTTP/1.0 request reaches the application as HTTP/1.1, with `Host: localhost` if it had none; the answer has the client's version"
            }
            Self::EmptyLength => {
                "a request without a body gets `content-length: 0`, unless it is GET, HEAD, DELETE, TRACE or CONNECT"
            }
            Self::HopByHop => {
                "headers that `Connection` names end here, `TE` (but for `trailers`) and `Upgrade` among them (RFC 9110, 7.6.1)"
            }
            Self::Malformed => "a malformed request line, header line or chunk is refused with 400",
            Self::NoHost => "HTTP/1.1 without `Host`, or with one that is no host, is refused with 400 (RFC 9112, 3.2)",
            Self::NonAsciiPath => "a path with other bytes than printable ASCII is refused with 400",
            Self::DoubtfulLength => {
                "a request whose length can be read in two ways is refused with 400: the way in for request smuggling"
            }
            Self::TransferCoding => {
                "a request with other transfer codings than one `chunked` is refused with 501 or 400"
            }
            Self::AbsoluteTarget => {
                "`GET http://host/path` reaches the application as `GET /path` and `Host: host`: forward proxies need another mode"
            }
            Self::Fragment => "`#fragment` is cut off a target, where it does not belong",
            Self::Folding => "a folded header line is unfolded (RFC 9112, 5.2)",
            Self::LineEnds => "lines that end with LF alone go on with CR LF, and a CR in a value is dropped",
            Self::ExtraLines => "empty lines before and after a message are dropped (RFC 9112, 2.2)",
            Self::NameCase => {
                "a name that comes in several cases has the first one everywhere; names of trailers and the word `chunked` become lower-case"
            }
            Self::Joined => "a well-known header that comes twice is joined into one line (RFC 9110, 5.3); `Host`, too",
            Self::HeaderOrder => "`Host` moves to the front and `Transfer-Encoding` to the end",
            Self::ChunkExtensions => "extensions of chunks are dropped (RFC 9112, 7.1.1)",
            Self::TraceContinued => "a trace that the client began goes on: the application's parent is Envoy's span",
            Self::EnvoyHeaders => "headers by which clients could steer Envoy (`x-envoy-…`) are dropped",
            Self::ForwardedFor => "the client's address is added to the `X-Forwarded-For` that came",
            Self::AnswerRefused => "an answer that is malformed, or whose length can be read in two ways, is a 502",
            Self::NoAnswer => "a connection that the application ends without an answer is a 503",
            Self::HalfClose => {
                "a client that ends its half of the connection is cut off, in an upgraded connection, too: no answer after it, and no bytes after the application's own half-close"
            }
            Self::UnknownUpgrade => "an upgrade to a protocol that Envoy was not told is refused with 403",
            Self::IgnoredUpgrade => {
                "an offer of `h2c`, `TLS/…` or `HTTP/…` is taken out of the request, so the application passes it over"
            }
            Self::LostUpgrade => "an application that accepts `h2c` or `TLS/…` all the same is not understood any more",
            Self::UpgradePassedOver => {
                "an application that answers 200 to a request for a WebSocket: the answer's body is lost"
            }
            Self::EarlyUpgradeBytes => "bytes that a client sends before its upgrade was accepted wait until it is",
            Self::ClosedAfterRefusal => {
                "the client's connection ends after an answer to a request that has not ended, or to a refused upgrade"
            }
            Self::Interim => "of several equal 1xx answers one passes, and none of an unknown kind",
            Self::Reason => "an answer without a reason phrase gets the usual one",
            Self::KeptOpen => {
                "where the application closes after its answer, the client's connection stays open for a next request"
            }
            Self::CloseDelimited => {
                "an answer that ends with the connection becomes chunked, and the client's connection stays open"
            }
            Self::LengthWithoutBody => {
                "answers that have no body (204, 304, to HEAD) lose, or get, words about its length"
            }
            Self::AfterTheEnd => "what an application sends after the end of its answer is dropped",
            Self::AnswerFirst => "nothing of an answer passes before its request is there",
            Self::Pipelining => {
                "requests that a client sends at once reach the application one after another, each after the last answer"
            }
            Self::Hijacking => {
                "a connection that both sides use as a raw stream after an ordinary answer (Docker's clients before 1.24) is none"
            }
            Self::NoLength => "a request's body without a length (Icecast's sources) is dropped",
            Self::LateConnection => {
                "the application sees a connection when the first request's head is whole, and none that ends before"
            }
            Self::Http2Frames => "HTTP/2's messages pass, in frames of Envoy's own",
            Self::Asterisk => "`OPTIONS *` is answered with 404",
        }
    }

    /// Whether both sides of a conversation understand the same all the same. Ports that have learned HTTP may show it, too.
    pub(crate) fn is_harmless(self) -> bool {
        matches!(
            self,
            Self::Version
                | Self::EmptyLength
                | Self::HopByHop
                | Self::Folding
                | Self::LineEnds
                | Self::ExtraLines
                | Self::NameCase
                | Self::Joined
                | Self::HeaderOrder
                | Self::ChunkExtensions
                | Self::TraceContinued
                | Self::Reason
                | Self::KeptOpen
                | Self::CloseDelimited
                | Self::LengthWithoutBody
                | Self::Pipelining
                | Self::LateConnection
                | Self::Http2Frames
        )
    }

    /// How it shows.
    pub(crate) fn effect(self) -> Effect {
        match self {
            Self::Malformed | Self::NoHost | Self::NonAsciiPath | Self::DoubtfulLength => Effect::Refused(400),
            Self::UnknownUpgrade => Effect::Refused(403),
            Self::Asterisk => Effect::Refused(404),
            Self::TransferCoding => Effect::Refused(501),
            Self::AnswerRefused => Effect::Refused(502),
            Self::NoAnswer => Effect::Refused(503),
            Self::HalfClose
            | Self::ClosedAfterRefusal
            | Self::AfterTheEnd
            | Self::AnswerFirst
            | Self::LateConnection => Effect::Cut,
            Self::NotHttp
            | Self::LostUpgrade
            | Self::UpgradePassedOver
            | Self::EarlyUpgradeBytes
            | Self::Pipelining
            | Self::Interim
            | Self::Hijacking
            | Self::NoLength
            | Self::Http2Frames => Effect::Differs,
            Self::Version => Effect::Changed(take_out::version),
            Self::EmptyLength => Effect::Changed(take_out::empty_length),
            Self::HopByHop | Self::IgnoredUpgrade => Effect::Changed(take_out::hop_by_hop),
            Self::AbsoluteTarget => Effect::Changed(take_out::target),
            Self::Fragment => Effect::Changed(take_out::fragment),
            Self::Folding => Effect::Changed(take_out::folding),
            Self::LineEnds => Effect::Changed(take_out::carriage_returns),
            Self::ExtraLines => Effect::Changed(take_out::extra_lines),
            Self::NameCase => Effect::Changed(take_out::case),
            Self::Joined => Effect::Changed(take_out::repeated_names),
            Self::HeaderOrder => Effect::Changed(take_out::order),
            Self::ChunkExtensions => Effect::Changed(take_out::chunk_extensions),
            Self::TraceContinued => Effect::Changed(take_out::trace),
            Self::EnvoyHeaders => Effect::Changed(take_out::envoy_headers),
            Self::ForwardedFor => Effect::Changed(take_out::forwarded_for),
            Self::Reason => Effect::Changed(take_out::reason),
            Self::KeptOpen => Effect::Changed(take_out::clients_end),
            Self::CloseDelimited => Effect::Changed(take_out::framing),
            Self::LengthWithoutBody => Effect::Changed(take_out::lengths),
        }
    }
}

/// Whether every client got an answer with this status.
pub(crate) fn refused(seen: &Seen, status: u16) -> bool {
    seen.client.iter().all(|half| status_is(&half.bytes, status))
}

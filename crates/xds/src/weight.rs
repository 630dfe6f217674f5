//! What clients may have us remember, in bytes.
//!
//! What is served has its own bounds. What a client brings beyond that is up to it: names that nobody knows. So much of a
//! stream's memory is its *excess*, which is bounded for each stream and for all together. It is reckoned, not measured,
//! and takes the same time however much there is.

/// The most excess of one stream. An Envoy that comes back to a registrar that knows nothing yet brings about 2 kB for each
/// port that it serves.
pub const STREAM_EXCESS_MAX: usize = 32 << 20;

/// The most excess of all streams together. Where it is more, the stream with the most is ended.
pub const EXCESS_MAX: usize = 64 << 20;

/// What a name takes, wherever it is remembered, with all that is remembered of it.
pub(crate) const NAME_COST: usize = 256;

/// In how many places a resource that is served may be remembered: asked for by name, told, and queued.
pub(crate) const PLACES_OF_SERVED: usize = 3;

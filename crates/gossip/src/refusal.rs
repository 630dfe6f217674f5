//! Why something from the network is refused, and the counts.

use std::fmt;

use crate::wire::DecodeError;

/// Why a datagram or a stream is refused. It is dropped without an answer, and counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It has not the form of this protocol at all.
    NotGossip,
    /// It is of a version of the protocol that this host does not speak.
    OtherVersion,
    /// It is of a cluster of another name.
    OtherCluster,
    /// It is sealed with a key that this host does not have.
    UnknownKey,
    /// The seal is broken: it was changed on the way, or forged.
    BadSeal,
    /// It was seen already, or is too old to tell.
    Replayed,
    /// It is from or for a host's earlier life.
    OldLife,
    /// It is for another host.
    NotForThisHost,
    /// It claims to be from this host.
    OwnName,
    /// It is of this cluster, and can't be understood.
    Malformed,
    /// It speaks of a life too far in the future to be believed.
    TooFarAhead,
    /// A bound would be passed: too many hosts, streams or bytes.
    TooMuch,
}

impl Refusal {
    /// All of them, in the order of their declaration.
    pub const ALL: [Self; 12] = [
        Self::NotGossip,
        Self::OtherVersion,
        Self::OtherCluster,
        Self::UnknownKey,
        Self::BadSeal,
        Self::Replayed,
        Self::OldLife,
        Self::NotForThisHost,
        Self::OwnName,
        Self::Malformed,
        Self::TooFarAhead,
        Self::TooMuch,
    ];

    /// A short name, fit for a metric's label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotGossip => "not_gossip",
            Self::OtherVersion => "other_version",
            Self::OtherCluster => "other_cluster",
            Self::UnknownKey => "unknown_key",
            Self::BadSeal => "bad_seal",
            Self::Replayed => "replayed",
            Self::OldLife => "old_life",
            Self::NotForThisHost => "not_for_this_host",
            Self::OwnName => "own_name",
            Self::Malformed => "malformed",
            Self::TooFarAhead => "too_far_ahead",
            Self::TooMuch => "too_much",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<DecodeError> for Refusal {
    fn from(_: DecodeError) -> Self {
        Self::Malformed
    }
}

/// What went over the network since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams sent.
    pub datagrams_sent: u64,
    /// Their UDP payload, in bytes.
    pub datagram_bytes_sent: u64,
    /// Datagrams received and accepted.
    pub datagrams_received: u64,
    /// Streams opened to others.
    pub streams_opened: u64,
    /// Streams accepted from others.
    pub streams_accepted: u64,
    /// Bytes written to streams.
    pub stream_bytes_sent: u64,
    /// Exchanges that ended with both sides knowing the same.
    pub exchanges_completed: u64,
    /// How often this host had to take a new identity because it was taken for dead.
    pub renewals: u64,
    refused: [u64; Refusal::ALL.len()],
}

impl Counters {
    /// How many datagrams and streams were refused for this reason.
    #[must_use]
    pub const fn refused(&self, why: Refusal) -> u64 {
        self.refused[why as usize]
    }

    pub(crate) const fn count_refused(&mut self, why: Refusal) {
        self.refused[why as usize] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_counted_for_itself() {
        let mut counters = Counters::default();
        for (index, why) in Refusal::ALL.into_iter().enumerate() {
            assert_eq!(why as usize, index);
            counters.count_refused(why);
            assert_eq!(counters.refused(why), 1);
        }
    }
}

//! The sealed form of a stream: a Noise handshake with the shared key, then encrypted messages.
//!
//! ```text
//! opener   ── preface: "EDSG" │ version 1 │ cluster 4 │ key 4 ──▶
//!          ── frame: Noise message 1 ──────────────────────────▶
//!          ◀──────────────────────── frame: Noise message 2 ────
//!          ◀─▶ frames: encrypted pieces of messages ◀──────────▶
//! ```
//! - `Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s` by the library `snow`; the preface and the cluster's name are its
//!   prologue. Both sides prove that they have the key, and what is said stays secret even if the key is lost
//!   later.
//! - The opener's ephemeral key makes a recorded stream useless: played again, nobody can answer message 2,
//!   and the accepting side says nothing before it has had an encrypted message.
//! - A frame is its length in 2 bytes and its bytes. A message is its length in 4 bytes and its bytes, cut
//!   into frames.
//!
//! What the messages say is in [`crate::message`].

use rand::{Rng, RngExt as _, SeedableRng as _, rngs::StdRng};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::{CryptoResolver, DefaultResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, TransportState};

use crate::envelope::{Envelope, VERSION};
use crate::key_ring::{Key, KeyId};
use crate::refusal::Refusal;

/// The longest message, in bytes. The longest record and its names fit.
pub(crate) const MESSAGE_MAX: usize = 320 * 1024;

/// The most bytes that one stream may carry in each direction.
const STREAM_MAX: usize = 64 * 1024 * 1024;

const MAGIC: [u8; 4] = *b"EDSG";
const PREFACE: usize = 4 + 1 + 4 + 4;
const PIECE_MAX: usize = 16 * 1024;
const TAG: usize = 16;
const FRAME_MAX: usize = PIECE_MAX + TAG;
const PATTERN: &str = "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s";

enum State {
    /// The other side is to send its preface.
    AwaitPreface,
    /// The other side is to send its Noise message.
    Handshake(Box<HandshakeState>),
    Open(Box<TransportState>),
}

/// One end of a stream: bytes in, messages out, and the other way round.
pub(crate) struct Channel {
    state: State,
    /// Messages that wait for the handshake's end.
    queued: Vec<u8>,
    incoming: Vec<u8>,
    plain: Vec<u8>,
    received: usize,
    rng: StdRng,
}

impl std::fmt::Debug for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel").field("open", &matches!(self.state, State::Open(_))).finish_non_exhaustive()
    }
}

impl Channel {
    fn new(state: State, rng: &mut impl Rng) -> Self {
        let rng = StdRng::from_seed(rng.random());
        Self { state, queued: Vec::new(), incoming: Vec::new(), plain: Vec::new(), received: 0, rng }
    }

    /// The end that accepted.
    pub(crate) fn accept(rng: &mut impl Rng) -> Self {
        Self::new(State::AwaitPreface, rng)
    }

    /// The end that opens, and its first bytes.
    pub(crate) fn open(envelope: &Envelope, rng: &mut impl Rng) -> Result<(Self, Vec<u8>), Refusal> {
        let mut this = Self::accept(rng);
        let key = envelope.keys.first();
        let mut out = preface(envelope, key.id);
        let mut noise = handshake(envelope, key, &out, true, &mut this.rng)?;
        write_handshake(&mut noise, &mut out)?;
        this.state = State::Handshake(Box::new(noise));
        Ok((this, out))
    }

    /// Takes in bytes and returns the messages that they complete. What is to be answered by the handshake
    /// itself is appended to `out`.
    ///
    /// # Errors
    /// The stream is not of this cluster, or misbehaves; it is of no further use.
    pub(crate) fn receive(
        &mut self,
        envelope: &Envelope,
        bytes: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Vec<Vec<u8>>, Refusal> {
        self.received += bytes.len();
        if self.received > STREAM_MAX {
            return Err(Refusal::TooMuch);
        }
        self.incoming.extend_from_slice(bytes);
        let incoming = std::mem::take(&mut self.incoming);
        let mut rest = &incoming[..];
        let mut messages = Vec::new();
        while self.step(envelope, &mut rest, out)? {
            self.take_messages(&mut messages)?;
        }
        self.incoming = rest.to_vec();
        Ok(messages)
    }

    /// Seals a message to the end of `out`, or keeps it until the handshake is over.
    pub(crate) fn send(&mut self, message: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let length = u32::try_from(message.len()).map_err(|_| Refusal::TooMuch)?;
        self.queued.extend(length.to_be_bytes());
        self.queued.extend_from_slice(message);
        self.flush(out)
    }

    fn flush(&mut self, out: &mut Vec<u8>) -> Result<(), Refusal> {
        let State::Open(noise) = &mut self.state else { return Ok(()) };
        let mut sealed = [0; FRAME_MAX];
        for piece in std::mem::take(&mut self.queued).chunks(PIECE_MAX) {
            let length = noise.write_message(piece, &mut sealed).map_err(|_| Refusal::TooMuch)?;
            push_frame(&sealed[..length], out);
        }
        Ok(())
    }

    /// Consumes one preface or frame of `rest`; `false` where it is incomplete.
    fn step(&mut self, envelope: &Envelope, rest: &mut &[u8], out: &mut Vec<u8>) -> Result<bool, Refusal> {
        if matches!(self.state, State::AwaitPreface) {
            let Some((preface, after)) = rest.split_at_checked(PREFACE) else { return Ok(false) };
            let key = envelope.keys.find(key_of(envelope, preface)?).ok_or(Refusal::UnknownKey)?;
            let noise = handshake(envelope, key, preface, false, &mut self.rng)?;
            self.state = State::Handshake(Box::new(noise));
            *rest = after;
            return Ok(true);
        }
        let Some(frame) = take_frame(rest)? else { return Ok(false) };
        self.take_frame(frame, out)?;
        Ok(true)
    }

    fn take_frame(&mut self, frame: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        match std::mem::replace(&mut self.state, State::AwaitPreface) {
            // Prefaces are no frames, see `step`.
            State::AwaitPreface => return Err(Refusal::NotGossip),
            State::Handshake(mut noise) => {
                noise.read_message(frame, &mut [0; FRAME_MAX]).map_err(|_| Refusal::BadSeal)?;
                if !noise.is_handshake_finished() {
                    write_handshake(&mut noise, out)?;
                }
                let open = noise.into_transport_mode().map_err(|_| Refusal::BadSeal)?;
                self.state = State::Open(Box::new(open));
                self.flush(out)?;
            }
            State::Open(mut noise) => {
                let mut piece = [0; FRAME_MAX];
                let length = noise.read_message(frame, &mut piece).map_err(|_| Refusal::BadSeal)?;
                self.plain.extend_from_slice(&piece[..length]);
                self.state = State::Open(noise);
            }
        }
        Ok(())
    }

    fn take_messages(&mut self, messages: &mut Vec<Vec<u8>>) -> Result<(), Refusal> {
        while let Some((length, rest)) = self.plain.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| Refusal::TooMuch)?;
            if length > MESSAGE_MAX {
                return Err(Refusal::TooMuch);
            }
            if rest.len() < length {
                break;
            }
            messages.push(rest[..length].to_vec());
            self.plain.drain(..4 + length);
        }
        Ok(())
    }
}

fn preface(envelope: &Envelope, key: KeyId) -> Vec<u8> {
    [&MAGIC[..], &[VERSION], &envelope.cluster.tag(), &key].concat()
}

/// `preface` is [`PREFACE`] long.
fn key_of(envelope: &Envelope, preface: &[u8]) -> Result<KeyId, Refusal> {
    if preface[..4] != MAGIC {
        return Err(Refusal::NotGossip);
    }
    if preface[4] != VERSION {
        return Err(Refusal::OtherVersion);
    }
    if preface[5..9] != envelope.cluster.tag() {
        return Err(Refusal::OtherCluster);
    }
    let mut key = KeyId::default();
    key.copy_from_slice(&preface[9..]);
    Ok(key)
}

/// The next frame, which is taken off `rest`.
fn take_frame<'a>(rest: &mut &'a [u8]) -> Result<Option<&'a [u8]>, Refusal> {
    let Some((length, after)) = rest.split_first_chunk::<2>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(*length));
    if length > FRAME_MAX {
        return Err(Refusal::NotGossip);
    }
    let Some((frame, after)) = after.split_at_checked(length) else { return Ok(None) };
    *rest = after;
    Ok(Some(frame))
}

fn push_frame(frame: &[u8], out: &mut Vec<u8>) {
    let length = u16::try_from(frame.len()).expect("frames are at most 16 kB and a tag");
    out.extend(length.to_be_bytes());
    out.extend_from_slice(frame);
}

fn write_handshake(noise: &mut HandshakeState, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut message = [0; 128];
    let length = noise.write_message(&[], &mut message).map_err(|_| Refusal::BadSeal)?;
    push_frame(&message[..length], out);
    Ok(())
}

fn handshake(
    envelope: &Envelope,
    key: &Key,
    preface: &[u8],
    opens: bool,
    rng: &mut StdRng,
) -> Result<HandshakeState, Refusal> {
    let prologue = [preface, envelope.cluster.as_str().as_bytes()].concat();
    let mut build = || {
        let resolver = Resolver { seed: rng.random() };
        let builder = Builder::with_resolver(PATTERN.parse()?, Box::new(resolver));
        let builder = builder.prologue(&prologue)?.psk(0, &key.streams)?;
        if opens { builder.build_initiator() } else { builder.build_responder() }
    };
    build().map_err(|_: snow::Error| Refusal::BadSeal)
}

/// snow's own primitives, with randomness from the caller, so that a simulation can be repeated.
struct Resolver {
    seed: [u8; 32],
}

struct Seeded(StdRng);

impl Random for Seeded {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill(out);
        Ok(())
    }
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Seeded(StdRng::from_seed(self.seed))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        DefaultResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        DefaultResolver.resolve_cipher(choice)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key_ring::{KeyRing, generate_key};

    fn envelope(cluster: &str, key: u64) -> Envelope {
        let key = generate_key(&mut StdRng::seed_from_u64(key));
        Envelope { cluster: cluster.parse().unwrap(), keys: KeyRing::parse(&key).unwrap() }
    }

    /// Both ends after the handshake.
    fn connected(ours: &Envelope, theirs: &Envelope) -> Result<(Channel, Channel), Refusal> {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut opener, first) = Channel::open(ours, &mut rng)?;
        let mut acceptor = Channel::accept(&mut rng);
        let mut answer = Vec::new();
        acceptor.receive(theirs, &first, &mut answer)?;
        opener.receive(ours, &answer, &mut Vec::new())?;
        Ok((opener, acceptor))
    }

    #[test]
    fn messages_of_any_length_arrive_whole_however_the_bytes_are_cut() {
        let envelope = envelope("default", 1);
        for chunk in [1, 7, 100_000] {
            let (mut opener, mut acceptor) = connected(&envelope, &envelope).unwrap();
            let (mut out, long) = (Vec::new(), vec![7; MESSAGE_MAX]);
            for message in [&b"short"[..], &long, b""] {
                opener.send(message, &mut out).unwrap();
            }
            let mut messages = Vec::new();
            for bytes in out.chunks(chunk) {
                messages.extend(acceptor.receive(&envelope, bytes, &mut Vec::new()).unwrap());
            }
            assert_eq!(messages, [b"short".to_vec(), long, Vec::new()]);
        }
    }

    #[test]
    fn what_is_said_before_the_handshake_ends_is_said_after_it() {
        let envelope = envelope("default", 1);
        let mut rng = StdRng::seed_from_u64(1);
        let (mut opener, mut to_acceptor) = Channel::open(&envelope, &mut rng).unwrap();
        opener.send(b"early", &mut to_acceptor).unwrap();
        let mut acceptor = Channel::accept(&mut rng);
        let mut to_opener = Vec::new();
        assert!(acceptor.receive(&envelope, &to_acceptor, &mut to_opener).unwrap().is_empty());
        let mut out = Vec::new();
        opener.receive(&envelope, &to_opener, &mut out).unwrap();
        assert_eq!(acceptor.receive(&envelope, &out, &mut Vec::new()), Ok(vec![b"early".to_vec()]));
    }

    #[test]
    fn another_cluster_and_another_key_are_refused() {
        let own = envelope("default", 1);
        let refused = |theirs: &Envelope| connected(theirs, &own).unwrap_err();
        assert_eq!(refused(&envelope("staging", 1)), Refusal::OtherCluster);
        assert_eq!(refused(&envelope("default", 2)), Refusal::UnknownKey);
    }

    #[test]
    fn a_hint_that_lies_about_cluster_or_key_does_not_help() {
        let own = envelope("default", 1);
        for theirs in [envelope("staging", 1), envelope("default", 2)] {
            let mut rng = StdRng::seed_from_u64(1);
            let (_, mut first) = Channel::open(&theirs, &mut rng).unwrap();
            first[..PREFACE].copy_from_slice(&preface(&own, own.keys.first().id));
            let error = Channel::accept(&mut rng).receive(&own, &first, &mut Vec::new()).unwrap_err();
            assert_eq!(error, Refusal::BadSeal);
        }
    }

    #[test]
    fn a_recorded_stream_played_again_yields_no_message() {
        let envelope = envelope("default", 1);
        let mut rng = StdRng::seed_from_u64(1);
        let (mut opener, mut recorded) = Channel::open(&envelope, &mut rng).unwrap();
        let (mut acceptor, mut answer) = (Channel::accept(&mut rng), Vec::new());
        acceptor.receive(&envelope, &recorded, &mut answer).unwrap();
        opener.send(b"once", &mut Vec::new()).unwrap();
        opener.receive(&envelope, &answer, &mut recorded).unwrap();
        let mut again = Channel::accept(&mut rng);
        assert_eq!(again.receive(&envelope, &recorded, &mut Vec::new()), Err(Refusal::BadSeal));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_grow(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 0..20)) {
            let envelope = envelope("default", 1);
            let mut rng = StdRng::seed_from_u64(1);
            let mut acceptor = Channel::accept(&mut rng);
            let _ = acceptor.receive(&envelope, &preface(&envelope, envelope.keys.first().id), &mut Vec::new());
            for chunk in chunks {
                if acceptor.receive(&envelope, &chunk, &mut Vec::new()).is_err() {
                    return Ok(());
                }
                prop_assert!(acceptor.incoming.len() <= 2 + FRAME_MAX);
            }
        }
    }
}

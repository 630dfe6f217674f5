//! The sealed form of a datagram: authenticated, encrypted, bound to its cluster.
//!
//! ```text
//! magic 1 │ version 1 │ cluster 4 │ key 4 │ nonce 24 │ ciphertext of (count 8 │ body) │ tag 16
//! ```
//! - XChaCha20-Poly1305 with a random nonce: one key is shared by all hosts and their lives, so no counter
//!   can be kept, and 192 bits are enough for random ones to never meet (96, as in AES-GCM, are used up
//!   within days by a large cluster). It is also fast where there are no AES instructions.
//! - All that is in the clear, and the whole cluster name, is authenticated.
//! - `cluster` (a hash of the name) and `key` (a hash of the key) say why a datagram can't be read. They are
//!   hints: only the seal proves anything.
//! - `count` is what [`crate::replay`] judges. Whom the datagram is for is in the body, see
//!   [`crate::identity`].
//!
//! Streams have a form of their own, see [`crate::channel`].

use chacha20poly1305::aead::{AeadInPlace as _, KeyInit as _};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand::{Rng, RngExt as _};

use crate::cluster::ClusterName;
use crate::key_ring::{Key, KeyRing};
use crate::refusal::Refusal;

/// The version of everything that hosts say to each other. It rises when an older host would misunderstand.
pub const VERSION: u8 = 1;

/// The longest datagram, in bytes of UDP payload: QUIC's floor (RFC 9000, 14), which passes every path that
/// QUIC passes, tunnels included.
pub const DATAGRAM_MAX: usize = 1200;

/// The longest body of a datagram, in bytes.
pub(crate) const BODY_MAX: usize = DATAGRAM_MAX - HEADER - COUNT - TAG;

const MAGIC: u8 = 0xed;
const HINTS: usize = 2 + 4 + 4;
const NONCE: usize = 24;
const HEADER: usize = HINTS + NONCE;
const COUNT: usize = 8;
const TAG: usize = 16;

/// Seals and opens the datagrams of one cluster.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    pub(crate) cluster: ClusterName,
    pub(crate) keys: KeyRing,
}

impl Envelope {
    /// The datagram that holds `body`. `count` must be unique among all that the sender ever sealed in its
    /// present incarnation.
    pub(crate) fn seal(&self, count: u64, body: &[u8], rng: &mut impl Rng) -> Vec<u8> {
        let key = self.keys.first();
        let mut datagram = Vec::with_capacity(HEADER + COUNT + body.len() + TAG);
        datagram.extend([MAGIC, VERSION]);
        datagram.extend(self.cluster.tag());
        datagram.extend(key.id);
        datagram.extend(rng.random::<[u8; NONCE]>());
        datagram.extend(count.to_be_bytes());
        datagram.extend_from_slice(body);
        let (header, plain) = datagram.split_at_mut(HEADER);
        let tag = cipher(key)
            .encrypt_in_place_detached(XNonce::from_slice(&header[HINTS..]), &self.associated(header), plain)
            .expect("a datagram is far below the cipher's limit of 256 GB");
        datagram.extend(tag);
        datagram
    }

    /// The count and the body of a datagram of this cluster.
    ///
    /// # Errors
    /// It is none; nothing of it can be trusted.
    pub(crate) fn open(&self, datagram: &[u8]) -> Result<(u64, Vec<u8>), Refusal> {
        if datagram.len() > DATAGRAM_MAX || datagram.len() < HEADER + COUNT + TAG || datagram[0] != MAGIC {
            return Err(Refusal::NotGossip);
        }
        let (header, sealed) = datagram.split_at(HEADER);
        let key = self.key_for(header)?;
        let (ciphertext, tag) = sealed.split_at(sealed.len() - TAG);
        let mut plain = ciphertext.to_vec();
        cipher(key)
            .decrypt_in_place_detached(
                XNonce::from_slice(&header[HINTS..]),
                &self.associated(header),
                &mut plain,
                tag.into(),
            )
            .map_err(|_| Refusal::BadSeal)?;
        let body = plain.split_off(COUNT);
        let count = plain.try_into().map(u64::from_be_bytes).map_err(|_| Refusal::NotGossip)?;
        Ok((count, body))
    }

    /// `header` is at least [`HINTS`] long.
    fn key_for(&self, header: &[u8]) -> Result<&Key, Refusal> {
        if header[1] != VERSION {
            return Err(Refusal::OtherVersion);
        }
        if header[2..6] != self.cluster.tag() {
            return Err(Refusal::OtherCluster);
        }
        let mut id = [0; 4];
        id.copy_from_slice(&header[6..HINTS]);
        self.keys.find(id).ok_or(Refusal::UnknownKey)
    }

    fn associated(&self, header: &[u8]) -> Vec<u8> {
        [&header[..HINTS], self.cluster.as_str().as_bytes()].concat()
    }
}

fn cipher(key: &Key) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new((&*key.datagrams).into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;
    use crate::key_ring::generate_key;

    fn rng() -> StdRng {
        StdRng::seed_from_u64(1)
    }

    fn envelope(cluster: &str, keys: &str) -> Envelope {
        Envelope { cluster: cluster.parse().unwrap(), keys: KeyRing::parse(keys).unwrap() }
    }

    fn keys() -> (String, String) {
        (
            generate_key(&mut StdRng::seed_from_u64(7)).to_string(),
            generate_key(&mut StdRng::seed_from_u64(8)).to_string(),
        )
    }

    #[test]
    fn what_one_host_seals_another_opens() {
        let (key, _) = keys();
        let sealed = envelope("default", &key).seal(9, b"body", &mut rng());
        assert_eq!(envelope("default", &key).open(&sealed), Ok((9, b"body".to_vec())));
        let largest = envelope("default", &key).seal(9, &[0; BODY_MAX], &mut rng());
        assert_eq!(largest.len(), DATAGRAM_MAX);
        assert!(!sealed.windows(4).any(|window| window == b"body"));
    }

    #[test]
    fn another_cluster_another_key_and_another_version_are_told_apart() {
        let (key, other) = keys();
        let own = envelope("default", &key);
        let refused = |cluster: &str, keys: &str| own.open(&envelope(cluster, keys).seal(1, b"x", &mut rng()));
        assert_eq!(refused("staging", &key), Err(Refusal::OtherCluster));
        assert_eq!(refused("default", &other), Err(Refusal::UnknownKey));
        let mut newer = own.seal(1, b"x", &mut rng());
        newer[1] = VERSION + 1;
        assert_eq!(own.open(&newer), Err(Refusal::OtherVersion));
    }

    #[test]
    fn a_clusters_name_can_not_be_exchanged_by_changing_its_hint() {
        let (key, _) = keys();
        let own = envelope("default", &key);
        let mut forged = envelope("staging", &key).seal(1, b"x", &mut rng());
        forged[2..6].copy_from_slice(&own.cluster.tag());
        assert_eq!(own.open(&forged), Err(Refusal::BadSeal));
    }

    #[test]
    fn keys_rotate_without_an_outage() {
        let (old, new) = keys();
        let steps = [old.clone(), format!("{old}\n{new}"), format!("{new}\n{old}"), new];
        for neighbours in steps.windows(2) {
            let (behind, ahead) = (envelope("default", &neighbours[0]), envelope("default", &neighbours[1]));
            for (from, to) in [(&behind, &ahead), (&ahead, &behind)] {
                assert!(to.open(&from.seal(1, b"x", &mut rng())).is_ok(), "{from:?} {to:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_refused(at in 0_usize..60, change in 1_u8..) {
            let envelope = envelope("default", &keys().0);
            let mut sealed = envelope.seal(1, b"0123456789", &mut rng());
            let at = at % sealed.len();
            sealed[at] ^= change;
            prop_assert!(envelope.open(&sealed).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..1300)) {
            prop_assert!(envelope("default", &keys().0).open(&bytes).is_err());
        }
    }
}

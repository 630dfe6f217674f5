//! The keys that hosts of a cluster share, and the file they come in.
//!
//! A key file holds one key per line: 32 bytes in base64, as `shimctl keygen` prints them. The first key
//! encrypts, all decrypt. So a key is replaced without an outage: put the new one second everywhere, then
//! first everywhere, then take the old one out.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput as _, KeyInit as _, Update as _};
use rand::{CryptoRng, RngExt as _};
use zeroize::Zeroizing;

/// The length of a key, in bytes.
pub const KEY_LENGTH: usize = 32;

/// The most keys in one ring.
pub const KEYS_MAX: usize = 8;

/// Names a key without revealing it.
pub(crate) type KeyId = [u8; 4];

/// 32 secret bytes that are wiped when dropped.
pub(crate) type Secret = Zeroizing<[u8; KEY_LENGTH]>;

/// What is made of one shared key: a secret for each use, so that no use can weaken another.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) id: KeyId,
    pub(crate) datagrams: Secret,
    pub(crate) streams: Secret,
    hops: Secret,
}

impl Key {
    fn new(key: &Secret) -> Self {
        let mut id = KeyId::default();
        id.copy_from_slice(&derived(key, "envoy-docker-shim gossip key id")[..4]);
        Self {
            id,
            datagrams: derived(key, "envoy-docker-shim gossip datagrams"),
            streams: derived(key, "envoy-docker-shim gossip streams"),
            hops: derived(key, "envoy-docker-shim hops"),
        }
    }
}

fn derived(key: &Secret, purpose: &str) -> Secret {
    let mut mac = Blake2sMac256::new_from_slice(&**key).expect("BLAKE2s takes keys of 32 bytes");
    mac.update(purpose.as_bytes());
    Zeroizing::new(mac.finalize_fixed().into())
}

/// The keys of a cluster: 1 to [`KEYS_MAX`]. The first encrypts, all decrypt.
#[derive(Clone)]
pub struct KeyRing {
    keys: Vec<Key>,
}

/// Why a text is no key ring. No message holds any part of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// There is no key in it.
    #[error("no key found: put one key per line, as printed by `shimctl keygen`")]
    Empty,
    /// The line is no key.
    #[error("line {line} is no key: expected 32 bytes in base64, as printed by `shimctl keygen`")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// The line repeats an earlier one.
    #[error("line {line} repeats the key of an earlier line: remove it")]
    Repeated {
        /// Counted from 1.
        line: usize,
    },
    /// There are more than [`KEYS_MAX`].
    #[error("more than {KEYS_MAX} keys: remove those that no host encrypts with any longer")]
    TooMany,
}

impl KeyRing {
    /// Reads a key file's text. Empty lines, and lines that begin with `#`, are skipped.
    ///
    /// # Errors
    /// A line is no key, or there are none or too many; the error says which line.
    pub fn parse(text: &str) -> Result<Self, KeyRingError> {
        let mut keys: Vec<Key> = Vec::new();
        let lines = text.lines().map(str::trim).enumerate();
        for (index, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let line_number = index + 1;
            let key = Key::new(&parse_key(line).ok_or(KeyRingError::Line { line: line_number })?);
            if keys.iter().any(|other| other.id == key.id) {
                return Err(KeyRingError::Repeated { line: line_number });
            }
            if keys.len() == KEYS_MAX {
                return Err(KeyRingError::TooMany);
            }
            keys.push(key);
        }
        if keys.is_empty() { Err(KeyRingError::Empty) } else { Ok(Self { keys }) }
    }

    /// The ring for `--insecure-gossip`: its key is known to everybody. The wire stays the same.
    #[must_use]
    pub fn insecure() -> Self {
        Self { keys: vec![Key::new(&Zeroizing::new([0; KEY_LENGTH]))] }
    }

    /// A secret of each key, the encrypting one's first, by which the hosts' Envoys know each other's answers.
    pub fn hop_secrets(&self) -> impl Iterator<Item = [u8; KEY_LENGTH]> {
        self.keys.iter().map(|key| *key.hops)
    }

    /// The key that encrypts.
    pub(crate) fn first(&self) -> &Key {
        &self.keys[0]
    }

    /// The key of this id, if it is in the ring.
    pub(crate) fn find(&self, id: KeyId) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// The names of the keys, the encrypting one first: 8 hexadecimal digits each, safe to show. Hosts whose
    /// first names differ encrypt with different keys.
    pub fn names(&self) -> impl Iterator<Item = String> {
        self.keys.iter().map(|key| key.id.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

fn parse_key(line: &str) -> Option<Secret> {
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(line).ok()?);
    let mut key = Secret::default();
    (bytes.len() == KEY_LENGTH).then(|| key.copy_from_slice(&bytes))?;
    Some(key)
}

/// A new key, as a line of a key file without its end: what `shimctl keygen` prints.
///
/// `rng` must be seeded by the operating system.
#[must_use]
pub fn generate_key(rng: &mut impl CryptoRng) -> Zeroizing<String> {
    let key = Zeroizing::new(rng.random::<[u8; KEY_LENGTH]>());
    Zeroizing::new(BASE64_STANDARD.encode(*key))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    fn key(seed: u64) -> String {
        generate_key(&mut StdRng::seed_from_u64(seed)).to_string()
    }

    #[test]
    fn a_file_of_generated_keys_is_a_ring_in_its_order() {
        let (a, b) = (key(1), key(2));
        let ring = KeyRing::parse(&format!("# old key second\n{a}\n\n  {b}  \n")).unwrap();
        let only_a = KeyRing::parse(&a).unwrap();
        assert_eq!(ring.first().id, only_a.first().id);
        assert!(ring.find(KeyRing::parse(&b).unwrap().first().id).is_some());
        assert!(only_a.find(KeyRing::parse(&b).unwrap().first().id).is_none());
    }

    #[test]
    fn errors_name_the_line_and_never_the_key() {
        let good = key(1);
        let short = &good[..40];
        let error = |text: &str| KeyRing::parse(text).unwrap_err();
        assert_eq!(error("\n# nothing\n"), KeyRingError::Empty);
        assert_eq!(error(&format!("{good}\n{short}")), KeyRingError::Line { line: 2 });
        assert_eq!(error(&format!("{good}\n{good}")), KeyRingError::Repeated { line: 2 });
        let many = (0..9).map(key).collect::<Vec<_>>().join("\n");
        assert_eq!(error(&many), KeyRingError::TooMany);
        assert!(!error(short).to_string().contains(short));
        let ring = KeyRing::parse(&good).unwrap();
        assert!(!format!("{ring:?}").contains(&good));
    }

    #[test]
    fn each_use_has_a_secret_of_its_own() {
        let ring = KeyRing::insecure();
        let key = ring.first();
        assert_ne!(*key.datagrams, *key.streams);
        assert!(![*key.datagrams, *key.streams].contains(&*key.hops));
        assert_ne!(*key.datagrams, [0; KEY_LENGTH]);
        assert_ne!(key.datagrams[..4], key.id);
    }
}

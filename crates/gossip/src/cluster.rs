//! The name of a cluster, and fingerprints: short hashes that stand for names and contents.

use std::fmt;
use std::str::FromStr;

use blake2::Blake2s256;
use blake2::digest::{FixedOutput as _, Update as _};
use model::HostName;

/// The first 8 bytes of the BLAKE2s hash of all parts.
pub(crate) fn fingerprint(parts: &[&[u8]]) -> u64 {
    let mut hash = Blake2s256::default();
    parts.iter().for_each(|part| hash.update(part));
    let bytes: [u8; 32] = hash.finalize_fixed().into();
    let mut first = [0; 8];
    first.copy_from_slice(&bytes[..8]);
    u64::from_be_bytes(first)
}

/// The name of a cluster: 1 to 63 of `A-Z a-z 0-9 . _ -`. Hosts of another cluster are refused, even if they
/// have the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterName {
    text: String,
    tag: [u8; 4],
}

/// The text is no cluster name; it is what was given, cut to a length fit for a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no cluster name: expected 1 to 63 of A-Z a-z 0-9 . _ -")]
pub struct NotAClusterName(pub String);

impl ClusterName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// A hash that tells clusters apart on the wire. It proves nothing.
    pub(crate) const fn tag(&self) -> [u8; 4] {
        self.tag
    }
}

impl fmt::Display for ClusterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for ClusterName {
    type Err = NotAClusterName;

    fn from_str(text: &str) -> Result<Self, NotAClusterName> {
        // The same characters and length as every other name.
        let name: HostName = text.parse().map_err(|error: model::host::NotAHostName| NotAClusterName(error.0))?;
        let [a, b, c, d, ..] = fingerprint(&[b"cluster ", name.as_str().as_bytes()]).to_be_bytes();
        Ok(Self { text: name.as_str().to_owned(), tag: [a, b, c, d] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_have_different_tags() {
        let tag = |name: &str| name.parse::<ClusterName>().unwrap().tag();
        assert_ne!(tag("default"), tag("staging"));
        assert!("".parse::<ClusterName>().is_err());
        assert!("my cluster".parse::<ClusterName>().unwrap_err().to_string().contains("my cluster"));
    }
}

//! `shimctl keygen`: a key for the hosts of a cluster to share. What it is made of is the crate `gossip`'s matter.

use rand::SeedableRng;
use rand::rngs::{StdRng, SysRng};
use zeroize::Zeroizing;

/// What to do with the key, in words.
pub(crate) const HINT: &str = "\
Put this line into a file of mode 0600 on every host, such as /etc/envoy-docker-shim/gossip.key, and name the file \
with gossip-key-file in registrar.yaml. Whoever has it can read and change what the cluster serves.";

/// A new key, as a line of a key file without its end.
///
/// # Errors
/// The system has no randomness to give.
pub(crate) fn key() -> Result<Zeroizing<String>, String> {
    let mut rng =
        StdRng::try_from_rng(&mut SysRng).map_err(|error| format!("the system gives no randomness: {error}"))?;
    Ok(gossip::generate_key(&mut rng))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_line_that_a_key_file_takes_and_never_the_same() {
        let (one, other) = (key().unwrap(), key().unwrap());
        assert_ne!(one, other);
        assert_eq!(one.lines().count(), 1);
        gossip::KeyRing::parse(&one).unwrap();
    }
}

//! An instance: one container, or one static entry, of a service on one host.
//!
//! All that an instance says travels to every host of the cluster, so all of it is bounded here.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use crate::{ContainerId, HostName, Protocol, ProxyMode, Service, Status};

/// The most ports that one instance can announce.
pub const PORTS_MAX: usize = 32;

/// The longest image name, in bytes.
pub const IMAGE_MAX_LENGTH: usize = 255;

/// The longest version, in bytes.
pub const VERSION_MAX_LENGTH: usize = 63;

/// Which instance of its host: 12 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceKey([u8; 6]);

/// The text is no instance key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an instance: expected 12 hexadecimal digits")]
pub struct NotAnInstanceKey;

impl InstanceKey {
    /// The key made of these 48 bits. A static entry's should be a hash of what it is, so that it stays the
    /// same over restarts.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    /// The 48 bits.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 6] {
        &self.0
    }
}

impl fmt::Display for InstanceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for InstanceKey {
    type Err = NotAnInstanceKey;

    fn from_str(text: &str) -> Result<Self, NotAnInstanceKey> {
        let is_key = text.len() == 12 && text.bytes().all(|b| b.is_ascii_hexdigit());
        let number = is_key.then(|| u64::from_str_radix(text, 16).ok()).flatten().ok_or(NotAnInstanceKey)?;
        let [_, _, key @ ..] = number.to_be_bytes();
        Ok(Self(key))
    }
}

/// An instance's name in the whole cluster, `HOST/12 hex digits`: what the API calls its `id`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId {
    /// Where it runs.
    pub host: HostName,
    /// Which one of that host.
    pub key: InstanceKey,
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.key)
    }
}

/// The text is no instance id; it is what was given, cut to a length fit for a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no instance: expected HOST/12 hexadecimal digits, as listed by `shimctl services`")]
pub struct NotAnInstanceId(pub String);

impl FromStr for InstanceId {
    type Err = NotAnInstanceId;

    fn from_str(text: &str) -> Result<Self, NotAnInstanceId> {
        let parse = || {
            let (host, key) = text.rsplit_once('/')?;
            Some(Self { host: host.parse().ok()?, key: key.parse().ok()? })
        };
        parse().ok_or_else(|| NotAnInstanceId(text.chars().take(80).collect()))
    }
}

/// What an instance is made of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A container. Its key is the first 12 digits of its id.
    Container(ContainerId),
    /// An entry of the host's static services.
    Static(InstanceKey),
}

impl Origin {
    /// Which instance of its host.
    #[must_use]
    pub fn key(&self) -> InstanceKey {
        match self {
            Self::Static(key) => *key,
            Self::Container(id) => id.short().parse().expect("a container id is hexadecimal digits"),
        }
    }

    /// Docker's id, if it is a container.
    #[must_use]
    pub const fn container(&self) -> Option<&ContainerId> {
        match self {
            Self::Container(id) => Some(id),
            Self::Static(_) => None,
        }
    }
}

/// A text of at most `MAX` bytes of UTF-8. What is longer is cut: none of these texts is worth losing an instance.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text<const MAX: usize>(String);

impl<const MAX: usize> Text<MAX> {
    /// As much of `text` as fits.
    #[must_use]
    pub fn cut(text: &str) -> Self {
        Self(text[..text.floor_char_boundary(MAX)].to_owned())
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// One port of an instance, where other hosts reach it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstancePort {
    /// The cluster-wide port that stands for it; `None` where it is only listed.
    pub service_port: Option<u16>,
    /// The host's address that it is published at. Never unspecified: the advertise address stands for any.
    pub address: IpAddr,
    /// The host's port, 1 to 65535.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// How its traffic is treated.
    pub mode: ProxyMode,
}

/// One container, or one static entry, of a service on one host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance {
    /// What it is made of; says its key.
    pub origin: Origin,
    /// Whose instance it is.
    pub service: Service,
    /// Where it is reached: at most [`PORTS_MAX`].
    pub ports: Vec<InstancePort>,
    /// Whether it may be sent traffic, as its own host sees it.
    pub status: Status,
    /// The image as it was asked for.
    pub image: Text<IMAGE_MAX_LENGTH>,
    /// The image's tag, or what a static entry says.
    pub version: Text<VERSION_MAX_LENGTH>,
    /// When it started, in milliseconds of its host's Unix time. For the eye only: no decision rests on it.
    pub since_ms: u64,
}

impl Instance {
    /// Which instance of its host.
    #[must_use]
    pub fn key(&self) -> InstanceKey {
        self.origin.key()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_containers_key_is_the_short_form_of_its_id() {
        let id: ContainerId =
            "0123456789ab".repeat(5).chars().chain("cdef".chars()).collect::<String>().parse().unwrap();
        assert_eq!(Origin::Container(id.clone()).key().to_string(), id.short());
    }

    #[test]
    fn an_instance_id_parses_from_its_own_spelling() {
        let id: InstanceId = "host-1/00ff00ff00ff".parse().unwrap();
        assert_eq!(id.to_string(), "host-1/00ff00ff00ff");
        for bad in ["", "/", "host-1", "host-1/", "host 1/00ff00ff00ff", "host-1/+0ff00ff00ff", "h/00ff00ff00ff0"] {
            assert!(bad.parse::<InstanceId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(Text::<4>::cut("abcü").as_str(), "abc");
        assert_eq!(Text::<5>::cut("abcü").as_str(), "abcü");
    }
}

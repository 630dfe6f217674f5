//! Where a port is published, and over which protocol.
//!
//! Parsing of Docker's flags lives in the shim, of Docker's JSON in the registrar; both end in these types.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A transport protocol that Docker can publish a port for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Shared with Envoy, see the shim's `steering`.
    Tcp,
    /// Forwarded by the shim alone.
    Udp,
    /// Handed over to docker-proxy.
    Sctp,
}

impl Protocol {
    /// Docker's spelling: `tcp`, `udp` or `sctp`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The protocol is none that Docker publishes ports for; the text is what was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownProtocol(pub String);

impl fmt::Display for UnknownProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown protocol {:?}: expected tcp, udp or sctp", self.0)
    }
}

impl std::error::Error for UnknownProtocol {}

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        match text {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(UnknownProtocol(text.to_owned())),
        }
    }
}

/// The host's side of `docker run -p`: one address, port and protocol.
///
/// Docker publishes `-p 8080:80` twice, on `0.0.0.0` and on `::`; these are two published ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublishedPort {
    /// The host's address; the unspecified address stands for any of that family.
    pub address: IpAddr,
    /// The host's port, 1 to 65535.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
}

impl PublishedPort {
    /// Address and port without the protocol.
    #[must_use]
    pub const fn socket_address(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

impl fmt::Display for PublishedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.socket_address(), self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_port_reads_like_dockers_own_listing() {
        let port =
            |address: &str| PublishedPort { address: address.parse().unwrap(), port: 8080, protocol: Protocol::Tcp };
        assert_eq!(port("0.0.0.0").to_string(), "0.0.0.0:8080/tcp");
        assert_eq!(port("::").to_string(), "[::]:8080/tcp");
    }

    #[test]
    fn every_protocol_parses_from_its_own_spelling() {
        for protocol in [Protocol::Tcp, Protocol::Udp, Protocol::Sctp] {
            assert_eq!(protocol.as_str().parse(), Ok(protocol));
        }
        assert_eq!("icmp".parse::<Protocol>(), Err(UnknownProtocol("icmp".to_owned())));
    }
}

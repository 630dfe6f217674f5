//! How the traffic of a port is treated.

use std::fmt;
use std::str::FromStr;

/// How the operator wants a port's traffic treated: the label `ProxyMode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum ProxyMode {
    /// HTTP/1, WebSocket and other upgrades, HTTP/2 and gRPC. The label's `ws` means the same.
    Http,
    /// Bytes, whatever they are.
    Tcp,
    /// Bytes until the application's own answers show whether HTTP treatment is safe; then HTTP or bytes.
    #[default]
    Auto,
    /// Envoy never sees this port.
    None,
}

impl ProxyMode {
    /// The label's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
            Self::Auto => "auto",
            Self::None => "none",
        }
    }
}

impl fmt::Display for ProxyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no proxy mode; it is what was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownProxyMode(pub String);

impl fmt::Display for UnknownProxyMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown proxy mode {:?}: expected http, ws, tcp, auto or none", self.0)
    }
}

impl std::error::Error for UnknownProxyMode {}

impl FromStr for ProxyMode {
    type Err = UnknownProxyMode;

    fn from_str(text: &str) -> Result<Self, UnknownProxyMode> {
        match text {
            "http" | "ws" => Ok(Self::Http),
            "tcp" => Ok(Self::Tcp),
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            _ => Err(UnknownProxyMode(text.chars().take(32).collect())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_parses_from_its_own_spelling_and_ws_is_http() {
        for mode in [ProxyMode::Http, ProxyMode::Tcp, ProxyMode::Auto, ProxyMode::None] {
            assert_eq!(mode.as_str().parse(), Ok(mode));
        }
        assert_eq!("ws".parse(), Ok(ProxyMode::Http));
        assert!("HTTP".parse::<ProxyMode>().is_err());
    }
}

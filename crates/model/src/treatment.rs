//! How Envoy treats the traffic of a port that it serves. What the operator asked for is in [`crate::proxy_mode`].

use std::fmt;

use crate::ProxyMode;

/// How Envoy treats a port's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Treatment {
    /// HTTP, because a label or setting says so. Everything that Envoy can pass, passes.
    Http,
    /// HTTP, because the application's own answers were seen to be safe for it. Envoy refuses what it would change, and
    /// reports each refusal, so that the client that needs it gets a path without HTTP. No header is added but those of
    /// tracing.
    LearnedHttp,
    /// Bytes, whatever they are.
    Tcp,
}

impl Treatment {
    /// The treatment that an explicit mode asks for; `None` where the mode leaves it open or keeps Envoy out.
    #[must_use]
    pub const fn asked_by(mode: ProxyMode) -> Option<Self> {
        match mode {
            ProxyMode::Http => Some(Self::Http),
            ProxyMode::Tcp => Some(Self::Tcp),
            ProxyMode::Auto | ProxyMode::None => None,
        }
    }

    /// Whether Envoy speaks HTTP on both sides.
    #[must_use]
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::LearnedHttp)
    }

    /// `http` or `tcp`: the `ProxyMode` that spans, access logs and the API name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        if self.is_http() { "http" } else { "tcp" }
    }
}

impl fmt::Display for Treatment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_explicit_mode_asks_for_a_treatment() {
        assert_eq!(Treatment::asked_by(ProxyMode::Http), Some(Treatment::Http));
        assert_eq!(Treatment::asked_by(ProxyMode::Tcp), Some(Treatment::Tcp));
        assert_eq!(Treatment::asked_by(ProxyMode::Auto), None);
        assert_eq!(Treatment::asked_by(ProxyMode::None), None);
    }

    #[test]
    fn learned_http_is_shown_as_http() {
        assert_eq!(Treatment::LearnedHttp.as_str(), "http");
        assert_eq!(Treatment::Tcp.to_string(), "tcp");
    }
}

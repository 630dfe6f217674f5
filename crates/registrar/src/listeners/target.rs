//! Whom changes are posted to: where, and whose listener it is.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use axum::http::Uri;
use model::InstanceId;

/// Where Sidecar posts to a container that is a listener.
const SIDECAR_PATH: &str = "/sidecar/update";

/// The longest URL, in bytes.
const URL_MAX_LENGTH: usize = 1024;

/// A listener.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Target {
    /// The instance that asks for it, or what else says so. Two that follow each other at one address differ by it.
    pub(crate) who: String,
    pub(crate) url: ListenerUrl,
}

impl Target {
    /// One that the configuration names.
    pub(crate) fn configured(url: ListenerUrl) -> Self {
        Self { who: "listener-url".to_owned(), url }
    }

    /// An own instance, which hears of changes at this address.
    pub(crate) fn instance(id: &InstanceId, address: SocketAddr) -> Self {
        let url = ListenerUrl {
            authority: address.to_string(),
            host: address.ip().to_string(),
            port: address.port(),
            path_and_query: SIDECAR_PATH.to_owned(),
        };
        Self { who: id.to_string(), url }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listener {} ({})", self.url, self.who)
    }
}

/// `http://HOST[:PORT][/PATH]`: where changes are posted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListenerUrl {
    pub(super) authority: String,
    /// A name, or an address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) path_and_query: String,
}

/// The text is no such URL; says what was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadListenerUrl {
    /// It is something else, or too long.
    #[error(
        "expected http://HOST[:PORT][/PATH] of at most {URL_MAX_LENGTH} bytes, such as http://10.0.0.5:8080/update"
    )]
    Malformed,
    /// There is no TLS in the registrar.
    #[error("https is not spoken: give an http:// URL, of a proxy on this host for example")]
    Https,
    /// `http://user:password@host/`.
    #[error("a user in the URL is not sent: leave it out")]
    User,
}

impl FromStr for ListenerUrl {
    type Err = BadListenerUrl;

    fn from_str(text: &str) -> Result<Self, BadListenerUrl> {
        let uri: Uri = text.parse().ok().filter(|_| text.len() <= URL_MAX_LENGTH).ok_or(BadListenerUrl::Malformed)?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(BadListenerUrl::Https),
            _ => return Err(BadListenerUrl::Malformed),
        }
        let authority = uri.authority().ok_or(BadListenerUrl::Malformed)?;
        if authority.as_str().contains('@') {
            return Err(BadListenerUrl::User);
        }
        let bare = authority.host().strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bare.unwrap_or(authority.host());
        // What stands after the colon must be a port.
        let port_is_right =
            authority.port_u16().is_some_and(|port| port != 0) || authority.as_str() == authority.host();
        if host.is_empty() || !port_is_right {
            return Err(BadListenerUrl::Malformed);
        }
        Ok(Self {
            authority: authority.to_string(),
            host: host.to_owned(),
            port: authority.port_u16().unwrap_or(80),
            path_and_query: uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
        })
    }
}

impl fmt::Display for ListenerUrl {
    /// Without the query: it may hold a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path_and_query.split('?').next().unwrap_or_default();
        write!(f, "http://{}{path}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_shown_without_its_query() {
        let url: ListenerUrl = "http://[fd00::1]:8080/update?token=secret".parse().unwrap();
        assert_eq!((url.host.as_str(), url.port), ("fd00::1", 8080));
        assert_eq!((url.authority.as_str(), url.path_and_query.as_str()), ("[fd00::1]:8080", "/update?token=secret"));
        assert_eq!(url.to_string(), "http://[fd00::1]:8080/update");
        let url: ListenerUrl = "http://example.test".parse().unwrap();
        assert_eq!((url.port, url.path_and_query.as_str()), (80, "/"));
    }

    #[test]
    fn a_bad_url_is_refused_with_what_was_expected() {
        use BadListenerUrl::{Https, Malformed, User};
        let long = format!("http://a/{}", "x".repeat(URL_MAX_LENGTH));
        for (bad, expected) in [
            ("", Malformed),
            ("/update", Malformed),
            ("example.test:80", Malformed),
            ("ftp://example.test/", Malformed),
            ("http://", Malformed),
            ("http://:80/", Malformed),
            ("http://a:0/", Malformed),
            ("http://a:70000/", Malformed),
            ("http://a b/", Malformed),
            (&long, Malformed),
            ("https://example.test/", Https),
            ("http://me:secret@example.test/", User),
        ] {
            assert_eq!(bad.parse::<ListenerUrl>(), Err(expected), "{bad}");
        }
    }
}

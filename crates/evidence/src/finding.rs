//! What a connection can show, and the codes by which shims tell it.

use std::fmt;

/// What one connection showed of its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Finding {
    /// HTTP treatment changes nothing that matters.
    Http,
    /// The port is to be forwarded as bytes. A later `Http` doesn't undo this: the same server did both.
    Tcp(Reason),
}

/// Why a port is to be forwarded as bytes. `Display` gives an English sentence for operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The server sent something before the client did.
    ServerSpeaksFirst,
    /// The server answered with bytes that are not HTTP.
    NotHttp,
    /// The answer begins with `ICY`, as those of SHOUTcast do.
    Icy,
    /// The answer's version is HTTP/1.0.
    OldVersion,
    /// The answer's status line or a header line breaks the rules of HTTP/1.1.
    MalformedAnswer,
    /// The server accepted an upgrade to something else than WebSocket.
    Upgrade,
    /// The answer has a `Content-Length` and a `Transfer-Encoding`.
    BothLengths,
    /// The answer has several `Content-Length`s, or one that is no number.
    BadLength,
    /// The answer's `Transfer-Encoding` is not exactly `chunked`.
    TransferCoding,
    /// The answer's status forbids a body, and the answer announces one.
    ForbiddenBody,
    /// The answer has no length and ends with the connection.
    NoLength,
    /// The server accepted a request for a whole URL, as proxies do.
    AbsoluteTarget,
    /// The server accepted `CONNECT`.
    Connect,
    /// The server accepted a method that is none of the usual ones.
    Method,
    /// The server accepted `OPTIONS *`.
    Asterisk,
    /// The server accepted a request of doubtful length.
    RequestLength,
    /// Envoy refused an answer. No shim sees this: Envoy reports it.
    RefusedByEnvoy,
}

/// Of [`Finding::Http`].
const HTTP: u8 = 1;

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 17] = [
        Self::ServerSpeaksFirst,
        Self::NotHttp,
        Self::Icy,
        Self::OldVersion,
        Self::MalformedAnswer,
        Self::Upgrade,
        Self::BothLengths,
        Self::BadLength,
        Self::TransferCoding,
        Self::ForbiddenBody,
        Self::NoLength,
        Self::AbsoluteTarget,
        Self::Connect,
        Self::Method,
        Self::Asterisk,
        Self::RequestLength,
        Self::RefusedByEnvoy,
    ];

    /// Whether it says what the server takes from a client, not how it answers everybody: a single odd client shows it.
    #[must_use]
    pub const fn is_about_requests(self) -> bool {
        matches!(self, Self::AbsoluteTarget | Self::Connect | Self::Method | Self::Asterisk | Self::RequestLength)
    }

    /// The code of [`Finding::Tcp`] with this reason. Codes never change: shims of every release send them.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::ServerSpeaksFirst => 2,
            Self::NotHttp => 3,
            Self::Icy => 4,
            Self::OldVersion => 5,
            Self::MalformedAnswer => 6,
            Self::Upgrade => 7,
            Self::BothLengths => 8,
            Self::BadLength => 9,
            Self::TransferCoding => 10,
            Self::ForbiddenBody => 11,
            Self::NoLength => 12,
            Self::AbsoluteTarget => 13,
            Self::Connect => 14,
            Self::Method => 15,
            Self::Asterisk => 16,
            Self::RequestLength => 17,
            Self::RefusedByEnvoy => 18,
        }
    }

    /// The reason of a code, or `None` for a code of a later release.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

impl Finding {
    /// The code of this finding: 1 for `Http`, otherwise the reason's.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Http => HTTP,
            Self::Tcp(reason) => reason.code(),
        }
    }

    /// The finding of a code, or `None` for a code of a later release.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        if code == HTTP { Some(Self::Http) } else { Reason::from_code(code).map(Self::Tcp) }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ServerSpeaksFirst => "the server speaks before the client does",
            Self::NotHttp => "the server's answer is not HTTP",
            Self::Icy => "the server answers with ICY (SHOUTcast), not with HTTP",
            Self::OldVersion => "the server answers with HTTP/1.0",
            Self::MalformedAnswer => "the server's status line or a header line is malformed",
            Self::Upgrade => "the server accepts an upgrade that is not WebSocket",
            Self::BothLengths => "the server's answer has both Content-Length and Transfer-Encoding",
            Self::BadLength => "the server's answer has several Content-Length headers, or an invalid one",
            Self::TransferCoding => "the server's answer has a Transfer-Encoding other than a single \"chunked\"",
            Self::ForbiddenBody => "the server's answer announces a body that its status forbids",
            Self::NoLength => "the server's answer has no length and ends with the connection",
            Self::AbsoluteTarget => "the server accepts requests for whole URLs, as proxies do",
            Self::Connect => "the server accepts CONNECT, as proxies do",
            Self::Method => "the server accepts an unusual method",
            Self::Asterisk => "the server accepts \"OPTIONS *\"",
            Self::RequestLength => "the server accepts a request with an ambiguous length",
            Self::RefusedByEnvoy => "Envoy refused an answer of the server that clients may understand",
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http => f.write_str("the server speaks HTTP"),
            Self::Tcp(reason) => reason.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_is_known_by_its_code_and_codes_are_those_that_were_released() {
        let findings: Vec<Finding> = (0..=u8::MAX).filter_map(Finding::from_code).collect();
        assert!(findings.iter().all(|finding| Finding::from_code(finding.code()) == Some(*finding)));
        assert_eq!(findings[0], Finding::Http);
        assert_eq!(findings[1..], Reason::ALL.map(Finding::Tcp), "ALL is in the order of the codes, without a gap");
        assert_eq!(Finding::from_code(1), Some(Finding::Http));
        assert_eq!(Finding::from_code(17), Some(Finding::Tcp(Reason::RequestLength)));
        assert_eq!(Finding::from_code(18), Some(Finding::Tcp(Reason::RefusedByEnvoy)));
        assert_eq!((Finding::from_code(0), Finding::from_code(19)), (None, None));
    }

    #[test]
    fn a_reason_is_about_requests_where_a_single_odd_client_shows_it() {
        assert!(Reason::AbsoluteTarget.is_about_requests() && Reason::Method.is_about_requests());
        assert!(!Reason::NotHttp.is_about_requests() && !Reason::Upgrade.is_about_requests());
    }

    #[test]
    fn every_reason_has_a_sentence_of_its_own() {
        let mut sentences: Vec<String> = Reason::ALL.iter().map(ToString::to_string).collect();
        sentences.sort();
        sentences.dedup();
        assert_eq!(sentences.len(), Reason::ALL.len());
    }

    #[test]
    fn a_finding_for_bytes_is_the_stronger_one() {
        assert!(Reason::ALL.iter().all(|reason| Finding::Tcp(*reason) > Finding::Http));
    }
}

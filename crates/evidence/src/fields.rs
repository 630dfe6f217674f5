//! Header lines, for requests and answers: their form, and the lengths that they announce.

use crate::finding::Reason;
use crate::line::Line;

/// A header whose value matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    Host,
    ContentLength,
    TransferEncoding,
    Upgrade,
    Expect,
    Connection,
    /// Any other.
    Other,
}

impl Name {
    fn of(name: &[u8]) -> Self {
        const KNOWN: [(&[u8], Name); 6] = [
            (b"host", Name::Host),
            (b"content-length", Name::ContentLength),
            (b"transfer-encoding", Name::TransferEncoding),
            (b"upgrade", Name::Upgrade),
            (b"expect", Name::Expect),
            (b"connection", Name::Connection),
        ];
        KNOWN.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map_or(Self::Other, |(_, found)| found)
    }
}

/// Name and value of a header line, or `None` where it is not strictly formed: a token, a colon right after it, and a
/// value without control characters. A continuation of the line before (obs-fold) has no token at its begin.
///
/// The value of [`Name::Other`] may be cut.
pub(crate) fn read(line: &Line) -> Option<(Name, &[u8])> {
    let kept = line.kept();
    let colon = kept.iter().position(|byte| *byte == b':')?;
    let name = Name::of(&kept[..colon]);
    let is_known = line.is_strict() && is_token(&kept[..colon]) && (line.is_whole() || name == Name::Other);
    is_known.then(|| (name, kept[colon + 1..].trim_ascii()))
}

/// Whether it is a token of RFC 9110 (5.6.2), as methods and header names are.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !bytes.is_empty() && bytes.iter().all(allowed)
}

/// What a head says of the length of its body.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lengths {
    content_lengths: u8,
    /// The last one, if it is a number.
    content_length: Option<u64>,
    codings: u8,
    /// Whether the last coding is `chunked`.
    is_chunked: bool,
}

/// A length that is clear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    Bytes(u64),
    Chunked,
}

impl Lengths {
    /// Takes a header in, if it says something of the length.
    pub(crate) fn take(&mut self, name: Name, value: &[u8]) {
        match name {
            Name::ContentLength => {
                self.content_lengths = self.content_lengths.saturating_add(1);
                self.content_length = number(value);
            }
            Name::TransferEncoding => {
                self.codings = self.codings.saturating_add(1);
                self.is_chunked = value.eq_ignore_ascii_case(b"chunked");
            }
            Name::Host | Name::Upgrade | Name::Expect | Name::Connection | Name::Other => {}
        }
    }

    /// The length, or `None` where nothing is said of it.
    ///
    /// # Errors
    /// What makes it doubtful.
    pub(crate) fn length(self) -> Result<Option<Length>, Reason> {
        match (self.content_lengths, self.codings) {
            (0, 0) => Ok(None),
            (1, 0) => self.content_length.map(|bytes| Some(Length::Bytes(bytes))).ok_or(Reason::BadLength),
            (0, 1) if self.is_chunked => Ok(Some(Length::Chunked)),
            (0, _) => Err(Reason::TransferCoding),
            (_, 0) => Err(Reason::BadLength),
            (_, _) => Err(Reason::BothLengths),
        }
    }
}

/// A number of digits only: no sign, no list.
fn number(value: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(value).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(lines: &[(Name, &str)]) -> Result<Option<Length>, Reason> {
        let mut lengths = Lengths::default();
        for (name, value) in lines {
            lengths.take(*name, value.as_bytes());
        }
        lengths.length()
    }

    #[test]
    fn a_length_is_clear_or_doubtful_for_a_reason() {
        use Name::{ContentLength, TransferEncoding};
        assert_eq!(lengths(&[]), Ok(None));
        assert_eq!(lengths(&[(ContentLength, "0")]), Ok(Some(Length::Bytes(0))));
        assert_eq!(lengths(&[(TransferEncoding, "Chunked")]), Ok(Some(Length::Chunked)));
        for bad in ["", "+1", "-1", "1, 1", "0x1", "1 1", "99999999999999999999999"] {
            assert_eq!(lengths(&[(ContentLength, bad)]), Err(Reason::BadLength), "{bad:?}");
        }
        assert_eq!(lengths(&[(ContentLength, "1"), (ContentLength, "1")]), Err(Reason::BadLength));
        assert_eq!(lengths(&[(TransferEncoding, "gzip, chunked")]), Err(Reason::TransferCoding));
        assert_eq!(
            lengths(&[(TransferEncoding, "chunked"), (TransferEncoding, "chunked")]),
            Err(Reason::TransferCoding)
        );
        assert_eq!(lengths(&[(TransferEncoding, "chunked"), (ContentLength, "1")]), Err(Reason::BothLengths));
    }

    fn line(text: &[u8]) -> Line {
        let mut line = Line::new();
        for byte in text {
            line.push(*byte);
        }
        line
    }

    #[test]
    fn header_lines_are_read_strictly() {
        assert_eq!(read(&line(b"hOsT:\t example.com \r\n")), Some((Name::Host, b"example.com".as_slice())));
        assert_eq!(read(&line(b"X-Empty:\r\n")), Some((Name::Other, b"".as_slice())));
        assert_eq!(read(&line(b"X-Latin: caf\xe9\r\n")), Some((Name::Other, b"caf\xe9".as_slice())));
        for bad in [
            b"Host : a\r\n".as_slice(),
            b" folded: a\r\n",
            b"\tfolded\r\n",
            b": a\r\n",
            b"no colon\r\n",
            b"N(me: a\r\n",
            b"Host: a\n",
            b"Host: a\x01\r\n",
            b"Host: a\rb\r\n",
        ] {
            assert_eq!(read(&line(bad)), None, "{:?}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn a_long_value_is_of_no_harm_where_it_does_not_matter() {
        let long = [b'x'; 1000];
        assert!(read(&line(&[b"Cookie: ".as_slice(), &long, b"\r\n"].concat())).is_some());
        assert!(read(&line(&[b"Upgrade: ".as_slice(), &long, b"\r\n"].concat())).is_none());
        assert!(read(&line(&[&long, b": value\r\n".as_slice()].concat())).is_none(), "so is no name");
    }
}

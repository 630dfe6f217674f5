//! What a server's first bytes are: the begin of an HTTP answer, of an HTTP/2 frame, of a web page, or something else.

/// How many bytes are looked at. Every pattern is shorter, with some white space before a page.
const LOOKED_AT: usize = 16;
/// The length of an HTTP/2 frame's header.
const FRAME_HEADER: usize = 9;

const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;

/// What the first bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// An answer of HTTP/1, well-formed or not.
    Http1,
    /// HTTP/2's SETTINGS, by which a server begins.
    Settings,
    /// Another frame of HTTP/2 that servers begin with: GOAWAY, or SETTINGS acknowledged.
    Frame,
    /// SHOUTcast's.
    Icy,
    /// A page without a head, by which web servers answer HTTP/0.9 and, some of them, garbage.
    Page,
    /// None of these.
    Other,
}

/// The first bytes, until it is known what they are.
#[derive(Debug, Default)]
pub(crate) struct Start {
    bytes: [u8; LOOKED_AT],
    length: usize,
}

impl Start {
    /// Takes a byte; yields what the bytes are, once that is known.
    pub(crate) fn push(&mut self, byte: u8) -> Option<Kind> {
        let place = self.bytes.get_mut(self.length)?;
        *place = byte;
        self.length += 1;
        let kind = kind(self.seen());
        if self.length == LOOKED_AT { kind.or(Some(Kind::Other)) } else { kind }
    }

    /// The bytes that were taken.
    pub(crate) fn seen(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// What bytes are, or `None` where the next ones decide.
fn kind(bytes: &[u8]) -> Option<Kind> {
    const TEXTS: [(&[u8], Kind); 5] = [
        (b"HTTP/", Kind::Http1),
        (b"ICY ", Kind::Icy),
        (b"<!doctype", Kind::Page),
        (b"<html", Kind::Page),
        (b"<head", Kind::Page),
    ];
    let mut undecided = may_be_frame(bytes);
    if undecided && let Some(header) = bytes.first_chunk() {
        return Some(frame(header));
    }
    for (text, kind) in TEXTS {
        // A page may have white space before it, and any case.
        let bytes = if kind == Kind::Page { bytes.trim_ascii_start() } else { bytes };
        let common = text.len().min(bytes.len());
        let same = match kind {
            Kind::Page => text[..common].eq_ignore_ascii_case(&bytes[..common]),
            _ => text[..common] == bytes[..common],
        };
        if same && common == text.len() {
            return Some(kind);
        }
        undecided |= same;
    }
    if undecided { None } else { Some(Kind::Other) }
}

/// Whether bytes can be the begin of SETTINGS or GOAWAY: of less than 64 KiB, and on stream 0.
fn may_be_frame(bytes: &[u8]) -> bool {
    bytes.iter().take(FRAME_HEADER).enumerate().all(|(at, byte)| match at {
        0 | 5.. => *byte == 0,
        3 => matches!(*byte, SETTINGS | GOAWAY),
        _ => true,
    })
}

const fn frame(header: &[u8; FRAME_HEADER]) -> Kind {
    let length = u16::from_be_bytes([header[1], header[2]]);
    match (header[3], header[4] & ACK) {
        (SETTINGS, 0) if length.is_multiple_of(6) => Kind::Settings,
        (SETTINGS, ACK) if length == 0 => Kind::Frame,
        (GOAWAY, _) if length >= 8 => Kind::Frame,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the bytes are, and how many of them it took.
    fn found(bytes: &[u8]) -> Option<(Kind, usize)> {
        let mut start = Start::default();
        bytes.iter().enumerate().find_map(|(at, byte)| start.push(*byte).map(|kind| (kind, at + 1)))
    }

    #[test]
    fn first_bytes_are_told_apart_as_early_as_can_be() {
        assert_eq!(found(b"HTTP/1.1 200 OK"), Some((Kind::Http1, 5)));
        assert_eq!(found(b"Hello"), Some((Kind::Other, 2)));
        assert_eq!(found(b"ICY 200 OK"), Some((Kind::Icy, 4)));
        assert_eq!(found(b"\r\n <!DocType html>"), Some((Kind::Page, 12)));
        assert_eq!(found(b"<HTML>"), Some((Kind::Page, 5)));
        assert_eq!(found(b"<head>"), Some((Kind::Page, 5)));
        assert_eq!(found(b"<?xml"), Some((Kind::Other, 2)));
        assert_eq!(found(b"+PONG"), Some((Kind::Other, 1)));
        assert_eq!(found(&[0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4]), Some((Kind::Settings, 9)));
        assert_eq!(found(&[0, 0, 0, 4, 1, 0, 0, 0, 0]), Some((Kind::Frame, 9)));
        assert_eq!(found(&[0, 0, 8, 7, 0, 0, 0, 0, 0]), Some((Kind::Frame, 9)));
        assert_eq!(found(&[0, 0, 0, 5]), Some((Kind::Other, 4)));
        assert_eq!(found(&[0, 0, 7, 4, 0, 0, 0, 0, 0]), Some((Kind::Other, 9)));
        assert_eq!(found(&[0, 0, 6, 4, 0, 0, 0, 0, 1]), Some((Kind::Other, 9)), "another stream");
        assert_eq!(found(b"HTTP"), None);
        assert_eq!(found(&[b' '; 20]), Some((Kind::Other, LOOKED_AT)));
    }
}

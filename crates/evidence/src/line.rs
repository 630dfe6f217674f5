//! One line of a head, kept in bounded memory however long it is.

/// How many of a line's first bytes are kept.
pub(crate) const KEPT: usize = 256;
/// How many of its last bytes are kept: a space and `HTTP/1.1`.
const TAIL: usize = 9;

/// A line in the making, without its line end.
#[derive(Debug)]
pub(crate) struct Line {
    kept: [u8; KEPT],
    tail: [u8; TAIL],
    /// All of it, kept or not, in bytes.
    length: usize,
    spaces: usize,
    /// The last byte was a carriage return.
    returned: bool,
    /// A control character was seen, a tab aside, or a carriage return that doesn't end the line.
    has_control: bool,
    has_tab: bool,
    has_non_ascii: bool,
    has_fragment: bool,
    /// The line feed came without a carriage return.
    bare: bool,
}

impl Line {
    /// An empty line.
    pub(crate) const fn new() -> Self {
        Self {
            kept: [0; KEPT],
            tail: [0; TAIL],
            length: 0,
            spaces: 0,
            returned: false,
            has_control: false,
            has_tab: false,
            has_non_ascii: false,
            has_fragment: false,
            bare: false,
        }
    }

    /// Takes a byte; yields whether it ended the line.
    pub(crate) fn push(&mut self, byte: u8) -> bool {
        if byte == b'\n' {
            self.bare = !self.returned;
            return true;
        }
        // A carriage return anywhere else.
        self.has_control |= self.returned;
        self.returned = byte == b'\r';
        if !self.returned {
            self.keep(byte);
        }
        false
    }

    fn keep(&mut self, byte: u8) {
        if let Some(place) = self.kept.get_mut(self.length) {
            *place = byte;
        }
        self.tail.rotate_left(1);
        self.tail[TAIL - 1] = byte;
        self.length += 1;
        self.spaces += usize::from(byte == b' ');
        self.has_tab |= byte == b'\t';
        self.has_control |= byte.is_ascii_control() && byte != b'\t';
        self.has_non_ascii |= !byte.is_ascii();
        self.has_fragment |= byte == b'#';
    }

    /// Its first bytes, at most [`KEPT`].
    pub(crate) fn kept(&self) -> &[u8] {
        &self.kept[..self.length.min(KEPT)]
    }

    /// Whether [`Self::kept`] is all of it.
    pub(crate) const fn is_whole(&self) -> bool {
        self.length <= KEPT
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Whether no byte came at all.
    pub(crate) const fn is_untouched(&self) -> bool {
        self.length == 0 && !self.returned
    }

    /// Whether a byte was seen that no line of text has.
    pub(crate) const fn has_control(&self) -> bool {
        self.has_control
    }

    /// Whether it has no control characters (a tab aside) and ends with both bytes of a line end.
    pub(crate) const fn is_strict(&self) -> bool {
        !self.has_control && !self.bare
    }

    /// Whether it is what a strict request line consists of: three words of visible ASCII, none with a `#`.
    pub(crate) const fn has_three_visible_words(&self) -> bool {
        self.is_strict() && self.spaces == 2 && !self.has_tab && !self.has_non_ascii && !self.has_fragment
    }

    /// What follows the second space or a later one, if it is short enough for a version.
    pub(crate) fn third_word(&self) -> Option<&[u8]> {
        let tail = &self.tail[TAIL - self.length.min(TAIL)..];
        let space = tail.iter().rposition(|byte| *byte == b' ')?;
        (self.spaces >= 2).then_some(&tail[space + 1..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(bytes: &[u8]) -> Line {
        let mut line = Line::new();
        let (last, before) = bytes.split_last().unwrap();
        assert!(before.iter().all(|byte| !line.push(*byte)));
        assert!(line.push(*last));
        line
    }

    #[test]
    fn a_long_line_keeps_its_begin_and_its_version() {
        let long = line(&[b"GET /".as_slice(), &[b'x'; 5000], b" HTTP/1.1\r\n"].concat());
        assert!(long.kept().starts_with(b"GET /xx") && long.kept().len() == KEPT && !long.is_whole());
        assert_eq!(long.third_word(), Some(b"HTTP/1.1".as_slice()));
        assert!(long.has_three_visible_words());
    }

    #[test]
    fn the_third_word_needs_two_before_it() {
        assert_eq!(line(b"GET HTTP/1.1\r\n").third_word(), None);
        assert_eq!(line(b"GET /HTTP/1.1\r\n").third_word(), None);
        assert_eq!(line(b"a b c\n").third_word(), Some(b"c".as_slice()));
        assert_eq!(line(b"\r\n").third_word(), None);
    }

    #[test]
    fn line_ends_and_control_characters_are_noticed() {
        assert!(line(b"a\tb\r\n").is_strict());
        for odd in [b"a\n".as_slice(), b"a\rb\r\n", b"a\r\r\n", b"a\0\r\n", b"a\x7f\r\n"] {
            assert!(!line(odd).is_strict(), "{odd:?}");
        }
        assert!(line(b"\r\n").is_empty());
    }
}

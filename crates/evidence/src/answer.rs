//! The server's side: the heads of its answers, up to the final one, and what they say of HTTP treatment.

use crate::fields::{self, Length, Lengths, Name};
use crate::finding::{Finding, Reason};
use crate::line::Line;

/// What follows from the bytes so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The next bytes decide.
    Wait,
    /// This connection shows nothing.
    Nothing,
    Found(Finding),
}

impl Verdict {
    pub(crate) const fn tcp(reason: Reason) -> Self {
        Self::Found(Finding::Tcp(reason))
    }
}

/// The request that is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// See [`crate::request::Asked::Plain`].
    Plain { is_head: bool, websocket: bool },
    /// See [`crate::request::Asked::Odd`].
    Odd(Option<Reason>),
}

/// Reads answers, byte by byte.
#[derive(Debug)]
pub(crate) struct AnswerReader {
    question: Question,
    line: Line,
    /// Of the answer whose headers are being read.
    status: Option<u16>,
    lengths: Lengths,
    /// The answer says `Upgrade: websocket`.
    websocket: bool,
}

impl AnswerReader {
    /// For the answer to this request.
    pub(crate) fn new(question: Question) -> Self {
        Self { question, line: Line::new(), status: None, lengths: Lengths::default(), websocket: false }
    }

    /// Takes a byte.
    pub(crate) fn push(&mut self, byte: u8) -> Verdict {
        if !self.line.push(byte) {
            return Verdict::Wait;
        }
        let line = std::mem::replace(&mut self.line, Line::new());
        match self.status {
            None => self.begin(&line),
            Some(status) if line.is_empty() && line.is_strict() => self.end(status),
            Some(_) => self.take(&line),
        }
    }

    fn begin(&mut self, line: &Line) -> Verdict {
        let Some(StatusLine { status, is_current, has_space }) = StatusLine::read(line) else {
            return self.malformed();
        };
        match self.question {
            Question::Odd(_) if status == 101 => Verdict::tcp(Reason::Upgrade),
            Question::Odd(Some(reason)) if (200..400).contains(&status) => Verdict::tcp(reason),
            Question::Odd(_) if !is_interim(status) => Verdict::Nothing,
            Question::Plain { .. } if !is_telling(status) => Verdict::Nothing,
            Question::Plain { .. } if !is_current => Verdict::tcp(Reason::OldVersion),
            Question::Plain { .. } if !line.is_strict() => self.malformed(),
            // Accepted everywhere, and yet not as it must be: doubt.
            Question::Plain { .. } if !has_space => Verdict::Nothing,
            Question::Plain { .. } | Question::Odd(_) => {
                self.status = Some(status);
                Verdict::Wait
            }
        }
    }

    fn take(&mut self, line: &Line) -> Verdict {
        let Some((name, value)) = fields::read(line) else { return self.malformed() };
        self.lengths.take(name, value);
        self.websocket |= name == Name::Upgrade && value.eq_ignore_ascii_case(b"websocket");
        Verdict::Wait
    }

    /// Whether a malformed answer tells anything depends on whether the request could be its cause.
    const fn malformed(&self) -> Verdict {
        match self.question {
            Question::Plain { .. } => Verdict::tcp(Reason::MalformedAnswer),
            Question::Odd(_) => Verdict::Nothing,
        }
    }

    fn end(&mut self, status: u16) -> Verdict {
        let Question::Plain { is_head, websocket } = self.question else {
            self.status = None;
            return Verdict::Wait;
        };
        let length = match self.lengths.length() {
            Ok(length) => length,
            Err(reason) => return Verdict::tcp(reason),
        };
        let has_body = !matches!(length, None | Some(Length::Bytes(0)));
        match status {
            100..200 | 204 if has_body => Verdict::tcp(Reason::ForbiddenBody),
            101 if websocket && self.websocket => Verdict::Found(Finding::Http),
            101 => Verdict::tcp(Reason::Upgrade),
            _ if is_interim(status) => {
                *self = Self::new(self.question);
                Verdict::Wait
            }
            200.. if length.is_none() && !is_head && !matches!(status, 204 | 304) => Verdict::tcp(Reason::NoLength),
            _ => Verdict::Found(Finding::Http),
        }
    }
}

/// Whether another answer follows this one.
const fn is_interim(status: u16) -> bool {
    matches!(status, 100 | 102 | 103)
}

/// Whether a plain request's answer of this status comes from the application. Others may come from a TLS server that
/// was spoken to without TLS, from a gateway, or from a server that is about to stop.
const fn is_telling(status: u16) -> bool {
    matches!(status, 100..=103 | 200..=399 | 401..=407 | 409..=430)
}

struct StatusLine {
    status: u16,
    /// HTTP/1.1, and not 1.0.
    is_current: bool,
    /// A space follows the status, as it must even where no reason is given.
    has_space: bool,
}

impl StatusLine {
    /// `None` where there is no version or no status.
    fn read(line: &Line) -> Option<Self> {
        let (version, rest) = line.kept().split_at_checked(b"HTTP/1.1 ".len())?;
        let is_current = match version {
            b"HTTP/1.1 " => true,
            b"HTTP/1.0 " => false,
            _ => return None,
        };
        let (digits, rest) = rest.split_at_checked(3)?;
        if !digits.iter().all(u8::is_ascii_digit) || !matches!(rest, [] | [b' ', ..]) {
            return None;
        }
        let status = std::str::from_utf8(digits).ok()?.parse().ok().filter(|status| *status >= 100)?;
        Some(Self { status, is_current, has_space: !rest.is_empty() })
    }
}

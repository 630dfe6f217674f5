//! Frames: where a message begins and ends, and the fields inside.
//!
//! A frame is a length (2 bytes, of all that follows), a kind (1 byte) and a body. Numbers are big-endian,
//! a text is its length in 2 bytes and then UTF-8, an address is its length in 1 byte (4 or 16) and its bytes.

use std::collections::VecDeque;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest frame without its length, in bytes. A longer one ends the connection.
pub const FRAME_MAX_LENGTH: usize = 2048;

/// Why the other end can't be understood any longer. The connection is of no further use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The length says more than [`FRAME_MAX_LENGTH`], or nothing at all.
    #[error("a frame of {0} bytes: expected 1 to {FRAME_MAX_LENGTH}")]
    Length(usize),
    /// A known kind of message ends before its last field.
    #[error("message {kind} ends within its field {field:?}")]
    Truncated {
        /// The kind as on the wire.
        kind: u8,
        /// The field that is incomplete.
        field: &'static str,
    },
    /// A field holds what it may not.
    #[error("message {kind}: field {field:?} is not valid")]
    Invalid {
        /// The kind as on the wire.
        kind: u8,
        /// The field that is wrong.
        field: &'static str,
    },
}

/// A message that can be read from and written to a frame.
pub trait Message: Sized {
    /// The message in the frame, or `None` where its kind is unknown.
    ///
    /// # Errors
    /// The kind is known and a field is missing or wrong.
    fn read(fields: &mut FieldReader<'_>) -> Result<Option<Self>, DecodeError>;

    /// Appends the frame of this message to `out`.
    fn encode(&self, out: &mut Vec<u8>);
}

/// Cuts a stream of bytes into messages. Holds at most one incomplete frame beyond what was pushed last.
#[derive(Debug)]
pub struct Decoder<M> {
    bytes: VecDeque<u8>,
    message: PhantomData<M>,
}

impl<M> Default for Decoder<M> {
    fn default() -> Self {
        Self { bytes: VecDeque::new(), message: PhantomData }
    }
}

impl<M: Message> Decoder<M> {
    /// Takes in bytes as they arrived. Call [`Self::next_message`] until it yields nothing before pushing more.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// The next whole message. Messages of unknown kinds are skipped.
    ///
    /// # Errors
    /// What arrived is not this protocol; the decoder is of no further use.
    pub fn next_message(&mut self) -> Result<Option<M>, DecodeError> {
        while let Some(frame) = self.next_frame()? {
            if let Some(message) = M::read(&mut FieldReader::new(&frame))? {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    fn next_frame(&mut self) -> Result<Option<Vec<u8>>, DecodeError> {
        let (Some(&high), Some(&low)) = (self.bytes.front(), self.bytes.get(1)) else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if length == 0 || length > FRAME_MAX_LENGTH {
            return Err(DecodeError::Length(length));
        }
        if self.bytes.len() < 2 + length {
            return Ok(None);
        }
        Ok(Some(self.bytes.drain(..2 + length).skip(2).collect()))
    }
}

/// Reads the fields of one frame in order.
#[derive(Debug)]
pub struct FieldReader<'a> {
    kind: u8,
    rest: &'a [u8],
}

impl<'a> FieldReader<'a> {
    /// `frame` is a frame without its length; an empty one has kind 0, which no message has.
    fn new(frame: &'a [u8]) -> Self {
        let (kind, rest) = frame.split_first().map_or((0, frame), |(kind, rest)| (*kind, rest));
        Self { kind, rest }
    }

    pub(crate) const fn kind(&self) -> u8 {
        self.kind
    }

    pub(crate) const fn invalid(&self, field: &'static str) -> DecodeError {
        DecodeError::Invalid { kind: self.kind, field }
    }

    fn bytes(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or(DecodeError::Truncated { kind: self.kind, field })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        self.bytes(N, field)?.try_into().map_err(|_| self.invalid(field))
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(u8::from_be_bytes)
    }

    /// A field that messages of earlier releases end without; `absent` stands for it then.
    pub(crate) fn u8_or(&mut self, absent: u8, field: &'static str) -> Result<u8, DecodeError> {
        if self.rest.is_empty() { Ok(absent) } else { self.u8(field) }
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    pub(crate) fn address(&mut self, field: &'static str) -> Result<IpAddr, DecodeError> {
        match self.u8(field)? {
            4 => self.array(field).map(|octets: [u8; 4]| Ipv4Addr::from(octets).into()),
            16 => self.array(field).map(|octets: [u8; 16]| Ipv6Addr::from(octets).into()),
            _ => Err(self.invalid(field)),
        }
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<String, DecodeError> {
        let length = self.u16(field)?;
        let bytes = self.bytes(usize::from(length), field)?;
        std::str::from_utf8(bytes).map(ToOwned::to_owned).map_err(|_| self.invalid(field))
    }
}

/// Writes the fields of one frame in order, to the end of a buffer.
#[derive(Debug)]
pub(crate) struct FieldWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
}

impl<'a> FieldWriter<'a> {
    pub(crate) fn new(kind: u8, out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        out.extend([0, 0, kind]);
        Self { out, start }
    }

    pub(crate) fn u8(self, value: u8) -> Self {
        self.out.push(value);
        self
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.out.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.out.extend(value.to_be_bytes());
        self
    }

    pub(crate) fn address(self, value: IpAddr) -> Self {
        match value {
            IpAddr::V4(address) => {
                self.out.push(4);
                self.out.extend(address.octets());
            }
            IpAddr::V6(address) => {
                self.out.push(16);
                self.out.extend(address.octets());
            }
        }
        self
    }

    /// Writes at most as much of `text` as is sure to fit beside all other fields of any message.
    pub(crate) fn text(self, text: &str) -> Self {
        const LONGEST: usize = FRAME_MAX_LENGTH / 2;
        let cut = &text[..text.floor_char_boundary(LONGEST)];
        let length = u16::try_from(cut.len()).expect("a text was cut to fit its length");
        let this = self.u16(length);
        this.out.extend(cut.as_bytes());
        this
    }

    /// Sets the frame's length. To be called last.
    pub(crate) fn finish(self) {
        let length = u16::try_from(self.out.len() - self.start - 2).expect("a message fits its frame");
        self.out[self.start..self.start + 2].copy_from_slice(&length.to_be_bytes());
    }
}

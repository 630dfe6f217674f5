//! The fields that everything on the wire is made of.
//!
//! Numbers are big-endian; a text is its length in 1 or 2 bytes and then UTF-8; an address is its length in
//! 1 byte (4 or 16) and its bytes. What the fields mean is in the files that use them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use model::{HostName, Incarnation, Stamp};

/// Why bytes that passed authentication can't be understood. They come from a host of this cluster that runs
/// another version, or from a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within the field.
    #[error("the message ends within its field {0:?}")]
    Truncated(&'static str),
    /// The field holds what it may not.
    #[error("the field {0:?} is not valid")]
    Invalid(&'static str),
}

/// Reads fields in order.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn bytes(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated(field))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        self.bytes(N, field)?.try_into().map_err(|_| DecodeError::Invalid(field))
    }

    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array(field).map(u8::from_be_bytes)
    }

    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.array(field).map(u16::from_be_bytes)
    }

    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_be_bytes)
    }

    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid(field)),
        }
    }

    /// A number of things that follow, each of at least one byte; more than `max` is not valid.
    pub(crate) fn count(&mut self, max: usize, field: &'static str) -> Result<usize, DecodeError> {
        let count = usize::from(self.u16(field)?);
        if count > max { Err(DecodeError::Invalid(field)) } else { Ok(count) }
    }

    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, DecodeError> {
        let length = self.u8(field)?;
        let bytes = self.bytes(usize::from(length), field)?;
        std::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid(field))
    }

    pub(crate) fn host_name(&mut self) -> Result<HostName, DecodeError> {
        self.text("host name")?.parse().map_err(|_| DecodeError::Invalid("host name"))
    }

    pub(crate) fn incarnation(&mut self) -> Result<Incarnation, DecodeError> {
        let [a, b, c, d, e, f] = self.array("incarnation")?;
        Ok(Incarnation::new(u64::from_be_bytes([0, 0, a, b, c, d, e, f])))
    }

    pub(crate) fn stamp(&mut self) -> Result<Stamp, DecodeError> {
        Ok(Stamp { incarnation: self.incarnation()?, version: self.u64("version")? })
    }

    pub(crate) fn address(&mut self, field: &'static str) -> Result<IpAddr, DecodeError> {
        match self.u8(field)? {
            4 => self.array(field).map(|octets: [u8; 4]| Ipv4Addr::from(octets).into()),
            16 => self.array(field).map(|octets: [u8; 16]| Ipv6Addr::from(octets).into()),
            _ => Err(DecodeError::Invalid(field)),
        }
    }

    pub(crate) fn socket_address(&mut self, field: &'static str) -> Result<SocketAddr, DecodeError> {
        Ok(SocketAddr::new(self.address(field)?, self.u16(field)?))
    }
}

/// Writes fields in order, to the end of a buffer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writer(pub(crate) Vec<u8>);

impl Writer {
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes(&[value])
    }

    pub(crate) fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes(&value.to_be_bytes())
    }

    pub(crate) fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    /// The number of things that follow. Every list that is sent is bounded far below 65,536.
    pub(crate) fn count(&mut self, count: usize) -> &mut Self {
        self.u16(u16::try_from(count).expect("lists on the wire are bounded"))
    }

    /// A text of at most 255 bytes; every text of the model is bounded so.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.u8(u8::try_from(text.len()).expect("texts of the model are bounded")).bytes(text.as_bytes())
    }

    pub(crate) fn incarnation(&mut self, incarnation: Incarnation) -> &mut Self {
        let [_, _, six @ ..] = incarnation.get().to_be_bytes();
        self.bytes(&six)
    }

    pub(crate) fn stamp(&mut self, stamp: Stamp) -> &mut Self {
        self.incarnation(stamp.incarnation).u64(stamp.version)
    }

    pub(crate) fn address(&mut self, address: IpAddr) -> &mut Self {
        match address {
            IpAddr::V4(address) => self.u8(4).bytes(&address.octets()),
            IpAddr::V6(address) => self.u8(16).bytes(&address.octets()),
        }
    }

    pub(crate) fn socket_address(&mut self, address: SocketAddr) -> &mut Self {
        self.address(address.ip()).u16(address.port())
    }
}

/// The number of a value. `all` has fewer than 256 values and `value` is one of them.
pub(crate) fn place_in<T: Copy + PartialEq>(all: &[T], value: T) -> u8 {
    let place = all.iter().position(|other| *other == value);
    place.and_then(|place| u8::try_from(place).ok()).expect("all values are listed")
}

/// The value of a number.
pub(crate) fn at_place<T: Copy>(all: &[T], place: u8, field: &'static str) -> Result<T, DecodeError> {
    all.get(usize::from(place)).copied().ok_or(DecodeError::Invalid(field))
}

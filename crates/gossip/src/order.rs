//! What one host may ask another to do, what can be answered, and both as bytes.
//!
//! An order is the operator's, given on a host that is not the one it is about. There is one so far. It has a
//! version of its own, so that a host can say of a later one that it does not know it. How orders travel is in
//! [`crate::gossip`]'s `orders`; whether one is carried out is the other host's decision.

use model::InstanceKey;
use model::instance::Text;

use crate::wire::{DecodeError, Reader, Writer};

/// The version of the orders that this host gives and takes.
pub(crate) const ORDER_VERSION: u8 = 1;

/// The longest reason for a refusal, in bytes.
pub const REASON_MAX_LENGTH: usize = 255;

/// The longest order of a later version that is read over, in bytes.
const UNKNOWN_MAX_LENGTH: usize = 4096;

/// Something that the host at the other end is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Take one of its instances out of service (`drains`), or back into it.
    Drain {
        /// Which instance.
        key: InstanceKey,
        /// Whether it is to drain.
        drains: bool,
    },
}

/// What came of an order, as the host says that it was given to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was carried out.
    Done,
    /// The host has no such instance.
    NoSuchInstance,
    /// The host has just started, and does not know yet whether it has such an instance.
    Starting,
    /// The host could not do it, or not all of it; in its words.
    Failed(Text<REASON_MAX_LENGTH>),
}

/// An order as it stands on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OrderMessage {
    Known(Order),
    /// It is of a version that this host does not know.
    OfVersion(u8),
}

/// An answer as it stands on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AnswerMessage {
    Known(Answer),
    /// The order was of a version that is not known there; this one is. Readable in all versions.
    KnowsVersion(u8),
}

const DRAIN: u8 = 1;

const DONE: u8 = 1;
const NO_SUCH_INSTANCE: u8 = 2;
const FAILED: u8 = 3;
const KNOWS_VERSION: u8 = 4;
const STARTING: u8 = 5;

impl OrderMessage {
    pub(crate) fn write(&self, writer: &mut Writer) {
        match self {
            Self::Known(Order::Drain { key, drains }) => {
                writer.u8(ORDER_VERSION).u8(DRAIN).bytes(key.as_bytes()).bool(*drains);
            }
            Self::OfVersion(version) => {
                writer.u8(*version);
            }
        }
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let version = reader.u8("order version")?;
        if version != ORDER_VERSION {
            let rest = reader.rest().len();
            if rest > UNKNOWN_MAX_LENGTH {
                return Err(DecodeError::Invalid("order"));
            }
            reader.bytes(rest, "order")?;
            return Ok(Self::OfVersion(version));
        }
        match reader.u8("order")? {
            DRAIN => {
                let key = InstanceKey::from_bytes(reader.array("instance")?);
                Ok(Self::Known(Order::Drain { key, drains: reader.bool("drains")? }))
            }
            _ => Err(DecodeError::Invalid("order")),
        }
    }
}

impl AnswerMessage {
    pub(crate) fn write(&self, writer: &mut Writer) {
        match self {
            Self::Known(Answer::Done) => writer.u8(DONE),
            Self::Known(Answer::NoSuchInstance) => writer.u8(NO_SUCH_INSTANCE),
            Self::Known(Answer::Starting) => writer.u8(STARTING),
            Self::Known(Answer::Failed(reason)) => writer.u8(FAILED).text(reason.as_str()),
            Self::KnowsVersion(version) => writer.u8(KNOWS_VERSION).u8(*version),
        };
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8("answer")? {
            DONE => Self::Known(Answer::Done),
            NO_SUCH_INSTANCE => Self::Known(Answer::NoSuchInstance),
            STARTING => Self::Known(Answer::Starting),
            FAILED => Self::Known(Answer::Failed(Text::cut(reader.text("reason")?))),
            KNOWS_VERSION => Self::KnowsVersion(reader.u8("version")?),
            _ => return Err(DecodeError::Invalid("answer")),
        })
    }
}

//! What both ends of a conversation saw of each other.

use std::fmt;

/// The longest part of a record that is printed.
const SHOWN: usize = 400;

/// How the other end ended the connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    /// Not while anybody looked.
    #[default]
    Open,
    /// It ended its sending side.
    Finished,
    /// By a reset.
    Reset,
    /// What was waited for never came, nor any end.
    Silent,
}

/// What one end saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Half {
    pub(crate) bytes: Vec<u8>,
    pub(crate) end: End,
}

/// What all ends saw: those of one client's connections (as many as the case has), and those of all connections that the
/// server got. Both are sorted, since connections that run side by side have no order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) client: Vec<Half>,
    pub(crate) server: Vec<Half>,
}

impl fmt::Display for Half {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.bytes[..self.bytes.len().min(SHOWN)];
        write!(formatter, "{} B, {:?}: {}", self.bytes.len(), self.end, shown.escape_ascii())
    }
}

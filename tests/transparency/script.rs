//! What one end of a conversation does, byte by byte. How it is done stands in `player.rs`.

use std::time::Duration;

/// The end of a message's head.
pub(crate) const HEAD: &[u8] = b"\r\n\r\n";

/// One thing that an end does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Sends these bytes in one call.
    Send(Vec<u8>),
    /// Sends these bytes one by one.
    SendSlowly(Vec<u8>),
    /// Begins to send these bytes and goes on with the next step.
    SendMeanwhile(Vec<u8>),
    /// Reads until these bytes have come, after those that earlier steps waited for.
    Until(Vec<u8>),
    /// Reads until so many more bytes have come.
    Count(usize),
    /// Reads until the other end has ended its sending side, or the connection.
    End,
    /// Ends the own sending side.
    HalfClose,
    /// Ends the connection by a reset.
    Reset,
    /// Does nothing for a while.
    Pause(Duration),
}

/// The steps of one end, in their order. At its last step, an end closes the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Script(pub(crate) Vec<Step>);

impl Script {
    fn then(mut self, step: Step) -> Self {
        self.0.push(step);
        self
    }

    /// See [`Step::Send`].
    pub(crate) fn send(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::Send(bytes.as_ref().to_vec()))
    }

    /// See [`Step::SendSlowly`].
    pub(crate) fn send_slowly(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::SendSlowly(bytes.as_ref().to_vec()))
    }

    /// See [`Step::SendMeanwhile`].
    pub(crate) fn send_meanwhile(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::SendMeanwhile(bytes.as_ref().to_vec()))
    }

    /// See [`Step::Until`].
    pub(crate) fn until(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(Step::Until(bytes.as_ref().to_vec()))
    }

    /// See [`Step::Count`].
    pub(crate) fn count(self, length: usize) -> Self {
        self.then(Step::Count(length))
    }

    /// See [`Step::End`].
    pub(crate) fn end(self) -> Self {
        self.then(Step::End)
    }

    /// See [`Step::HalfClose`].
    pub(crate) fn half_close(self) -> Self {
        self.then(Step::HalfClose)
    }

    /// See [`Step::Reset`].
    pub(crate) fn reset(self) -> Self {
        self.then(Step::Reset)
    }

    /// See [`Step::Pause`].
    pub(crate) fn pause(self, milliseconds: u64) -> Self {
        self.then(Step::Pause(Duration::from_millis(milliseconds)))
    }
}

/// A client without steps.
pub(crate) fn client() -> Script {
    Script::default()
}

/// A server without steps.
pub(crate) fn server() -> Script {
    Script::default()
}

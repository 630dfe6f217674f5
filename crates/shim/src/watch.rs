//! Looks at the first bytes of one connection on their way. What they mean is decided in the crate `evidence`.

use evidence::{Finding, Observer};

use crate::event_loop::Side;

/// The most that is looked at, and then moved, at once.
pub(crate) const PEEK: usize = 4096;

/// What one connection has shown so far. Boxed, and only while there is something to see: a connection that nobody
/// watches pays a pointer.
#[derive(Debug)]
pub(crate) struct Watch {
    observer: Observer,
    found: Option<Finding>,
}

impl Watch {
    /// Of a connection that has carried nothing yet.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self { observer: Observer::new(), found: None }
    }

    /// Whether there is nothing more to see.
    #[must_use]
    pub(crate) const fn is_over(&self) -> bool {
        self.observer.is_done()
    }

    /// What was seen.
    #[must_use]
    pub(crate) const fn found(&self) -> Option<Finding> {
        self.found
    }
}

/// The watch on one direction.
#[derive(Debug)]
pub(crate) struct View<'a> {
    watch: &'a mut Watch,
    from: Side,
}

impl<'a> View<'a> {
    /// Of what this side says.
    #[must_use]
    pub(crate) const fn new(watch: &'a mut Watch, from: Side) -> Self {
        Self { watch, from }
    }

    /// Whether its next bytes matter.
    #[must_use]
    pub(crate) const fn wants_more(&self) -> bool {
        match self.from {
            Side::Client => self.watch.observer.wants_client(),
            Side::Container => self.watch.observer.wants_server(),
        }
    }

    /// These bytes go on to the other side.
    pub(crate) fn forwarded(&mut self, bytes: &[u8]) {
        let found = match self.from {
            Side::Client => self.watch.observer.client(bytes),
            Side::Container => self.watch.observer.server(bytes),
        };
        self.watch.found = self.watch.found.or(found);
    }

    /// It has ended its stream.
    pub(crate) const fn ended(&mut self) {
        match self.from {
            Side::Client => self.watch.observer.client_ended(),
            Side::Container => self.watch.observer.server_ended(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_nobody_watches_pays_a_pointer() {
        assert_eq!(size_of::<Option<Box<Watch>>>(), size_of::<usize>());
    }
}

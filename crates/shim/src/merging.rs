//! Datagrams that go on together: what the kernel handed over as one (`UDP_GRO`), or could cut from one (`UDP_SEGMENT`),
//! leaves with one call, everything else each by itself.
//!
//! Which client they are from, and for, is in `forward_udp`.

use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::UdpGroSegment;

use crate::datagrams::{Batch, Route};

/// Datagrams at once that make a stream: from then on the kernel is asked to merge them.
const STREAM: usize = 4;

/// One way of a port's datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merging {
    /// Up to which size they are left for the kernel to cut: what fits the path's MTU and its devices, which failures
    /// tell.
    largest: u16,
}

impl Default for Merging {
    fn default() -> Self {
        Self { largest: u16::MAX }
    }
}

impl Merging {
    /// Sends received datagrams on, to the socket's peer or along `routes`. What the kernel does not take is lost, as
    /// datagrams are.
    pub(crate) fn send(
        &mut self,
        batch: &mut Batch,
        socket: BorrowedFd<'_>,
        slots: Range<usize>,
        routes: Option<&[Route]>,
    ) {
        let mut start = slots.start;
        while start < slots.end {
            let end = match batch.segment(start) {
                Some(_) => start + 1,
                None => (start..slots.end).find(|slot| batch.segment(*slot).is_some()).unwrap_or(slots.end),
            };
            self.send_alike(batch, socket, start..end, routes);
            start = end;
        }
    }

    /// As [`Self::send`], of one slot that came merged, or of some that did not.
    fn send_alike(&mut self, batch: &mut Batch, socket: BorrowedFd<'_>, slots: Range<usize>, routes: Option<&[Route]>) {
        let came_merged = batch.segment(slots.start);
        let one_route = routes.is_none_or(|routes| routes[slots.clone()].windows(2).all(|pair| pair[0] == pair[1]));
        let mergeable = came_merged.or_else(|| batch.mergeable(slots.clone()).filter(|_| one_route));
        let route = routes.and_then(|routes| routes.get(slots.start));
        let mut tried = None;
        if let Some(segment) = mergeable.filter(|segment| *segment <= self.largest) {
            match batch.send_merged(socket, slots.clone(), route, segment) {
                Ok(()) | Err(Errno::EAGAIN) => return,
                Err(Errno::EINVAL | Errno::EMSGSIZE | Errno::EIO) => tried = Some(segment),
                Err(_) => {}
            }
        }
        let taken = match came_merged {
            Some(segment) => batch.send_apart(socket, slots.start, route, segment),
            None => send_each(batch, socket, slots, routes),
        };
        if let Some(segment) = tried.filter(|_| taken) {
            // Not for want of a way to the peer, then: they are too long to be cut.
            self.largest = segment - 1;
        }
    }

    /// Has the kernel merge what comes to a socket to go on this way, if that is a stream; not where it would only
    /// have to be undone. `count` datagrams came last, of so many `bytes`. Yields whether it does so now.
    pub(crate) fn merge(self, socket: &OwnedFd, does: bool, count: usize, bytes: usize) -> bool {
        let wanted = bytes <= self.largest.into() && (does || count >= STREAM);
        if wanted == does || setsockopt(socket, UdpGroSegment, &wanted).is_err() { does } else { wanted }
    }
}

/// Sends datagrams each by itself; yields whether any was taken.
fn send_each(batch: &mut Batch, socket: BorrowedFd<'_>, slots: Range<usize>, routes: Option<&[Route]>) -> bool {
    let mut rest = slots;
    let (mut taken, mut refused) = (false, false);
    while !rest.is_empty() {
        match batch.send(socket, rest.clone(), routes) {
            Ok(count) => {
                taken = true;
                rest.start += count.max(1);
            }
            // The answer to an earlier datagram; this one was not sent yet.
            Err(Errno::ECONNREFUSED) if !refused => refused = true,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => break,
            Err(_) => rest.start += 1,
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use nix::sys::socket::{getsockopt, sockopt::UdpGsoSegment};

    use super::*;
    use crate::datagrams::SLOTS;
    use crate::datagrams::tests::socket;

    /// A batch with 245 bytes in datagrams of 100, merged in its first slot, then apart in three.
    fn batch() -> (Batch, Vec<u8>) {
        let (here, client) = (socket(), socket());
        client.connect(here.local_addr().unwrap()).unwrap();
        let bytes: Vec<u8> = (0..245).collect();
        let mut batch = Batch::new();
        setsockopt(&here, UdpGroSegment, &true).unwrap();
        setsockopt(&client, UdpGsoSegment, &100).unwrap();
        client.send(&bytes).unwrap();
        assert_eq!(batch.receive(here.as_fd(), 0..1), Ok(1));
        for datagram in bytes.chunks(100) {
            client.send(datagram).unwrap();
        }
        assert_eq!(batch.receive(here.as_fd(), 1..SLOTS), Ok(3));
        (batch, bytes)
    }

    #[test]
    fn every_datagram_arrives_as_it_was_whatever_may_be_merged() {
        for largest in [u16::MAX, 100, 99] {
            let (mut batch, bytes) = batch();
            let (there, onward) = (socket(), socket());
            onward.connect(there.local_addr().unwrap()).unwrap();
            let mut merging = Merging { largest };
            merging.send(&mut batch, onward.as_fd(), 0..4, None);
            for _ in 0..2 {
                for datagram in bytes.chunks(100) {
                    let mut received = [0; 1000];
                    let length = there.recv(&mut received).unwrap();
                    assert_eq!(&received[..length], datagram);
                }
            }
            assert_eq!(merging.largest, largest);
        }
    }

    #[test]
    fn a_client_who_can_not_be_answered_does_not_count_against_merging() {
        let (mut batch, _) = batch();
        let nobody = Route { client: "127.0.0.1:0".parse().unwrap(), local: None };
        let mut merging = Merging::default();
        merging.send(&mut batch, socket().as_fd(), 0..4, Some(&[nobody; 4]));
        assert_eq!(merging.largest, u16::MAX);
    }

    #[test]
    fn a_stream_is_merged_where_it_may_leave_merged() {
        let socket = OwnedFd::from(socket());
        let merging = Merging { largest: 1000 };
        let does = |does, count, bytes| {
            let does = merging.merge(&socket, does, count, bytes);
            assert_eq!(getsockopt(&socket, UdpGroSegment).unwrap(), does);
            does
        };
        assert!(!does(false, STREAM - 1, 1000));
        assert!(!does(false, STREAM, 1001));
        assert!(does(false, STREAM, 1000));
        assert!(does(true, 1, 1000), "it may be many by now");
        assert!(!does(true, STREAM, 1001));
    }
}

//! Many datagrams with one system call: `recvmmsg` and `sendmmsg`.
//!
//! nix has both, but gives all messages of a call the same control messages, and does not restore a header's lengths
//! between calls.

#![expect(unsafe_code, reason = "the calls take pointers; all are to memory of the batch, which is never moved")]

use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::errno::Errno;
use nix::libc;

use crate::socket_bytes::{self, ADDRESS_LENGTH, CONTROL_LENGTH, ControlWriter};

/// Datagrams per call; where the kernel merges, as many times a run of them.
pub(crate) const SLOTS: usize = 32;
/// More than any UDP datagram.
const SLOT_LENGTH: usize = 65536;
/// From one slot to the next, in bytes: a power of two would put the beginnings of all of them, which is what most
/// datagrams fill, into the same few lines of the CPU's caches.
const STRIDE: usize = SLOT_LENGTH + 33 * 64;
/// What the kernel takes back at once, in bytes, or a multiple of it.
const PAGE: usize = 4096;
/// The most that the kernel cuts into datagrams at once, in bytes.
const MERGED_MAX: usize = 65000;

/// Where a datagram came from, or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    /// The client.
    pub(crate) client: SocketAddr,
    /// Our address that the client speaks to, where the kernel said.
    pub(crate) local: Option<IpAddr>,
}

/// Alignment of a machine word, as control messages ask for.
#[derive(Clone, Copy)]
#[repr(align(8))]
struct Control([u8; CONTROL_LENGTH]);

/// Room for some datagrams. About 2 MB, of which the kernel gives only what was ever filled.
pub(crate) struct Batch {
    bytes: Vec<u8>,
    addresses: Box<[[u8; ADDRESS_LENGTH]; SLOTS]>,
    controls: Box<[Control; SLOTS]>,
    parts: Box<[libc::iovec; SLOTS]>,
    headers: Box<[libc::mmsghdr; SLOTS]>,
    /// Of a slot that holds several datagrams which the kernel merged, the bytes of each.
    segments: [Option<u16>; SLOTS],
}

impl Batch {
    pub(crate) fn new() -> Self {
        let mut bytes = vec![0; SLOTS * STRIDE];
        let mut addresses = Box::new([[0; ADDRESS_LENGTH]; SLOTS]);
        let mut controls = Box::new([Control([0; CONTROL_LENGTH]); SLOTS]);
        let mut parts = Box::new([libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; SLOTS]);
        // SAFETY: zeros are a valid `mmsghdr`: null pointers and lengths of 0.
        let mut headers: Box<[libc::mmsghdr; SLOTS]> = Box::new(unsafe { std::mem::zeroed() });
        for (slot, part) in bytes.chunks_exact_mut(STRIDE).zip(parts.iter_mut()) {
            part.iov_base = slot.as_mut_ptr().cast();
        }
        // None of these is ever moved or made longer.
        for (i, header) in headers.iter_mut().enumerate() {
            header.msg_hdr.msg_iov = &raw mut parts[i];
            header.msg_hdr.msg_name = addresses[i].as_mut_ptr().cast();
            header.msg_hdr.msg_control = controls[i].0.as_mut_ptr().cast();
        }
        Self { bytes, addresses, controls, parts, headers, segments: [None; SLOTS] }
    }

    /// Receives the datagrams that there are into these slots; yields how many.
    pub(crate) fn receive(&mut self, socket: BorrowedFd<'_>, slots: Range<usize>) -> Result<usize, Errno> {
        for (part, header) in self.parts[slots.clone()].iter_mut().zip(&mut self.headers[slots.clone()]) {
            part.iov_len = SLOT_LENGTH;
            header.msg_hdr.msg_iovlen = 1;
            header.msg_hdr.msg_namelen = ADDRESS_LENGTH as u32;
            header.msg_hdr.msg_controllen = CONTROL_LENGTH as _;
        }
        let headers = &mut self.headers[slots.clone()];
        // SAFETY: as many headers as are said, each pointing to memory of ours, of the lengths that were just set.
        let count = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as u32,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        let count = Errno::result(count)?.unsigned_abs() as usize;
        for slot in slots.take(count) {
            self.segments[slot] = socket_bytes::merged_segment(self.control(slot)).filter(|segment| {
                // Else it is one by itself.
                usize::from(*segment) < self.length(slot)
            });
        }
        Ok(count)
    }

    /// The control messages that came with a datagram.
    fn control(&self, slot: usize) -> &[u8] {
        let length = CONTROL_LENGTH.min(self.headers[slot].msg_hdr.msg_controllen as _);
        &self.controls[slot].0[..length]
    }

    /// The bytes of each datagram in a slot that holds several; the last may have fewer.
    pub(crate) fn segment(&self, slot: usize) -> Option<u16> {
        self.segments[slot]
    }

    /// The bytes of a datagram, or of each in a slot that holds several.
    pub(crate) fn size(&self, slot: usize) -> usize {
        self.segments[slot].map_or(self.length(slot), usize::from)
    }

    /// Receives one datagram of a connected socket on which the kernel merges none; cheaper than [`Self::receive`] of
    /// one. It has no route.
    pub(crate) fn receive_one(&mut self, socket: BorrowedFd<'_>, slot: usize) -> Result<(), Errno> {
        let bytes = self.parts[slot].iov_base;
        // SAFETY: each slot has that much room.
        let length = unsafe { libc::recv(socket.as_raw_fd(), bytes, SLOT_LENGTH, libc::MSG_DONTWAIT) };
        self.headers[slot].msg_len = Errno::result(length)? as u32;
        self.segments[slot] = None;
        Ok(())
    }

    /// How many bytes a received datagram has.
    pub(crate) fn length(&self, slot: usize) -> usize {
        (self.headers[slot].msg_len as usize).min(SLOT_LENGTH)
    }

    /// Where a received datagram came from.
    pub(crate) fn route(&self, slot: usize) -> Option<Route> {
        let client = socket_bytes::address(&self.addresses[slot])?;
        Some(Route { client, local: socket_bytes::local_address(self.control(slot)) })
    }

    /// Sends received datagrams on: to the socket's peer, or back along `routes`, one for each slot. Yields how many
    /// of them were taken.
    pub(crate) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        slots: Range<usize>,
        routes: Option<&[Route]>,
    ) -> Result<usize, Errno> {
        if routes.is_none() && slots.len() == 1 {
            return self.send_one(socket, slots.start).map(|()| 1);
        }
        for slot in slots.clone() {
            self.parts[slot].iov_len = self.length(slot);
            self.direct(slot, routes.and_then(|routes| routes.get(slot)), None);
        }
        self.send_headers(socket, slots)
    }

    /// As [`Self::send`] to the peer, and cheaper.
    fn send_one(&mut self, socket: BorrowedFd<'_>, slot: usize) -> Result<(), Errno> {
        let (bytes, length) = (self.parts[slot].iov_base, self.length(slot));
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: each slot has more room than it has received.
        let sent = unsafe { libc::send(socket.as_raw_fd(), bytes, length, flags) };
        Errno::result(sent).map(drop)
    }

    /// Gives the memory of the datagrams back to the kernel, until it is used again.
    pub(crate) fn release_memory(&mut self) {
        let start = self.bytes.as_mut_ptr_range().start;
        let skipped = start.align_offset(PAGE);
        let length = (self.bytes.len() - skipped) / PAGE * PAGE;
        // SAFETY: whole pages that are all ours, and of bytes only: they read as zeros then.
        let result = unsafe { libc::madvise(start.wrapping_add(skipped).cast(), length, libc::MADV_DONTNEED) };
        // It can't fail; and if it did, the memory stayed.
        let _ = Errno::result(result);
    }

    /// Sends received datagrams of one route as a single one, to be cut by the kernel into `segment` bytes each. The
    /// slots must have been found [`mergeable`](Self::mergeable), or be a single one that the kernel
    /// [merged](Self::segment).
    pub(crate) fn send_merged(
        &mut self,
        socket: BorrowedFd<'_>,
        slots: Range<usize>,
        route: Option<&Route>,
        segment: u16,
    ) -> Result<(), Errno> {
        for slot in slots.clone() {
            self.parts[slot].iov_len = self.length(slot);
        }
        self.direct(slots.start, route, Some(segment));
        self.headers[slots.start].msg_hdr.msg_iovlen = slots.len() as _;
        let lengths = self.headers[slots.start].msg_len;
        let result = self.send_headers(socket, slots.start..slots.start + 1).map(drop);
        // The kernel has put down the sum.
        self.headers[slots.start].msg_len = lengths;
        result
    }

    /// Sends what the kernel merged as the datagrams that they were, each by itself. What it does not take is lost.
    /// Yields whether it took any.
    pub(crate) fn send_apart(
        &mut self,
        socket: BorrowedFd<'_>,
        slot: usize,
        route: Option<&Route>,
        segment: u16,
    ) -> bool {
        let mut taken = false;
        let (whole, length) = (self.parts[slot].iov_base, self.length(slot));
        self.direct(slot, route, None);
        for start in (0..length).step_by(segment.into()) {
            self.parts[slot].iov_base = whole.wrapping_byte_add(start);
            self.parts[slot].iov_len = (length - start).min(segment.into());
            let sent = match self.send_headers(socket, slot..slot + 1) {
                // The answer to an earlier datagram; this one was not sent yet.
                Err(Errno::ECONNREFUSED) => self.send_headers(socket, slot..slot + 1),
                sent => sent,
            };
            taken |= sent.is_ok();
        }
        self.parts[slot].iov_base = whole;
        self.headers[slot].msg_len = length as u32;
        taken
    }

    /// The bytes of each datagram, if the kernel can cut them all from one: of equal length, but for the last.
    pub(crate) fn mergeable(&self, slots: Range<usize>) -> Option<u16> {
        let segment = self.length(slots.start);
        let last = slots.end.checked_sub(1)?;
        let equal = slots.clone().all(|slot| slot == last || self.length(slot) == segment);
        let fits = segment * slots.len() <= MERGED_MAX && (1..=segment).contains(&self.length(last));
        (slots.len() > 1 && equal && fits).then_some(segment as u16)
    }

    fn direct(&mut self, slot: usize, route: Option<&Route>, segment: Option<u16>) {
        let mut control = ControlWriter::new(&mut self.controls[slot].0);
        let header = &mut self.headers[slot].msg_hdr;
        header.msg_iovlen = 1;
        header.msg_namelen = 0;
        if let Some(route) = route {
            header.msg_namelen = socket_bytes::put_address(route.client, &mut self.addresses[slot]);
            if let Some(local) = route.local {
                control = control.source(local);
            }
        }
        if let Some(segment) = segment {
            control = control.segment(segment);
        }
        header.msg_controllen = control.length() as _;
    }

    fn send_headers(&mut self, socket: BorrowedFd<'_>, slots: Range<usize>) -> Result<usize, Errno> {
        let headers = &mut self.headers[slots];
        // SAFETY: as many headers as are said, each pointing to memory of ours, of at least the lengths it names.
        let count = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                headers.len() as u32,
                (libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) as _,
            )
        };
        Errno::result(count).map(|count| count.unsigned_abs() as usize)
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch({} bytes)", self.bytes.len())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::UdpSocket;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::sys::socket::setsockopt;
    use nix::sys::socket::sockopt::{UdpGroSegment, UdpGsoSegment};

    use super::*;

    /// One that does not wait for ever.
    pub(crate) fn socket() -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    }

    fn connected(to: &UdpSocket) -> UdpSocket {
        let socket = socket();
        socket.connect(to.local_addr().unwrap()).unwrap();
        socket
    }

    fn received(by: &UdpSocket) -> Vec<u8> {
        let mut buffer = vec![0; SLOT_LENGTH];
        let length = by.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    }

    #[test]
    fn what_the_kernel_merged_is_sent_on_as_the_datagrams_that_it_was() {
        let (here, there) = (socket(), socket());
        setsockopt(&here, UdpGroSegment, &true).unwrap();
        let (client, onward) = (connected(&here), connected(&there));
        setsockopt(&client, UdpGsoSegment, &100).unwrap();
        let sent: Vec<u8> = (0..=244).collect();
        let mut batch = Batch::new();
        for apart in [false, true] {
            client.send(&sent).unwrap();
            assert_eq!(batch.receive(here.as_fd(), 3..SLOTS), Ok(1));
            assert_eq!((batch.segment(3), batch.length(3)), (Some(100), sent.len()));
            if apart {
                assert!(batch.send_apart(onward.as_fd(), 3, None, 100));
            } else {
                batch.send_merged(onward.as_fd(), 3..4, None, 100).unwrap();
            }
            assert_eq!(
                sent.chunks(100).map(|_| received(&there)).collect::<Vec<_>>(),
                sent.chunks(100).collect::<Vec<_>>()
            );
        }
        // The slot is as good as new.
        client.send(b"one").unwrap();
        assert_eq!(batch.receive(here.as_fd(), 3..SLOTS), Ok(1));
        assert_eq!(batch.segment(3), None);
        assert_eq!(batch.send(onward.as_fd(), 3..4, None), Ok(1));
        assert_eq!(received(&there), b"one");
    }

    #[test]
    fn datagrams_are_merged_only_with_their_like() {
        let (here, client) = (socket(), socket());
        setsockopt(&here, UdpGroSegment, &true).unwrap();
        let to = here.local_addr().unwrap();
        let mut batch = Batch::new();
        for (lengths, mergeable) in [
            (vec![50, 50, 50], Some(50)),
            (vec![50, 50, 20], Some(50)),
            (vec![50, 20, 50], None),
            (vec![50, 60], None),
            (vec![50, 0], None),
            (vec![50], None),
            (vec![40_000, 40_000], None),
        ] {
            for length in &lengths {
                client.send_to(&vec![7; *length], to).unwrap();
            }
            assert_eq!(batch.receive(here.as_fd(), 0..SLOTS), Ok(lengths.len()));
            assert_eq!(batch.mergeable(0..lengths.len()), mergeable, "{lengths:?}");
        }
    }
}

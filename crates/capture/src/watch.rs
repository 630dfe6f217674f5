//! Notices of the kernel's that somebody else changed rules.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::{ffi::CStr, io};

use netlink_bindings::nftables::OpGettableDo;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, SockFlag, SockProtocol, recv};

use crate::layout::TABLE;
use crate::socket::{Messages, open_netlink};

/// The kernel puts at most this much into one notice.
const BUFFER_LENGTH: usize = 32 * 1024;

/// What was changed by others than this registrar's [`crate::Capture`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notice {
    /// Our own table, or something in it.
    pub own_table: bool,
    /// Any other table.
    pub other_tables: bool,
}

impl Notice {
    /// Notices were lost: anything may have changed.
    const LOST: Self = Self { own_table: true, other_tables: true };

    /// Whether it says anything.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        !self.own_table && !self.other_tables
    }
}

/// Hears of every change of rules in the network namespace that it was made in.
///
/// Its descriptor does not block and becomes readable when there is something to [`Self::read`], as tokio's
/// `AsyncFd` wants it.
#[derive(Debug)]
pub struct Watch {
    fd: OwnedFd,
    /// Changes from here are our own.
    own_port_id: u32,
}

impl Watch {
    pub(crate) fn open(own_port_id: u32) -> io::Result<Self> {
        let group = 1 << (libc::NFNLGRP_NFTABLES - 1);
        let fd = open_netlink(SockProtocol::NetlinkNetFilter, group, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        Ok(Self { fd, own_port_id })
    }

    /// The next notice; it may be empty.
    ///
    /// # Errors
    /// `WouldBlock` where there is none; anything else: the watch is of no use any more.
    pub fn read(&self) -> io::Result<Notice> {
        let mut buffer = vec![0; BUFFER_LENGTH];
        match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
            Ok(length) if length > buffer.len() => Ok(Notice::LOST),
            Ok(0) | Err(Errno::ENOBUFS) => Ok(Notice::LOST),
            Ok(length) => Ok(notice(&buffer[..length], self.own_port_id)),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Watch {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

fn notice(bytes: &[u8], own_port_id: u32) -> Notice {
    let mut notice = Notice::default();
    for message in Messages(bytes).filter(|message| message.port_id != own_port_id) {
        match table_of(message.kind, message.body) {
            Some((family, table)) if family == libc::NFPROTO_INET as u8 && table == TABLE => notice.own_table = true,
            Some(_) => notice.other_tables = true,
            None => {}
        }
    }
    notice
}

/// The family and name of the table that a change is about; `None` for messages about no table.
fn table_of(kind: u16, body: &[u8]) -> Option<(u8, &CStr)> {
    let [message, subsystem] = kind.to_le_bytes();
    if i32::from(subsystem) != libc::NFNL_SUBSYS_NFTABLES || i32::from(message) == libc::NFT_MSG_NEWGEN {
        return None;
    }
    // Whatever the message is about: its first kind of attribute is the table's name.
    let (header, table) = OpGettableDo::decode_request(body);
    Some((header.nfgen_family, table.get_name().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Batch;
    use crate::layout;

    #[test]
    fn a_change_of_our_table_by_somebody_else_is_noticed() {
        let mut batch = Batch::new();
        layout::delete(&mut batch);
        // The batch's messages have port id 0.
        assert_eq!(notice(batch.finish(), 1), Notice { own_table: true, other_tables: false });
    }

    #[test]
    fn our_own_changes_are_no_news() {
        let mut batch = Batch::new();
        layout::delete(&mut batch);
        assert_eq!(notice(batch.finish(), 0), Notice::default());
    }

    #[test]
    fn a_change_of_another_table_is_told_apart() {
        let mut batch = Batch::new();
        batch.new_table("another", |table| drop(table.push_name(c"filter")));
        assert_eq!(notice(batch.finish(), 1), Notice { own_table: false, other_tables: true });
    }

    #[test]
    fn no_prefix_and_no_changed_byte_of_a_notice_does_harm() {
        let mut batch = layout::build(&[]);
        let good = batch.finish();
        for length in 0..good.len() {
            notice(&good[..length], 1);
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.to_vec();
                bad[at] = value;
                notice(&bad, 1);
            }
        }
    }
}

//! Waits for what a [`Watch`] hears.

use std::os::fd::AsFd;

use capture::{Notice, Watch};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// All notices that come within a moment, as one.
pub(crate) fn notices(watch: &Watch) -> Notice {
    let mut all = Notice::default();
    let mut fd = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
    while poll(&mut fd, PollTimeout::from(50_u16)).unwrap() > 0 {
        let notice = watch.read().unwrap();
        all.own_table |= notice.own_table;
        all.other_tables |= notice.other_tables;
    }
    all
}

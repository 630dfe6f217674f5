//! Shares the port with Envoy: one socket group, and the program by which the kernel picks its member.
//!
//! The group's oldest member is number 0: the shim. The program names number 1, which is Envoy's first socket while
//! there is one; a number that no member has makes the kernel pick by hash, and of the shim alone that is the shim.
//! Envoy's own balancer hands connections on to its other workers, so their number is not needed.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::sockopt::{AttachReusePortCbpf, ReusePort};
use nix::sys::socket::{Backlog, SockaddrStorage, bind, listen, setsockopt};

use crate::port::{self, Port};

/// Our place in the group.
const SHIM: u32 = 0;
/// Envoy's.
const ENVOY: u32 = 1;

/// Opens the port to others of our uid, and has the kernel prefer them.
///
/// The kernel takes a program only where a group exists, and with the option set after `listen` there is none before
/// a second member joins: a dummy does, for about 150 µs. A connection that arrives at the dummy is reset, so this
/// comes before anybody is told that the port is served.
///
/// # Errors
/// The kernel refused; in words. The port serves on by itself, and nobody can join it.
pub(crate) fn share(port: &Port) -> Result<(), String> {
    share_socket(port).map_err(|errno| {
        let _ = setsockopt(&port.socket, ReusePort, &false);
        format!("the port can't be shared with Envoy: {}", port::text(errno))
    })
}

/// Has the kernel give new connections to Envoy (while it listens), or to us. Costs nothing under load.
///
/// # Errors
/// The kernel refused; in words. It goes on as before.
pub(crate) fn steer(port: &Port, to_envoy: bool) -> Result<(), String> {
    let member = if to_envoy { ENVOY } else { SHIM };
    attach(&port.socket, member).map_err(|errno| format!("new connections can't be steered: {}", port::text(errno)))
}

fn share_socket(port: &Port) -> Result<(), Errno> {
    setsockopt(&port.socket, ReusePort, &true)?;
    let _dummy = second_member(port)?;
    attach(&port.socket, ENVOY)
}

fn second_member(port: &Port) -> Result<OwnedFd, Errno> {
    let dummy = port::open(port.published())?;
    setsockopt(&dummy, ReusePort, &true)?;
    bind(dummy.as_raw_fd(), &SockaddrStorage::from(port.published().socket_address()))?;
    listen(&dummy, Backlog::new(1)?)?;
    Ok(dummy)
}

/// Attaches the program "return `member`" to the group.
fn attach(socket: &OwnedFd, member: u32) -> Result<(), Errno> {
    const RETURN_CONSTANT: u32 = libc::BPF_RET | libc::BPF_K;
    let mut program = [libc::sock_filter { code: RETURN_CONSTANT as u16, jt: 0, jf: 0, k: member }];
    let program = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    setsockopt(socket, AttachReusePortCbpf, &program)
}

//! The bytes of `NETLINK_SOCK_DIAG`: requests, and the messages that answer them.
//!
//! Layouts from Linux' `include/uapi/linux/{netlink,sock_diag,inet_diag}.h`. Pure: nothing here talks to the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::libc;

use crate::{Connection, Listener};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const TCP_LISTEN: u8 = 10;
/// The states in which somebody may still wait for the peer, as bits: ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2,
/// CLOSE_WAIT. From Linux' `include/net/tcp_states.h`.
const CONNECTED: u32 = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8;
const HEADER_LENGTH: usize = 16;
/// `struct inet_diag_req_v2`.
const REQUEST_LENGTH: usize = 56;
/// `struct inet_diag_msg`.
const SOCKET_LENGTH: usize = 72;

/// The length of every request, in bytes.
pub const MESSAGE_LENGTH: usize = HEADER_LENGTH + REQUEST_LENGTH;

/// Address family of a question; the kernel answers for one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Sockets of `AF_INET`.
    V4,
    /// Sockets of `AF_INET6`.
    V6,
}

impl Family {
    const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    const fn number(self) -> u8 {
        match self {
            Self::V4 => libc::AF_INET as u8,
            Self::V6 => libc::AF_INET6 as u8,
        }
    }
}

/// What is asked of the kernel.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// All TCP listeners of one family.
    Listeners {
        /// Which family.
        family: Family,
        /// Only those on this port; 0 for every port.
        port: u16,
    },
    /// The end of one TCP listener.
    Destroy {
        /// Which, by its cookie.
        listener: &'a Listener,
        /// Changes the hash by which the kernel picks a socket of a group, and nothing else.
        salt: u16,
    },
    /// All TCP connections of one family.
    Connections {
        /// Which family.
        family: Family,
    },
    /// The end of one TCP connection.
    End {
        /// Which, by its ends and its cookie.
        connection: &'a Connection,
    },
}

impl Request<'_> {
    /// The request as the kernel reads it; `sequence` comes back in every answer.
    #[must_use]
    pub fn encode(&self, sequence: u32) -> [u8; MESSAGE_LENGTH] {
        let (kind, flags) = match self {
            Self::Listeners { .. } | Self::Connections { .. } => {
                (SOCK_DIAG_BY_FAMILY, libc::NLM_F_REQUEST | libc::NLM_F_DUMP)
            }
            Self::Destroy { .. } | Self::End { .. } => (SOCK_DESTROY, libc::NLM_F_REQUEST | libc::NLM_F_ACK),
        };
        let mut out = Writer { bytes: [0; MESSAGE_LENGTH], at: 0 };
        out.put(&(MESSAGE_LENGTH as u32).to_ne_bytes());
        out.put(&kind.to_ne_bytes());
        out.put(&(flags as u16).to_ne_bytes());
        out.put(&sequence.to_ne_bytes());
        out.put(&[0; 4]); // our port id: the kernel knows it
        match self {
            Self::Listeners { family, port } => {
                out.start_of_request(*family, 1 << TCP_LISTEN);
                out.put(&port.to_be_bytes());
            }
            Self::Destroy { listener, salt } => out.destroy(listener, *salt),
            Self::Connections { family } => out.start_of_request(*family, CONNECTED),
            Self::End { connection } => out.end(connection),
        }
        out.bytes
    }
}

struct Writer {
    bytes: [u8; MESSAGE_LENGTH],
    at: usize,
}

impl Writer {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    fn start_of_request(&mut self, family: Family, states: u32) {
        self.put(&[family.number(), libc::IPPROTO_TCP as u8, 0, 0]);
        self.put(&states.to_ne_bytes());
    }

    fn destroy(&mut self, listener: &Listener, salt: u16) {
        self.start_of_request(Family::of(listener.address.ip()), 1 << TCP_LISTEN);
        self.put(&listener.address.port().to_be_bytes());
        self.put(&salt.to_be_bytes()); // the peer's port
        self.address(listener.address.ip());
        self.put(&[0; 16]); // the peer's address
        self.name(listener.interface, listener.cookie);
    }

    fn end(&mut self, connection: &Connection) {
        self.start_of_request(Family::of(connection.local.ip()), CONNECTED);
        self.put(&connection.local.port().to_be_bytes());
        self.put(&connection.peer.port().to_be_bytes());
        self.address(connection.local.ip());
        self.address(connection.peer.ip());
        self.name(connection.interface, connection.cookie);
    }

    fn address(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => {
                self.put(&address.octets());
                self.put(&[0; 12]);
            }
            IpAddr::V6(address) => self.put(&address.octets()),
        }
    }

    fn name(&mut self, interface: u32, cookie: [u32; 2]) {
        [interface, cookie[0], cookie[1]].iter().for_each(|number| self.put(&number.to_ne_bytes()));
    }
}

/// One message from the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// One listener of a dump.
    Listener(Listener),
    /// One connection of a dump.
    Connection(Connection),
    /// The dump is complete.
    Done,
    /// The request failed with this errno; 0 says that it was carried out.
    Error(i32),
    /// Of no interest: another sequence number, another kind, or a socket of another state.
    Other,
}

/// A message, and what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoded<'a> {
    /// What the message says.
    pub answer: Answer,
    /// The sockets changed while the kernel listed them: the dump is to be asked for again.
    pub interrupted: bool,
    /// The bytes after this message.
    pub rest: &'a [u8],
}

/// The first message in `bytes`; `None` where no whole message is left.
#[must_use]
pub fn decode(bytes: &[u8], sequence: u32) -> Option<Decoded<'_>> {
    let length = usize::try_from(u32_at(bytes, 0)?).ok()?;
    if length < HEADER_LENGTH {
        return None;
    }
    let message = bytes.get(..length)?;
    // Messages are padded to 4 bytes; the last one need not be.
    let rest = bytes.get(length.checked_next_multiple_of(4)?..).unwrap_or_default();
    let interrupted = i32::from(u16_at(message, 6)?) & libc::NLM_F_DUMP_INTR != 0;
    Some(Decoded { answer: answer(message, sequence)?, interrupted, rest })
}

fn answer(message: &[u8], sequence: u32) -> Option<Answer> {
    let kind = u16_at(message, 4)?;
    let body = message.get(HEADER_LENGTH..)?;
    Some(match kind {
        _ if u32_at(message, 8)? != sequence => Answer::Other,
        SOCK_DIAG_BY_FAMILY => socket(body).unwrap_or(Answer::Other),
        _ if kind == libc::NLMSG_DONE as u16 => Answer::Done,
        _ if kind == libc::NLMSG_ERROR as u16 => Answer::Error((u32_at(body, 0)? as i32).saturating_neg()),
        _ => Answer::Other,
    })
}

fn socket(body: &[u8]) -> Option<Answer> {
    if body.len() < SOCKET_LENGTH {
        return None;
    }
    let state = body[1];
    let (interface, cookie, uid) = (u32_at(body, 40)?, [u32_at(body, 44)?, u32_at(body, 48)?], u32_at(body, 64)?);
    let local = SocketAddr::new(ip_at(body, 8)?, u16::from_be_bytes(array_at(body, 4)?));
    if state == TCP_LISTEN {
        let (accept_queue, inode) = (u32_at(body, 56)?, u32_at(body, 68)?);
        return Some(Answer::Listener(Listener { address: local, interface, inode, uid, accept_queue, cookie }));
    }
    let is_connected = CONNECTED.checked_shr(state.into()).is_some_and(|bits| bits & 1 == 1);
    let peer = SocketAddr::new(ip_at(body, 24)?, u16::from_be_bytes(array_at(body, 6)?));
    is_connected.then_some(Answer::Connection(Connection { local, peer, interface, uid, cookie }))
}

fn ip_at(body: &[u8], at: usize) -> Option<IpAddr> {
    match i32::from(body[0]) {
        libc::AF_INET => Some(Ipv4Addr::from(array_at(body, at)?).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(array_at::<16>(body, at)?).into()),
        _ => None,
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener_message(sequence: u32, flags: u16) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(((HEADER_LENGTH + SOCKET_LENGTH) as u32).to_ne_bytes());
        out.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        out.extend(flags.to_ne_bytes());
        out.extend(sequence.to_ne_bytes());
        out.extend([0; 4]);
        out.extend([libc::AF_INET as u8, TCP_LISTEN, 0, 0]);
        out.extend(8080_u16.to_be_bytes());
        out.extend([0; 2]);
        out.extend([127, 0, 0, 1]);
        out.extend([0; 28]);
        for number in [3_u32, 4, 5, 0, 6, 128, 1000, 77] {
            out.extend(number.to_ne_bytes());
        }
        out
    }

    const EXPECTED: Listener = Listener {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8080),
        interface: 3,
        cookie: [4, 5],
        accept_queue: 6,
        uid: 1000,
        inode: 77,
    };

    #[test]
    fn a_listener_is_read_from_its_message() {
        let bytes = listener_message(9, 0);
        let expected = Decoded { answer: Answer::Listener(EXPECTED), interrupted: false, rest: &[] };
        assert_eq!(decode(&bytes, 9), Some(expected));
    }

    #[test]
    fn an_answer_to_another_question_is_of_no_interest() {
        assert_eq!(decode(&listener_message(8, 0), 9).unwrap().answer, Answer::Other);
    }

    #[test]
    fn a_dump_during_which_sockets_changed_says_so() {
        let bytes = listener_message(9, libc::NLM_F_DUMP_INTR as u16);
        assert!(decode(&bytes, 9).unwrap().interrupted);
    }

    #[test]
    fn several_messages_follow_each_other() {
        let mut bytes = listener_message(9, 0);
        bytes.extend(listener_message(9, 0));
        let rest = decode(&bytes, 9).unwrap().rest;
        assert_eq!(rest, listener_message(9, 0));
    }

    #[test]
    fn no_prefix_and_no_changed_byte_of_a_message_does_harm() {
        let good = listener_message(9, 0);
        for length in 0..good.len() {
            assert_eq!(decode(&good[..length], 9), None, "{length} bytes are no whole message");
        }
        for at in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = decode(&bad, 9);
            }
        }
    }

    #[test]
    fn a_destroy_request_names_the_socket_by_its_cookie() {
        let bytes = Request::Destroy { listener: &EXPECTED, salt: 7 }.encode(1);
        assert_eq!(bytes[MESSAGE_LENGTH - 8..], [4_u32.to_ne_bytes(), 5_u32.to_ne_bytes()].concat());
    }
}

//! The classic BPF instructions that pick a member. Pure.

use std::net::IpAddr;

use nix::libc::{self, sock_filter};

/// Where the packet's IP header begins, for loads.
const NETWORK_HEADER: u32 = libc::SKF_NET_OFF.cast_unsigned();
/// Where the source address is in the header.
const SOURCE_IN_IPV4: u32 = 12;
const SOURCE_IN_IPV6: u32 = 8;

/// Gives the connection to this member.
pub(crate) const fn give_to(member: u32) -> sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, member)
}

/// Gives the connection to `theirs` if it comes from one of these clients, which must be of the socket's family, and
/// otherwise to `member`. A packet that is too short for its header goes to member 0.
pub(crate) fn except(clients: impl Iterator<Item = IpAddr>, theirs: u32, member: u32) -> Vec<sock_filter> {
    let mut program = Vec::new();
    for client in clients {
        match client {
            IpAddr::V4(client) => if_from(&client.octets(), SOURCE_IN_IPV4, theirs, &mut program),
            IpAddr::V6(client) => if_from(&client.octets(), SOURCE_IN_IPV6, theirs, &mut program),
        }
    }
    program.push(give_to(member));
    program
}

/// Compares an address word by word, and skips what follows at the first difference.
fn if_from(client: &[u8], source: u32, theirs: u32, program: &mut Vec<sock_filter>) {
    let (words, _) = client.as_chunks();
    // Of each word's load and comparison, and what follows them.
    let mut left = 2 * words.len() as u8 + 1;
    for (at, word) in (source..).step_by(4).zip(words) {
        left -= 2;
        program.push(instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, NETWORK_HEADER.wrapping_add(at)));
        program.push(instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, left, u32::from_be_bytes(*word)));
    }
    program.push(give_to(theirs));
}

/// `skip`: how many instructions to skip where a comparison fails.
const fn instruction(code: u32, skip: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: skip, k }
}

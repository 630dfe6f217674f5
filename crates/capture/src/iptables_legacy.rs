//! Reads Docker's rules as the kernel's older interface for iptables keeps them (`iptables-legacy`).
//!
//! Layouts from Linux' `include/uapi/linux/netfilter_ipv4/ip_tables.h`, `netfilter_ipv6/ip6_tables.h` and
//! `netfilter/x_tables.h`. Asking for a table that is not in use would load it, so it is asked for only where it is.

use std::ffi::CStr;
use std::fs;
use std::ops::RangeInclusive;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::docker_rules::{Backend, Place, Rule, iptables_places};

/// What is different between IPv4 and IPv6.
#[derive(Clone, Copy, Debug)]
struct Family {
    /// The tables that are in use in the calling thread's network namespace, one a line.
    table_names: &'static str,
    address_family: AddressFamily,
    option_level: libc::c_int,
    /// Where the protocol's number is in an entry (`u16`).
    protocol_at: usize,
    /// The length of the part of an entry that matches addresses, interfaces and protocol.
    header_length: usize,
    /// The length of an entry without matches and target.
    entry_length: usize,
}

const FAMILIES: [Family; 2] = [
    Family {
        table_names: "/proc/thread-self/net/ip_tables_names",
        address_family: AddressFamily::Inet,
        option_level: libc::IPPROTO_IP,
        protocol_at: 80,
        header_length: 84,
        entry_length: 112,
    },
    Family {
        table_names: "/proc/thread-self/net/ip6_tables_names",
        address_family: AddressFamily::Inet6,
        option_level: libc::IPPROTO_IPV6,
        protocol_at: 128,
        header_length: 136,
        entry_length: 168,
    },
];

/// `IPT_SO_GET_INFO` and `IPT_SO_GET_ENTRIES`; the same numbers serve IPv6.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// `struct ipt_getinfo`: name, three arrays of 4 bytes times 1, 5 and 5, number and size of the entries.
const INFO_LENGTH: usize = 84;
/// `struct ipt_get_entries` without its entries.
const ENTRIES_HEADER_LENGTH: usize = 40;
const NAME_LENGTH: usize = 32;
/// `struct xt_entry_target` and `xt_entry_match`: length, name, revision.
const EXTENSION_HEADER_LENGTH: usize = 32;
/// `XT_RETURN`
const RETURN: i32 = -5;
/// Times that a table is read again because it changed length meanwhile.
const TRIES: u32 = 10;
/// More than this is no table that Docker and a user wrote, in bytes.
const MAX_TABLE_LENGTH: usize = 64 << 20;

/// Hands over every rule that tells something about Docker's firewall; whether there are such tables at all.
pub(crate) fn read(mut take: impl FnMut(&Place, Rule)) -> Result<bool, Errno> {
    let mut has_tables = false;
    for family in FAMILIES {
        // Only root may read it, and it is not there where the interface is not.
        let names = fs::read_to_string(family.table_names).unwrap_or_default();
        for place in iptables_places(Backend::IptablesLegacy) {
            if names.lines().any(|name| name.as_bytes() == place.table.to_bytes()) {
                has_tables = true;
                let entries = read_table(&family, place.table)?;
                rules(&entries, &family, place.chain).for_each(|rule| take(&place, rule));
            }
        }
    }
    Ok(has_tables)
}

fn read_table(family: &Family, table: &CStr) -> Result<Vec<u8>, Errno> {
    let fd = socket(family.address_family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    for _ in 0..TRIES {
        let mut info = vec![0; INFO_LENGTH];
        info[..table.to_bytes().len()].copy_from_slice(table.to_bytes());
        get_option(&fd, family.option_level, GET_INFO, &mut info)?;
        let size = u32_at(&info, INFO_LENGTH - 4).ok_or(Errno::EBADMSG)?;
        let length = usize::try_from(size).ok().filter(|length| *length <= MAX_TABLE_LENGTH).ok_or(Errno::EFBIG)?;

        let mut entries = vec![0; ENTRIES_HEADER_LENGTH + length];
        entries[..table.to_bytes().len()].copy_from_slice(table.to_bytes());
        entries[NAME_LENGTH..NAME_LENGTH + 4].copy_from_slice(&size.to_ne_bytes());
        match get_option(&fd, family.option_level, GET_ENTRIES, &mut entries) {
            Ok(()) => return Ok(entries.split_off(ENTRIES_HEADER_LENGTH)),
            Err(Errno::EAGAIN) => {}
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::EAGAIN)
}

#[expect(unsafe_code, reason = "no library has these socket options")]
fn get_option(
    fd: &std::os::fd::OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: &mut [u8],
) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    let mut length = libc::socklen_t::try_from(value.len()).map_err(|_| Errno::EFBIG)?;
    // SAFETY: the kernel writes at most `length` bytes into `value`, which is that long.
    let result = unsafe { libc::getsockopt(fd.as_raw_fd(), level, option, value.as_mut_ptr().cast(), &raw mut length) };
    Errno::result(result).map(drop)
}

/// The rules of one chain; none where there is no such chain.
fn rules<'a>(entries: &'a [u8], family: &'a Family, chain: &'a CStr) -> impl Iterator<Item = Rule> + 'a {
    let mut in_chain = false;
    Entries { bytes: entries, family }.filter_map(move |entry| match entry.chain_name() {
        Some(name) => {
            in_chain = name == chain.to_bytes();
            None
        }
        None => in_chain.then(|| entry.rule()),
    })
}

/// One entry of a table: a rule, the head of a chain, or a chain's policy.
#[derive(Clone, Copy, Debug)]
struct Entry<'a> {
    family: &'a Family,
    header: &'a [u8],
    matches: &'a [u8],
    target: &'a [u8],
}

impl<'a> Entry<'a> {
    fn target_name(&self) -> &'a [u8] {
        name_of(self.target)
    }

    /// Chains begin with a target that is an error with the chain's name.
    fn chain_name(&self) -> Option<&'a [u8]> {
        let name = self.target.get(EXTENSION_HEADER_LENGTH..).filter(|_| self.target_name() == b"ERROR")?;
        name.split(|byte| *byte == 0).next()
    }

    fn rule(&self) -> Rule {
        let header = &self.header[..self.family.header_length];
        let verdict = self.target.get(EXTENSION_HEADER_LENGTH..).and_then(|data| data.first_chunk());
        let returns = self.target_name().is_empty() && verdict.copied().map(i32::from_ne_bytes) == Some(RETURN);
        if returns && self.matches.is_empty() && header.iter().all(|byte| *byte == 0) {
            return Rule::Return;
        }
        let protocol = u16_at(header, self.family.protocol_at).map_or(0, libc::c_int::from);
        if self.target_name() != b"DNAT" || ![0, libc::IPPROTO_TCP].contains(&protocol) {
            return Rule::Other;
        }
        let tcp = Extensions(self.matches).find(|extension| name_of(extension) == b"tcp");
        let ports = tcp.and_then(|tcp| tcp_match_ports(tcp.get(EXTENSION_HEADER_LENGTH..)?));
        Rule::Dnat(ports.unwrap_or(1..=u16::MAX))
    }
}

struct Entries<'a> {
    bytes: &'a [u8],
    family: &'a Family,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let family = self.family;
        // After the header: 4 bytes for caching, then the offsets of the target and of the next entry.
        let target = usize::from(u16_at(self.bytes, family.header_length + 4)?);
        let next = usize::from(u16_at(self.bytes, family.header_length + 6)?);
        let entry = self.bytes.get(..next)?;
        let (header, matches) = (entry.get(..family.entry_length)?, entry.get(family.entry_length..target)?);
        let target = entry.get(target..)?;
        self.bytes = self.bytes.get(next..)?;
        Some(Entry { family, header, matches, target })
    }
}

/// The matches of a rule.
struct Extensions<'a>(&'a [u8]);

impl<'a> Iterator for Extensions<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(u16_at(self.0, 0)?);
        let extension = self.0.get(..length).filter(|_| length >= EXTENSION_HEADER_LENGTH)?;
        self.0 = &self.0[length..];
        Some(extension)
    }
}

/// The name of a match or a target; the standard target has none.
fn name_of(extension: &[u8]) -> &[u8] {
    extension.get(2..31).and_then(|name| name.split(|byte| *byte == 0).next()).unwrap_or_default()
}

/// The destination ports of `struct xt_tcp`: source ports, destination ports, host byte order; then an option, two
/// masks, and what is inverted. `None` where the rule says "all but these".
pub(crate) fn tcp_match_ports(data: &[u8]) -> Option<RangeInclusive<u16>> {
    const INVERTED_DESTINATION: u8 = 2;
    let inverted = *data.get(11)? & INVERTED_DESTINATION != 0;
    (!inverted).then_some(u16_at(data, 4)?..=u16_at(data, 6)?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).copied().map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).copied().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extension(name: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; EXTENSION_HEADER_LENGTH];
        bytes[2..2 + name.len()].copy_from_slice(name.as_bytes());
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let length = bytes.len() as u16;
        bytes[..2].copy_from_slice(&length.to_ne_bytes());
        bytes
    }

    fn entry(family: &Family, protocol: u16, matches: &[u8], target: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; family.entry_length];
        bytes[family.protocol_at..family.protocol_at + 2].copy_from_slice(&protocol.to_ne_bytes());
        let target_at = (family.entry_length + matches.len()) as u16;
        let next = target_at + target.len() as u16;
        let at = family.header_length + 4;
        bytes[at..at + 2].copy_from_slice(&target_at.to_ne_bytes());
        bytes[at + 2..at + 4].copy_from_slice(&next.to_ne_bytes());
        [&bytes, matches, target].concat()
    }

    fn tcp(ports: RangeInclusive<u16>, inverted: u8) -> Vec<u8> {
        let numbers = [0, u16::MAX, *ports.start(), *ports.end()].map(u16::to_ne_bytes).concat();
        extension("tcp", &[&numbers[..], &[0, 0, 0, inverted]].concat())
    }

    fn table(family: &Family) -> Vec<u8> {
        let chain = |name: &str| entry(family, 0, &[], &extension("ERROR", format!("{name}\0").as_bytes()));
        let back = extension("", &RETURN.to_ne_bytes());
        [
            entry(family, 6, &tcp(1..=1, 0), &extension("DNAT", &[])),
            chain("DOCKER"),
            entry(family, 0, &[], &back),
            entry(family, 6, &tcp(8080..=8080, 0), &extension("DNAT", &[])),
            entry(family, 17, &[], &extension("DNAT", &[])),
            entry(family, 6, &tcp(9..=9, 2), &extension("DNAT", &[])),
            entry(family, 6, &tcp(9..=9, 0), &back),
            chain("ERROR"),
        ]
        .concat()
    }

    #[test]
    fn the_rules_of_a_chain_are_told_apart() {
        for family in &FAMILIES {
            let table = table(family);
            let rules: Vec<_> = rules(&table, family, c"DOCKER").collect();
            let all = Rule::Dnat(1..=u16::MAX);
            assert_eq!(rules, [Rule::Return, Rule::Dnat(8080..=8080), Rule::Other, all, Rule::Other]);
        }
    }

    #[test]
    fn no_prefix_and_no_changed_byte_of_a_table_does_harm() {
        for family in &FAMILIES {
            let good = table(family);
            for length in 0..good.len() {
                let _: Vec<_> = rules(&good[..length], family, c"DOCKER").collect();
            }
            for at in 0..good.len() {
                for value in [0, 1, 0x7f, 0xff] {
                    let mut bad = good.clone();
                    bad[at] = value;
                    let _: Vec<_> = rules(&bad, family, c"DOCKER").collect();
                }
            }
        }
    }
}

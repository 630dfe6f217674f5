//! What our table looks like, as commands of a [`Batch`]. `docs/capture.md` shows it as `nft list` does.
//!
//! Nothing here decides when a command is given, see [`crate::table`].

use std::ffi::CStr;
use std::time::Duration;

use netlink_bindings::nftables::{PushExprListAttrs, PushRuleAttrs};
use netlink_bindings::traits::Pusher;
use netlink_bindings::utils::push_header;
use nix::libc;

use crate::batch::Batch;
use crate::element::{Element, Kind, Set};

// The rules change with these, and so must `COMMENT`.
pub use model::service_port::{CATCH_PORT, UNPROXIED_CATCH_PORT};

/// The name of our table, of family `inet`. Nothing outside it is ever changed.
pub(crate) const TABLE: &CStr = c"envoy-docker-shim";

/// How long the table has an effect after the lease was renewed last. Long enough for a registrar to restart, or to
/// be held up; short enough that a host whose registrar is gone for good returns to Docker's own path by itself.
pub const LEASE: Duration = Duration::from_secs(60);

/// The same for the rules for unproxied ports alone: without a registrar nobody would notice that Envoy is gone, and
/// what they are sent to listens nowhere else. Docker's own path serves after that.
pub const UNPROXIED_LEASE: Duration = Duration::from_secs(3);

/// Ahead of Docker's DNAT, which is at -100 with both of its back ends. Of all chains of type nat, the first one
/// that translates a connection is the last one that is asked.
pub(crate) const PRIORITY: i32 = -110;

/// The set with the one element that all rules ask for.
pub(crate) const LEASE_SET: &CStr = c"lease";
/// The set with the one element that the rules for unproxied ports ask for, too.
pub(crate) const UNPROXIED_LEASE_SET: &CStr = c"unproxied_lease";
/// nft's number of the type `inet_proto`.
const INET_PROTOCOL: u32 = 12;
const LEASE_KEY: &[u8] = &[libc::IPPROTO_TCP as u8];

const DIVERT_CHAIN: &CStr = c"divert";
const UNPROXIED_CHAIN: &CStr = c"unproxied";
const PREROUTING_CHAIN: &CStr = c"prerouting";
/// The chains that packets enter, and their hooks.
pub(crate) const HOOKED_CHAINS: [(&CStr, u32); 2] =
    [(PREROUTING_CHAIN, libc::NF_INET_PRE_ROUTING as u32), (c"output", libc::NF_INET_LOCAL_OUT as u32)];

/// Elements in one message: a list may have 64 KiB, and one element takes at most 32 bytes.
const ELEMENTS_PER_MESSAGE: usize = 1000;

/// Every rule carries this as its comment. It changes with the rules, so that a registrar of another version knows
/// a table that it has to replace.
const COMMENT: &[u8] = b"Envoy Docker Shim, layout 4";

const REGISTER_1: u32 = libc::NFT_REG_1 as u32;
const REGISTER_2: u32 = libc::NFT_REG_2 as u32;
/// The second 4 bytes of register 1.
const REGISTER_1_SECOND: u32 = libc::NFT_REG32_00 as u32 + 1;
// Numbers from Linux' include/uapi/linux/netfilter/nf_tables.h. Where they say "not", the kernel's own description of
// nf_tables, and so netlink-bindings, has them wrong.

/// `NFTA_SET_TIMEOUT`, in milliseconds: big endian, not the machine's order.
const SET_TIMEOUT: u16 = 11;
/// `NFTA_SET_GC_INTERVAL`, in milliseconds: big endian, not the machine's order.
const SET_SWEEP_INTERVAL: u16 = 12;
/// There is nothing to sweep in a set whose elements stay.
const NEVER_MS: u32 = 24 * 3600 * 1000;
/// `NFTA_LOOKUP_SREG`: number 2, not 3.
const LOOKUP_SOURCE_REGISTER: u16 = 2;

/// `NFT_FIB_RESULT_ADDRTYPE`: 3, not 2.
const FIB_RESULT_ADDRESS_TYPE: u32 = 3;
/// `NFTA_FIB_F_DADDR`
const FIB_DESTINATION: u32 = 1 << 1;
/// `NF_NAT_RANGE_PROTO_SPECIFIED`
const NAT_HAS_PORT: u32 = 1 << 1;

/// Offset of the destination address in IPv4's header.
const IPV4_DESTINATION: u32 = 16;
/// The first byte of all of IPv4's loopback addresses.
const IPV4_LOOPBACK: u8 = 127;

/// Offset of the destination port in TCP's header.
const DESTINATION_PORT: u32 = 2;

/// The table with everything in it, in place of one that may be there.
pub(crate) fn build<'a>(elements: impl IntoIterator<Item = &'a Element>) -> Batch {
    let mut batch = Batch::new();
    // Deleting what is not there fails, adding what is there does not.
    new_table(&mut batch);
    delete(&mut batch);
    new_table(&mut batch);
    for set in Set::ALL {
        new_set(&mut batch, set);
    }
    new_lease_set(&mut batch, LEASE_SET, LEASE, 1);
    new_lease_set(&mut batch, UNPROXIED_LEASE_SET, UNPROXIED_LEASE, 2);
    new_chain(&mut batch, UNPROXIED_CHAIN, None);
    new_chain(&mut batch, DIVERT_CHAIN, None);
    for set in Set::ALL {
        divert_rule(&mut batch, set);
    }
    unproxied_rule(&mut batch);
    for (chain, hook) in HOOKED_CHAINS {
        new_chain(&mut batch, chain, Some(hook));
        if chain == PREROUTING_CHAIN {
            loopback_rule(&mut batch, chain);
        }
        entrance_rule(&mut batch, chain);
    }
    add_elements(&mut batch, elements);
    renew_lease(&mut batch);
    batch
}

/// All of [`build`], and at its end a command that must fail, so that the kernel carries out nothing: whether it would
/// is what is asked. Yields the words of that last command.
pub(crate) fn rehearse() -> (Batch, &'static str) {
    const CURTAIN: &str = "the end of the rehearsal";
    let mut batch = build(&[]);
    batch.delete_elements(CURTAIN, |list| {
        let elements = list.push_table(TABLE).push_set(LEASE_SET).nested_elements();
        drop(elements.nested_elem().nested_key().push_value(&[0]).end_nested().end_nested().end_nested());
    });
    (batch, CURTAIN)
}

/// Deletes the table; fails where it is not there.
pub(crate) fn delete(batch: &mut Batch) {
    batch.delete_table("removal of table envoy-docker-shim", |table| drop(table.push_name(TABLE)));
}

/// Starts the lease anew, whether it ran out or not.
pub(crate) fn renew_lease(batch: &mut Batch) {
    renew(batch, LEASE_SET);
}

/// The same for the lease of unproxied ports.
pub(crate) fn renew_unproxied_lease(batch: &mut Batch) {
    renew(batch, UNPROXIED_LEASE_SET);
}

/// To "add" an element that is there would refresh nothing.
fn renew(batch: &mut Batch, set: &CStr) {
    let name = set.to_string_lossy();
    batch.delete_elements(&format!("flush of set {name}"), |list| drop(list.push_table(TABLE).push_set(set)));
    batch.new_elements(&format!("the one element of set {name}"), |list| {
        let elements = list.push_table(TABLE).push_set(set).nested_elements();
        drop(elements.nested_elem().nested_key().push_value(LEASE_KEY).end_nested().end_nested().end_nested());
    });
}

pub(crate) fn add_elements<'a>(batch: &mut Batch, elements: impl IntoIterator<Item = &'a Element>) {
    for (set, keys) in by_set(elements) {
        for keys in keys.chunks(ELEMENTS_PER_MESSAGE) {
            batch.new_elements(&format!("{} elements of set {set:?}", keys.len()), |list| {
                drop(keys.iter().fold(list.push_table(TABLE).push_set(set.name()).nested_elements(), push_key));
            });
        }
    }
}

/// Fails where one of them is not there.
pub(crate) fn delete_elements<'a>(batch: &mut Batch, elements: impl IntoIterator<Item = &'a Element>) {
    for (set, keys) in by_set(elements) {
        for keys in keys.chunks(ELEMENTS_PER_MESSAGE) {
            batch.delete_elements(&format!("removal of {} elements of set {set:?}", keys.len()), |list| {
                drop(keys.iter().fold(list.push_table(TABLE).push_set(set.name()).nested_elements(), push_key));
            });
        }
    }
}

type ElementList<'a> = netlink_bindings::nftables::PushSetelemListElemAttrs<
    netlink_bindings::nftables::PushSetelemListAttrs<&'a mut Vec<u8>>,
>;

#[expect(clippy::ptr_arg, reason = "the form that fold() asks for")]
fn push_key<'a>(list: ElementList<'a>, key: &Vec<u8>) -> ElementList<'a> {
    list.nested_elem().nested_key().push_value(key).end_nested().end_nested()
}

fn by_set<'a>(elements: impl IntoIterator<Item = &'a Element>) -> Vec<(Set, Vec<Vec<u8>>)> {
    let mut sets: Vec<_> = Set::ALL.map(|set| (set, Vec::new())).into();
    for element in elements {
        let keys = sets.iter_mut().find(|(set, _)| *set == element.set());
        keys.expect("all sets are listed").1.push(element.key());
    }
    sets
}

fn new_table(batch: &mut Batch) {
    batch.new_table("table envoy-docker-shim", |table| drop(table.push_name(TABLE)));
}

/// All sets are of the kind with timeouts, although only the lease's element has one: of a key as short as a port,
/// the kernel makes a bitmap with a list otherwise, and 10,000 elements take it 600 ms.
fn new_set(batch: &mut Batch, set: Set) {
    batch.new_set(&format!("set {set:?} (elements with a timeout)"), |attributes| {
        let attributes = attributes.push_table(TABLE).push_name(set.name()).push_flags(libc::NFT_SET_TIMEOUT as u32);
        let attributes = attributes.push_key_type(set.key_type()).push_key_len(set.key_length() as u32);
        let mut attributes = attributes.push_id(set as u32 + 1);
        push_attribute(&mut attributes, SET_SWEEP_INTERVAL, &NEVER_MS.to_be_bytes());
    });
}

/// `number`: which of these sets it is, from 1.
fn new_lease_set(batch: &mut Batch, name: &CStr, lease: Duration, number: u32) {
    batch.new_set(&format!("set {} (elements with a timeout)", name.to_string_lossy()), |attributes| {
        let attributes = attributes.push_table(TABLE).push_name(name).push_flags(libc::NFT_SET_TIMEOUT as u32);
        let attributes = attributes.push_key_type(INET_PROTOCOL).push_key_len(LEASE_KEY.len() as u32);
        let mut attributes = attributes.push_id(Set::ALL.len() as u32 + number);
        push_attribute(&mut attributes, SET_TIMEOUT, &(lease.as_millis() as u64).to_be_bytes());
    });
}

fn new_chain(batch: &mut Batch, name: &CStr, hook: Option<u32>) {
    let what = format!("chain {} {}", name.to_string_lossy(), if hook.is_some() { "of type nat" } else { "" });
    batch.new_chain(what.trim_end(), |chain| {
        let chain = chain.push_table(TABLE).push_name(name);
        match hook {
            Some(hook) => {
                let chain = chain.nested_hook().push_num(hook).push_priority(PRIORITY).end_nested();
                drop(chain.push_policy(libc::NF_ACCEPT as u32).push_type(c"nat"));
            }
            None => drop(chain),
        }
    });
}

/// `fib daddr type local meta l4proto @lease jump divert`: packets for this host, as long as the lease lasts. The
/// lease's one element is TCP, so nothing else gets further.
fn entrance_rule(batch: &mut Batch, chain: &CStr) {
    let what = format!("rule of chain {} (fib, lookup in a set with timeouts, jump)", chain.to_string_lossy());
    new_rule(batch, &what, chain, |list| {
        let fib = list.nested_elem().nested_data_fib().push_dreg(REGISTER_1).push_result(FIB_RESULT_ADDRESS_TYPE);
        let list = fib.push_flags(FIB_DESTINATION).end_nested().end_nested();
        let list = compare(list, &u32::from(libc::RTN_LOCAL).to_ne_bytes());
        let list = load_meta(list, libc::NFT_META_L4PROTO);
        jump(look_up(list, LEASE_SET), DIVERT_CHAIN)
    });
}

/// `meta l4proto @unproxied_lease jump unproxied`: the unproxied ports, as long as their own lease lasts.
fn unproxied_rule(batch: &mut Batch) {
    new_rule(batch, "rule for unproxied ports (lookup in a set with timeouts, jump)", DIVERT_CHAIN, |list| {
        jump(look_up(load_meta(list, libc::NFT_META_L4PROTO), UNPROXIED_LEASE_SET), UNPROXIED_CHAIN)
    });
}

/// `ip daddr 127.0.0.0/8 meta l4proto @lease dnat ip to :tcp dport`: what this host itself sends there has passed the
/// chain `output`. What comes from elsewhere stays what it is: the kernel drops it, unless route_localnet lets it in
/// (dockerd sets that for its bridges without its userland proxy). Neither our rules for unproxied ports nor Docker's
/// (before 28 they did) lead it to a port that is this host's alone. The kernel lets nobody in for `::1`.
fn loopback_rule(batch: &mut Batch, chain: &CStr) {
    new_rule(batch, "rule for loopback addresses (DNAT)", chain, |list| {
        let list = compare(load_meta(list, libc::NFT_META_NFPROTO), &[libc::NFPROTO_IPV4 as u8]);
        let list = load_payload(list, libc::NFT_PAYLOAD_NETWORK_HEADER, IPV4_DESTINATION, 1, REGISTER_1);
        let list = compare(list, &[IPV4_LOOPBACK]);
        let list = look_up(load_meta(list, libc::NFT_META_L4PROTO), LEASE_SET);
        let list = compare(load_meta(list, libc::NFT_META_L4PROTO), &[libc::IPPROTO_TCP as u8]);
        let list = load_port(list, REGISTER_1);
        let nat = list.nested_elem().nested_data_nat().push_type(libc::NFT_NAT_DNAT as u32);
        let nat = nat.push_family(libc::NFPROTO_IPV4 as u32).push_reg_proto_min(REGISTER_1).push_flags(NAT_HAS_PORT);
        nat.end_nested().end_nested()
    });
}

fn jump<'a>(list: Expressions<'a>, chain: &CStr) -> Expressions<'a> {
    let jump = list.nested_elem().nested_data_immediate().push_dreg(libc::NFT_REG_VERDICT as u32).nested_data();
    let jump = jump.nested_verdict().push_code(libc::NFT_JUMP as u32).push_chain(chain);
    jump.end_nested().end_nested().end_nested().end_nested()
}

/// Where the rule for this set stands.
fn chain_of(set: Set) -> &'static CStr {
    if set.kind() == Kind::Unproxied { UNPROXIED_CHAIN } else { DIVERT_CHAIN }
}

/// `meta nfproto ipv4 meta l4proto tcp tcp dport @any4 dnat to :tcp dport`, and so for each set. Those of services end
/// in `dnat to :15001`, those of unproxied ports in `dnat to :15002`: the port alone is translated, and the kernel
/// tells Envoy which it was.
fn divert_rule(batch: &mut Batch, set: Set) {
    new_rule(batch, &format!("rule for set {set:?} (DNAT)"), chain_of(set), |list| {
        let family = if set.is_ipv4() { libc::NFPROTO_IPV4 } else { libc::NFPROTO_IPV6 };
        let list = compare(load_meta(list, libc::NFT_META_NFPROTO), &[family as u8]);
        let list = compare(load_meta(list, libc::NFT_META_L4PROTO), &[libc::IPPROTO_TCP as u8]);
        let list = look_up(load_key(list, set), set.name());
        let list = match set.kind() {
            Kind::Port => load_port(list, REGISTER_1),
            Kind::Service => load_number(list, CATCH_PORT),
            Kind::Unproxied => load_number(list, UNPROXIED_CATCH_PORT),
        };
        let nat = list.nested_elem().nested_data_nat().push_type(libc::NFT_NAT_DNAT as u32).push_family(family as u32);
        let nat = nat.push_reg_proto_min(REGISTER_1).push_flags(NAT_HAS_PORT);
        nat.end_nested().end_nested()
    });
}

type Expressions<'a> = PushExprListAttrs<PushRuleAttrs<&'a mut Vec<u8>>>;

fn new_rule(
    batch: &mut Batch,
    what: &str,
    chain: &CStr,
    fill: impl for<'a> FnOnce(Expressions<'a>) -> Expressions<'a>,
) {
    batch.new_rule(what, |rule| {
        let rule = rule.push_table(TABLE).push_chain(chain);
        drop(fill(rule.nested_expressions()).end_nested().push_userdata(&rule_user_data()));
    });
}

fn load_meta(list: Expressions<'_>, key: libc::c_int) -> Expressions<'_> {
    list.nested_elem().nested_data_meta().push_dreg(REGISTER_1).push_key(key as u32).end_nested().end_nested()
}

fn compare<'a>(list: Expressions<'a>, value: &[u8]) -> Expressions<'a> {
    let compare = list.nested_elem().nested_data_cmp().push_sreg(REGISTER_1).push_op(libc::NFT_CMP_EQ as u32);
    compare.nested_data().push_value(value).end_nested().end_nested().end_nested()
}

fn look_up<'a>(list: Expressions<'a>, set: &CStr) -> Expressions<'a> {
    let mut lookup = list.nested_elem().nested_data_lookup().push_set(set);
    push_attribute(&mut lookup, LOOKUP_SOURCE_REGISTER, &REGISTER_1.to_be_bytes());
    lookup.end_nested().end_nested()
}

/// For the attributes that `netlink-bindings` has wrong.
fn push_attribute(attributes: &mut impl Pusher, kind: u16, value: &[u8]) {
    let bytes = attributes.as_vec_mut();
    push_header(bytes, kind, value.len() as u16);
    bytes.extend(value);
}

/// Puts what the set's keys are made of into the registers from 1 on.
fn load_key(list: Expressions<'_>, set: Set) -> Expressions<'_> {
    let network = libc::NFT_PAYLOAD_NETWORK_HEADER;
    match (set.has_address(), set.is_ipv4()) {
        (false, _) => load_port(list, REGISTER_1),
        (true, true) => load_port(load_payload(list, network, IPV4_DESTINATION, 4, REGISTER_1), REGISTER_1_SECOND),
        (true, false) => load_port(load_payload(list, network, 24, 16, REGISTER_1), REGISTER_2),
    }
}

fn load_port(list: Expressions<'_>, register: u32) -> Expressions<'_> {
    load_payload(list, libc::NFT_PAYLOAD_TRANSPORT_HEADER, DESTINATION_PORT, 2, register)
}

fn load_number(list: Expressions<'_>, port: u16) -> Expressions<'_> {
    let immediate = list.nested_elem().nested_data_immediate().push_dreg(REGISTER_1).nested_data();
    immediate.push_value(&port.to_be_bytes()).end_nested().end_nested().end_nested()
}

fn load_payload(list: Expressions<'_>, base: libc::c_int, offset: u32, length: u32, register: u32) -> Expressions<'_> {
    let payload = list.nested_elem().nested_data_payload().push_dreg(register).push_base(base as u32);
    payload.push_offset(offset).push_len(length).end_nested().end_nested()
}

/// The comment in the form that nft keeps comments in: type 0, length with the final zero, text.
pub(crate) fn rule_user_data() -> Vec<u8> {
    let mut data = vec![0, COMMENT.len() as u8 + 1];
    data.extend(COMMENT);
    data.push(0);
    data
}

/// How many rules each chain has.
pub(crate) fn rule_counts() -> Vec<(&'static CStr, usize)> {
    let in_chain = |chain| Set::ALL.into_iter().filter(|set| chain_of(*set) == chain).count();
    // One more for the jump to the unproxied ports, and one for loopback addresses.
    let mut counts = vec![(DIVERT_CHAIN, in_chain(DIVERT_CHAIN) + 1), (UNPROXIED_CHAIN, in_chain(UNPROXIED_CHAIN))];
    counts.extend(HOOKED_CHAINS.map(|(chain, _)| (chain, 1 + usize::from(chain == PREROUTING_CHAIN))));
    counts
}

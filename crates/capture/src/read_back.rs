//! Reads our table back from the kernel.

use std::collections::BTreeSet;
use std::ffi::CStr;

use netlink_bindings::nftables::{
    OpGetchainDo, OpGetruleDo, OpGetsetelemDo, OpGettableDo, PushRuleAttrs, PushSetelemListAttrs,
};
use nix::libc;

use crate::batch::family_header;
use crate::element::{Element, Set};
use crate::layout::{HOOKED_CHAINS, PRIORITY, TABLE, rule_counts, rule_user_data};
use crate::socket::{NetfilterError, NetfilterSocket};

/// A table of our name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Whether its chains and rules are those of [`crate::layout`]. (A set can't be deleted while a rule asks for it.)
    pub(crate) is_intact: bool,
    pub(crate) elements: BTreeSet<Element>,
}

/// `None` where there is no such table.
pub(crate) fn read_table(socket: &NetfilterSocket) -> Result<Option<Found>, NetfilterError> {
    if !exists(socket)? {
        return Ok(None);
    }
    let mut is_intact = rules_are_intact(socket)? && chains_are_intact(socket)?;
    let mut elements = BTreeSet::new();
    for set in Set::ALL {
        for key in keys(socket, set.name())? {
            match Element::from_key(set, &key) {
                Some(element) => elements.extend([element]),
                None => is_intact = false,
            }
        }
    }
    Ok(Some(Found { is_intact, elements }))
}

fn exists(socket: &NetfilterSocket) -> Result<bool, NetfilterError> {
    let mut found = false;
    let request = |bytes: &mut Vec<u8>| {
        OpGettableDo::encode_request(bytes, &family_header(libc::NFPROTO_INET));
    };
    socket.list(libc::NFT_MSG_GETTABLE, request, |body| match body {
        None => found = false,
        Some(body) => found |= OpGettableDo::decode_request(body).1.get_name() == Ok(TABLE),
    })?;
    Ok(found)
}

/// Whether each chain has as many rules as it should, all with our comment, and no other chain has any.
fn rules_are_intact(socket: &NetfilterSocket) -> Result<bool, NetfilterError> {
    let mut rules = Vec::new();
    let request = |bytes: &mut Vec<u8>| {
        let rule: PushRuleAttrs<_> = OpGetruleDo::encode_request(bytes, &family_header(libc::NFPROTO_INET));
        drop(rule.push_table(TABLE));
    };
    socket.list(libc::NFT_MSG_GETRULE, request, |body| match body {
        None => rules.clear(),
        Some(body) => {
            let rule = OpGetruleDo::decode_request(body).1;
            if rule.get_table() == Ok(TABLE) {
                let is_ours = rule.get_userdata().is_ok_and(|data| data == rule_user_data());
                rules.push((rule.get_chain().map(CStr::to_owned).unwrap_or_default(), is_ours));
            }
        }
    })?;
    let expected = rule_counts();
    let count = |chain: &CStr| rules.iter().filter(|(name, is_ours)| *is_ours && name.as_c_str() == chain).count();
    let total: usize = expected.iter().map(|(_, count)| count).sum();
    Ok(rules.len() == total && expected.iter().all(|(chain, number)| count(chain) == *number))
}

fn chains_are_intact(socket: &NetfilterSocket) -> Result<bool, NetfilterError> {
    let mut hooked = Vec::new();
    let request = |bytes: &mut Vec<u8>| {
        OpGetchainDo::encode_request(bytes, &family_header(libc::NFPROTO_INET));
    };
    socket.list(libc::NFT_MSG_GETCHAIN, request, |body| match body {
        None => hooked.clear(),
        Some(body) => {
            let chain = OpGetchainDo::decode_request(body).1;
            let is_ours = chain.get_table() == Ok(TABLE);
            if let (true, Ok(name), Ok(hook)) = (is_ours, chain.get_name(), chain.get_hook()) {
                hooked.push((name.to_owned(), hook.get_num().ok(), hook.get_priority().ok()));
            }
        }
    })?;
    let expected = HOOKED_CHAINS.map(|(name, hook)| (name.to_owned(), Some(hook), Some(PRIORITY)));
    Ok(hooked.len() == expected.len() && expected.iter().all(|chain| hooked.contains(chain)))
}

/// The keys of a set; empty where there is no such set.
fn keys(socket: &NetfilterSocket, set: &CStr) -> Result<Vec<Vec<u8>>, NetfilterError> {
    let mut keys = Vec::new();
    let request = |bytes: &mut Vec<u8>| {
        let list: PushSetelemListAttrs<_> = OpGetsetelemDo::encode_request(bytes, &family_header(libc::NFPROTO_INET));
        drop(list.push_table(TABLE).push_set(set));
    };
    socket.list(libc::NFT_MSG_GETSETELEM, request, |body| match body {
        None => keys.clear(),
        Some(body) => {
            let Ok(elements) = OpGetsetelemDo::decode_request(body).1.get_elements() else { return };
            let values = elements.get_elem().filter_map(|element| element.get_key().ok()?.get_value().ok());
            keys.extend(values.map(<[u8]>::to_vec));
        }
    })?;
    Ok(keys)
}

//! Reads Docker's rules as nf_tables keeps them: those that iptables-nft wrote, and those of Docker's own.

use std::ops::RangeInclusive;

use netlink_bindings::nftables::{ExprOps, IterableExprListAttrs, IterableRuleAttrs, OpGetruleDo, PushRuleAttrs};
use nix::libc;

use crate::batch::family_header;
use crate::docker_rules::{Backend, DOCKER_NFTABLES_PLACE, Place, Rule, iptables_places};
use crate::iptables_legacy::tcp_match_ports;
use crate::socket::{NetfilterError, NetfilterSocket};

/// Offset of the protocol's number in the header of IPv4.
const IPV4_PROTOCOL: u32 = 9;
/// Offset of the destination port in the headers of TCP and UDP.
const DESTINATION_PORT: u32 = 2;

/// Hands over every rule that tells something about Docker's firewall.
pub(crate) fn read(socket: &NetfilterSocket, mut take: impl FnMut(&Place, Rule)) -> Result<(), NetfilterError> {
    let [translations, user] = iptables_places(Backend::IptablesNft);
    for place in [translations, user, DOCKER_NFTABLES_PLACE] {
        for family in [libc::NFPROTO_IPV4, libc::NFPROTO_IPV6] {
            rules(socket, family, &place)?.into_iter().for_each(|rule| take(&place, rule));
        }
    }
    Ok(())
}

fn rules(socket: &NetfilterSocket, family: libc::c_int, place: &Place) -> Result<Vec<Rule>, NetfilterError> {
    let mut rules = Vec::new();
    let request = |bytes: &mut Vec<u8>| {
        let rule: PushRuleAttrs<_> = OpGetruleDo::encode_request(bytes, &family_header(family));
        drop(rule.push_table(place.table).push_chain(place.chain));
    };
    socket.list(libc::NFT_MSG_GETRULE, request, |body| match body {
        None => rules.clear(),
        Some(body) => {
            let rule = OpGetruleDo::decode_request(body).1;
            // Older kernels do not filter.
            if rule.get_table() == Ok(place.table) && rule.get_chain() == Ok(place.chain) {
                rules.push(decode(&rule));
            }
        }
    })?;
    Ok(rules)
}

fn decode(rule: &IterableRuleAttrs<'_>) -> Rule {
    // A rule without expressions matches everything and does nothing.
    let Ok(list) = rule.get_expressions() else { return Rule::Other };
    if is_bare_return(&list) {
        return Rule::Return;
    }
    let mut seen = Seen::default();
    for expression in list.get_elem() {
        match expression.get_data() {
            Ok(data) => seen.take(&data),
            Err(_) => seen.loaded = Loaded::Other,
        }
    }
    seen.rule()
}

/// Whether there is nothing but a counter and `return`.
fn is_bare_return(list: &IterableExprListAttrs<'_>) -> bool {
    let mut names = list.get_elem().map(|expression| expression.get_name().map(std::ffi::CStr::to_bytes));
    let only_these = names.all(|name| matches!(name, Ok(b"counter" | b"immediate")));
    let returns = list.get_elem().filter_map(|expression| expression.get_data().ok()).any(|data| {
        let ExprOps::Immediate(immediate) = data else { return false };
        let verdict = immediate.get_data().and_then(|data| data.get_verdict()).and_then(|verdict| verdict.get_code());
        verdict.is_ok_and(|code| code == libc::NFT_RETURN as u32)
    });
    only_these && returns
}

/// What a register holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Loaded {
    Protocol,
    Port,
    #[default]
    Other,
}

/// What the expressions said so far, from left to right.
#[derive(Debug, Default)]
struct Seen {
    loaded: Loaded,
    protocol: Option<u8>,
    ports: Option<RangeInclusive<u16>>,
    translates: bool,
}

impl Seen {
    fn take(&mut self, expression: &ExprOps<'_>) {
        match expression {
            ExprOps::Meta(meta) => {
                let is_protocol = meta.get_key() == Ok(libc::NFT_META_L4PROTO as u32);
                self.loaded = if is_protocol { Loaded::Protocol } else { Loaded::Other };
            }
            ExprOps::Payload(payload) => {
                let at = (payload.get_base().unwrap_or(u32::MAX), payload.get_offset(), payload.get_len());
                self.loaded = match at {
                    (base, Ok(IPV4_PROTOCOL), Ok(1)) if base == libc::NFT_PAYLOAD_NETWORK_HEADER as u32 => {
                        Loaded::Protocol
                    }
                    (base, Ok(DESTINATION_PORT), Ok(2)) if base == libc::NFT_PAYLOAD_TRANSPORT_HEADER as u32 => {
                        Loaded::Port
                    }
                    _ => Loaded::Other,
                };
            }
            ExprOps::Cmp(compare) => {
                let is_equal = compare.get_op() == Ok(libc::NFT_CMP_EQ as u32);
                let value = compare.get_data().and_then(|data| data.get_value()).unwrap_or_default();
                match (self.loaded, value) {
                    (Loaded::Protocol, &[protocol, ..]) if is_equal => self.protocol = Some(protocol),
                    (Loaded::Port, &[high, low, ..]) if is_equal => {
                        let port = u16::from_be_bytes([high, low]);
                        self.ports = Some(port..=port);
                    }
                    _ => {}
                }
            }
            ExprOps::Match(extension) if extension.get_name() == Ok(c"tcp") => {
                self.protocol = Some(libc::IPPROTO_TCP as u8);
                self.ports = extension.get_info().ok().and_then(tcp_match_ports);
            }
            ExprOps::Target(target) => self.translates |= target.get_name() == Ok(c"DNAT"),
            ExprOps::Nat(nat) => self.translates |= nat.get_type() == Ok(libc::NFT_NAT_DNAT as u32),
            _ => {}
        }
    }

    fn rule(self) -> Rule {
        let is_tcp = self.protocol.is_none_or(|protocol| libc::c_int::from(protocol) == libc::IPPROTO_TCP);
        if self.translates && is_tcp { Rule::Dnat(self.ports.unwrap_or(1..=u16::MAX)) } else { Rule::Other }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout;
    use crate::socket::Messages;

    /// The bodies of all rules in a transaction of ours: lookups, comparisons, a null DNAT, jumps.
    fn rule_bodies() -> Vec<Vec<u8>> {
        let mut batch = layout::build(&[]);
        let is_rule = |kind| kind == crate::batch::message_type(libc::NFT_MSG_NEWRULE);
        let messages = Messages(batch.finish()).filter(|message| is_rule(message.kind));
        messages.map(|message| message.body.to_vec()).collect()
    }

    fn decode_body(body: &[u8]) -> Rule {
        decode(&OpGetruleDo::decode_request(body).1)
    }

    #[test]
    fn a_dnat_without_a_port_is_one_for_all_ports() {
        let rules: Vec<_> = rule_bodies().iter().map(|body| decode_body(body)).collect();
        let dnat = Rule::Dnat(1..=u16::MAX);
        let others = |number| vec![Rule::Other; number];
        assert_eq!(rules, [vec![dnat.clone(); 10], others(1), vec![dnat], others(2)].concat());
    }

    #[test]
    fn no_prefix_and_no_changed_byte_of_a_rule_does_harm() {
        for good in rule_bodies() {
            for length in 0..good.len() {
                decode_body(&good[..length]);
            }
            for at in 0..good.len() {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut bad = good.clone();
                    bad[at] = value;
                    decode_body(&bad);
                }
            }
        }
    }
}

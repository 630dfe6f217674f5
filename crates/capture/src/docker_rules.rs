//! What Docker's firewall really does on this host: which published ports its rules translate, and whether
//! DOCKER-USER holds rules of the user's.
//!
//! Rules are looked at, not chains: chains of Docker's stay behind when its firewall is switched off.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use crate::iptables_legacy;
use crate::nft_rules;
use crate::socket::{NetfilterError, NetfilterSocket};

/// By what Docker wrote its rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// The program `iptables`, with nf_tables underneath.
    IptablesNft,
    /// The program `iptables`, with the older interface of the kernel underneath.
    IptablesLegacy,
    /// Docker's own tables, `docker-bridges`.
    Nftables,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::IptablesNft => "iptables (nf_tables)",
            Self::IptablesLegacy => "iptables (legacy)",
            Self::Nftables => "nftables",
        })
    }
}

/// Where rules stand that tell something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) table: &'static std::ffi::CStr,
    pub(crate) chain: &'static std::ffi::CStr,
    pub(crate) backend: Backend,
    /// Whether the rules are the user's; else they are Docker's translations.
    pub(crate) is_the_users: bool,
}

/// `nat/DOCKER` and `filter/DOCKER-USER` are there in both of the kernel's interfaces for iptables.
pub(crate) const fn iptables_places(backend: Backend) -> [Place; 2] {
    [
        Place { table: c"nat", chain: c"DOCKER", backend, is_the_users: false },
        Place { table: c"filter", chain: c"DOCKER-USER", backend, is_the_users: true },
    ]
}

/// Since Docker 29: `--firewall-backend=nftables`. Users' rules have tables of their own there.
pub(crate) const DOCKER_NFTABLES_PLACE: Place = Place {
    table: c"docker-bridges",
    chain: c"nat-prerouting-and-output",
    backend: Backend::Nftables,
    is_the_users: false,
};

/// What matters of one rule, in whatever form the kernel keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// TCP to these ports gets another destination. All ports, where the rule does not say.
    Dnat(RangeInclusive<u16>),
    /// `-j RETURN` and nothing else: has no effect at a chain's end, and Docker puts it there.
    Return,
    /// Any other.
    Other,
}

/// What Docker's firewall does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DockerRules {
    /// The TCP ports that Docker's rules translate.
    pub translated: BTreeSet<u16>,
    /// Who wrote these rules.
    pub backends: BTreeSet<Backend>,
    /// How many rules of the user's DOCKER-USER holds, IPv4 and IPv6 together.
    pub user_rules: usize,
    /// Whether the older interface for iptables is in use. It gives no notice of changes.
    pub has_legacy_tables: bool,
}

impl DockerRules {
    /// Whether TCP to this port gets another destination.
    pub(crate) fn translates(&self, port: u16) -> bool {
        self.translated.contains(&port)
    }

    /// As they are now.
    pub(crate) fn read(socket: &NetfilterSocket) -> Result<Self, NetfilterError> {
        let mut this = Self::default();
        nft_rules::read(socket, |place, rule| this.take(place, &rule))?;
        this.has_legacy_tables = iptables_legacy::read(|place, rule| this.take(place, &rule))?;
        Ok(this)
    }

    fn take(&mut self, place: &Place, rule: &Rule) {
        match rule {
            Rule::Dnat(ports) if !place.is_the_users => {
                self.translated.extend(ports.clone());
                self.backends.insert(place.backend);
            }
            Rule::Dnat(_) | Rule::Other if place.is_the_users => self.user_rules += 1,
            Rule::Dnat(_) | Rule::Other | Rule::Return => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(rules: &[(usize, Rule)]) -> DockerRules {
        let places = iptables_places(Backend::IptablesNft);
        let mut taken = DockerRules::default();
        for (place, rule) in rules {
            taken.take(&places[*place], rule);
        }
        taken
    }

    #[test]
    fn translated_ports_are_those_of_dnat_rules() {
        let rules = taken(&[(0, Rule::Return), (0, Rule::Dnat(80..=80)), (0, Rule::Dnat(443..=444)), (0, Rule::Other)]);
        assert_eq!(rules.translated, BTreeSet::from([80, 443, 444]));
        assert_eq!(rules.backends, BTreeSet::from([Backend::IptablesNft]));
        assert_eq!(rules.user_rules, 0);
    }

    #[test]
    fn chains_without_a_translation_are_leftovers() {
        assert_eq!(taken(&[(0, Rule::Return), (1, Rule::Return)]), DockerRules::default());
    }

    #[test]
    fn any_rule_but_a_bare_return_is_the_users() {
        assert_eq!(taken(&[(1, Rule::Return), (1, Rule::Other), (1, Rule::Dnat(1..=2))]).user_rules, 2);
    }
}

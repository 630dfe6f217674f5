//! The ways from a client to a server that are compared.

use crate::known::AUTO_CHANGES;
use crate::rules::{BYTES, LABELLED_HTTP, LEARNED_HTTP, Rule};

/// A way from a client to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// To the container's own address.
    Direct,
    /// Through docker-proxy.
    DockerProxy,
    /// Through us, with `ProxyMode=tcp`.
    Tcp,
    /// Through us, with `ProxyMode=http`.
    Http,
    /// Through us without a label: the first conversation on this port.
    AutoUnknown,
    /// Without a label: once more on the same port, which may have learned from the first one.
    AutoAgain,
    /// Without a label, on a port that has learned from plain requests that it speaks HTTP.
    AutoLearned,
}

impl Way {
    /// All that are compared with [`Self::Direct`].
    pub(crate) const COMPARED: [Self; 6] =
        [Self::DockerProxy, Self::Tcp, Self::Http, Self::AutoUnknown, Self::AutoAgain, Self::AutoLearned];

    /// Those without a label.
    pub(crate) const AUTO: [Self; 3] = [Self::AutoUnknown, Self::AutoAgain, Self::AutoLearned];

    /// What may differ in every conversation.
    pub(crate) fn rules(self) -> Vec<Rule> {
        let promised = match self {
            Self::Direct => &[],
            Self::DockerProxy | Self::Tcp | Self::AutoUnknown => BYTES,
            Self::Http => LABELLED_HTTP,
            Self::AutoAgain | Self::AutoLearned => LEARNED_HTTP,
        };
        let known: &[Rule] = if self.is_auto() { AUTO_CHANGES } else { &[] };
        let mut rules = [promised, known].concat();
        rules.sort();
        rules.dedup();
        rules
    }

    /// Whether the port has no label.
    pub(crate) fn is_auto(self) -> bool {
        Self::AUTO.contains(&self)
    }
}

//! How far it is known how an unlabelled port is treated, for the operator.

use evidence::{Finding, Reason};
use model::ProxyMode;
use model::labels::PortMeaning;

use crate::registration::Claim;

/// Where a port of mode `auto` stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learning {
    /// Nothing that decides was seen yet: bytes are passed on, and the shim looks at the answers.
    Watching,
    /// The shim cannot look at answers, so bytes are passed on.
    Blind,
    /// The application's answers were seen to be safe for HTTP treatment.
    Http,
    /// The port is for bytes.
    Tcp(Reason),
}

impl Learning {
    pub(crate) fn of_claim(claim: &Claim) -> Option<Self> {
        let meaning = claim.meaning.as_ref()?;
        match claim.lesson {
            None if claim.registration.observes && meaning.mode == ProxyMode::Auto => Some(Self::Watching),
            lesson => Self::of_listed(meaning, lesson),
        }
    }

    pub(crate) fn of_listed(meaning: &PortMeaning, lesson: Option<Finding>) -> Option<Self> {
        let learning = match lesson {
            Some(Finding::Http) => Self::Http,
            Some(Finding::Tcp(reason)) => Self::Tcp(reason),
            None => Self::Blind,
        };
        (meaning.mode == ProxyMode::Auto).then_some(learning)
    }
}

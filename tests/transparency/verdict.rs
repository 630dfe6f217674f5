//! Whether what was seen is what was promised.

use crate::case::Case;
use crate::known::KNOWN_AUTO_FAILURES;
use crate::limits::{Effect, HttpLimit, refused};
use crate::rules::Rule;
use crate::seen::{Half, Seen};
use crate::way::Way;

/// What is expected of a case on a way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Both ends see what they see without us, but for what the way's rules allow.
    Equal,
    /// Not quite, for this reason.
    Limit(HttpLimit),
    /// Equal, or not quite for this reason: the port may be for bytes or for HTTP.
    AtMost(HttpLimit),
    /// It is not kept yet.
    KnownFailure,
}

/// What is expected of this case on this way.
pub(crate) fn expected(case: &Case, way: Way) -> Expect {
    let is_known = KNOWN_AUTO_FAILURES.iter().any(|(ways, names)| ways.contains(&way) && names.contains(&case.name));
    match case.limit {
        _ if is_known => Expect::KnownFailure,
        Some(limit) if way == Way::Http => Expect::Limit(limit),
        Some(limit) if limit.is_harmless() && matches!(way, Way::AutoAgain | Way::AutoLearned) => Expect::AtMost(limit),
        _ => Expect::Equal,
    }
}

impl Expect {
    /// Compares what was seen without us (`plain`) and with us. Until nothing more can come (`is_final`), a difference
    /// counts only where the client has it: its part is over.
    ///
    /// # Errors
    /// What is not as expected.
    pub(crate) fn judge(self, way: Way, plain: &Seen, ours: &Seen, is_final: bool) -> Result<(), &'static str> {
        let is_equal = equal(plain, ours, &way.rules());
        match self {
            Self::Equal | Self::AtMost(_) if is_equal => Ok(()),
            Self::KnownFailure if is_equal && matches!(way, Way::AutoAgain | Way::AutoLearned) => Ok(()),
            Self::Equal => Err("differs"),
            Self::Limit(_) | Self::KnownFailure if is_equal => {
                Err("is the same now: the line that says otherwise can go")
            }
            Self::KnownFailure if is_final || clients_differ(way, plain, ours) => Ok(()),
            Self::KnownFailure => Err("may be the same yet"),
            Self::Limit(limit) | Self::AtMost(limit) if shows(limit.effect(), way, plain, ours, is_final) => Ok(()),
            Self::Limit(_) | Self::AtMost(_) => Err("differs in another way than the limit says"),
        }
    }
}

fn shows(effect: Effect, way: Way, plain: &Seen, ours: &Seen, is_final: bool) -> bool {
    match effect {
        Effect::Refused(status) => refused(ours, status),
        Effect::Cut => {
            let (plain, ours) = without(plain, ours, &way.rules());
            is_less(&plain.client, &ours.client) && is_less(&plain.server, &ours.server)
        }
        Effect::Changed(take_out) => {
            let (mut plain, mut ours) = (plain.clone(), ours.clone());
            take_out(&mut plain);
            take_out(&mut ours);
            equal(&plain, &ours, &way.rules())
        }
        Effect::Differs => is_final || clients_differ(way, plain, ours),
    }
}

fn clients_differ(way: Way, plain: &Seen, ours: &Seen) -> bool {
    let (plain, ours) = without(plain, ours, &way.rules());
    plain.client != ours.client
}

/// Whether each of `ours` saw the beginning of what its like saw.
fn is_less(plain: &[Half], ours: &[Half]) -> bool {
    ours.len() <= plain.len() && plain.iter().zip(ours).all(|(plain, ours)| plain.bytes.starts_with(&ours.bytes))
}

/// Whether both are the same but for these differences.
pub(crate) fn equal(plain: &Seen, ours: &Seen, rules: &[Rule]) -> bool {
    let (plain, ours) = without(plain, ours, rules);
    plain == ours
}

/// Both without these differences.
pub(crate) fn without(plain: &Seen, ours: &Seen, rules: &[Rule]) -> (Seen, Seen) {
    let (mut plain, mut ours) = (plain.clone(), ours.clone());
    rules.iter().for_each(|rule| rule.apply(&mut plain, &mut ours));
    (plain, ours)
}

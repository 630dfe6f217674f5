//! All cases, by themes.

mod answers;
mod bodies;
mod connections;
mod headers;
mod interim;
mod lengths;
mod protocols;
mod shown_by;
mod targets;
mod upgrades;

use crate::case::Case;

pub(crate) use shown_by::SHOWN_BY;

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    let cases = [
        targets::cases(),
        headers::cases(),
        bodies::cases(),
        answers::cases(),
        lengths::cases(),
        interim::cases(),
        upgrades::cases(),
        connections::cases(),
        protocols::cases(),
    ];
    cases.concat().into_iter().map(limited).collect()
}

/// With what `SHOWN_BY` says of it.
fn limited(case: Case) -> Case {
    let shown = SHOWN_BY.iter().find(|(_, names)| names.contains(&case.name)).map(|(limit, _)| *limit);
    Case { limit: shown.or(case.limit), ..case }
}

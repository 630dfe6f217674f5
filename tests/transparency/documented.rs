//! The page of the documentation that lists what may differ is made of the suite's own tables.

use std::fmt::Write;

use crate::limits::HttpLimit;
use crate::rules::{BYTES, LABELLED_HTTP, LEARNED_HTTP};

const PAGE: &str = include_str!("../../docs/transparency.md");

#[test]
fn the_documentation_lists_what_may_differ() {
    for table in [rules(), limits()] {
        assert!(PAGE.contains(&table), "docs/transparency.md does not hold this table:\n{table}");
    }
}

fn rules() -> String {
    let mut table =
        "| always allowed | docker-proxy, `tcp` | `auto`, once it is HTTP | `http` | why |\n|---|---|---|---|---|\n"
            .to_owned();
    for rule in LABELLED_HTTP {
        let [bytes, learned] = [BYTES, LEARNED_HTTP].map(|rules| if rules.contains(rule) { "yes" } else { "" });
        let _ = writeln!(table, "| {} | {bytes} | {learned} | yes | {} |", rule.what(), rule.reason());
    }
    table
}

fn limits() -> String {
    let mut table = "| with `http` | `auto` may show it |\n|---|---|\n".to_owned();
    for limit in HttpLimit::ALL {
        let _ = writeln!(table, "| {} | {} |", limit.reason(), if limit.is_harmless() { "yes" } else { "" });
    }
    table
}

//! The cluster's hosts as a table.

use admin_api::Host;

use crate::age::ago;
use crate::table::{NOTHING, table};

const HEADER: [&str; 6] = ["HOST", "ADDRESS", "STATUS", "INSTANCES", "SINCE", "PROBLEM"];

/// One line for every host, with the age of its status at `now_ms`.
pub(crate) fn table_of(hosts: &[Host], now_ms: u64) -> String {
    let mut hosts: Vec<_> = hosts.iter().collect();
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    table(HEADER, hosts.into_iter().map(|host| row(host, now_ms)).collect())
}

fn row(host: &Host, now_ms: u64) -> [String; 6] {
    [
        host.name.clone(),
        host.address.map_or_else(|| NOTHING.to_owned(), |address| address.to_string()),
        host.status.clone(),
        host.instances.to_string(),
        // 0 is Unix time's "unknown".
        if host.since == 0 { NOTHING.to_owned() } else { ago(now_ms, host.since) },
        host.problem.clone().unwrap_or_else(|| NOTHING.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_listed_by_name_with_the_age_of_their_status() {
        let host = |name: &str, status: &str, since| Host {
            name: name.to_owned(),
            address: (since > 0).then(|| "10.0.0.1".parse().unwrap()),
            status: status.to_owned(),
            instances: 2,
            since,
            problem: (since > 0).then(|| "cut off".to_owned()),
        };
        let expected = "\
HOST  ADDRESS   STATUS  INSTANCES  SINCE     PROBLEM
a     10.0.0.1  alive   2          60 s ago  cut off
b     -         down    2          -         -
";
        assert_eq!(table_of(&[host("b", "down", 0), host("a", "alive", 1_000)], 61_000), expected);
    }
}

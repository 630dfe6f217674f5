//! Reading what Envoy says when it does not take a response.
//!
//! Envoy 1.40 takes the good resources of a response and names the bad ones:
//!
//! ```text
//! Error adding/updating listener(s) NAME: reason
//! NAME: reason
//! ```
//!
//! A response that it could not read at all it rejects as a whole, naming none.

use std::time::Duration;

/// The most of Envoy's words that is kept, in bytes: it may quote a whole resource.
pub(crate) const MESSAGE_MAX_LENGTH: usize = 1024;

/// How long to wait after the first failed bind.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// The longest wait between binds of one listener.
const LAST_RETRY: Duration = Duration::from_secs(5);
/// The same where the host does not have the address. It seldom comes back, the shim serves meanwhile, and each try costs
/// several lines of Envoy's log.
const LAST_RETRY_WITHOUT_ADDRESS: Duration = Duration::from_secs(300);

const NO_ADDRESS: &str = "Cannot assign requested address";

/// What may be the resources that Envoy's message names, each with the reason. A reason may go over several
/// lines, so not every name is one.
pub(crate) fn named(message: &str) -> impl Iterator<Item = (&str, &str)> {
    message.lines().filter_map(name_and_reason)
}

fn name_and_reason(line: &str) -> Option<(&str, &str)> {
    let (start, reason) = line.split_once(": ")?;
    let name = start.strip_prefix("Error adding/updating ").and_then(|rest| rest.split_once(' '));
    Some((name.map_or(start, |(_kind, name)| name), reason))
}

/// Whether it may help to send the same again: the address can become free, or come up; the listener may have
/// come before its cluster, if an Envoy that reconnects asked for listeners first. A lack of rights (`Permission
/// denied`) lasts as long as Envoy does.
pub(crate) fn is_temporary(reason: &str) -> bool {
    ["Address already in use", NO_ADDRESS, "unknown cluster"].iter().any(|text| reason.contains(text))
}

/// How long to wait after `failures` failed binds, of which there is at least one and the last failed for this reason.
pub(crate) fn retry_delay(reason: &str, failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let longest = if reason.contains(NO_ADDRESS) { LAST_RETRY_WITHOUT_ADDRESS } else { LAST_RETRY };
    FIRST_RETRY.saturating_mul(1 << doublings).min(longest)
}

/// As much of Envoy's words as is kept.
pub(crate) fn truncated(message: &str) -> &str {
    &message[..message.floor_char_boundary(MESSAGE_MAX_LENGTH)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d16_the_bad_resources_are_named_one_a_line() {
        let message = "Error adding/updating listener(s) port/0.0.0.0/80: cannot bind '0.0.0.0:80': Address already in use\n\
                       port/::/8080: cannot bind '[::]:8080': Permission denied\n\
                       \n\
                       }\n";
        let expected = [
            ("port/0.0.0.0/80", "cannot bind '0.0.0.0:80': Address already in use"),
            ("port/::/8080", "cannot bind '[::]:8080': Permission denied"),
        ];
        assert!(named(message).eq(expected));
    }

    #[test]
    fn d38_failed_binds_are_temporary_unless_rights_are_lacking() {
        assert!(is_temporary("cannot bind '127.0.0.1:21210': Address already in use"));
        assert!(is_temporary("cannot bind '192.0.2.9:21231': Cannot assign requested address"));
        assert!(is_temporary("route: unknown cluster 'local/web/test/0.0.0.0/80'"));
        assert!(!is_temporary("cannot bind '0.0.0.0:80': Permission denied"));
        assert!(!is_temporary("error adding listener named 'bad': address is necessary"));
    }

    #[test]
    fn d38_the_wait_doubles_up_to_a_limit() {
        let waits = |reason| [1, 2, 3, 6, 7, 99, u32::MAX].map(|failures| retry_delay(reason, failures).as_millis());
        assert_eq!(waits("Address already in use"), [100, 200, 400, 3200, 5000, 5000, 5000]);
        let gone = "cannot bind '192.0.2.9:80': Cannot assign requested address";
        assert_eq!(waits(gone), [100, 200, 400, 3200, 6400, 300_000, 300_000]);
    }

    #[test]
    fn d33_a_huge_message_is_cut_at_a_character() {
        assert_eq!(truncated(&"é".repeat(1 << 20)).len(), MESSAGE_MAX_LENGTH);
        assert_eq!(truncated(&format!("x{}", "é".repeat(1 << 20))).len(), MESSAGE_MAX_LENGTH - 1);
        assert_eq!(truncated("short"), "short");
    }
}

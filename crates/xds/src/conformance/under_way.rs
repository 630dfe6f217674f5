//! How much is sent before the client answers.

use super::lab::Lab;
use crate::ledger::MAX_UNANSWERED;
use crate::substream::{LISTENERS_UNDER_WAY, RESPONSE_MAX_LISTENERS};
use crate::{ResourceType, StreamId};

/// How many resources are in each response.
fn sizes(responses: &[String]) -> Vec<usize> {
    responses.iter().map(|response| response.split_whitespace().count() - 1).collect()
}

/// A client that asked for listeners, of which there are so many, and the sizes of the first responses.
fn listening(listeners: usize) -> (Lab, StreamId, Vec<usize>) {
    let changes: String = (0..listeners).map(|n| format!("L:l{n:04}=1 ")).collect();
    let mut lab = Lab::serving(&changes);
    let envoy = lab.delta();
    let first = sizes(&lab.ask(envoy, "LDS"));
    (lab, envoy, first)
}

#[test]
fn few_listeners_are_under_way_at_a_time_in_two_responses() {
    let (mut lab, envoy, first) = listening(4 * RESPONSE_MAX_LISTENERS + 1);
    assert_eq!(first, [RESPONSE_MAX_LISTENERS; 2]);
    for nonce in 1..=2 {
        assert_eq!(sizes(&lab.ask(envoy, &format!("LDS #{nonce}"))), [RESPONSE_MAX_LISTENERS]);
    }
    assert_eq!(sizes(&lab.ask(envoy, "LDS #3")), [1]);
    lab.settle(envoy);
    assert!(lab.in_sync(envoy));
}

#[test]
fn a_rejected_listener_is_no_longer_under_way() {
    let (mut lab, envoy, _) = listening(3 * RESPONSE_MAX_LISTENERS);
    let rejected = lab.ask(envoy, "LDS #1 !Error adding/updating listener(s) l0000: no");
    // Of those that it took, it does not remember the versions: they are sent again.
    assert_eq!(sizes(&rejected), [RESPONSE_MAX_LISTENERS]);
    lab.settle(envoy);
    assert!(lab.hub.is_accepted(ResourceType::Listener, &format!("l{:04}", 3 * RESPONSE_MAX_LISTENERS - 1)));
}

#[test]
fn a_removal_waits_for_nothing_and_what_was_not_sent_is_never_sent() {
    let count = 10 * LISTENERS_UNDER_WAY;
    let (mut lab, envoy, _) = listening(count);
    let withdrawn: String = (0..count).map(|n| format!("L:l{n:04} ")).collect();
    lab.apply(&withdrawn);
    let released = |lab: &Lab, n: usize| lab.hub.is_released(ResourceType::Listener, &format!("l{n:04}"));
    assert!(released(&lab, LISTENERS_UNDER_WAY) && !released(&lab, LISTENERS_UNDER_WAY - 1));
    let removal = lab.receive(envoy);
    assert_eq!(sizes(&removal), [LISTENERS_UNDER_WAY]);
    assert!(removal[0].contains(" -l0000") && !removal[0].contains('='), "{removal:?}");
    lab.settle(envoy);
    assert!((0..count).all(|n| released(&lab, n)));
}

#[test]
fn a_bulk_load_is_cut_into_responses_of_bounded_size() {
    let changes: String = (0..1200).map(|n| format!("C:c{n:04}=1 ")).collect();
    let mut lab = Lab::serving(&changes);
    let envoy = lab.delta();
    assert_eq!(sizes(&lab.ask(envoy, "CDS")), [500, 500, 200]);
    let big = "x".repeat(600_000);
    lab.apply(&format!("C:a={big} C:b={big} C:c={big}"));
    assert_eq!(sizes(&lab.receive(envoy)), [2, 1]);
}

#[test]
fn a_client_that_answers_nothing_any_longer_is_sent_nothing_until_it_does() {
    let mut lab = Lab::serving("C:x=0");
    let envoy = lab.delta_in_sync("");
    let mut sent = 0;
    for n in 1..3 * MAX_UNANSWERED {
        lab.apply(&format!("C:x={n}"));
        sent += lab.receive(envoy).len();
    }
    assert_eq!(sent, MAX_UNANSWERED);
    let last = 3 * MAX_UNANSWERED - 1;
    assert_eq!(lab.ask(envoy, "CDS #9999"), [format!("CDS#{} x={last}", 2 + sent + 1)]);
}

//! Service ports try what one instance did not take on another one. Published ports never do.
//!
//! Twice is never what an application sees of a request that may change something: such a request goes on to
//! another instance only if no connection came about, or if nothing of it was sent. A request that is safe by HTTP's
//! own word (`GET`, `HEAD`, `OPTIONS`) goes on as long as no answer has begun.

use envoy_types::pb::envoy::config::route::v3::retry_policy::{RetryHostPredicate, retry_host_predicate};
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, RetryPolicy, header_matcher};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher};
use envoy_types::util::pack_any;

use super::values::number;

/// To how many instances a connection or request is offered at most.
pub(super) const TRIES: u32 = 4;

/// How often Envoy draws again when it has drawn an instance that was tried already.
const DRAWS: i64 = 8;

/// Before the application can have seen anything.
const UNSEEN: &str = "connect-failure,refused-stream,reset-before-request";
/// Before an answer has begun. `reset` is a connection that ended, too.
const UNANSWERED: &str = "connect-failure,refused-stream,reset";

/// For requests that change nothing.
pub(super) fn of_safe_requests() -> RetryPolicy {
    policy(UNANSWERED)
}

/// For all other requests.
pub(super) fn of_any_request() -> RetryPolicy {
    policy(UNSEEN)
}

/// Which requests change nothing.
pub(super) fn is_safe() -> HeaderMatcher {
    let regex = RegexMatcher { regex: "GET|HEAD|OPTIONS".to_owned(), ..Default::default() };
    let pattern =
        StringMatcher { match_pattern: Some(string_matcher::MatchPattern::SafeRegex(regex)), ..Default::default() };
    HeaderMatcher {
        name: ":method".to_owned(),
        header_match_specifier: Some(header_matcher::HeaderMatchSpecifier::StringMatch(pattern)),
        ..Default::default()
    }
}

fn policy(retry_on: &str) -> RetryPolicy {
    let others = RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(pack_any(PreviousHostsPredicate {}))),
    };
    RetryPolicy {
        retry_on: retry_on.to_owned(),
        num_retries: number(TRIES - 1),
        retry_host_predicate: vec![others],
        host_selection_retry_max_attempts: DRAWS,
        ..Default::default()
    }
}

//! Service ports try what one instance did not take on another one. Published ports never do.
//!
//! Twice is never what an application sees of a request that may change something: such a request goes on to
//! another instance only if no connection came about, or if nothing of it was sent. A request that is safe by HTTP's
//! own word (`GET`, `HEAD`, `OPTIONS`) goes on as long as no answer has begun.
//!
//! On another host an instance is reached through its published port, where that host's Envoy listens: it takes the
//! connection, and finds only then that the container is gone. Its own 503 is not the application's, so it says in a
//! header ([`FAILURE`]) how far it came, and the request goes on as if there had been no Envoy between. The header by
//! itself is for people. It counts only where [`super::hops`] finds that an Envoy wrote it.

use envoy_types::pb::envoy::config::accesslog::v3::{AccessLogFilter, ResponseFlagFilter, access_log_filter};
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use envoy_types::pb::envoy::config::route::v3::retry_policy::{RetryHostPredicate, retry_host_predicate};
use envoy_types::pb::envoy::config::route::v3::{HeaderMatcher, RetryPolicy, header_matcher};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    LocalReplyConfig, ResponseMapper,
};
use envoy_types::pb::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_types::pb::envoy::r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher};
use envoy_types::util::pack_any;

use super::hops::{self, Hops};
use super::service::TRIES;
use super::values::number;

/// How often Envoy draws again when it has drawn an instance that was tried already.
const DRAWS: i64 = 8;

/// Before the application can have seen anything.
const UNSEEN: &str = "connect-failure,refused-stream,reset-before-request";
/// Before an answer has begun. `reset` is a connection that ended, too.
const UNANSWERED: &str = "connect-failure,refused-stream,reset";

/// The header by which a port says that an answer is Envoy's own, because the application gave none.
pub(super) const FAILURE: &str = "x-shim-failure";
/// No connection came about.
const NOT_CONNECTED: &str = "not-connected";
/// The connection ended before an answer began.
const NOT_ANSWERED: &str = "not-answered";

/// For requests that change nothing.
pub(super) fn of_safe_requests(hops: Option<&Hops>) -> RetryPolicy {
    policy(UNANSWERED, &[NOT_CONNECTED, NOT_ANSWERED], hops)
}

/// For all other requests.
pub(super) fn of_any_request(hops: Option<&Hops>) -> RetryPolicy {
    policy(UNSEEN, &[NOT_CONNECTED], hops)
}

/// What a port says with answers that are Envoy's own, and its token if it has one.
pub(super) fn failures(token: Option<&str>) -> LocalReplyConfig {
    // Envoy's flags. UF is a failed connection; NC and UH: the port was being taken back when the request came.
    let not_connected = failure(&["UF", "UH", "NC"], NOT_CONNECTED, token);
    // UC is a connection that ended, UR one that was reset, UPE one that ended within the first lines of an answer.
    let mappers = vec![not_connected, failure(&["UC", "UR", "UPE"], NOT_ANSWERED, token)];
    LocalReplyConfig { mappers, ..Default::default() }
}

fn failure(flags: &[&str], how: &str, token: Option<&str>) -> ResponseMapper {
    let flags = ResponseFlagFilter { flags: flags.iter().map(|flag| (*flag).to_owned()).collect() };
    ResponseMapper {
        filter: Some(AccessLogFilter {
            filter_specifier: Some(access_log_filter::FilterSpecifier::ResponseFlagFilter(flags)),
        }),
        headers_to_add: [(FAILURE, how)].into_iter().chain(token.map(|token| (hops::TOKEN, token))).map(set).collect(),
        ..Default::default()
    }
}

fn set((name, value): (&str, &str)) -> HeaderValueOption {
    HeaderValueOption {
        header: Some(HeaderValue { key: name.to_owned(), value: value.to_owned(), ..Default::default() }),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    }
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

fn believed(failure: &&str) -> HeaderMatcher {
    let pattern = StringMatcher {
        match_pattern: Some(string_matcher::MatchPattern::Exact((*failure).to_owned())),
        ..Default::default()
    };
    HeaderMatcher {
        name: hops::BELIEVED.to_owned(),
        header_match_specifier: Some(header_matcher::HeaderMatchSpecifier::StringMatch(pattern)),
        ..Default::default()
    }
}

/// Without `hops` nothing compares tokens, and no header counts.
fn policy(retry_on: &str, failures: &[&str], hops: Option<&Hops>) -> RetryPolicy {
    let others = RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(pack_any(PreviousHostsPredicate {}))),
    };
    RetryPolicy {
        retry_on: if hops.is_some() { format!("{retry_on},retriable-headers") } else { retry_on.to_owned() },
        retriable_headers: failures.iter().filter(|_| hops.is_some()).map(believed).collect(),
        num_retries: number(TRIES - 1),
        retry_host_predicate: vec![others],
        host_selection_retry_max_attempts: DRAWS,
        ..Default::default()
    }
}

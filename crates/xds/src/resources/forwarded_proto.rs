//! How a learned port keeps Envoy's `x-forwarded-proto` from the application.
//!
//! Envoy adds that header to every request that has none, and no setting stops it. So the client's own is kept aside under
//! another name before Envoy looks at the request, and put back where the request leaves: Envoy's goes, the client's stays.
//! Its name arrives in lower case.

use envoy_types::pb::envoy::config::common::mutation_rules::v3::{HeaderMutation, header_mutation};
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption, TypedExtensionConfig};
use envoy_types::pb::envoy::extensions::http::early_header_mutation::header_mutation::v3::HeaderMutation as EarlyMutation;

use super::values::extension;

/// The header that Envoy adds.
pub(super) const HEADER: &str = "x-forwarded-proto";

/// Where the client's own is kept. One that a client sends is dropped.
pub(super) const ASIDE: &str = "x-shim-forwarded-proto";

/// Before Envoy looks at a request: the client's header is copied aside.
pub(super) fn keep_aside() -> TypedExtensionConfig {
    let remove = header_mutation::Action::Remove(ASIDE.to_owned());
    let copy = header_mutation::Action::Append(copy(HEADER, ASIDE));
    let mutations = [remove, copy].map(|action| HeaderMutation { action: Some(action) }).into();
    extension("envoy.http.early_header_mutation.header_mutation", EarlyMutation { mutations })
}

/// Where a request leaves, in place of what Envoy made of it: nothing, if the client sent nothing.
pub(super) fn put_back() -> HeaderValueOption {
    copy(ASIDE, HEADER)
}

fn copy(from: &str, to: &str) -> HeaderValueOption {
    let header = HeaderValue { key: to.to_owned(), value: format!("%REQ({from})%"), ..Default::default() };
    HeaderValueOption {
        header: Some(header),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    }
}

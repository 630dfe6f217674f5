//! How an Envoy knows that an answer is another Envoy's own, and no application's.
//!
//! A service port reaches an instance of another host through that host's Envoy. Where the instance can't be
//! connected to, that Envoy answers in its stead, and the request may go on to another instance. The application must
//! not be able to say the same, not even by copying what it was told itself: its request would be handled twice.
//!
//! So such an answer carries a token ([`TOKEN`]) that is made for its published port alone, from a secret that the
//! hosts of a cluster share. The Envoy that sent the request compares it with the tokens of the very endpoint that
//! answered, which are part of the endpoint, before it decides on a retry. An instance of its own host has none.
//! Published ports remove the header from what applications send, and service ports from what clients get.

use std::collections::HashMap;
use std::fmt;

use blake2::Blake2sMac256;
use blake2::digest::{FixedOutput as _, KeyInit as _, Update as _};
use envoy_types::pb::envoy::config::common::mutation_rules::v3::{HeaderMutation as Step, header_mutation::Action};
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::{HeaderValue, HeaderValueOption, Metadata};
use envoy_types::pb::envoy::extensions::filters::http::header_mutation::v3::{HeaderMutation, Mutations};
use envoy_types::pb::envoy::extensions::filters::http::upstream_codec::v3::UpstreamCodec;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter};
use envoy_types::pb::google::protobuf::{Any, ListValue, Struct, Value, value};
use envoy_types::util::pack_any;
use model::HostName;

use super::retry::FAILURE;

/// The header with a published port's token.
pub(super) const TOKEN: &str = "x-shim-hop";
/// The header in which the comparison's result is left for the retry policy: what [`FAILURE`] says, if it is believed.
pub(super) const BELIEVED: &str = "x-shim-believed";

/// Where an endpoint's tokens are in its metadata.
const METADATA: (&str, &str) = ("envoy-docker-shim", "tokens");

/// A token's bytes; twice as many characters.
const TOKEN_LENGTH: usize = 8;

/// What the hosts of a cluster share to know each other's Envoys by.
#[derive(Clone, PartialEq, Eq)]
pub struct Hops {
    host: HostName,
    secrets: Vec<[u8; 32]>,
}

impl Hops {
    /// `host` is this one. The first of the secrets makes this host's tokens; those of other hosts may be made by any,
    /// so that secrets can be replaced one by one. Without any, no answer of another host is believed.
    #[must_use]
    pub fn new(host: HostName, secrets: Vec<[u8; 32]>) -> Self {
        Self { host, secrets }
    }

    /// The token of this host's published port.
    pub(super) fn own(&self, port: u16) -> Option<String> {
        self.tokens(&self.host, port).next()
    }

    /// What an endpoint of this host and published port is given.
    pub(super) fn metadata(&self, host: &HostName, port: u16) -> Metadata {
        let text = |token| Value { kind: Some(value::Kind::StringValue(token)) };
        let tokens = ListValue { values: self.tokens(host, port).map(text).collect() };
        let tokens = Value { kind: Some(value::Kind::ListValue(tokens)) };
        // One entry in each: a map of more would be encoded in another order each time.
        let fields = Struct { fields: HashMap::from([(METADATA.1.to_owned(), tokens)]) };
        Metadata { filter_metadata: HashMap::from([(METADATA.0.to_owned(), fields)]), ..Default::default() }
    }

    fn tokens(&self, host: &HostName, port: u16) -> impl Iterator<Item = String> {
        self.secrets.iter().map(move |secret| token(secret, host, port))
    }
}

impl fmt::Debug for Hops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hops").field("host", &self.host).field("secrets", &self.secrets.len()).finish()
    }
}

fn token(secret: &[u8; 32], host: &HostName, port: u16) -> String {
    let mut mac = Blake2sMac256::new_from_slice(secret).expect("BLAKE2s takes keys of 32 bytes");
    mac.update(format!("{host}/{port}").as_bytes());
    mac.finalize_fixed()[..TOKEN_LENGTH].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The filters that a request to an instance passes last, and its answer first: before the retry policy.
pub(super) fn upstream_filters() -> Vec<HttpFilter> {
    let (namespace, key) = METADATA;
    let is_known = format!(
        "'{TOKEN}' in response.headers && response.headers['{TOKEN}'] in \
         xds.upstream_host_metadata.filter_metadata['{namespace}']['{key}']"
    );
    let believed = HeaderValue {
        key: BELIEVED.to_owned(),
        value: format!("%CEL({is_known} ? response.headers['{FAILURE}'] : 'nothing')%"),
        ..Default::default()
    };
    let believed = HeaderValueOption {
        header: Some(believed),
        append_action: HeaderAppendAction::OverwriteIfExistsOrAdd.into(),
        ..Default::default()
    };
    let steps = [Action::Remove(BELIEVED.to_owned()), Action::Append(believed), Action::Remove(TOKEN.to_owned())];
    let response_mutations = steps.map(|step| Step { action: Some(step) }).into();
    let compare = HeaderMutation {
        mutations: Some(Mutations { response_mutations, ..Default::default() }),
        ..Default::default()
    };
    vec![
        filter("envoy.filters.http.header_mutation", pack_any(compare)),
        filter("envoy.filters.http.upstream_codec", pack_any(UpstreamCodec {})),
    ]
}

fn filter(name: &str, config: Any) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(config)),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hops(host: &str, secrets: &[u8]) -> Hops {
        Hops::new(HostName::corrected(host).unwrap().0, secrets.iter().map(|secret| [*secret; 32]).collect())
    }

    #[test]
    fn a_token_is_of_one_secret_one_host_and_one_port() {
        let token = hops("a", &[1]).own(80).unwrap();
        assert_eq!(token.len(), 2 * TOKEN_LENGTH);
        assert_eq!(hops("a", &[1, 2]).own(80), Some(token.clone()), "the first secret makes it");
        for other in [hops("b", &[1]).own(80), hops("a", &[2]).own(80), hops("a", &[1]).own(81), hops("a", &[]).own(80)]
        {
            assert_ne!(other, Some(token.clone()));
        }
    }

    #[test]
    fn an_endpoint_has_the_tokens_of_all_secrets() {
        let (here, there) = (hops("here", &[1, 2]), hops("there", &[2]));
        let metadata = format!("{:?}", here.metadata(&there.host, 80));
        assert!(metadata.contains(&there.own(80).unwrap()) && !metadata.contains(&here.own(80).unwrap()), "{metadata}");
    }

    #[test]
    fn secrets_are_not_printed() {
        assert!(!format!("{:?}", hops("a", &[77])).contains("77"));
    }
}

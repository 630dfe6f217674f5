//! The filter that speaks HTTP, told to change and refuse as little as it can.
//!
//! What Envoy changes all the same, found by trial against Envoy 1.40:
//! - A client that closes its sending half before the response is cut off (HTTP/1).
//! - HTTP/1.0 requests reach the application as HTTP/1.1, with `Host: localhost` if they had none.
//! - Refused by Envoy itself: an `Upgrade` to a protocol that is not named here (403), HTTP/1.1 without Host, both Content-Length and chunked (400, the way in for request
//!   smuggling), `OPTIONS *` (404), non-ASCII paths (400), transfer codings other than chunked (501).
//! - A container that does not answer, or answers no HTTP, is a 502 or 503 instead of a closed connection. So is
//!   a kept-alive connection that the application closes at the very moment of the next request: published ports
//!   never retry.
//! - `date` is added where the application sends none; names of trailers become lower-case; `Keep-Alive`,
//!   `Proxy-Connection` and headers named by `Connection` end here; an absolute URL becomes Host and path.
//! - With tracing, `x-request-id` and the trace context are added to requests. Headers `x-envoy-*` of the client's are
//!   removed.
//! - On a port that a label makes HTTP, requests get `x-forwarded-for`, and `x-forwarded-proto` unless the client sent one.
//!   On a learned port Envoy refuses upgrades other than WebSocket's, and absolute URLs, instead of passing or changing
//!   them, and reports that (`refusals`).

use envoy_types::pb::envoy::config::accesslog::v3::AccessLog;
use envoy_types::pb::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_types::pb::envoy::config::core::v3::http1_protocol_options::{HeaderKeyFormat, header_key_format};
use envoy_types::pb::envoy::config::core::v3::{
    HeaderValue, HeaderValueOption, Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions,
};
use envoy_types::pb::envoy::config::listener::v3::{Filter, filter};
use envoy_types::pb::envoy::config::route::v3::route_action::{ClusterSpecifier, UpgradeConfig as RouteUpgrade};
use envoy_types::pb::envoy::config::route::v3::route_match::{ConnectMatcher, PathSpecifier};
use envoy_types::pb::envoy::config::route::v3::{
    Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost, route,
};
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::{
    ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier, ServerHeaderTransformation, UpgradeConfig,
};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_filter,
};
use envoy_types::pb::envoy::extensions::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig;
use envoy_types::pb::envoy::r#type::matcher::v3::{StringMatcher, string_matcher};
use envoy_types::util::pack_any;
use model::Treatment;

use super::hops::{self, Hops};
use super::port::Port;
use super::values::{boolean, extension, never, number};
use super::{Settings, access_log, forwarded_proto, names, refusals, retry, sampling, tracing};

/// The most headers in one message: more than any server takes. Envoy's default is 100.
pub(super) const MAX_HEADERS: u32 = 10_000;
/// The most kilobytes of headers in one message: the most that Envoy can be told. Its default is 60.
pub(super) const MAX_HEADERS_KB: u32 = 8192;
/// The most streams in one HTTP/2 connection: the most that can be said. Envoy's default is 1024, and a client
/// that holds more streams open would wait for ever.
const MAX_STREAMS: u32 = i32::MAX as u32;

const CONNECT: &str = "CONNECT";

/// Protocols that a connection may be upgraded to; Envoy refuses those that it was not told. WebSocket; Docker's
/// attach and exec; Kubernetes' exec; Tailscale's control and relay.
const UPGRADES: [&str; 5] = ["websocket", "tcp", "SPDY/3.1", "tailscale-control-protocol", "DERP"];

/// Offers of another protocol that are passed over, as an application that does not know them would: Envoy itself
/// does so for `h2c` alone.
const IGNORED_UPGRADES: [&str; 3] = ["h2", "HTTP/", "TLS/"];

/// The filter of a port.
pub(super) fn filter(port: &Port<'_>, settings: &Settings) -> Filter {
    Filter {
        name: "envoy.filters.network.http_connection_manager".to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(pack_any(manager(port, settings)))),
    }
}

fn manager(port: &Port<'_>, settings: &Settings) -> HttpConnectionManager {
    HttpConnectionManager {
        stat_prefix: names::stats_prefix(&port.cluster),
        route_specifier: Some(RouteSpecifier::RouteConfig(routes(port, settings))),
        http_filters: vec![router()],
        access_log: loggers(port, settings),
        tracing: settings.tracing.as_ref().map(|tracing| tracing::for_port(port, tracing)),
        // Envoy traces only requests that have an id.
        generate_request_id: boolean(settings.tracing.is_some()),
        preserve_external_request_id: true,
        request_id_extension: Some(sampling::request_id(settings.tracing.as_ref())),
        local_reply_config: Some(retry::failures(token(port, settings).as_deref())),
        ..transparent(port.treatment)
    }
}

/// What a published port's answers of Envoy's own carry. A service port is asked by clients alone.
fn token(port: &Port<'_>, settings: &Settings) -> Option<String> {
    let hops = settings.hops.as_ref().filter(|_| !port.has_retries)?;
    hops.own(port.number)
}

/// Access logs for the operator; on a learned port Envoy reports its refusals, too.
fn loggers(port: &Port<'_>, settings: &Settings) -> Vec<AccessLog> {
    let mut loggers = access_log::for_port(port, settings.access_log);
    if port.treatment == Treatment::LearnedHttp && settings.refusals.is_some() {
        loggers.push(refusals::logger());
    }
    loggers
}

/// What is the same for all ports of a treatment.
fn transparent(treatment: Treatment) -> HttpConnectionManager {
    HttpConnectionManager {
        common_http_protocol_options: Some(HttpProtocolOptions {
            idle_timeout: never(),
            max_headers_count: number(MAX_HEADERS),
            ..Default::default()
        }),
        // Methods that Envoy does not know pass. It calls this unfinished, in one warning for each listener.
        http_protocol_options: Some(Http1ProtocolOptions {
            allow_custom_methods: true,
            // Without it Envoy refuses an absolute target instead of making a path of it.
            allow_absolute_url: if treatment == Treatment::LearnedHttp { boolean(false) } else { None },
            ..http1_options()
        }),
        http2_protocol_options: Some(http2_options()),
        server_header_transformation: ServerHeaderTransformation::PassThrough.into(),
        max_request_headers_kb: number(MAX_HEADERS_KB),
        stream_idle_timeout: never(),
        // True would overwrite the `x-forwarded-proto` of a TLS terminator in front of this host, and add
        // `x-envoy-external-address`. See `client_address` for `x-forwarded-for`. Without `internal_address_config` no
        // client is internal: one that is could ask for retries, by `x-envoy-retry-on`. An empty one makes all
        // clients internal that say they have a private address.
        use_remote_address: boolean(false),
        forward_client_cert_details: ForwardClientCertDetails::AlwaysForwardOnly.into(),
        proxy_100_continue: true,
        upgrade_configs: upgrades(treatment).map(upgrade).collect(),
        early_header_mutation_extensions: (treatment == Treatment::LearnedHttp)
            .then(forwarded_proto::keep_aside)
            .into_iter()
            .collect(),
        normalize_path: boolean(false),
        merge_slashes: false,
        path_with_escaped_slashes_action: PathWithEscapedSlashesAction::KeepUnchanged.into(),
        ..Default::default()
    }
}

/// Both sides of Envoy speak HTTP/1 in the same way.
pub(super) fn http1_options() -> Http1ProtocolOptions {
    let preserve_case = PreserveCaseFormatterConfig { forward_reason_phrase: true, ..Default::default() };
    let formatter = extension("envoy.http.stateful_header_formatters.preserve_case", preserve_case);
    Http1ProtocolOptions {
        accept_http_10: true,
        default_host_for_http_10: "localhost".to_owned(),
        header_key_format: Some(HeaderKeyFormat {
            header_format: Some(header_key_format::HeaderFormat::StatefulFormatter(formatter)),
        }),
        enable_trailers: true,
        ignore_http_11_upgrade: IGNORED_UPGRADES.map(beginning).to_vec(),
        ..Default::default()
    }
}

fn beginning(prefix: &str) -> StringMatcher {
    let match_pattern = Some(string_matcher::MatchPattern::Prefix(prefix.to_owned()));
    StringMatcher { match_pattern, ignore_case: true }
}

/// Both sides of Envoy speak HTTP/2 in the same way.
pub(super) fn http2_options() -> Http2ProtocolOptions {
    Http2ProtocolOptions { max_concurrent_streams: number(MAX_STREAMS), allow_connect: true, ..Default::default() }
}

/// On a learned port Envoy refuses all upgrades but WebSocket's, so that their clients get a path on which a half-close
/// ends one direction alone.
fn upgrades(treatment: Treatment) -> impl Iterator<Item = &'static str> {
    let passed = match treatment {
        Treatment::LearnedHttp => &UPGRADES[..1],
        Treatment::Http | Treatment::Tcp => &UPGRADES[..],
    };
    let connect = (treatment != Treatment::LearnedHttp).then_some(CONNECT);
    passed.iter().copied().chain(connect)
}

fn upgrade(token: &str) -> UpgradeConfig {
    UpgradeConfig { upgrade_type: token.to_owned(), ..Default::default() }
}

fn router() -> HttpFilter {
    let router = Router { suppress_envoy_headers: true, ..Default::default() };
    HttpFilter {
        name: "envoy.filters.http.router".to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(pack_any(router))),
        ..Default::default()
    }
}

fn routes(port: &Port<'_>, settings: &Settings) -> RouteConfiguration {
    let cluster = &port.cluster;
    let connect = RouteAction {
        upgrade_configs: vec![RouteUpgrade { upgrade_type: CONNECT.to_owned(), ..Default::default() }],
        ..to(cluster)
    };
    let mut routes = vec![route(PathSpecifier::ConnectMatcher(ConnectMatcher {}), connect)];
    if port.has_retries {
        routes.extend(with_retries(cluster, settings.hops.as_ref()));
    } else {
        routes.push(route(everything(), to(cluster)));
    }
    let everywhere = VirtualHost { name: cluster.clone(), domains: vec!["*".to_owned()], routes, ..Default::default() };
    // Of what applications send. Envoy's own answers are made later.
    let between_envoys = if port.has_retries { hops::BELIEVED } else { hops::TOKEN };
    let configuration = RouteConfiguration {
        name: cluster.clone(),
        response_headers_to_remove: vec![between_envoys.to_owned()],
        ..Default::default()
    };
    if port.treatment == Treatment::LearnedHttp {
        return adding_nothing(everywhere, configuration);
    }
    RouteConfiguration {
        virtual_hosts: vec![everywhere],
        request_headers_to_add: vec![client_address()],
        ..configuration
    }
}

/// Envoy works off the virtual host's part before the configuration's.
fn adding_nothing(everywhere: VirtualHost, configuration: RouteConfiguration) -> RouteConfiguration {
    let everywhere = VirtualHost {
        request_headers_to_remove: vec![forwarded_proto::HEADER.to_owned()],
        request_headers_to_add: vec![forwarded_proto::put_back()],
        ..everywhere
    };
    RouteConfiguration {
        virtual_hosts: vec![everywhere],
        request_headers_to_remove: vec![forwarded_proto::ASIDE.to_owned()],
        ..configuration
    }
}

/// Two routes to the same place: what may be tried again depends on the request.
fn with_retries(cluster: &str, hops: Option<&Hops>) -> [Route; 2] {
    let safe = RouteAction { retry_policy: Some(retry::of_safe_requests(hops)), ..to(cluster) };
    let any = RouteAction { retry_policy: Some(retry::of_any_request(hops)), ..to(cluster) };
    let mut safe = route(everything(), safe);
    if let Some(matches) = &mut safe.r#match {
        matches.headers.push(retry::is_safe());
    }
    [safe, route(everything(), any)]
}

fn everything() -> PathSpecifier {
    PathSpecifier::Prefix("/".to_owned())
}

/// The container sees Envoy as its peer, so it is told the client's address: the one that the connection has,
/// after any that the client sent, as proxies do.
fn client_address() -> HeaderValueOption {
    let header = HeaderValue {
        key: "x-forwarded-for".to_owned(),
        value: "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%".to_owned(),
        ..Default::default()
    };
    HeaderValueOption {
        header: Some(header),
        append_action: HeaderAppendAction::AppendIfExistsOrAdd.into(),
        ..Default::default()
    }
}

fn route(path: PathSpecifier, action: RouteAction) -> Route {
    Route {
        r#match: Some(RouteMatch { path_specifier: Some(path), ..Default::default() }),
        action: Some(route::Action::Route(action)),
        ..Default::default()
    }
}

/// Without a timeout.
fn to(cluster: &str) -> RouteAction {
    RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_owned())),
        timeout: never(),
        idle_timeout: never(),
        ..Default::default()
    }
}

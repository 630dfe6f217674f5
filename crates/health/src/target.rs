//! Who a check may be aimed at.
//!
//! A check of a published port would be answered by our own proxy, whatever the container does. So a check that
//! is aimed there is made against the container itself. And since an image's labels can ask for a check, other
//! targets than the instance itself are refused unless the configuration allows them: otherwise an image could
//! have the host ask around in the operator's network.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

use model::Protocol;

use crate::check::{HttpGet, Peer};
use crate::plan::{CheckedPort, Policy, Subject};

/// Why a check can't be aimed there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TargetError {
    #[error("not a URL: expected one such as http://{{{{ host }}}}:{{{{ tcp 80 }}}}/, or a path")]
    NotAUrl,
    #[error("only http:// is spoken: for https use Tcp, or External and a program that speaks it")]
    OnlyHttp,
    #[error("a user in the URL is not sent: use External and a program that does")]
    User,
    #[error("expected ADDRESS:PORT, such as {{{{ host }}}}:{{{{ tcp 80 }}}}")]
    NotAnAddress,
    #[error("that is the instance's own published port, and its container's address is not known")]
    Unreachable,
    #[error("no TCP port of this instance has a service port: give it the label ServicePort_N, or say the address")]
    NoOwnPort,
    #[error(
        "{0} is not the instance itself: other targets need --allow-other-check-targets, and are never taken from an image's own label"
    )]
    NotAllowed(Peer),
}

/// The GET of a URL, or of a path at the instance itself.
pub(crate) fn http_get(text: &str, subject: &Subject<'_>, policy: Policy) -> Result<HttpGet, TargetError> {
    if text.starts_with('/') || text.is_empty() {
        let own = own_address(subject).ok_or(TargetError::NoOwnPort)?;
        let text = format!("http://{own}{text}");
        return Ok(parsed(&text)?.get(Peer::Address(own)));
    }
    let url = parsed(&with_host("http://", text))?;
    let peer = peer(&url.host, url.port, subject, policy)?;
    Ok(url.get(peer))
}

/// The target of a `Tcp` check: an address and port, or the instance itself.
pub(crate) fn tcp(text: &str, subject: &Subject<'_>, policy: Policy) -> Result<Peer, TargetError> {
    if text.is_empty() {
        return own_address(subject).map(Peer::Address).ok_or(TargetError::NoOwnPort);
    }
    let text = with_host("", text);
    let authority: http::uri::Authority = text.parse().map_err(|_| TargetError::NotAnAddress)?;
    let port = authority.port_u16().filter(|port| *port != 0).ok_or(TargetError::NotAnAddress)?;
    let host = Some(authority.host()).filter(|host| !host.is_empty() && !text.contains('@'));
    peer(host.ok_or(TargetError::NotAnAddress)?, port, subject, policy)
}

/// Sidecar's `http://:10234/`: without a host, this one is meant.
fn with_host<'a>(before: &str, text: &'a str) -> Cow<'a, str> {
    match text.strip_prefix(before).filter(|rest| rest.starts_with(':')) {
        Some(rest) => format!("{before}localhost{rest}").into(),
        None => text.into(),
    }
}

/// Where the instance itself answers for its lowest service port.
pub(crate) fn own_address(subject: &Subject<'_>) -> Option<SocketAddr> {
    let with_port = |port: &&CheckedPort| port.protocol == Protocol::Tcp && port.service_port.is_some();
    subject
        .ports
        .iter()
        .filter(with_port)
        .filter_map(|port| Some((port.service_port, port.direct?)))
        .min()
        .map(|(_, at)| at)
}

struct Url {
    host: String,
    port: u16,
    authority: String,
    path_and_query: String,
}

impl Url {
    fn get(self, peer: Peer) -> HttpGet {
        HttpGet { peer, authority: self.authority, path_and_query: self.path_and_query }
    }
}

fn parsed(text: &str) -> Result<Url, TargetError> {
    let uri: http::Uri = text.parse().map_err(|_| TargetError::NotAUrl)?;
    let authority = uri.authority().ok_or(TargetError::NotAUrl)?;
    match uri.scheme_str() {
        Some("http") => {}
        Some(_) => return Err(TargetError::OnlyHttp),
        None => return Err(TargetError::NotAUrl),
    }
    if authority.as_str().contains('@') {
        return Err(TargetError::User);
    }
    let has_port = authority.as_str().len() > authority.host().len();
    let port = if has_port { authority.port_u16().filter(|port| *port != 0) } else { Some(80) };
    Ok(Url {
        host: Some(authority.host()).filter(|host| !host.is_empty()).ok_or(TargetError::NotAUrl)?.to_owned(),
        port: port.ok_or(TargetError::NotAUrl)?,
        authority: authority.as_str().to_owned(),
        path_and_query: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
    })
}

/// Who is connected to for this host and port.
fn peer(host: &str, port: u16, subject: &Subject<'_>, policy: Policy) -> Result<Peer, TargetError> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let address = bare.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    if let Some(own) = subject.ports.iter().find(|own| is_published_at(own, bare, address, port, subject)) {
        return own.direct.map(Peer::Address).ok_or(TargetError::Unreachable);
    }
    let peer = address.map_or_else(|| Peer::Name(bare.to_owned(), port), |ip| Peer::Address(SocketAddr::new(ip, port)));
    let is_own = address.is_some_and(|ip| subject.ports.iter().any(|own| own.direct.is_some_and(|at| at.ip() == ip)));
    if is_own || policy.allow_other_targets { Ok(peer) } else { Err(TargetError::NotAllowed(peer)) }
}

/// Whether somebody who connects there meets this published port.
fn is_published_at(own: &CheckedPort, name: &str, address: Option<IpAddr>, port: u16, subject: &Subject<'_>) -> bool {
    let meets = match address {
        Some(address) => {
            own.published.ip() == address || own.published.ip().is_unspecified() && is_this_host(address, subject)
        }
        None => name.eq_ignore_ascii_case("localhost") || name.eq_ignore_ascii_case(subject.host_name),
    };
    meets && own.protocol == Protocol::Tcp && own.published.port() == port
}

/// To connect to the unspecified address is to connect to this host.
fn is_this_host(address: IpAddr, subject: &Subject<'_>) -> bool {
    address.is_loopback()
        || address.is_unspecified()
        || address == subject.host_address
        || subject.host_addresses.contains(&address)
}

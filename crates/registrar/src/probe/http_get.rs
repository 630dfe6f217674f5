//! The check by HTTP: one GET over a connection of its own, without redirects.

use health::HttpGet;
use http_body_util::Full;
use hyper::{Request, StatusCode, header};

use super::{Seen, tcp, text};
use crate::one_request::{self, USER_AGENT};

/// Healthy if it is answered by 200 to 299. The text is the status, or why there is none.
pub(super) async fn get(get: &HttpGet) -> Seen {
    let request = Request::get(&get.path_and_query)
        .header(header::HOST, &get.authority)
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, "*/*")
        .header(header::CONNECTION, "close")
        .body(Full::default())
        .map_err(text)?;
    let stream = tcp::connect(&get.peer, |_| Ok(())).await.map_err(text)?;
    verdict(one_request::status(stream, request).await?)
}

fn verdict(status: StatusCode) -> Seen {
    match status {
        _ if status.is_success() => Ok(status.as_str().to_owned()),
        _ if status.is_redirection() => Err(format!("{}, and redirects are not followed", status.as_str())),
        _ => Err(status.as_str().to_owned()),
    }
}

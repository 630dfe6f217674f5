//! Questions to the registrar over HTTP, and every way in which they can go wrong.
//!
//! Deliberately absent: what the answers mean.

use std::time::Duration;

use admin_api::Readiness;
use serde::de::{DeserializeOwned, IgnoredAny};
use ureq::{Agent, BodyReader};

/// How long one question may take, everything included.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest answer that is read, in bytes. A port takes about 600.
const ANSWER_MAX_LENGTH: u64 = 64 * 1024 * 1024;

/// How much of an unexpected answer is shown, in characters.
const EXCERPT_MAX_LENGTH: usize = 200;

/// Why a question has no answer. The texts name the address, and the fix where there is one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// There is no connection, or no answer in time.
    #[error(
        "no answer from the registrar at {address}: {reason}\n\
         Is it running (systemctl status envoy-docker-registrar)? If its --http-listen is another address, give --address."
    )]
    Unreachable { address: String, reason: String },
    /// It answered, and said no.
    #[error("the registrar at {address} answered {status} to {path}: {message}")]
    Failed { address: String, path: String, status: u16, message: String },
    /// What answers is no registrar, or speaks of things that this shimctl does not know.
    #[error("the answer from {address} to {path} can't be understood: {reason}\nIs it a registrar, of this shimctl's version ({})?", env!("CARGO_PKG_VERSION"))]
    NotUnderstood { address: String, path: String, reason: String },
}

/// Asks one registrar.
pub(crate) struct Client {
    agent: Agent,
    address: String,
}

/// An answer: some JSON.
pub(crate) struct Answer {
    address: String,
    path: String,
    text: String,
}

impl Client {
    /// A client of the registrar at `address`, HOST:PORT. Nothing is sent yet.
    pub(crate) fn new(address: String) -> Self {
        let config = Agent::config_builder()
            // The registrar is on this host: no proxy from the environment may come between.
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .build();
        Self { agent: config.into(), address }
    }

    /// The address that is asked.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The answer to a GET of `path`.
    ///
    /// # Errors
    /// There was none within [`REQUEST_TIMEOUT`], or its status is not 200, or it is no JSON.
    pub(crate) fn get(&self, path: &str) -> Result<Answer, ClientError> {
        self.get_within(path, REQUEST_TIMEOUT)
    }

    /// As [`Self::get`], with another limit of time.
    pub(crate) fn get_within(&self, path: &str, timeout: Duration) -> Result<Answer, ClientError> {
        let (status, text) = self.fetch(path, timeout)?;
        if status == 200 { self.json(path, text) } else { Err(self.failed(path, status, &text)) }
    }

    /// The answer to `/readyz`, which is one whether it is ready (200) or not (503).
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn readiness(&self) -> Result<Readiness, ClientError> {
        let path = "/readyz";
        let (status, text) = self.fetch(path, REQUEST_TIMEOUT)?;
        match self.json(path, text.clone()).and_then(|answer| answer.parse()) {
            Ok(readiness) => Ok(readiness),
            Err(error) => Err(if status == 200 { error } else { self.failed(path, status, &text) }),
        }
    }

    /// The answer to a GET of `path` that has no end. Its status comes within [`REQUEST_TIMEOUT`]; there is no limit after
    /// that, of time or of length.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) fn stream(&self, path: &str) -> Result<BodyReader<'static>, ClientError> {
        let url = format!("http://{}{path}", self.address);
        let limit = Some(REQUEST_TIMEOUT);
        let request = self.agent.get(&url).config().timeout_connect(limit).timeout_recv_response(limit).build();
        let unreachable = |error| self.unreachable(error, REQUEST_TIMEOUT);
        let mut response = request.call().map_err(unreachable)?;
        let status = response.status().as_u16();
        if status == 200 {
            return Ok(response.into_body().into_reader());
        }
        let body = response.body_mut().with_config().limit(ANSWER_MAX_LENGTH).read_to_string();
        Err(self.failed(path, status, &body.map_err(unreachable)?))
    }

    /// Status and body.
    fn fetch(&self, path: &str, timeout: Duration) -> Result<(u16, String), ClientError> {
        let url = format!("http://{}{path}", self.address);
        let unreachable = |error| self.unreachable(error, timeout);
        let request = self.agent.get(&url).config().timeout_global(Some(timeout)).build();
        let mut response = request.call().map_err(unreachable)?;
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(ANSWER_MAX_LENGTH).read_to_string().map_err(unreachable)?;
        Ok((status, text))
    }

    fn unreachable(&self, error: ureq::Error, timeout: Duration) -> ClientError {
        ClientError::Unreachable { address: self.address.clone(), reason: reason(error, timeout) }
    }

    fn json(&self, path: &str, text: String) -> Result<Answer, ClientError> {
        let answer = Answer { address: self.address.clone(), path: path.to_owned(), text };
        answer.parse::<IgnoredAny>().map(|_| answer)
    }

    fn failed(&self, path: &str, status: u16, text: &str) -> ClientError {
        let (address, path) = (self.address.clone(), path.to_owned());
        ClientError::Failed { address, path, status, message: message_of(text) }
    }
}

impl Answer {
    /// The JSON as it came.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The JSON as a value.
    ///
    /// # Errors
    /// It is another kind of value.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_str(&self.text).map_err(|error| ClientError::NotUnderstood {
            address: self.address.clone(),
            path: self.path.clone(),
            reason: error.to_string(),
        })
    }
}

fn reason(error: ureq::Error, timeout: Duration) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("nothing came within {:.1} s", timeout.as_secs_f32()),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// The words of an error's body: the API's own, or the beginning of whatever it is.
pub(crate) fn message_of(body: &str) -> String {
    match serde_json::from_str::<admin_api::Error>(body) {
        Ok(error) => error.error,
        Err(_) => body.trim().chars().take(EXCERPT_MAX_LENGTH).flat_map(char::escape_debug).collect(),
    }
}

//! A case: what a client and a server say to each other, and what `ProxyMode=http` makes of it.

use crate::limits::HttpLimit;
use crate::player::find;
use crate::script::{HEAD, Script, client, server};

/// An answer that says how long it is.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone";
/// A request as any client sends it.
pub(crate) const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A scripted conversation.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) client: Script,
    pub(crate) server: Script,
    /// How many clients connect, one after the other.
    pub(crate) clients: usize,
    /// Whether a port may have become `http` before: where its server speaks HTTP at all.
    pub(crate) is_http: bool,
    /// What is different with `ProxyMode=http`; nothing that is not allowed everywhere, where this is `None`.
    pub(crate) limit: Option<HttpLimit>,
}

impl Case {
    /// So many clients.
    pub(crate) fn clients(mut self, number: usize) -> Self {
        self.clients = number;
        self
    }
}

/// A conversation of something else than HTTP.
pub(crate) fn bytes(name: &'static str, client: Script, server: Script) -> Case {
    Case { name, client, server, clients: 1, is_http: false, limit: Some(HttpLimit::NotHttp) }
}

/// A conversation in HTTP.
pub(crate) fn http(name: &'static str, client: Script, server: Script) -> Case {
    Case { name, client, server, clients: 1, is_http: true, limit: None }
}

/// A client sends this request, and gets an ordinary answer. The server waits for the request's last bytes.
pub(crate) fn asks(name: &'static str, request: impl AsRef<[u8]>) -> Case {
    let request = request.as_ref();
    http(name, client().send(request).until("done"), server().until(last(request)).send(OK))
}

/// A server answers an ordinary request so. The client waits for the answer's last bytes.
pub(crate) fn answers(name: &'static str, answer: impl AsRef<[u8]>) -> Case {
    let answer = answer.as_ref();
    http(name, client().send(GET).until(last(answer)), server().until(HEAD).send(answer))
}

/// As [`answers`], and the end of the connection is the end of the answer.
pub(crate) fn answers_and_closes(name: &'static str, answer: impl AsRef<[u8]>) -> Case {
    http(name, client().send(GET).end(), server().until(HEAD).send(answer).half_close())
}

/// Enough to recognize the end of a message by.
fn last(message: &[u8]) -> &[u8] {
    let is_chunked = find(&message.to_ascii_lowercase(), b"chunked").is_some();
    let length = if is_chunked && message.ends_with(b"0\r\n\r\n") { 5 } else { 4 };
    &message[message.len().saturating_sub(length)..]
}

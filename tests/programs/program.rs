//! What is compared: a server, and a client that prints something of what it was told.

/// A server and a client. Both are shell scripts in containers of the image `programs`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Program {
    /// Both programs' names.
    pub(crate) name: &'static str,
    /// Runs in the container. Where a range of ports is published too, `$LOW` and `$HIGH` are its ends.
    pub(crate) server: &'static str,
    /// Where it listens.
    pub(crate) port: u16,
    /// Asks the server at `$A`, port `$P`, and prints what is to be the same. Fails while the server is starting.
    pub(crate) client: &'static str,
    /// Runs in the server's container afterwards, and prints what has arrived there; may be empty.
    pub(crate) then: &'static str,
    /// Whether it is HTTP, and so worth a label that says so.
    pub(crate) is_http: bool,
    /// Whether a range of ports is published, too.
    pub(crate) has_range: bool,
}

/// A server of HTTP.
pub(crate) const fn http(name: &'static str, server: &'static str, client: &'static str) -> Program {
    Program { name, server, port: 80, client, then: "", is_http: true, has_range: false }
}

/// A server of something else.
pub(crate) const fn other(name: &'static str, port: u16, server: &'static str, client: &'static str) -> Program {
    Program { name, server, port, client, then: "", is_http: false, has_range: false }
}

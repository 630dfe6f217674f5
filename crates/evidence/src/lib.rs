//! Decides from the first bytes of a connection whether its port is safe to treat as HTTP.
//!
//! An [`Observer`] is given the bytes of one connection as they are forwarded, and yields at most one [`Finding`].
//! The server decides. What a client sends may be garbage, a port scan, or meant for another port, so client bytes
//! alone decide nothing. Where there is doubt there is no finding, and the port goes on being forwarded as bytes.
//!
//! | what the server does | finding |
//! |---|---|
//! | speaks before the client does | TCP; nothing where it begins like an HTTP/1 answer (a timeout), or like HTTP/2 |
//! | answers HTTP/2's preface with SETTINGS | HTTP |
//! | answers a *plain* request with a strict HTTP/1.1 answer of one clear length | HTTP |
//! | accepts a WebSocket | HTTP |
//! | accepts any other upgrade | TCP |
//! | answers a plain request with what HTTP treatment would refuse or change | TCP |
//! | accepts a request that HTTP treatment would refuse or change (a proxy's, for example) | TCP |
//! | answers with bytes that are not HTTP | TCP; nothing where they are a bare web page |
//! | answers with an error that says nothing of the application (400, 408, 431, 5xx) | nothing |
//!
//! A request is plain if HTTP treatment passes it on unchanged; `request.rs` says what that takes. Each module's tests
//! show one part of this; `tests/table.rs` shows whole connections.
//!
//! Deliberately absent: sockets, clocks, bodies, every exchange of a connection but the first, and what follows from
//! a finding.

mod answer;
mod fields;
mod finding;
mod line;
mod observer;
mod request;
mod start;

pub use finding::{Finding, Reason};
pub use observer::{OBSERVED_MAX, Observer};

//! The connections of the table. `|` stands for a line end in what is HTTP.

use evidence::{Finding, Reason};

mod http;
mod programs;

pub enum Step {
    Client(Vec<u8>),
    Server(Vec<u8>),
    ClientEnds,
    ServerEnds,
}

pub struct Case {
    pub name: &'static str,
    pub steps: Vec<Step>,
    pub expected: Option<Finding>,
}

pub const HTTP: Option<Finding> = Some(Finding::Http);

pub const fn tcp(reason: Reason) -> Option<Finding> {
    Some(Finding::Tcp(reason))
}

/// The client's bytes.
pub fn c(bytes: impl AsRef<[u8]>) -> Step {
    Step::Client(bytes.as_ref().to_vec())
}

/// The server's.
pub fn s(bytes: impl AsRef<[u8]>) -> Step {
    Step::Server(bytes.as_ref().to_vec())
}

pub fn case(name: &'static str, steps: impl Into<Vec<Step>>, expected: Option<Finding>) -> Case {
    Case { name, steps: steps.into(), expected }
}

/// A head: lines with `|` between them, and the empty line.
pub fn head(lines: &str) -> Vec<u8> {
    format!("{}\r\n\r\n", lines.replace('|', "\r\n")).into_bytes()
}

pub fn all() -> Vec<Case> {
    http::plain_requests()
        .into_iter()
        .chain(http::odd_requests())
        .chain(http::others())
        .chain(programs::all())
        .collect()
}

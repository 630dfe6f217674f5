//! `shimctl`, the operator's command line: asks the registrar on this host, and shows what it answers.
//!
//! `args` is what can be asked, `client` how it is asked, `show_ports` and `show_envoy` how the answers look.
//! `resync` and `leave` do something. For `resync`, `process` finds shims and `reannounced` judges the outcome;
//! orders such as `leave` go over the registrar's `admin_socket`.
//!
//! Exit codes: 0, or 1 for a failure, or 2 (clap's own) for a wrong command line.

mod admin_socket;
mod args;
mod client;
mod process;
mod reannounced;
mod resync;
mod show_envoy;
mod show_ports;
mod table;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser;
use serde::de::DeserializeOwned;

use args::{Args, Command, Output};
use client::{Client, ClientError};

fn main() -> ExitCode {
    let args = Args::parse();
    let client = Client::new(args.address);
    let succeeded = match args.command {
        Command::Ports => show(&client, "/api/v1/ports", args.output, |ports: &Vec<_>| show_ports::table_of(ports)),
        Command::Envoy => show(&client, "/api/v1/envoy", args.output, |envoy| show_envoy::text(envoy, now_ms())),
        Command::Resync { timeout } => resync::run(&client, timeout, args.output),
        Command::Leave { admin_socket } => leave(&admin_socket),
    };
    match succeeded {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            complain(&format!("shimctl: {message}"));
            ExitCode::FAILURE
        }
    }
}

/// Asks for `path` and prints the answer: as it came, or in words.
fn show<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    output: Output,
    in_words: impl FnOnce(&T) -> String,
) -> Result<bool, String> {
    let answer = client.get(path).map_err(|error| error.to_string())?;
    let text = match output {
        Output::Json => answer.text().to_owned(),
        Output::Table => in_words(&answer.parse::<T>().map_err(|error: ClientError| error.to_string())?),
    };
    print(&text)
}

/// Has the registrar take back what outlives it, and end.
fn leave(admin_socket: &Path) -> Result<bool, String> {
    admin_socket::order(admin_socket, "POST", "/api/v1/leave").map_err(|error| error.to_string())?;
    complain("the registrar has left: Docker's own path serves from now on");
    Ok(true)
}

/// Writes to standard output. A reader that has seen enough, such as `head`, is no failure.
fn print(text: &str) -> Result<bool, String> {
    let mut out = io::stdout().lock();
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(newline.as_bytes())).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(format!("can't write the answer: {error}")),
        _ => Ok(true),
    }
}

/// Writes a line to standard error. There is nobody to tell if that fails.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Milliseconds of Unix time; 0 on a clock that stands before 1970.
fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

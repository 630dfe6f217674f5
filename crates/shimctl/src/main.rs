//! `shimctl`, the operator's command line: asks the registrar on this host, and shows what it answers.
//!
//! `args` is what can be asked, `client` how it is asked, `show_*` how the answers look. `resync` does something:
//! `process` finds shims and `reannounced` judges the outcome. Orders such as `leave` and `drain` go over the
//! registrar's `admin_socket`. `check` is the doctor, and `firewall` what it makes of this host's rules for packets.
//!
//! Exit codes: 0, or 1 for a failure, or 2 (clap's own) for a wrong command line.

mod admin_socket;
mod age;
mod args;
mod check;
mod client;
mod drain;
mod explain;
mod firewall;
mod keygen;
mod ports;
mod process;
mod reannounced;
mod resync;
mod show_changes;
mod show_envoy;
mod show_hosts;
mod show_ports;
mod show_services;
mod sse;
mod subject;
mod table;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use admin_api::{Envoy, Service};
use clap::{CommandFactory, Parser};
use serde::Serialize;
use serde::de::DeserializeOwned;

use age::now_ms;
use args::{AdminSocket, Args, Command, Output};
use client::{Client, ClientError};
use subject::Subject;

fn main() -> ExitCode {
    let args = Args::parse();
    let (output, client) = (args.output(), Client::new(args.address));
    let succeeded = match args.command {
        Command::Ports { subject } => ports::run(&client, subject.as_ref(), output),
        Command::Envoy => show(&client, "/api/v1/envoy", output, |envoy| show_envoy::text(envoy, now_ms())),
        Command::Services { subject, instances } => services(&client, subject.as_ref(), instances, output),
        Command::Hosts => {
            show(&client, "/api/v1/hosts", output, |hosts: &Vec<_>| show_hosts::table_of(hosts, now_ms()))
        }
        Command::Watch => watch::run(&client, output),
        Command::Explain { subject } => explain::run(&client, &subject, output),
        Command::Check { only } => check::run(&client, &only, output),
        Command::Resync { timeout } => resync::run(&client, timeout, output),
        Command::Drain { instance, registrar } => drain::drain(&client, &registrar, &instance),
        Command::Undrain { instance, registrar } => drain::undrain(&client, &registrar, &instance),
        Command::Leave { registrar } => leave(&registrar),
        Command::Version => print(concat!("shimctl ", env!("CARGO_PKG_VERSION"))),
        Command::Completion { shell } => print(&completion(shell)),
        Command::Keygen => keygen(),
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

/// Prints the services, or of them those that are meant.
fn services(client: &Client, subject: Option<&Subject>, instances: bool, output: Output) -> Result<bool, String> {
    let in_words = |services: &[Service]| {
        if instances {
            show_services::table_of_instances(services, now_ms())
        } else {
            show_services::table_of(services)
        }
    };
    let Some(subject) = subject else {
        return show(client, "/api/v1/services", output, |services: &Vec<_>| in_words(services));
    };
    let envoy: Envoy = ask(client, "/api/v1/envoy")?;
    let addresses: Vec<_> = envoy.service_addresses.iter().map(|at| at.address).collect();
    let mut services: Vec<Service> = ask(client, "/api/v1/services")?;
    services.retain(|service| subject.is_service(service, &addresses));
    show_some(&services, subject, output, in_words)
}

/// Prints a part of what the registrar lists. Nothing at all is an error.
fn show_some<T: Serialize>(
    rows: &[T],
    subject: &Subject,
    output: Output,
    in_words: impl FnOnce(&[T]) -> String,
) -> Result<bool, String> {
    match output {
        _ if rows.is_empty() => Err(subject.unknown()),
        Output::Json => print(&serde_json::to_string(rows).map_err(|error| error.to_string())?),
        Output::Table => print(&in_words(rows)),
    }
}

/// The answer to `path` as a value.
fn ask<T: DeserializeOwned>(client: &Client, path: &str) -> Result<T, String> {
    client.get(path).and_then(|answer| answer.parse()).map_err(|error| error.to_string())
}

/// What this shell needs to complete command lines.
fn completion(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "shimctl", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Has the registrar take back what outlives it, and end.
fn leave(registrar: &AdminSocket) -> Result<bool, String> {
    registrar.order("POST", "/api/v1/leave")?;
    complain("the registrar has left: Docker's own path serves from now on");
    Ok(true)
}

/// Prints a new key, and what to do with it where only people see it.
fn keygen() -> Result<bool, String> {
    let key = keygen::key()?;
    print(&key)?;
    complain(keygen::HINT);
    Ok(true)
}

/// Writes to standard output. A reader that has seen enough, such as `head`, is no failure.
fn print(text: &str) -> Result<bool, String> {
    write_out(text).map(|_| true)
}

/// As [`print()`]; says whether anybody still reads it.
fn write_out(text: &str) -> Result<bool, String> {
    let mut out = io::stdout().lock();
    let newline = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    match out.write_all(text.as_bytes()).and_then(|()| out.write_all(newline.as_bytes())).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("can't write the answer: {error}")),
    }
}

/// Writes a line to standard error. There is nobody to tell if that fails.
fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

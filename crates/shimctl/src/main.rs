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
mod explain;
mod firewall;
mod keygen;
mod process;
mod reannounced;
mod resync;
mod show_changes;
mod show_envoy;
mod show_hosts;
mod show_ports;
mod show_services;
mod sse;
mod table;
mod watch;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use model::InstanceId;
use serde::de::DeserializeOwned;

use age::now_ms;
use args::{AdminSocket, Args, Command, Output};
use client::{Client, ClientError};

fn main() -> ExitCode {
    let args = Args::parse();
    let client = Client::new(args.address);
    let succeeded = match args.command {
        Command::Ports => show(&client, "/api/v1/ports", args.output, |ports: &Vec<_>| show_ports::table_of(ports)),
        Command::Envoy => show(&client, "/api/v1/envoy", args.output, |envoy| show_envoy::text(envoy, now_ms())),
        Command::Services { instances: false } => {
            show(&client, "/api/v1/services", args.output, |services: &Vec<_>| show_services::table_of(services))
        }
        Command::Services { instances: true } => show(&client, "/api/v1/services", args.output, |services: &Vec<_>| {
            show_services::table_of_instances(services, now_ms())
        }),
        Command::Hosts => {
            show(&client, "/api/v1/hosts", args.output, |hosts: &Vec<_>| show_hosts::table_of(hosts, now_ms()))
        }
        Command::Watch => watch::run(&client, args.output),
        Command::Explain { subject } => explain::run(&client, &subject, args.output),
        Command::Check { only } => check::run(&client, &only, args.output),
        Command::Resync { timeout } => resync::run(&client, timeout, args.output),
        Command::Drain { instance, registrar } => drain(&registrar, &instance),
        Command::Undrain { instance, registrar } => undrain(&registrar, &instance),
        Command::Leave { registrar } => leave(&registrar),
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

/// Takes an instance out of service.
fn drain(registrar: &AdminSocket, instance: &InstanceId) -> Result<bool, String> {
    registrar.order("POST", &format!("/api/v1/instances/{instance}/drain"))?;
    complain(&format!(
        "{instance} drains: new requests to its service ports go elsewhere, those under way finish. It lasts until the \
         container stops, or shimctl undrain {instance}"
    ));
    Ok(true)
}

/// Takes [`drain`] back.
fn undrain(registrar: &AdminSocket, instance: &InstanceId) -> Result<bool, String> {
    registrar.order("DELETE", &format!("/api/v1/instances/{instance}/drain"))?;
    complain(&format!("{instance} is in service again, as far as it is healthy"));
    Ok(true)
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

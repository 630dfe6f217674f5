//! The registrar's process: reads the configuration, runs, and says how it ended.
//!
//! Exit codes: 0 after a signal, 64 for a configuration that makes no sense (EX_USAGE of sysexits.h), 1 for
//! everything else.

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;
use envoy_docker_registrar::args::Args;
use envoy_docker_registrar::config::{Config, Log};
use envoy_docker_registrar::run;
use tracing::{Level, error};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

const USAGE: u8 = 64;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    let check_only = args.check_config;
    let config = match configure(args) {
        Ok(config) => config,
        Err(reason) => {
            eprintln!("envoy-docker-registrar: {reason}");
            return ExitCode::from(USAGE);
        }
    };
    if check_only {
        if let Err(reason) = config.check_files() {
            eprintln!("envoy-docker-registrar: {reason}");
            return ExitCode::from(USAGE);
        }
        println!("the configuration is good");
        return ExitCode::SUCCESS;
    }
    log_to_stderr(config.log);
    match start(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            error!(reason, "the registrar ends");
            ExitCode::FAILURE
        }
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    // A closed pipe is nothing to report.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::from(USAGE),
    }
}

fn configure(args: Args) -> Result<Config, String> {
    let args = args.with_file().map_err(|error| error.to_string())?;
    Config::resolve(args).map_err(|error| error.to_string())
}

/// Libraries are heard from `warn` on: what they say below that is about their own inside.
fn log_to_stderr(log: Log) {
    let filter = Targets::new()
        .with_default(log.level.min(Level::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), log.level)
        .with_target("xds", log.level);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    let lines = if log.json { lines.json().boxed() } else { lines.boxed() };
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
}

fn start(config: Config) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("the runtime could not be started: {error}"))?;
    let result = runtime.block_on(run::run(config)).map_err(|error| error.to_string());
    // Lookups of Docker or the kernel that still wait are not waited for.
    runtime.shutdown_background();
    result
}

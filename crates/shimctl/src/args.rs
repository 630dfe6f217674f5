//! The command line, and what its help says.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::admin_socket;
use crate::drain::Named;
use crate::subject::Subject;

const EXAMPLES: &str = "\
Examples:
  shimctl ports                       every published port of this host, and who serves it
  shimctl envoy                       whether Envoy is connected and took everything
  sudo shimctl check                  what is broken on this host, and how to fix it
  shimctl explain 8080                how a connection to that port goes now
  shimctl services --instances        every instance of every service of the cluster
  shimctl watch                       what changes in the cluster, as it happens
  shimctl ports --json | jq -r '.[] | select(.problem) | .problem'
  shimctl --address 127.0.0.1:7778 ports
  sudo shimctl resync                 have every shim announce its port again
  sudo shimctl drain shop-web-1       send no new requests to the instance in this container
  sudo shimctl leave                  have Docker's own path serve all ports, and end the registrar

Exit codes: 0; 1 for a failure, with the reason on standard error; 2 for a wrong command line.";

/// Shows what the registrar of this Docker host knows.
#[derive(Debug, Parser)]
#[command(name = "shimctl", version, after_help = EXAMPLES)]
pub(crate) struct Args {
    /// How to print: for people, or the registrar's own JSON. Orders (drain, undrain, leave) say what they did on standard
    /// error; their exit code says whether they were carried out
    #[arg(short, long, value_enum, default_value_t = Output::Table, global = true)]
    output: Output,

    /// The same as --output json
    #[arg(long, global = true)]
    json: bool,

    /// Where the registrar answers (its --http-listen)
    #[arg(long, value_name = "HOST:PORT", value_parser = address, default_value = admin_api::DEFAULT_HTTP_ADDRESS, global = true)]
    pub address: String,

    #[command(subcommand)]
    pub command: Command,
}

impl Args {
    /// How to print.
    pub(crate) fn output(&self) -> Output {
        if self.json { Output::Json } else { self.output }
    }
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Aligned columns.
    Table,
    /// JSON.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Lists the published ports: whose they are, who serves them, and what is wrong with them
    #[command(after_help = PORTS_HELP)]
    Ports {
        /// Only these: PORT, ADDRESS:PORT or PORT/PROTOCOL, or a service's name
        #[arg(value_name = "PORT|SERVICE", value_parser = Subject::parse)]
        subject: Option<Subject>,
    },

    /// Tells how the registrar and Envoy get on
    Envoy,

    /// Lists the cluster's services, and how many of their instances are alive
    Services {
        /// Only these: a service's name, or a service port
        #[arg(value_name = "SERVICE|PORT", value_parser = Subject::parse)]
        subject: Option<Subject>,
        /// Lists every instance on a line of its own
        #[arg(long)]
        instances: bool,
    },

    /// Lists the cluster's hosts
    Hosts,

    /// Prints changes of services and hosts as they come, until Ctrl-C
    #[command(long_about = WATCH_HELP)]
    Watch,

    /// Says in plain words how a connection to a port or a service goes now, and what would change if Envoy died
    Explain {
        /// A published port or a service port, as PORT, ADDRESS:PORT or PORT/PROTOCOL, or a service's name
        #[arg(value_name = "PORT|SERVICE", value_parser = Subject::parse)]
        subject: Subject,
    },

    /// Looks for everything that is known to break a set-up, and says how to fix it
    #[command(long_about = CHECK_HELP)]
    Check {
        /// Only these checks, by the names that it prints (such as firewall); all of them unless given
        #[arg(value_name = "CHECK")]
        only: Vec<String>,
    },

    /// Has every running shim announce its port again, and waits until the registrar lists them all
    #[command(long_about = RESYNC_HELP)]
    Resync {
        /// How long to wait, in seconds
        #[arg(long, value_name = "SECONDS", value_parser = timeout, default_value = "5")]
        timeout: Duration,
    },

    /// Takes an instance out of service: new requests go elsewhere, those under way finish
    #[command(long_about = DRAIN_HELP)]
    Drain {
        /// A container's name or the beginning of its id; for those of other hosts HOST/ID, as `shimctl services
        /// --instances` lists it
        #[arg(value_name = "CONTAINER|HOST/ID", value_parser = Named::parse)]
        instance: Named,
        #[command(flatten)]
        registrar: AdminSocket,
    },

    /// Puts an instance that drains back into service
    Undrain {
        /// A container's name or the beginning of its id; for those of other hosts HOST/ID, as `shimctl services
        /// --instances` lists it
        #[arg(value_name = "CONTAINER|HOST/ID", value_parser = Named::parse)]
        instance: Named,
        #[command(flatten)]
        registrar: AdminSocket,
    },

    /// Takes this host out: Docker's own path serves all ports, and the registrar ends
    #[command(long_about = LEAVE_HELP)]
    Leave {
        #[command(flatten)]
        registrar: AdminSocket,
    },

    /// Prints the version of this program
    Version,

    /// Prints what a shell needs to complete shimctl's command lines
    #[command(after_help = COMPLETION_HELP)]
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },

    /// Prints a new key for the hosts of a cluster to share (the registrar's --gossip-key-file)
    Keygen,
}

/// Where orders go.
#[derive(Debug, clap::Args)]
pub(crate) struct AdminSocket {
    /// The registrar's socket for changes (its --admin-socket)
    #[arg(long, value_name = "PATH", default_value = admin_api::DEFAULT_ADMIN_SOCKET)]
    admin_socket: PathBuf,
}

impl AdminSocket {
    /// Sends one order; see [`admin_socket::order`].
    ///
    /// # Errors
    /// In words: it was not carried out.
    pub(crate) fn order(&self, method: &str, path: &str) -> Result<(), String> {
        admin_socket::order(&self.admin_socket, method, path).map_err(|error| error.to_string())
    }
}

const PORTS_HELP: &str = "\
SERVED BY says who answers new connections:
  envoy    Envoy listens, and the kernel sends new connections to it
  shim     the shim forwards by itself, as docker-proxy would (UDP, or there is a problem)
  pending  the shim forwards until Envoy listens, which is on its way
  docker   Docker publishes the port without a shim of ours

The JSON has more fields: container and shim ids, addresses, times.";

const COMPLETION_HELP: &str = "\
Where shells look for it:
  shimctl completion bash > /etc/bash_completion.d/shimctl
  shimctl completion zsh > /usr/local/share/zsh/site-functions/_shimctl
  shimctl completion fish > /etc/fish/completions/shimctl.fish";

const WATCH_HELP: &str = "\
Prints changes of services and hosts as they come, until Ctrl-C: a line for each thing that differs, with the time of \
day in UTC. With --output json, each line is an event of GET /api/v1/watch as an object: event (state, service, \
service-gone, host, host-gone) and data.

When the registrar goes, it says so on standard error, connects again as soon as it is back, and prints what differs \
by then (as JSON, the whole state). It exits with 1 if there is no registrar to begin with.";

const CHECK_HELP: &str = "\
Looks for everything that is known to break a set-up, and says how to fix it.

It asks the registrar, and looks at processes, sockets, dockerd's settings and the kernel's, and at the rules that this \
host's firewall (nftables, iptables, ufw, firewalld) has for INPUT; it changes nothing. It lists each check: ok, hint or \
PROBLEM. It exits with 1 if it finds a problem; hints are no problems. Run it as root: an ordinary user sees too little.";

const RESYNC_HELP: &str = "\
Has every running shim announce its port again, and waits until the registrar lists them all.

Shims announce themselves after a restart of the registrar without being told; this is the explicit tool for \
when that is in doubt. It looks for processes of the program envoy-docker-shim in this network namespace, sends \
each SIGHUP, and names those that the registrar does not list in time; then it exits with 1. Traffic is not touched. \
Needs root.";

const DRAIN_HELP: &str = "\
Takes an instance out of service: on every host, new requests to its service ports go to other instances, and those \
under way finish. Its published ports go on working. It lasts until the container stops, or shimctl undrain; a \
restart of the registrar does not end it.

Any host may be asked: one that the instance does not run on passes the order on, and says within 3 s what came of \
it. `docker stop` does the same by itself, as it begins. If it is the last instance that is alive, nobody takes its requests. \
Needs root.";

const LEAVE_HELP: &str = "\
Takes this host out: Docker's own path serves all ports, and the registrar ends.

The registrar deletes its table in the kernel's firewall, so that where Docker's firewall is on, traffic from other \
hosts takes Docker's own path from this moment; established connections live on. Then it ends, with exit code 0, so \
that systemd does not start it again before the next boot or systemctl start. Envoy and the shims go on serving what \
comes to them. Needs root. A registrar in a container that Docker restarts (deploy/compose.yaml) comes back: stop that \
container instead, and delete the table as below.

Where no registrar runs, nft delete table inet envoy-docker-shim does the same; without a registrar the table has \
no effect after a minute anyway.";

/// The longest that `resync` waits: an hour. More is a slip of the finger.
const TIMEOUT_MAX_SECONDS: u64 = 3600;

fn timeout(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds @ 1..=TIMEOUT_MAX_SECONDS) => Ok(Duration::from_secs(seconds)),
        _ => Err(format!("expected whole seconds from 1 to {TIMEOUT_MAX_SECONDS}")),
    }
}

fn address(text: &str) -> Result<String, String> {
    let usable = text.rsplit_once(':').is_some_and(|(host, port)| {
        let host_is_whole =
            host.starts_with('[') == host.ends_with(']') && (host.starts_with('[') || !host.contains(':'));
        let odd = |c: char| c.is_whitespace() || matches!(c, '/' | '@' | '?' | '#');
        !host.is_empty() && host_is_whole && !host.contains(odd) && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if usable { Ok(text.to_owned()) } else { Err("expected HOST:PORT, as in 127.0.0.1:7777 or [::1]:7777".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Args::command().debug_assert();
    }

    #[test]
    fn options_may_stand_on_either_side_of_the_command() {
        for line in [["shimctl", "--output", "json", "ports"], ["shimctl", "ports", "--output", "json"]] {
            assert_eq!(Args::try_parse_from(line).unwrap().output(), Output::Json);
        }
        for line in [&["shimctl", "ports", "-o", "json"][..], &["shimctl", "--json", "ports", "8080"]] {
            assert_eq!(Args::try_parse_from(line).unwrap().output(), Output::Json);
        }
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["127.0.0.1:7777", "[::1]:7777", "localhost:80"] {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        for bad in [
            "",
            "127.0.0.1",
            ":7777",
            "::1:7777",
            "[::1]",
            "[::1:7777",
            "h:0",
            "h:65536",
            "http://h:80",
            "a b:1",
            "u@h:1",
        ] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_timeout_is_a_bounded_number_of_seconds() {
        assert_eq!(timeout("5"), Ok(Duration::from_secs(5)));
        for bad in ["0", "-1", "3601", "5s", "", "99999999999999999999"] {
            assert!(timeout(bad).is_err(), "{bad}");
        }
    }
}

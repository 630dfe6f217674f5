//! dockerd's command line for docker-proxy, read in the manner of Go's `flag` package.
//!
//! One or two dashes, `-flag value` or `-flag=value`; repeated, the last one counts. Unlike Go, a flag or value
//! that is not known is left out and reported: the next dockerd must not break every `docker run`. An unknown flag
//! may or may not have a value: the argument after it is taken for one unless it begins with a dash.
//!
//! | wrong | outcome |
//! |---|---|
//! | an unknown flag or argument, `-use-listen-fd=perhaps` | ignored, a problem of the port |
//! | an address or port missing, or none | exit 2 |
//! | a protocol that is none of tcp, udp, sctp | exit 1: to forward another one instead would be a lie |

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};

use model::{Protocol, PublishedPort};

/// The exit code where an address is missing or wrong: what Go's `flag` ends with.
pub(crate) const USAGE_EXIT: u8 = 2;

/// Arguments that are looked at; dockerd gives 11.
const MAX_ARGUMENTS: usize = 256;

/// What `-help` prints.
pub(crate) const HELP: &str = "\
envoy-docker-shim: serves one published port of a Docker container, beside Envoy.

dockerd starts it in docker-proxy's place, once for every published port. In /etc/docker/daemon.json:

    { \"userland-proxy\": true, \"userland-proxy-path\": \"/usr/local/bin/envoy-docker-shim\" }

The flags are docker-proxy's, with one or two dashes, as -flag value or -flag=value:

    -proto PROTOCOL         tcp (the default), udp or sctp
    -host-ip ADDRESS        where the port is published
    -host-port PORT
    -container-ip ADDRESS   where the container listens
    -container-port PORT
    -use-listen-fd          fd 4 is the listening socket (it is used without this flag, too)

and of its own:

    -reload                 asks the running shim of the same flags to register again
    -v, -version            prints the version
    -h, -help               prints this

fd 3 is a pipe to dockerd, which reads \"0\\n\", or \"1\\n\" and why the port can't be served.
ENVOY_DOCKER_SHIM_SOCKET names the registrar's socket (default: /run/envoy-docker-shim/registrar.sock).
SIGINT and SIGTERM end it once Envoy has let go of the port; SIGHUP does what -reload does.
";

/// A published port and the container behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// The host's side.
    pub(crate) published: PublishedPort,
    /// The container's side.
    pub(crate) container: SocketAddr,
}

/// What the command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Serve a port, as dockerd asks.
    Serve {
        /// Which.
        mapping: Mapping,
        /// Whether dockerd says that fd 4 is the socket.
        use_listen_fd: bool,
        /// What was not understood.
        problems: Vec<String>,
    },
    /// Have the running shim of this mapping announce itself again.
    Reload(Mapping),
    /// Print the version.
    Version,
    /// Print [`HELP`].
    Help,
}

/// The command line can't be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ArgumentError {
    /// What is wrong, naming the flag.
    pub(crate) reason: String,
    /// The exit code it leads to.
    pub(crate) exit_code: u8,
}

/// Reads the arguments after the program's name.
///
/// # Errors
/// See the table of this module.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, ArgumentError> {
    let mut flags = Flags::default();
    let mut arguments = arguments.into_iter().take(MAX_ARGUMENTS).peekable();
    while let Some(argument) = arguments.next() {
        let argument = argument.to_string_lossy();
        let mut value_after = |wanted: bool| {
            arguments
                .next_if(|next| wanted || !next.to_string_lossy().starts_with('-'))
                .map(|value| value.to_string_lossy().into_owned())
        };
        match split(&argument) {
            Some((name, value)) => flags.take(name, value, &mut value_after),
            None => flags.problems.push(format!("argument {argument:?} was not understood")),
        }
    }
    flags.finish()
}

/// Name and value of an argument that is a flag.
fn split(argument: &str) -> Option<(&str, Option<&str>)> {
    let flag = argument.strip_prefix('-')?;
    let flag = flag.strip_prefix('-').unwrap_or(flag);
    let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
    (!name.is_empty() && !name.starts_with('-')).then_some((name, value))
}

#[derive(Default)]
struct Flags {
    protocol: Option<String>,
    host_ip: Option<String>,
    host_port: Option<String>,
    container_ip: Option<String>,
    container_port: Option<String>,
    use_listen_fd: bool,
    reload: bool,
    version: bool,
    help: bool,
    problems: Vec<String>,
}

impl Flags {
    fn take(&mut self, name: &str, value: Option<&str>, value_after: &mut dyn FnMut(bool) -> Option<String>) {
        let text = match name {
            "proto" => &mut self.protocol,
            "host-ip" => &mut self.host_ip,
            "host-port" => &mut self.host_port,
            "container-ip" => &mut self.container_ip,
            "container-port" => &mut self.container_port,
            _ => return self.take_switch(name, value, value_after),
        };
        *text = value.map(ToOwned::to_owned).or_else(|| value_after(true));
    }

    fn take_switch(&mut self, name: &str, value: Option<&str>, value_after: &mut dyn FnMut(bool) -> Option<String>) {
        let switch = match name {
            "use-listen-fd" => &mut self.use_listen_fd,
            "reload" => &mut self.reload,
            "v" | "version" => &mut self.version,
            "h" | "help" => &mut self.help,
            _ => {
                let value = value.map(ToOwned::to_owned).or_else(|| value_after(false));
                let value = value.map(|value| format!(" {value:?}")).unwrap_or_default();
                return self.problems.push(format!("flag -{name}{value} is not known and was ignored"));
            }
        };
        match value.map(go_bool) {
            None => *switch = true,
            Some(Some(value)) => *switch = value,
            Some(None) => {
                self.problems.push(format!("flag -{name}={}: expected true or false", value.unwrap_or_default()));
            }
        }
    }

    fn finish(self) -> Result<Command, ArgumentError> {
        if self.help {
            return Ok(Command::Help);
        }
        if self.version {
            return Ok(Command::Version);
        }
        let protocol = self.protocol.as_deref().unwrap_or(Protocol::Tcp.as_str());
        let protocol = protocol.parse().map_err(|error: model::address::UnknownProtocol| ArgumentError {
            reason: error.to_string(),
            exit_code: 1,
        })?;
        let host = socket_address(("host-ip", self.host_ip), ("host-port", self.host_port))?;
        let container = socket_address(("container-ip", self.container_ip), ("container-port", self.container_port))?;
        let published = PublishedPort { address: host.ip(), port: host.port(), protocol };
        let mapping = Mapping { published, container };
        Ok(if self.reload {
            Command::Reload(mapping)
        } else {
            Command::Serve { mapping, use_listen_fd: self.use_listen_fd, problems: self.problems }
        })
    }
}

/// The spellings that Go's `strconv.ParseBool` takes.
fn go_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

type NamedFlag = (&'static str, Option<String>);

fn socket_address((ip_flag, ip): NamedFlag, (port_flag, port): NamedFlag) -> Result<SocketAddr, ArgumentError> {
    let wrong = |flag: &str, value: Option<&str>, expected: &str| ArgumentError {
        reason: match value {
            None => format!("flag -{flag} is missing: expected {expected}"),
            Some(value) => format!("invalid value {value:?} for flag -{flag}: expected {expected}"),
        },
        exit_code: USAGE_EXIT,
    };
    let ip = ip.as_deref();
    let address: IpAddr =
        ip.and_then(|text| text.parse().ok()).ok_or_else(|| wrong(ip_flag, ip, "an IPv4 or IPv6 address"))?;
    let port = port.as_deref();
    let number = port
        .and_then(|text| text.parse().ok())
        .filter(|number| *number != 0)
        .ok_or_else(|| wrong(port_flag, port, "a port from 1 to 65535"))?;
    Ok(SocketAddr::new(address.to_canonical(), number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCKERD_28: &str =
        "-proto tcp -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 -container-port 80 -use-listen-fd";

    fn parse_line(line: &str) -> Result<Command, ArgumentError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn mapping(protocol: Protocol) -> Mapping {
        let published = PublishedPort { address: [0, 0, 0, 0].into(), port: 8080, protocol };
        Mapping { published, container: SocketAddr::from(([172, 17, 0, 2], 80)) }
    }

    fn serve(use_listen_fd: bool, problems: &[&str]) -> Result<Command, ArgumentError> {
        let problems = problems.iter().map(ToString::to_string).collect();
        Ok(Command::Serve { mapping: mapping(Protocol::Tcp), use_listen_fd, problems })
    }

    #[test]
    fn dockerds_own_lines_are_understood() {
        assert_eq!(parse_line(DOCKERD_28), serve(true, &[]));
        assert_eq!(parse_line(&DOCKERD_28.replace(" -use-listen-fd", "")), serve(false, &[]));
    }

    #[test]
    fn two_dashes_and_equal_signs_mean_the_same() {
        let line = "--proto=tcp -host-ip=0.0.0.0 --host-port 8080 --container-ip=172.17.0.2 -container-port=80";
        assert_eq!(parse_line(line), serve(false, &[]));
        assert_eq!(parse_line(&format!("{line} -use-listen-fd=true")), serve(true, &[]));
        assert_eq!(parse_line(&format!("{line} -use-listen-fd=0")), serve(false, &[]));
    }

    #[test]
    fn tcp_is_the_default_and_the_last_of_two_flags_counts() {
        let line = "-host-ip ::1 -host-ip 0.0.0.0 -host-port 8080 -container-ip 172.17.0.2 -container-port 80";
        assert_eq!(parse_line(line), serve(false, &[]));
    }

    #[test]
    fn what_is_not_known_is_ignored_and_named() {
        assert_eq!(
            parse_line(&format!("-colour blue {DOCKERD_28} --shape=round -quick -- surprise")),
            serve(
                true,
                &[
                    "flag -colour \"blue\" is not known and was ignored",
                    "flag -shape \"round\" is not known and was ignored",
                    "flag -quick is not known and was ignored",
                    "argument \"--\" was not understood",
                    "argument \"surprise\" was not understood",
                ]
            )
        );
        assert_eq!(
            parse_line(&format!("{DOCKERD_28} -use-listen-fd=perhaps")),
            serve(true, &["flag -use-listen-fd=perhaps: expected true or false"])
        );
    }

    #[test]
    fn a_missing_or_wrong_address_is_named_and_ends_with_2() {
        for (line, reason) in [
            ("", "flag -host-ip is missing: expected an IPv4 or IPv6 address"),
            ("-host-ip 0.0.0", "invalid value \"0.0.0\" for flag -host-ip: expected an IPv4 or IPv6 address"),
            ("-host-ip ::", "flag -host-port is missing: expected a port from 1 to 65535"),
            ("-host-ip :: -host-port 0", "invalid value \"0\" for flag -host-port: expected a port from 1 to 65535"),
            (
                "-host-ip :: -host-port 65536",
                "invalid value \"65536\" for flag -host-port: expected a port from 1 to 65535",
            ),
            ("-host-ip :: -host-port 80", "flag -container-ip is missing: expected an IPv4 or IPv6 address"),
            ("-host-ip", "flag -host-ip is missing: expected an IPv4 or IPv6 address"),
        ] {
            assert_eq!(parse_line(line), Err(ArgumentError { reason: reason.to_owned(), exit_code: 2 }), "{line:?}");
        }
    }

    #[test]
    fn another_protocol_is_refused_without_calling_it_bad_usage() {
        let error = parse_line(&DOCKERD_28.replace("tcp", "dccp")).unwrap_err();
        assert_eq!(
            (error.reason.as_str(), error.exit_code),
            ("unknown protocol \"dccp\": expected tcp, udp or sctp", 1)
        );
    }

    #[test]
    fn reload_version_and_help_are_commands() {
        let reload = parse_line(&format!("-reload {}", DOCKERD_28.replace("tcp", "udp")));
        assert_eq!(reload, Ok(Command::Reload(mapping(Protocol::Udp))));
        assert_eq!(parse_line("-v"), Ok(Command::Version));
        assert_eq!(parse_line("--version"), Ok(Command::Version));
        assert_eq!(parse_line("-help"), Ok(Command::Help));
    }

    #[test]
    fn an_ipv4_address_in_ipv6_clothes_is_ipv4() {
        let line = "-host-ip ::ffff:0.0.0.0 -host-port 8080 -container-ip ::ffff:172.17.0.2 -container-port 80";
        assert_eq!(parse_line(line), serve(false, &[]));
    }

    #[test]
    fn bytes_that_are_no_text_do_no_harm() {
        use std::os::unix::ffi::OsStringExt;
        let arguments = [OsString::from_vec(vec![b'-', 0xff]), OsString::from_vec(vec![0xfe])];
        assert_eq!(parse(arguments).unwrap_err().exit_code, USAGE_EXIT);
    }
}

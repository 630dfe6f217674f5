//! What an operator means by `8080`, `8080/udp`, `10.0.0.1:8080` or a service's name.

use std::net::{IpAddr, SocketAddr};

use admin_api::{Port, Service};

/// What is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    /// A published port or a service port.
    Port(PortSubject),
    /// A service of this name, in whatever environment.
    Service(String),
}

/// A port, as far as it was said which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PortSubject {
    number: u16,
    address: Option<IpAddr>,
    protocol: Option<String>,
}

impl Subject {
    /// `[ADDRESS:]PORT[/PROTOCOL]` is a port, all else a service's name.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (at, protocol) = text.split_once('/').map_or((text, None), |(at, protocol)| (at, Some(protocol)));
        let protocol = protocol.map(str::to_lowercase);
        if let Ok(socket) = at.parse::<SocketAddr>() {
            return Self::port(socket.port(), Some(socket.ip()), protocol);
        }
        if !at.is_empty() && at.bytes().all(|byte| byte.is_ascii_digit()) {
            return Self::port(at.parse().unwrap_or_default(), None, protocol);
        }
        if text.is_empty() {
            return Err("expected a port or a service's name".to_owned());
        }
        Ok(Self::Service(text.to_owned()))
    }

    fn port(number: u16, address: Option<IpAddr>, protocol: Option<String>) -> Result<Self, String> {
        let is_known = protocol.as_deref().is_none_or(|protocol| matches!(protocol, "tcp" | "udp" | "sctp"));
        if number == 0 || !is_known {
            return Err(
                "expected [ADDRESS:]PORT[/tcp|udp|sctp] with a port from 1 to 65535, or a service's name".to_owned()
            );
        }
        Ok(Self::Port(PortSubject { number, address, protocol }))
    }

    /// Whether this published port is meant. One that is published at any address is there at each.
    pub(crate) fn is_port(&self, port: &Port) -> bool {
        match self {
            Self::Port(subject) => {
                let is_at = |address: IpAddr| {
                    let is_any = port.host_address.is_unspecified() && port.host_address.is_ipv4() == address.is_ipv4();
                    port.host_address == address || is_any
                };
                port.host_port == subject.number
                    && subject.address.is_none_or(is_at)
                    && subject.protocol.as_ref().is_none_or(|protocol| *protocol == port.protocol)
            }
            Self::Service(name) => port.service_name.as_deref() == Some(name),
        }
    }

    /// Whether this service is meant; `addresses` are those at which service ports answer.
    pub(crate) fn is_service(&self, service: &Service, addresses: &[IpAddr]) -> bool {
        match self {
            Self::Port(subject) => {
                service.service_port == Some(subject.number)
                    && subject.protocol.as_ref().is_none_or(|protocol| protocol == "tcp")
                    && subject.address.is_none_or(|address| addresses.contains(&address))
            }
            Self::Service(name) => service.service_name == *name,
        }
    }

    /// That nothing of this kind is known, in words.
    pub(crate) fn unknown(&self) -> String {
        match self {
            Self::Port(port) => format!(
                "no port {} is published on this host, and no service has it as service port: see `shimctl ports` and \
                 `shimctl services`",
                port.number
            ),
            Self::Service(name) => format!("no service is called {name:?}: see `shimctl ports` and `shimctl services`"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show_ports::tests::port;
    use crate::show_services::tests::service;

    #[test]
    fn a_port_may_come_with_its_address_and_its_protocol_and_all_else_is_a_service() {
        let of = |number, address: Option<&str>, protocol: Option<&str>| {
            let address = address.map(|address| address.parse().unwrap());
            Ok(Subject::Port(PortSubject { number, address, protocol: protocol.map(str::to_owned) }))
        };
        assert_eq!(Subject::parse("8080"), of(8080, None, None));
        assert_eq!(Subject::parse("8080/UDP"), of(8080, None, Some("udp")));
        assert_eq!(Subject::parse("10.0.0.1:8080"), of(8080, Some("10.0.0.1"), None));
        assert_eq!(Subject::parse("[::1]:8080/tcp"), of(8080, Some("::1"), Some("tcp")));
        assert_eq!(Subject::parse("web"), Ok(Subject::Service("web".to_owned())));
        for bad in ["0", "65536", "8080/icmp", "10.0.0.1:0", ""] {
            assert!(Subject::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_port_at_any_address_is_meant_by_each_of_its_family() {
        let any = port("0.0.0.0:8080", "tcp", None, 0);
        let is_it = |text: &str| Subject::parse(text).unwrap().is_port(&any);
        assert!(is_it("8080") && is_it("10.0.0.1:8080") && is_it("0.0.0.0:8080/tcp"));
        assert!(!is_it("8081") && !is_it("[::1]:8080") && !is_it("8080/udp") && !is_it("web"));
        let web = service("web", Some(9500), Vec::new());
        let at = ["192.168.168.168".parse().unwrap()];
        assert!(Subject::parse("192.168.168.168:9500").unwrap().is_service(&web, &at));
        assert!(!Subject::parse("10.0.0.1:9500").unwrap().is_service(&web, &at));
    }
}

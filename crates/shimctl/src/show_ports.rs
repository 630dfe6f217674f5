//! The published ports as a table.

use std::net::{IpAddr, SocketAddr};

use admin_api::{Port, ServedBy, Treatment};

use crate::table::{NOTHING, table};

const HEADER: [&str; 7] = ["PUBLISHED", "CONTAINER", "SERVICE", "ENVIRONMENT", "MODE", "SERVED BY", "PROBLEM"];

/// One line for every port, by number, so that the two families of one `-p` stand together.
pub(crate) fn table_of(ports: &[Port]) -> String {
    let mut ports: Vec<_> = ports.iter().collect();
    ports.sort_by_key(|port| (port.host_port, port.protocol.as_str(), port.host_address));
    table(HEADER, ports.into_iter().map(row).collect())
}

/// The address as people write it, with brackets where it is IPv6.
pub(crate) fn published(address: IpAddr, port: u16, protocol: &str) -> String {
    format!("{}/{protocol}", SocketAddr::new(address, port))
}

fn row(port: &Port) -> [String; 7] {
    let known = |text: &Option<String>| text.as_deref().unwrap_or(NOTHING).to_owned();
    [
        published(port.host_address, port.host_port, &port.protocol),
        container(port),
        known(&port.service_name),
        known(&port.environment_name),
        mode(port),
        served_by(port.served_by).to_owned(),
        known(&port.problem),
    ]
}

/// The mode, and what `auto` has come to.
fn mode(port: &Port) -> String {
    let mode = port.proxy_mode.as_deref().unwrap_or(NOTHING);
    match port.treatment.filter(|_| port.treatment_reason.is_some()) {
        Some(Treatment::Learning) => format!("{mode} (learning)"),
        Some(Treatment::Http) => format!("{mode} (http)"),
        Some(Treatment::Tcp) => format!("{mode} (tcp)"),
        None => mode.to_owned(),
    }
}

/// The container's name, or its address until the name is known, and its port.
fn container(port: &Port) -> String {
    match (&port.container_name, port.container_address) {
        (Some(name), _) => format!("{name}:{}", port.container_port),
        (None, Some(address)) => SocketAddr::new(address, port.container_port).to_string(),
        (None, None) => format!("?:{}", port.container_port),
    }
}

const fn served_by(served_by: ServedBy) -> &'static str {
    match served_by {
        ServedBy::Envoy => "envoy",
        ServedBy::Shim => "shim",
        ServedBy::Docker => "docker",
        ServedBy::Pending => "pending",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use admin_api::Shim;

    use super::*;

    /// A port at `published`, announced by the shim `pid` at `announced_at_ms`.
    pub(crate) fn port(published: &str, protocol: &str, pid: Option<u32>, announced_at_ms: u64) -> Port {
        let published: SocketAddr = published.parse().unwrap();
        Port {
            host_address: published.ip(),
            host_port: published.port(),
            protocol: protocol.to_owned(),
            container_address: Some("172.17.0.2".parse().unwrap()),
            container_port: 80,
            container_id: None,
            container_name: None,
            service_name: None,
            environment_name: None,
            proxy_mode: None,
            treatment: None,
            treatment_reason: None,
            bypassed_clients: Vec::new(),
            served_by: ServedBy::Pending,
            shim_pid: pid,
            shim: if pid.is_some() { Shim::Registered } else { Shim::None },
            announced_at_ms: Some(announced_at_ms),
            problem: None,
        }
    }

    #[test]
    fn ports_are_shown_by_number_with_their_problems() {
        let web = |address| Port {
            container_name: Some("happy_turing".to_owned()),
            service_name: Some("web".to_owned()),
            environment_name: Some("test".to_owned()),
            proxy_mode: Some("auto".to_owned()),
            treatment: Some(Treatment::Http),
            treatment_reason: Some("its answers".to_owned()),
            served_by: ServedBy::Envoy,
            ..port(address, "tcp", Some(1), 0)
        };
        let dns = Port {
            service_name: Some("dns".to_owned()),
            environment_name: Some(String::new()),
            proxy_mode: Some("auto".to_owned()),
            served_by: ServedBy::Shim,
            problem: Some("label ProxyMode: \"grpc\"\ntreated as auto".to_owned()),
            ..port("127.0.0.1:53", "udp", Some(2), 0)
        };
        let ports = [web("[::]:8080"), web("0.0.0.0:8080"), port("[fd00::1]:9000", "tcp", Some(3), 0), dns];
        let expected = "\
PUBLISHED           CONTAINER        SERVICE  ENVIRONMENT  MODE         SERVED BY  PROBLEM
127.0.0.1:53/udp    172.17.0.2:80    dns      -            auto         shim       label ProxyMode: \"grpc\" treated as auto
0.0.0.0:8080/tcp    happy_turing:80  web      test         auto (http)  envoy      -
[::]:8080/tcp       happy_turing:80  web      test         auto (http)  envoy      -
[fd00::1]:9000/tcp  172.17.0.2:80    -        -            -            pending    -
";
        assert_eq!(table_of(&ports), expected);
    }

    #[test]
    fn no_ports_are_a_header_alone() {
        assert_eq!(table_of(&[]).lines().count(), 1);
    }
}

//! Who has not announced itself again: shims that run, against the ports that the registrar lists.

use std::collections::HashMap;

use admin_api::Port;

use crate::process::ShimProcess;

/// Why a shim counts as missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// The registrar lists no such port.
    NotListed,
    /// It lists the port for another process, or for none.
    ListedFor(Option<u32>),
    /// It lists the port, last announced before the signal.
    NotAnnouncedSince,
}

/// Those of `shims` that `ports` does not show as announced at `since_ms` (Unix time) or later.
pub(crate) fn missing<'a>(shims: &'a [ShimProcess], ports: &[Port], since_ms: u64) -> Vec<(&'a ShimProcess, Absence)> {
    let listed: HashMap<_, _> =
        ports.iter().map(|port| ((port.host_address, port.host_port, port.protocol.as_str()), port)).collect();
    let absence = |shim: &ShimProcess| {
        let Some(port) = listed.get(&(shim.address, shim.port, shim.protocol.as_str())) else {
            return Some(Absence::NotListed);
        };
        if port.shim_pid != Some(shim.pid) {
            return Some(Absence::ListedFor(port.shim_pid));
        }
        let announced = port.announced_at_ms.is_some_and(|at| at >= since_ms);
        (!announced).then_some(Absence::NotAnnouncedSince)
    };
    shims.iter().filter_map(|shim| absence(shim).map(|absence| (shim, absence))).collect()
}

impl Absence {
    /// What the operator is told, after "the registrar".
    pub(crate) fn in_words(self) -> String {
        match self {
            Self::NotListed => "does not list it".to_owned(),
            Self::ListedFor(Some(pid)) => format!("lists the port for process {pid}"),
            Self::ListedFor(None) => "lists the port without a shim".to_owned(),
            Self::NotAnnouncedSince => "has heard nothing new of it".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show_ports::tests::port;

    const SINCE: u64 = 1_000;

    fn shim(pid: u32, address: &str, port: u16, protocol: &str) -> ShimProcess {
        ShimProcess { pid, start_time: 0, address: address.parse().unwrap(), port, protocol: protocol.to_owned() }
    }

    fn absences(shims: &[ShimProcess], ports: &[Port]) -> Vec<(u32, Absence)> {
        missing(shims, ports, SINCE).into_iter().map(|(shim, absence)| (shim.pid, absence)).collect()
    }

    #[test]
    fn nobody_is_missing_once_all_announced_themselves_since() {
        let shims = [shim(1, "0.0.0.0", 80, "tcp"), shim(2, "::", 80, "tcp"), shim(3, "::", 80, "udp")];
        let ports = [
            port("0.0.0.0:80", "tcp", Some(1), SINCE),
            port("[::]:80", "tcp", Some(2), SINCE + 1),
            port("[::]:80", "udp", Some(3), SINCE),
            port("0.0.0.0:81", "tcp", None, 0),
        ];
        assert_eq!(absences(&shims, &ports), []);
        assert_eq!(absences(&[], &ports), []);
    }

    #[test]
    fn address_family_and_protocol_are_part_of_the_port() {
        let shims = [shim(1, "0.0.0.0", 80, "tcp")];
        let others = [port("[::]:80", "tcp", Some(1), SINCE), port("0.0.0.0:80", "udp", Some(1), SINCE)];
        assert_eq!(absences(&shims, &others), [(1, Absence::NotListed)]);
    }

    #[test]
    fn a_port_of_another_process_or_announced_before_does_not_count() {
        let shims = [shim(1, "::", 1, "tcp"), shim(2, "::", 2, "tcp"), shim(3, "::", 3, "tcp")];
        let ports = [
            port("[::]:1", "tcp", Some(9), SINCE),
            port("[::]:2", "tcp", None, SINCE),
            port("[::]:3", "tcp", Some(3), SINCE - 1),
        ];
        let expected =
            [(1, Absence::ListedFor(Some(9))), (2, Absence::ListedFor(None)), (3, Absence::NotAnnouncedSince)];
        assert_eq!(absences(&shims, &ports), expected);
    }
}

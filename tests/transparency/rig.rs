//! The hosts on which conversations take place, and how one takes place.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use lab::namespace::Network;
use lab::{Host, Lab, Proxy, eventually};

use crate::case::{Case, GET, OK};
use crate::player::{Record, play};
use crate::script::{HEAD, Script, client, server};
use crate::seen::{Half, Seen};
use crate::server::Server;
use crate::way::Way;

/// How long a published port may take until its listener stands, or until it has learned.
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
/// How often what the server has seen is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(10);
/// Ports of different ways lie so far apart.
const PORTS_OF_A_WAY: u16 = 1000;
const FIRST_PORT: u16 = 21_000;
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A host with our shim, one with docker-proxy, and on them a container for each way.
pub(crate) struct Rig {
    ours: Host,
    theirs: Host,
    containers: Vec<Container>,
}

/// A container; the servers in its network are threads of the test.
struct Container {
    way: Way,
    network: Network,
    address: IpAddr,
}

impl Rig {
    /// With so many published ports for each way.
    pub(crate) fn start(lab: &Lab, ports: u16) -> Self {
        let theirs = lab.host("theirs").proxy(Proxy::DockerProxy).without_registrar().without_envoy().start();
        // Nobody takes the spans. Envoy traces all the same.
        let ours = lab.host("ours").registrar_arguments(&["--trace-collector", "127.0.0.1:4317"]).start();
        let labelled = |way, label: &str| Container::start(&ours, way, ports, &["-l", label]);
        let containers = vec![
            Container::start(&theirs, Way::DockerProxy, ports, &[]),
            labelled(Way::Tcp, "ProxyMode=tcp"),
            labelled(Way::Http, "ProxyMode=http"),
            Container::start(&ours, Way::AutoUnknown, ports, &[]),
            Container::start(&ours, Way::AutoLearned, ports, &[]),
        ];
        let rig = Self { ours, theirs, containers };
        rig.await_envoy(Way::Tcp, ports);
        rig.await_envoy(Way::Http, ports);
        eventually("Envoy has acknowledged all ports", SETTLE_LIMIT, || {
            let envoy = rig.ours.api("envoy");
            if envoy["in_sync"] == true { Ok(()) } else { Err(envoy.to_string()) }
        });
        rig
    }

    /// Has the first ports of [`Way::AutoLearned`] answer plain requests until Envoy serves them.
    pub(crate) fn teach(&self, ports: u16) {
        let plain_client = client().send(GET).until("done");
        let plain_server = server().until(HEAD).send(OK);
        let mut rest: Vec<u16> = (0..ports).collect();
        eventually("plain requests make ports http", SETTLE_LIMIT, || {
            for index in &rest {
                let (_, server) = self.begin(Way::AutoLearned, *index, &plain_client, &plain_server, 1);
                drop(server);
            }
            let served = self.served_by_envoy();
            rest.retain(|index| !served.contains(&port(Way::AutoLearned, *index)));
            if rest.is_empty() { Ok(()) } else { Err(format!("{} are not served by Envoy", rest.len())) }
        });
    }

    /// Has the case's conversation with the container directly.
    pub(crate) fn plain(&self, index: u16, case: &Case) -> Seen {
        let (client, server) = self.begin(Way::Direct, index, &case.client, &case.server, case.clients);
        eventually(&format!("{}: the server has seen the end", case.name), SETTLE_LIMIT, || {
            if server.is_done(case.clients) { Ok(()) } else { Err(format!("{:?}", server.seen())) }
        });
        Seen { client, server: server.seen() }
    }

    /// Has the case's conversation on this way, on the ports with this index. `judge` is given what was seen whenever there
    /// is something new, until it is content, or `grace` is over: then for the last time, and its second argument is true.
    pub(crate) fn converse<E>(
        &self,
        way: Way,
        index: u16,
        case: &Case,
        grace: Duration,
        judge: impl Fn(&Seen, bool) -> Result<(), E>,
    ) -> (Seen, Result<(), E>) {
        let (client, server) = self.begin(way, index, &case.client, &case.server, case.clients);
        let (start, mut last) = (Instant::now(), None);
        loop {
            let (seen, is_final) = (Seen { client: client.clone(), server: server.seen() }, start.elapsed() > grace);
            if is_final || last.as_ref() != Some(&seen) {
                let word = judge(&seen, is_final);
                if is_final || word.is_ok() {
                    return (seen, word);
                }
                last = Some(seen);
            }
            std::thread::sleep(LOOK_INTERVAL);
        }
    }

    /// Plays the client's script to its end; yields what it saw, and the server.
    fn begin(&self, way: Way, index: u16, client: &Script, server: &Script, clients: usize) -> (Vec<Half>, Server) {
        let (host, container, address) = self.place(way, index);
        let server = Server::start(&container.network, address.port(), server);
        let connect = || host.namespace().in_network(|| TcpStream::connect(address));
        let mut seen: Vec<_> = (0..clients)
            .map(|_| {
                let stream = connect().unwrap_or_else(|error| panic!("{way:?} {address}: {error}"));
                let record = Record::default();
                play(stream, client, &record);
                record.half()
            })
            .collect();
        seen.sort();
        (seen, server)
    }

    fn place(&self, way: Way, index: u16) -> (&Host, &Container, SocketAddr) {
        let container = |wanted| {
            let found = self.containers.iter().find(|container| container.way == wanted);
            found.expect("each way has its container")
        };
        match way {
            Way::Direct => {
                let container = container(Way::DockerProxy);
                (&self.theirs, container, SocketAddr::new(container.address, port(Way::DockerProxy, index)))
            }
            Way::DockerProxy => (&self.theirs, container(way), SocketAddr::new(LOOPBACK, port(way, index))),
            Way::AutoAgain => self.place(Way::AutoUnknown, index),
            _ => (&self.ours, container(way), SocketAddr::new(LOOPBACK, port(way, index))),
        }
    }

    fn await_envoy(&self, way: Way, ports: u16) {
        eventually(&format!("Envoy serves the ports of {way:?}"), SETTLE_LIMIT, || {
            let served = self.served_by_envoy();
            let missing = (0..ports).filter(|index| !served.contains(&port(way, *index))).count();
            if missing == 0 { Ok(()) } else { Err(format!("{missing} are not served by Envoy")) }
        });
    }

    fn served_by_envoy(&self) -> Vec<u16> {
        let listed = self.ours.api("ports");
        let served = listed.as_array().into_iter().flatten().filter(|port| port["served_by"] == "envoy");
        served.filter_map(|port| u16::try_from(port["host_port"].as_u64()?).ok()).collect()
    }
}

impl Container {
    fn start(host: &Host, way: Way, ports: u16, arguments: &[&str]) -> Self {
        host.need_web_image();
        let (first, last) = (port(way, 0), port(way, ports - 1));
        let published = format!("{LOOPBACK}:{first}-{last}:{first}-{last}");
        let program = ["--entrypoint", "/bin/sleep", "web", "infinity"];
        let id = host.docker(&[&["run", "-d", "-p", &published], arguments, &program].concat());
        let address = host.docker(&["inspect", "--format", "{{.NetworkSettings.IPAddress}}", &id]);
        let address = address.parse().unwrap_or_else(|_| panic!("{way:?}: no address of a container: {address:?}"));
        Self { way, network: host.network_of(&id), address }
    }
}

/// The container's port with this index, and the host's.
fn port(way: Way, index: u16) -> u16 {
    FIRST_PORT + PORTS_OF_A_WAY * way as u16 + index
}

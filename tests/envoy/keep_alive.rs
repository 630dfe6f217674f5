//! Clients that vanish without a word are found out about.

use std::net::TcpStream;

use lab::eventually;
use model::Treatment;
use std::time::Duration;
use xds::resources::service::{self, Binding, ServiceSettings};

use crate::ports::{of_host, published, service_9500, set};
use crate::rig::Envoy;

/// Sends connections to the service address's port 9500 to the port where Envoy catches them, as the registrar does.
const CAPTURE: [&str; 3] = [
    "add table ip t",
    "add chain ip t c { type nat hook output priority -110; }",
    "add rule ip t c ip daddr 127.0.0.5 tcp dport 9500 dnat to :15001",
];

/// The connections of Envoy's at this port, as `ss` tells of their timers.
fn timers(envoy: &Envoy, port: u16) -> String {
    envoy.namespace().run("ss", &["-tnoH", "state", "established", &format!("( sport = :{port} )")])
}

#[test]
fn every_client_is_asked_whether_it_is_still_there_also_of_a_captured_port() {
    let settings = of_host("here");
    let captured = ServiceSettings {
        addresses: vec!["127.0.0.5".parse().unwrap()],
        binding: Binding::Captured { catch_port: 15_001 },
        prefer_local: false,
    };
    let mut changes = service::common(&captured);
    changes.extend(service::set(&service_9500(&[("here", "127.0.0.1:81")], Treatment::Tcp), &captured, &settings));
    changes.extend(set(&published("127.0.0.2:8080", "127.0.0.1:81", Treatment::Tcp), &settings));
    let envoy = Envoy::start(&changes);
    CAPTURE.iter().for_each(|rule| drop(envoy.namespace().run("nft", &[rule])));
    let _app = envoy.app("127.0.0.1:81", "");
    for (meant, arrives) in [("127.0.0.2:8080", 8080), ("127.0.0.5:9500", 15_001)] {
        let _client = envoy.namespace().in_network(|| TcpStream::connect(meant).unwrap());
        eventually(&format!("Envoy asks the client of {meant}"), Duration::from_secs(5), || {
            let timers = timers(&envoy, arrives);
            if timers.contains("keepalive") { Ok(()) } else { Err(timers) }
        });
    }
}

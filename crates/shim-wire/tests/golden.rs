//! The bytes of every message, as they were first released. A file here never changes; a new one is added
//! when a message gains a field. `BLESS=1 cargo test -p shim-wire` writes files that do not exist yet.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Debug;
use std::path::{Path, PathBuf};

use model::{Protocol, PublishedPort};
use shim_wire::{Decoder, FromRegistrar, FromShim, Message, Register};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.trim();
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name).with_extension("hex")
}

/// Today's code reads the bytes in the file as this message.
fn check_read<M: Message + Debug + PartialEq>(name: &str, message: M) {
    let path = path(name);
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut decoder = Decoder::default();
    decoder.push(&unhex(&golden));
    assert_eq!(decoder.next_message(), Ok(Some(message)), "{name}");
}

/// Today's code writes the bytes in the file, and reads them as the same message.
fn check<M: Message + Debug + PartialEq>(name: &str, message: M) {
    let path = path(name);
    let mut encoded = Vec::new();
    message.encode(&mut encoded);
    if std::env::var_os("BLESS").is_some() && !path.exists() {
        std::fs::write(&path, hex(&encoded) + "\n").unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(hex(&encoded), golden.trim(), "{name}: a released message may not change");
    check_read(name, message);
}

fn register(address: &str, container: &str, protocol: Protocol) -> Register {
    Register {
        version: 1,
        published: PublishedPort { address: address.parse().unwrap(), port: 8080, protocol },
        container: container.parse().unwrap(),
        problem: String::new(),
        shareable: protocol == Protocol::Tcp,
        socket_inode: 0x1234_5678,
        observes: false,
    }
}

#[test]
fn the_released_bytes_of_every_message_stay() {
    check("v1_hello", FromRegistrar::Hello { version: 1, envoy_uid: 101 });
    check("v1_registered", FromRegistrar::Registered);
    check("v1_rejected", FromRegistrar::Rejected { reason: "no".to_owned() });
    check("v1_released", FromRegistrar::Released);
    check("v1_releasing", FromRegistrar::Releasing);
    check("v1_steer", FromRegistrar::Steer { to_envoy: true });
    check("v1_observe", FromRegistrar::Observe { observes: true });
    let clients = vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
    check("v1_bypass", FromRegistrar::Bypass { clients });
    check("v1_release", FromShim::Release);
    check("v1_seen", FromShim::Seen { finding: 1 });
    let register = register("0.0.0.0", "172.17.0.2:80", Protocol::Tcp);
    check("v1_register_observes", FromShim::Register(Register { observes: true, ..register }));
}

/// Shims that run already send these.
#[test]
fn registrations_without_the_latest_fields_are_still_read() {
    check_read("v1_register_tcp4", FromShim::Register(register("0.0.0.0", "172.17.0.2:80", Protocol::Tcp)));
    check_read("v1_register_udp6", FromShim::Register(register("::", "[fd00::2]:53", Protocol::Udp)));
    let problem = "unknown flag -shiny".to_owned();
    let with_problem = Register { problem, ..register("192.0.2.1", "172.17.0.2:80", Protocol::Sctp) };
    check_read("v1_register_problem", FromShim::Register(with_problem));
}

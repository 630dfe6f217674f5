//! What a peer survives: newer peers, cut streams, garbage.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;

use model::{Protocol, PublishedPort};
use proptest::prelude::*;
use shim_wire::{BYPASS_MAX, DecodeError, Decoder, FRAME_MAX_LENGTH, FromRegistrar, FromShim, Message, Register};

fn encoded(message: &impl Message) -> Vec<u8> {
    let mut out = Vec::new();
    message.encode(&mut out);
    out
}

fn all_of(bytes: &[u8]) -> Result<Vec<FromRegistrar>, DecodeError> {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    std::iter::from_fn(|| decoder.next_message().transpose()).collect()
}

#[test]
fn a_message_of_an_unknown_kind_is_skipped() {
    let mut bytes = vec![0, 4, 99, 1, 2, 3];
    bytes.extend(encoded(&FromRegistrar::Released));
    assert_eq!(all_of(&bytes), Ok(vec![FromRegistrar::Released]));
}

#[test]
fn fields_that_a_newer_peer_appends_are_ignored() {
    let mut bytes = encoded(&FromRegistrar::Hello { version: 7, envoy_uid: 5 });
    bytes.extend([1, 2, 3]);
    bytes[1] += 3;
    bytes.extend(encoded(&FromRegistrar::Registered));
    let hello = FromRegistrar::Hello { version: 7, envoy_uid: 5 };
    assert_eq!(all_of(&bytes), Ok(vec![hello, FromRegistrar::Registered]));
}

#[test]
fn a_frame_that_is_too_long_or_empty_is_an_error_at_once() {
    let too_long = u16::try_from(FRAME_MAX_LENGTH + 1).unwrap().to_be_bytes();
    assert_eq!(all_of(&too_long), Err(DecodeError::Length(FRAME_MAX_LENGTH + 1)));
    assert_eq!(all_of(&[0, 0]), Err(DecodeError::Length(0)));
}

#[test]
fn a_truncated_message_names_its_field() {
    let error = all_of(&[0, 3, 1, 0, 1]).unwrap_err();
    assert_eq!(error, DecodeError::Truncated { kind: 1, field: "envoy uid" });
}

#[test]
fn a_port_of_zero_is_refused() {
    let register = Register {
        version: 1,
        published: PublishedPort { address: [0, 0, 0, 0].into(), port: 0, protocol: Protocol::Tcp },
        container: "172.17.0.2:80".parse().unwrap(),
        problem: String::new(),
        shareable: true,
        socket_inode: 0,
        observes: false,
    };
    let mut decoder = Decoder::<FromShim>::default();
    decoder.push(&encoded(&FromShim::Register(register)));
    assert_eq!(decoder.next_message(), Err(DecodeError::Invalid { kind: 2, field: "host port" }));
}

#[test]
fn a_list_of_bypassed_clients_is_bounded_on_both_sides() {
    let clients: Vec<IpAddr> =
        (0..=u16::try_from(BYPASS_MAX).unwrap()).map(|i| [1, i, 0, 0, 0, 0, 0, 0].into()).collect();
    let bytes = encoded(&FromRegistrar::Bypass { clients: clients.clone() });
    assert_eq!(all_of(&bytes), Ok(vec![FromRegistrar::Bypass { clients: clients[..BYPASS_MAX].to_vec() }]));

    let mut too_many = bytes;
    too_many[3] += 1;
    assert_eq!(all_of(&too_many), Err(DecodeError::Invalid { kind: 13, field: "number of clients" }));
    assert_eq!(all_of(&[0, 4, 13, 1, 4, 127]), Err(DecodeError::Truncated { kind: 13, field: "client" }));
    assert_eq!(all_of(&[0, 3, 13, 1, 5]), Err(DecodeError::Invalid { kind: 13, field: "client" }));
}

proptest! {
    #[test]
    fn any_register_arrives_as_sent_in_pieces_of_any_size(
        address: IpAddr,
        container: IpAddr,
        ports in (1u16.., 1u16..),
        problem in ".{0,200}",
        observes: bool,
        piece in 1usize..50,
    ) {
        let sent = FromShim::Register(Register {
            version: 1,
            published: PublishedPort { address, port: ports.0, protocol: Protocol::Udp },
            container: (container, ports.1).into(),
            problem,
            shareable: false,
            socket_inode: 7,
            observes,
        });
        let mut decoder: Decoder<FromShim> = Decoder::default();
        let mut received = Vec::new();
        for bytes in encoded(&sent).chunks(piece) {
            decoder.push(bytes);
            received.extend(decoder.next_message().unwrap());
        }
        prop_assert_eq!(received, vec![sent]);
    }

    #[test]
    fn garbage_ends_in_messages_or_an_error_and_a_long_text_is_cut(garbage: Vec<u8>, reason in "\\PC{0,3000}") {
        let _ = all_of(&garbage);
        let bytes = encoded(&FromRegistrar::Rejected { reason: reason.clone() });
        prop_assert!(bytes.len() <= FRAME_MAX_LENGTH + 2);
        let [FromRegistrar::Rejected { reason: received }] = &all_of(&bytes).unwrap()[..] else { panic!() };
        prop_assert!(reason.starts_with(received));
    }
}

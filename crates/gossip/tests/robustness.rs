//! Nothing that comes from outside makes the crate panic, answer, or change its mind.

use std::time::Instant;

use gossip::{Config, Gossip, KeyRing, Output, Refusal, StdRng};
use proptest::prelude::*;
use rand::SeedableRng as _;

fn host() -> Gossip {
    let address = "10.0.0.1:7946".parse().expect("an address");
    let config = Config {
        host: "host-1".parse().expect("a name"),
        cluster: "default".parse().expect("a name"),
        keys: KeyRing::insecure(),
        address,
        own_addresses: vec![address.ip()],
        service_addresses: vec![],
        unix_ms: 1,
    };
    Gossip::new(config, StdRng::seed_from_u64(1), Instant::now())
}

fn refused(host: &Gossip) -> u64 {
    Refusal::ALL.iter().map(|why| host.counters().refused(*why)).sum()
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2_000)) {
        gossip::decode_as_anything(&bytes);
    }

    #[test]
    fn unsealed_datagrams_are_counted_and_nothing_else(bytes in proptest::collection::vec(any::<u8>(), 0..1_500)) {
        let mut host = host();
        host.handle_datagram(Instant::now(), &bytes);
        prop_assert_eq!(refused(&host), 1);
        prop_assert_eq!((host.poll_output(), host.poll_timeout()), (None, None));
    }

    #[test]
    fn a_stream_of_anything_is_closed_without_a_word(bytes in proptest::collection::vec(any::<u8>(), 13..1_500)) {
        let (mut host, now) = (host(), Instant::now());
        let stream = host.handle_stream_accepted(now, "10.0.0.2:9".parse().unwrap()).unwrap();
        host.handle_stream_data(now, stream, &bytes);
        prop_assert_eq!(refused(&host), 1);
        prop_assert_eq!(host.poll_output(), Some(Output::CloseStream { stream }));
        prop_assert_eq!(host.poll_output(), None);
    }
}

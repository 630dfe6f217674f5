//! Who is let in and who has to go, each rule as a sentence.

use std::io::ErrorKind;

use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};

use super::*;

const MOST: usize = 8;

fn door() -> Arc<Door> {
    Door::new(Share { listener: "test", most: MOST })
}

fn remote(number: u8) -> Source {
    Source::Remote([192, 0, 2, number].into())
}

/// Enters as one who can be shown out. The descriptor is nobody's.
fn enter(door: &Arc<Door>, source: Source, now: Instant) -> Result<Visitor, Full> {
    door.enter(source, Some(RawFd::MAX), now)
}

fn is_present(door: &Door, visitor: &Visitor) -> bool {
    door.guests().present.contains_key(&visitor.0.number)
}

#[test]
fn the_client_that_was_silent_for_the_longest_makes_room() {
    let (door, start) = (door(), Instant::now());
    let at = |second| start + Duration::from_secs(second);
    let visitors: Vec<_> = (0..MOST).map(|number| enter(&door, Source::Local, at(number as u64)).unwrap()).collect();
    let _busy = visitors[0].busy();
    let newest = enter(&door, Source::Local, at(9)).unwrap();
    let present: Vec<_> = visitors.iter().map(|visitor| is_present(&door, visitor)).collect();
    assert_eq!(present, [true, false, true, true, true, true, true, true]);
    assert!(is_present(&door, &newest));
}

#[test]
fn where_something_is_done_for_all_the_next_one_is_turned_away_until_one_leaves() {
    let (door, now) = (door(), Instant::now());
    let mut busy: Vec<_> = (0..MOST).map(|_| enter(&door, Source::Local, now).unwrap().busy()).collect();
    assert_eq!(enter(&door, Source::Local, now).unwrap_err(), Full);
    busy.pop();
    assert!(enter(&door, Source::Local, now).is_ok());
}

#[test]
fn one_source_elsewhere_gets_half_and_all_of_them_leave_a_quarter_to_this_host() {
    let (door, now) = (door(), Instant::now());
    let enter_busy = |source| enter(&door, source, now).map(|visitor| visitor.busy());
    let first: Vec<_> = (0..4).map(|_| enter_busy(remote(1)).unwrap()).collect();
    assert_eq!(enter_busy(remote(1)).unwrap_err(), Full);
    let second: Vec<_> = (0..2).map(|_| enter_busy(remote(2)).unwrap()).collect();
    assert_eq!(enter_busy(remote(2)).unwrap_err(), Full);
    let own: Vec<_> = (0..2).map(|_| enter_busy(Source::Local).unwrap()).collect();
    assert_eq!(first.len() + second.len() + own.len(), MOST);
}

#[test]
fn silence_is_bounded_and_begins_anew_after_each_request() {
    let (door, start) = (door(), Instant::now());
    let visitor = enter(&door, Source::Local, start).unwrap();
    let busy = visitor.busy();
    door.sweep(start + 2 * SILENCE_MAX);
    assert!(is_present(&door, &visitor), "something is done for it");
    drop(busy);
    door.sweep(start + 2 * SILENCE_MAX + SWEEP_EVERY);
    assert!(!is_present(&door, &visitor));
}

#[test]
fn the_addresses_of_one_host_are_one_source() {
    let of = |client: &str| Source::of(client.parse().unwrap(), "192.0.2.1".parse().unwrap());
    assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
    assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    assert_eq!(of("::ffff:192.0.2.7"), of("192.0.2.7"));
    for own in ["127.0.0.1", "::1", "192.0.2.1", "::ffff:127.9.9.9"] {
        assert_eq!(of(own), Source::Local, "{own}");
    }
}

#[tokio::test]
async fn a_client_that_makes_room_sees_its_connection_end() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let door = Door::new(Share { listener: "test", most: 1 });
    let address = listener.local_addr().unwrap();
    let mut first = TcpStream::connect(address).await.unwrap();
    let guarded = door.accept(&listener).await;
    let _second = TcpStream::connect(address).await.unwrap();
    let _other = door.accept(&listener).await;
    match first.read(&mut [0]).await {
        Ok(length) => assert_eq!(length, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    drop(guarded);
}

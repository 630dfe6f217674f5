//! What others can use up, and what they can say that must not be believed.

use model::{HostRecord, Stamp};

use super::*;
use crate::identity::HostIdentity;
use crate::message::Hello;

/// A source of which nobody has heard.
fn stranger(number: usize) -> SocketAddr {
    let [.., a, b] = number.to_be_bytes();
    SocketAddr::new([192, 0, a, b].into(), 50_000)
}

fn accepted(gossip: &Gossip) -> usize {
    gossip.sessions.values().filter(|session| !session.opener).count()
}

fn record(stamp: Stamp) -> HostRecord {
    HostRecord::empty(stamp)
}

const fn stamp(incarnation: u64, version: u64) -> Stamp {
    Stamp { incarnation: Incarnation::new(incarnation), version }
}

/// With one bound for all, 32 silent streams kept everybody else out for 3 s, and again.
#[test]
fn silent_streams_of_one_source_or_of_many_keep_nobody_out() {
    for sources in [1, 10, 5_000] {
        let mut wired = Wired::settled(2);
        let now = wired.now;
        for number in 0..20_000 {
            assert!(wired.hosts[0].handle_stream_accepted(now, stranger(number % sources)).is_some());
        }
        assert!(accepted(&wired.hosts[0]) <= 33, "{sources}: {}", accepted(&wired.hosts[0]));
        for from in [address(1), address(77)] {
            let stream = wired.hosts[0].handle_stream_accepted(now, from).expect("a place");
            for number in 0..8 {
                wired.hosts[0].handle_stream_accepted(now, stranger(number % sources));
            }
            assert!(wired.hosts[0].sessions.contains_key(&stream), "{sources}: {from}");
        }
        // A member's order goes through as ever.
        wired.answer = Some(Answer::Done);
        assert_eq!(wired.order(1, "host-0", Duration::ZERO), Some(Ok(Answer::Done)), "{sources}");
    }
}

#[test]
fn silent_streams_from_a_members_address_end_none_of_its_own_and_no_other_members() {
    let mut wired = Wired::settled(3);
    wired.answer = None;
    let now = wired.now;
    let order = wired.hosts[1].order(now, &"host-0".parse().unwrap(), DRAIN).unwrap();
    wired.carry_out();
    let (_, named) = wired.ends[&(1, order.0)];
    for _ in 0..1_000 {
        assert!(wired.hosts[0].handle_stream_accepted(now, address(1)).is_some());
    }
    assert!(wired.hosts[0].sessions.contains_key(&named), "it has said who it is");
    assert!(wired.hosts[0].handle_stream_accepted(now, address(2)).is_some());
    assert!(accepted(&wired.hosts[0]) <= 10, "{}", accepted(&wired.hosts[0]));
}

/// Whatever accepts and hangs up used to count as a registrar that lives.
#[test]
fn a_program_that_accepts_and_hangs_up_is_no_registrar_that_lives() {
    let mut wired = Wired::settled(3);
    let now = wired.now;
    wired.hosts[2].announce(now, vec![instance_at(&["10.0.0.3"])]);
    wired.run(SECOND);
    let name = wired.hosts[2].own_name().clone();
    // The look as the driver sees it: connected, and closed without a word; no instance answers.
    wired.hosts.pop();
    let now = wired.now;
    wired.hosts[0].doubt(now, &name);
    let mut looks = 0;
    for _ in 0..100 {
        let Some(next) = wired.hosts[0].poll_timeout() else { break };
        wired.now = wired.now.max(next);
        let now = wired.now;
        wired.hosts[0].handle_timeout(now);
        while let Some(output) = wired.hosts[0].poll_output() {
            match output {
                Output::OpenStream { stream, to } if to == address(2) => {
                    looks += 1;
                    wired.hosts[0].handle_stream_opened(now, stream);
                    wired.hosts[0].handle_stream_closed(now, stream);
                }
                Output::Probe { probe, .. } => wired.hosts[0].handle_probe_result(now, probe, false),
                output => wired.carry_out_one(0, output),
            }
        }
        if wired.hosts[0].status(&name) == Some((HostStatus::Down, false)) {
            break;
        }
    }
    assert_eq!(wired.hosts[0].status(&name), Some((HostStatus::Down, false)), "after {looks} looks");
    assert!(looks >= 2, "it may have been busy: {looks}");
}

/// 10,000 names that came and went used to shut new hosts out for a day.
#[test]
fn names_that_are_gone_make_way_for_a_new_host_the_longest_gone_first() {
    let mut wired = Wired::settled(2);
    let now = wired.now;
    let name = |number: usize| -> HostName { format!("job-{number}").parse().unwrap() };
    let identity = |number| HostIdentity::new(name(number), stranger(number), Incarnation::new(1));
    for number in 0..crate::HOSTS_MAX {
        let later = now + Duration::from_millis(number as u64);
        wired.hosts[0].host_is_up(later, identity(number));
        wired.hosts[0].learn(later, &name(number), record(stamp(1, 1)));
        wired.hosts[0].hosts.left(&name(number), later);
    }
    let later = now + Duration::from_secs(60);
    let newcomer: HostName = "newcomer".parse().unwrap();
    wired.hosts[0].host_is_up(later, HostIdentity::new(newcomer.clone(), address(7), Incarnation::new(1)));
    wired.hosts[0].learn(later, &newcomer, record(stamp(1, 1)));
    let view = wired.hosts[0].host(&newcomer).expect("the new host is known");
    assert_eq!((view.status, view.stamp), (HostStatus::Alive, Some(stamp(1, 1))));
    assert_eq!(wired.hosts[0].host(&name(0)), None, "the first one left first");
    assert!(wired.hosts[0].host(&name(crate::HOSTS_MAX - 1)).is_some());
    assert_eq!(wired.hosts[0].status(&"host-1".parse().unwrap()), Some((HostStatus::Alive, true)));
    assert!(wired.hosts[0].problems().is_empty(), "{:?}", wired.hosts[0].problems());
}

/// A member of this name that nobody can outlive used to lock the host out for good.
#[test]
fn a_life_at_the_upper_end_is_believed_of_nobody() {
    let mut wired = Wired::settled(3);
    let (now, victim) = (wired.now, wired.hosts[2].own_name().clone());
    let forged = HostIdentity::new(victim.clone(), address(1), Incarnation::new(u64::MAX));
    let refused = |gossip: &Gossip| gossip.counters().refused(Refusal::TooFarAhead);
    // As a greeting.
    let to = 0;
    let stream = wired.hosts[to].handle_stream_accepted(now, address(1)).unwrap();
    let hello = Hello {
        identity: forged.clone(),
        boot: 1,
        started: Incarnation::new(u64::MAX),
        standing: crate::message::Standing::Inside,
    };
    assert_eq!(wired.hosts[to].handle_hello(now, stream, &hello), Err(Refusal::TooFarAhead));
    // As a record, and as news of one.
    wired.hosts[to].learn(now, &victim, record(Stamp { incarnation: Incarnation::new(u64::MAX), version: 1 }));
    let news = crate::delta::Broadcast {
        host: victim.clone(),
        news: crate::delta::News::Head(Stamp { incarnation: Incarnation::new(u64::MAX), version: u64::MAX }),
    };
    wired.hosts[to].hear(now, crate::broadcasts::Arrived { broadcast: news, from: address(1) });
    assert_eq!((refused(&wired.hosts[to]), wired.hosts[to].fetches.len()), (1, 0));
    // As a member in a datagram: this host's foca would pass it on to all others.
    let mut forger = Members::new(wired.hosts[1].identity.clone(), StdRng::seed_from_u64(3));
    forger.apply(std::iter::once(foca::Member::alive(wired.hosts[0].identity.clone())));
    let _ = forger.effects();
    forger.spread_alive(forged);
    forger.gossip();
    let sent = forger.effects().send;
    assert!(!sent.is_empty());
    for (_, body) in sent {
        let count = wired.hosts[1].datagrams_sealed + 1_000;
        wired.hosts[1].datagrams_sealed = count;
        let bytes = wired.hosts[1].envelope.seal(count, &body, &mut StdRng::seed_from_u64(4));
        wired.hosts[0].handle_datagram(now, &bytes);
    }
    let own = wired.hosts[2].identity.incarnation;
    let members = wired.hosts[0].members.as_ref().unwrap();
    assert_eq!(members.find(forged_fingerprint(&victim)).unwrap().id().incarnation, own);
    // The host itself goes on, and what it says is heard.
    wired.run(5 * SECOND);
    let now = wired.now;
    wired.hosts[2].announce(now, vec![instance_at(&["10.0.0.3"])]);
    wired.run(15 * SECOND);
    assert_eq!(wired.view(0, 2).instances.len(), 1);
    assert!(wired.hosts[2].identity.incarnation < Incarnation::new(u64::MAX));
}

fn forged_fingerprint(name: &HostName) -> u64 {
    crate::identity::name_fingerprint(name)
}

/// What nobody can outdo in this life: the host used to be unheard until it restarted.
#[test]
fn a_host_outlives_what_others_say_in_its_name() {
    for forged in [stamp(1_000, u64::MAX), stamp(50_000_000, 7)] {
        let mut wired = Wired::settled(3);
        let (now, victim) = (wired.now, wired.hosts[2].own_name().clone());
        wired.hosts[2].announce(now, vec![instance_at(&["10.0.0.3"])]);
        wired.run(SECOND);
        let incarnation = Incarnation::new(forged.incarnation.get().max(wired.hosts[2].identity.incarnation.get()));
        wired.hosts[0].learn(now, &victim, record(Stamp { incarnation, ..forged }));
        assert!(wired.view(0, 2).instances.is_empty(), "the forged record is believed");
        wired.run(60 * SECOND);
        for observer in [0, 1] {
            let view = wired.view(observer, 2);
            assert_eq!((view.status, view.instances.len()), (HostStatus::Alive, 1), "{forged}: host {observer}");
        }
    }
}

#[test]
fn more_members_than_there_can_be_are_not_learned_from_datagrams() {
    let own = HostIdentity::new("own".parse().unwrap(), address(0), Incarnation::new(1));
    let gate = crate::gate::Gate::new(own.clone());
    let known: Vec<u64> = (0..crate::gate::MEMBERS_MAX as u64).collect();
    let other = HostIdentity::new("other".parse().unwrap(), address(1), Incarnation::new(5));
    let read = |gate: &crate::gate::Gate, member: &HostIdentity| {
        let mut bytes = Vec::new();
        foca::Codec::encode_member(&mut gate.clone(), &foca::Member::alive(member.clone()), &mut bytes).unwrap();
        foca::Codec::decode_member(&mut gate.clone(), &bytes[..]).unwrap().id().clone()
    };
    gate.adapt(Incarnation::new(9), known.len() - 1, known.iter().copied());
    assert_eq!(read(&gate, &other), other, "there is a place");
    gate.adapt(Incarnation::new(9), known.len(), known.iter().copied());
    assert_eq!(read(&gate, &other), own, "it is passed over");
    let with = known.iter().copied().skip(1).chain([other.fingerprint]);
    gate.adapt(Incarnation::new(9), known.len() + 1, with);
    assert_eq!(read(&gate, &other), other, "it is known already");
    gate.adapt(Incarnation::new(4), 1, std::iter::empty());
    assert_eq!(read(&gate, &other), own, "a life too far ahead");
}

//! A few hosts wired to each other directly: what they say arrives at once. What a bad network does to many
//! hosts is tested in the crate `sim`.

mod bounds;

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::instance::{Origin, Text};
use model::{EnvironmentName, Instance, InstanceKey, InstancePort, Protocol, ProxyMode, Service, ServiceName, Status};

use super::*;
use crate::addresses::Disbelief;
use crate::gossip::streams::Purpose;
use crate::hosts::HostStatus;
use crate::key_ring::generate_key;
use crate::message::Message;
use crate::order::{Answer, Order, OrderMessage};
use crate::output::{OpenFailure, OrderId};

const SECOND: Duration = Duration::from_secs(1);
const SERVICE_ADDRESS: &str = "192.168.168.168";

fn address(host: usize) -> SocketAddr {
    format!("10.0.0.{}:7946", host + 1).parse().unwrap()
}

fn config(host: usize) -> Config {
    Config {
        host: format!("host-{host}").parse().unwrap(),
        cluster: "default".parse().unwrap(),
        keys: KeyRing::parse(&generate_key(&mut StdRng::seed_from_u64(9))).unwrap(),
        address: address(host),
        own_addresses: vec![address(host).ip()],
        service_addresses: vec![SERVICE_ADDRESS.parse().unwrap()],
        unix_ms: 1_000,
    }
}

fn instance_at(addresses: &[&str]) -> Instance {
    let port = |address: &&str| InstancePort {
        service_port: Some(9_500),
        address: address.parse().unwrap(),
        port: 8_080,
        protocol: Protocol::Tcp,
        mode: ProxyMode::Http,
    };
    Instance {
        origin: Origin::Container("ab".repeat(32).parse().unwrap()),
        service: Service { name: ServiceName::corrected("web").unwrap().0, environment: EnvironmentName::default() },
        ports: addresses.iter().map(port).collect(),
        status: Status::Alive,
        image: Text::default(),
        version: Text::default(),
        since_ms: 0,
    }
}

struct Wired {
    hosts: Vec<Gossip>,
    now: Instant,
    /// Which stream of which host is the other end.
    ends: BTreeMap<(usize, StreamId), (usize, StreamId)>,
    /// All datagrams ever sent, with their sender and receiver.
    datagrams: Vec<(usize, usize, Vec<u8>)>,
    /// Who was ordered what by whom.
    ordered: Vec<(usize, HostName, Order)>,
    /// What every host answers; `None`: nothing.
    answer: Option<Answer>,
    ended: BTreeMap<(usize, OrderId), Result<Answer, OrderError>>,
}

impl Wired {
    fn new(configs: Vec<Config>) -> Self {
        let now = Instant::now();
        let host = |config: Config| Gossip::new(config, StdRng::seed_from_u64(1), now);
        // Different hosts must not draw the same numbers.
        let mut hosts: Vec<_> = configs.into_iter().map(host).collect();
        for (number, host) in hosts.iter_mut().enumerate() {
            (0..number).for_each(|_| drop(host.fork_rng()));
            host.boot = host.rng.random();
            host.rng = host.fork_rng();
            host.set_seeds(now, vec![address(0)]);
        }
        Self {
            hosts,
            now,
            ends: BTreeMap::new(),
            datagrams: Vec::new(),
            ordered: Vec::new(),
            answer: Some(Answer::Done),
            ended: BTreeMap::new(),
        }
    }

    /// Hosts that are inside and say nothing yet.
    fn settled(hosts: usize) -> Self {
        let mut this = Self::new((0..hosts).map(config).collect());
        this.run(20 * SECOND);
        assert!(this.hosts.iter().all(|host| host.members() == hosts - 1));
        this
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.carry_out();
        while let Some(next) = self.hosts.iter().filter_map(Gossip::poll_timeout).min().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            for number in 0..self.hosts.len() {
                self.hosts[number].handle_timeout(self.now);
                self.carry_out();
            }
        }
        self.now = end;
    }

    fn carry_out(&mut self) {
        while let Some((from, output)) =
            (0..self.hosts.len()).find_map(|host| Some((host, self.hosts[host].poll_output()?)))
        {
            self.carry_out_one(from, output);
        }
    }

    fn at(&self, to: SocketAddr) -> Option<usize> {
        (0..self.hosts.len()).find(|host| address(*host) == to)
    }

    fn carry_out_one(&mut self, from: usize, output: Output) {
        let now = self.now;
        match output {
            Output::Datagram { to, bytes } => {
                if let Some(to) = self.at(to) {
                    self.hosts[to].handle_datagram(now, &bytes);
                    self.datagrams.push((from, to, bytes));
                }
            }
            Output::OpenStream { stream, to } => {
                let to = self.at(to);
                let accepted = to.and_then(|to| Some((to, self.hosts[to].handle_stream_accepted(now, address(from))?)));
                let Some(other) = accepted else {
                    return self.hosts[from].handle_stream_failed(now, stream, OpenFailure::TimedOut);
                };
                self.ends.insert((from, stream), other);
                self.ends.insert(other, (from, stream));
                self.hosts[from].handle_stream_opened(now, stream);
            }
            Output::WriteStream { stream, bytes } => {
                if let Some((to, stream)) = self.ends.get(&(from, stream)).copied() {
                    self.hosts[to].handle_stream_data(now, stream, &bytes);
                }
            }
            Output::CloseStream { stream } => {
                if let Some((to, stream)) = self.ends.remove(&(from, stream)) {
                    self.hosts[to].handle_stream_closed(now, stream);
                }
            }
            Output::Probe { probe, .. } => self.hosts[from].handle_probe_result(now, probe, false),
            Output::Ordered { order, from: giver, what } => {
                self.ordered.push((from, giver, what));
                let answer = self.answer.clone();
                if let Some(answer) = answer {
                    self.hosts[from].answer(order, answer);
                }
            }
            Output::OrderEnded { order, outcome } => drop(self.ended.insert((from, order), outcome)),
            Output::HostChanged(_) | Output::ProblemsChanged | Output::Left => {}
        }
    }

    fn view(&self, observer: usize, subject: usize) -> HostView {
        self.hosts[observer].host(self.hosts[subject].own_name()).unwrap()
    }
}

#[test]
fn what_one_host_announces_the_others_know() {
    let mut wired = Wired::settled(3);
    let now = wired.now;
    assert!(wired.hosts[1].announce(now, vec![instance_at(&["10.0.0.2"])]).is_empty());
    wired.run(SECOND);
    for observer in [0, 2] {
        let view = wired.view(observer, 1);
        assert_eq!((view.status, view.served), (HostStatus::Alive, true));
        assert_eq!(view.instances, [instance_at(&["10.0.0.2"])]);
    }
    assert_eq!(wired.hosts[1].host(wired.hosts[1].own_name()), None, "a host is not its own peer");
}

#[test]
fn a_recorded_datagram_is_useless() {
    let mut wired = Wired::settled(3);
    let now = wired.now;
    let recorded: Vec<_> = wired.datagrams.iter().filter(|(from, to, _)| (*from, *to) == (0, 1)).cloned().collect();
    assert!(recorded.len() > 10);
    let before = wired.hosts[1].knowledge();
    for (.., bytes) in &recorded {
        wired.hosts[1].handle_datagram(now, bytes);
        wired.hosts[2].handle_datagram(now, bytes);
    }
    let all = u64::try_from(recorded.len()).unwrap();
    let refused = |wired: &Wired, host: usize, why| wired.hosts[host].counters().refused(why);
    assert_eq!(refused(&wired, 1, Refusal::Replayed) + refused(&wired, 1, Refusal::OldLife), all);
    assert_eq!(refused(&wired, 2, Refusal::NotForThisHost), all);
    assert_eq!((wired.hosts[1].poll_output(), wired.hosts[2].poll_output()), (None, None), "nothing is answered");
    assert_eq!(wired.hosts[1].knowledge(), before);

    // The receiver restarts and has forgotten what it saw: now it is addressed to a life that has ended.
    let mut restarted = Gossip::new(Config { unix_ms: 2_000, ..config(1) }, StdRng::seed_from_u64(3), now);
    recorded.iter().for_each(|(.., bytes)| restarted.handle_datagram(now, bytes));
    assert_eq!(restarted.counters().refused(Refusal::OldLife), all);
    assert_eq!(restarted.poll_output(), None);
}

#[test]
fn another_cluster_and_another_key_are_refused_and_counted() {
    let other_key = KeyRing::parse(&generate_key(&mut StdRng::seed_from_u64(10))).unwrap();
    let strangers = [
        (Config { cluster: "staging".parse().unwrap(), ..config(1) }, Refusal::OtherCluster),
        (Config { keys: other_key, ..config(1) }, Refusal::UnknownKey),
    ];
    for (stranger, why) in strangers {
        let mut wired = Wired::new(vec![config(0), stranger]);
        wired.run(20 * SECOND);
        assert!(wired.hosts[0].counters().refused(why) > 5, "{why}");
        assert!(!wired.hosts[0].is_inside() && !wired.hosts[1].is_inside());
        assert_eq!(wired.hosts[0].hosts().count(), 0);
    }
}

#[test]
fn addresses_that_can_not_be_their_hosts_are_not_believed_and_named() {
    let mut wired = Wired::settled(3);
    let now = wired.now;
    let bad = [
        ("127.0.0.1", Disbelief::NotOneHost),
        (SERVICE_ADDRESS, Disbelief::ServiceAddress),
        ("10.0.0.1", Disbelief::OwnAddress),
        ("10.0.0.3", Disbelief::OtherHosts),
        ("10.9.9.9", Disbelief::NotAnnounced),
    ];
    let mut all: Vec<_> = bad.iter().map(|(address, _)| *address).collect();
    all.push("10.0.0.2");
    wired.hosts[1].rules.own_addresses.extend(["10.0.0.3".parse::<IpAddr>().unwrap()]);
    wired.hosts[1].announce(now, vec![instance_at(&all)]);
    wired.run(SECOND);
    let view = wired.view(0, 1);
    assert_eq!(view.instances, [instance_at(&["10.0.0.2"])]);
    let mut expected: Vec<_> = bad.iter().map(|(address, why)| (address.parse().unwrap(), *why)).collect();
    expected.sort();
    assert_eq!(view.disbelieved, expected);
    assert!(wired.hosts[0].problems().is_empty(), "nothing is wrong with this host");
}

#[test]
fn a_static_service_may_be_a_machine_that_takes_no_part_and_nothing_worse() {
    let mut wired = Wired::settled(3);
    let now = wired.now;
    let statics = |addresses: &[&str]| Instance {
        origin: Origin::Static(InstanceKey::from_bytes([1; 6])),
        ..instance_at(addresses)
    };
    wired.hosts[1].announce(now, vec![statics(&["10.9.9.9", "127.0.0.1", SERVICE_ADDRESS, "10.0.0.1", "10.0.0.3"])]);
    wired.run(SECOND);
    assert_eq!(wired.view(0, 1).instances, [statics(&["10.9.9.9"])]);
    let members: Vec<_> = wired.hosts[1].member_addresses().map(|(address, _)| address).collect();
    assert_eq!(members, [address(0).ip(), address(2).ip()], "the announcer can know that these are not believed");
}

#[test]
fn a_static_service_elsewhere_does_not_vouch_for_its_host() {
    let mut wired = Wired::settled(3);
    let now = wired.now;
    let mut statics = instance_at(&["10.9.9.9"]);
    statics.origin = Origin::Static(InstanceKey::from_bytes([1; 6]));
    wired.hosts[2].announce(now, vec![statics, instance_at(&["10.0.0.3"])]);
    wired.run(SECOND);
    let name = wired.hosts[2].own_name().clone();
    let (host, now) = (&mut wired.hosts[0], wired.now);
    host.doubt(now, &name);
    host.check(now, name);
    let probed: Vec<_> = std::iter::from_fn(|| host.poll_output())
        .filter_map(|output| if let Output::Probe { address, .. } = output { Some(address.ip()) } else { None })
        .collect();
    assert_eq!(probed, [address(2).ip()]);
}

#[test]
fn an_address_is_believed_until_another_host_takes_part_there() {
    let mut wired = Wired::new((0..3).map(config).collect());
    wired.hosts[2].seeds.set(Vec::new());
    let now = wired.now;
    wired.hosts[1].rules.own_addresses.push(address(2).ip());
    wired.hosts[1].announce(now, vec![instance_at(&["10.0.0.2", "10.0.0.3"])]);
    wired.run(15 * SECOND);
    assert_eq!(wired.view(0, 1).instances[0].ports.len(), 2);
    let now = wired.now;
    wired.hosts[2].set_seeds(now, vec![address(0)]);
    wired.run(5 * SECOND);
    assert_eq!(wired.view(0, 1).instances, [instance_at(&["10.0.0.2"])]);
}

#[test]
fn streams_are_bounded_in_number_and_in_patience() {
    let mut host = Gossip::new(config(0), StdRng::seed_from_u64(1), Instant::now());
    let now = host.last_heard;
    let accepted = (0..40).filter_map(|_| host.handle_stream_accepted(now, address(1))).count();
    let closed = |host: &mut Gossip| {
        std::iter::from_fn(|| host.poll_output()).filter(|out| matches!(out, Output::CloseStream { .. })).count()
    };
    assert_eq!((accepted, host.counters().refused(Refusal::TooMuch), closed(&mut host)), (40, 36, 36));
    host.handle_timeout(now + 3 * SECOND);
    assert_eq!(closed(&mut host), 4, "those that say nothing");
    assert!(host.handle_stream_accepted(now + 3 * SECOND, address(1)).is_some());
}

#[test]
fn a_host_that_is_its_own_seed_waits_for_others() {
    let mut wired = Wired::new(vec![config(0)]);
    wired.hosts[0].set_seeds(wired.now, vec![address(0), "127.0.0.1:7946".parse().unwrap()]);
    wired.run(20 * SECOND);
    assert!(!wired.hosts[0].is_inside());
    assert!(wired.hosts[0].problems().is_empty());
}

#[test]
fn sealed_nonsense_is_counted_and_nothing_else() {
    let mut host = Gossip::new(config(0), StdRng::seed_from_u64(1), Instant::now());
    let (envelope, mut rng) = (host.envelope.clone(), StdRng::seed_from_u64(2));
    for length in 0..300_usize {
        let body: Vec<u8> = (0..length).map(|_| rng.random()).collect();
        let datagram = envelope.seal(1, &body, &mut rng);
        host.handle_datagram(host.last_heard, &datagram);
    }
    assert_eq!(host.counters().refused(Refusal::Malformed), 300);
    assert_eq!(host.poll_output(), None);
}

#[test]
fn a_host_that_left_is_quiet() {
    let mut wired = Wired::settled(2);
    let now = wired.now;
    wired.hosts[1].announce(now, vec![instance_at(&["10.0.0.2"])]);
    wired.run(SECOND);
    let now = wired.now;
    wired.hosts[1].leave(now, 2 * SECOND);
    wired.run(SECOND);
    assert_eq!(wired.view(0, 1).instances[0].status, Status::Draining);
    wired.run(5 * SECOND);
    let view = wired.view(0, 1);
    assert_eq!((view.status, view.served, view.instances.len()), (HostStatus::Left, false, 0));
    assert_eq!(wired.hosts[1].poll_timeout(), None);
    let now = wired.now;
    assert!(wired.hosts[1].announce(now, vec![instance_at(&["10.0.0.2"])]).is_empty());
    assert_eq!(wired.hosts[1].poll_output(), None);
}

#[test]
fn a_lost_host_is_forgotten_after_a_day_and_not_learned_again() {
    let mut wired = Wired::settled(3);
    let now = wired.now;
    wired.hosts[2].announce(now, vec![]);
    wired.run(SECOND);
    let name = wired.hosts[2].own_name().clone();
    wired.hosts.pop();
    wired.run(60 * SECOND);
    assert_eq!(wired.hosts[0].status(&name), Some((HostStatus::Down, false)));
    // A day passes for one of them only.
    let day = Duration::from_secs(24 * 3600);
    wired.hosts[0].hosts.get_mut(&name).unwrap().since = wired.now.checked_sub(day).unwrap_or(wired.now);
    wired.run(60 * SECOND);
    assert_eq!((wired.hosts[0].host(&name), wired.hosts[1].host(&name).is_some()), (None, true));
}

const DRAIN: Order = Order::Drain { key: InstanceKey::from_bytes([7; 6]), drains: true };

impl Wired {
    /// Has one host order another to drain something, and yields what came of it after some time.
    fn order(&mut self, from: usize, to: &str, time: Duration) -> Option<Result<Answer, OrderError>> {
        let order = match self.hosts[from].order(self.now, &to.parse().unwrap(), DRAIN) {
            Ok(order) => order,
            Err(why) => return Some(Err(why)),
        };
        self.run(time);
        self.ended.remove(&(from, order))
    }
}

#[test]
fn an_order_reaches_the_host_that_is_meant_and_its_answer_comes_back() {
    let mut wired = Wired::settled(3);
    for answer in
        [Answer::Done, Answer::NoSuchInstance, Answer::Starting, Answer::Failed(Text::cut("the disk is full"))]
    {
        wired.answer = Some(answer.clone());
        assert_eq!(wired.order(2, "host-1", Duration::ZERO), Some(Ok(answer)));
        assert_eq!(wired.ordered.pop(), Some((1, wired.hosts[2].own_name().clone(), DRAIN)));
    }
    assert!(wired.ordered.is_empty());
    // Nothing is left over on either side.
    wired.run(SECOND);
    assert!(wired.hosts.iter().all(|host| !host.sessions.values().any(|s| matches!(s.purpose, Purpose::Order(..)))));
}

#[test]
fn an_order_to_who_is_not_there_fails_with_the_reason() {
    let mut wired = Wired::settled(3);
    assert_eq!(wired.order(0, "nobody", Duration::ZERO), Some(Err(OrderError::NoSuchHost)));
    assert_eq!(wired.order(0, "host-0", Duration::ZERO), Some(Err(OrderError::NoSuchHost)), "oneself is nobody else");
    wired.answer = None;
    assert_eq!(wired.order(0, "host-1", ORDER_MAX - Duration::from_millis(1)), None);
    wired.run(Duration::from_millis(1));
    assert_eq!(wired.ended.pop_first().map(|(_, outcome)| outcome), Some(Err(OrderError::NoAnswer)));
    // Its registrar has just ended, and later it is down.
    wired.hosts.pop();
    assert_eq!(wired.order(0, "host-2", Duration::ZERO), Some(Err(OrderError::Unreachable)));
    wired.run(60 * SECOND);
    assert_eq!(wired.order(0, "host-2", Duration::ZERO), Some(Err(OrderError::Down)));
    let now = wired.now;
    wired.hosts[0].leave(now, Duration::ZERO);
    assert_eq!(wired.order(0, "host-1", Duration::ZERO), Some(Err(OrderError::Leaving)));
}

#[test]
fn an_order_of_a_later_version_is_answered_with_the_version_that_is_known() {
    let mut wired = Wired::settled(2);
    let (now, to) = (wired.now, "host-1".parse().unwrap());
    wired.answer = None;
    let order = wired.hosts[0].order(now, &to, DRAIN).unwrap();
    wired.carry_out();
    assert_eq!(wired.ordered.len(), 1);
    // As a later version would go on on a stream of its own.
    let (_, there) = wired.ends[&(0, order.0)];
    wired.hosts[1].sessions.get_mut(&there).unwrap().is_ordered = false;
    wired.hosts[0].say(order.0, &Message::Order(OrderMessage::OfVersion(2)));
    wired.carry_out();
    assert_eq!(wired.ordered.len(), 1, "it is not carried out");
    assert_eq!(wired.ended.remove(&(0, order)), Some(Err(OrderError::OlderVersion)));
}

#[test]
fn a_stream_carries_one_order_and_none_before_a_greeting() {
    let mut wired = Wired::settled(2);
    let (now, to) = (wired.now, "host-1".parse().unwrap());
    wired.answer = None;
    let order = wired.hosts[0].order(now, &to, DRAIN).unwrap();
    wired.carry_out();
    wired.hosts[0].say(order.0, &Message::Order(OrderMessage::Known(DRAIN)));
    wired.carry_out();
    assert_eq!((wired.ordered.len(), wired.hosts[1].counters().refused(Refusal::Malformed)), (1, 1));
    assert_eq!(wired.ended.remove(&(0, order)), Some(Err(OrderError::HungUp)));
    let silent = wired.hosts[1].handle_stream_accepted(now, address(0)).unwrap();
    assert_eq!(wired.hosts[1].handle_order(silent, OrderMessage::Known(DRAIN)), Err(Refusal::Malformed));
}

#[test]
fn a_host_that_has_other_keys_refuses_orders_and_one_that_takes_none_hangs_up() {
    let mut wired = Wired::settled(2);
    let now = wired.now;
    wired.answer = None;
    let order = wired.hosts[0].order(now, &"host-1".parse().unwrap(), DRAIN).unwrap();
    wired.carry_out();
    wired.hosts[0].handle_stream_closed(now, order.0);
    wired.carry_out();
    assert_eq!(wired.ended.remove(&(0, order)), Some(Err(OrderError::HungUp)));
    let keys = KeyRing::parse(&generate_key(&mut StdRng::seed_from_u64(10))).unwrap();
    wired.hosts[1].set_keys(keys);
    assert_eq!(wired.order(0, "host-1", Duration::ZERO), Some(Err(OrderError::Refused)));
    assert_eq!(wired.hosts[1].counters().refused(Refusal::UnknownKey), 1);
}

#[test]
fn orders_under_way_are_bounded() {
    let mut wired = Wired::settled(2);
    let (now, to) = (wired.now, "host-1".parse().unwrap());
    wired.answer = None;
    let given: Vec<_> = (0..9).map(|_| wired.hosts[0].order(now, &to, DRAIN)).collect();
    assert!(given[..8].iter().all(Result::is_ok));
    assert_eq!(given[8], Err(OrderError::TooMany));
    wired.run(ORDER_MAX);
    assert_eq!(wired.ended.len(), 8);
    assert!(wired.hosts[0].order(wired.now, &to, DRAIN).is_ok());
}

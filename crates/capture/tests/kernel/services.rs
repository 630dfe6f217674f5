//! Service ports: their part of the table, and what happens to connections.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::machines::{Machines, ip, tcp};
use crate::namespace::{Namespace, feed, run};
use crate::notices::notices;
use capture::{Asked, CATCH_PORT, Capture, Mode};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::{Ip6tOriginalDst, OriginalDst};

const SERVICE4: &str = "192.168.168.168";
const SERVICE6: &str = "fd00::a8";
const OWN4: &str = "10.77.0.1";
const OWN6: &str = "fd77::1";

fn both(port: u16) -> [(IpAddr, u16); 2] {
    [(ip(SERVICE4), port), (ip(SERVICE6), port)]
}

fn capturing(asked: Asked, services: impl IntoIterator<Item = (IpAddr, u16)>) -> Capture {
    let mut capture = Capture::new(asked);
    capture.set_services(services);
    capture.tick(Instant::now());
    assert_eq!(capture.services_problem(), None);
    capture
}

fn elements(set: &str) -> String {
    let shown = run("nft", &format!("-n list set inet envoy-docker-shim {set}"));
    let Some((_, list)) = shown.split_once("elements = {") else { return String::new() };
    list.split_once('}').unwrap().0.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn listed() -> String {
    let listed = run("nft", "-n -a list ruleset");
    listed.lines().filter(|line| !line.contains("expires")).collect::<Vec<_>>().join("\n")
}

/// As Envoy does: asks the kernel for the address that the client meant, and says both.
fn catch(host: &Namespace, address: &str) {
    let listener = host.within(|| bind_when_it_is_there((ip(address), CATCH_PORT).into()));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let meant = original(&stream);
            let peer = stream.peer_addr().unwrap().ip();
            let _ = stream.write_all(format!("{meant} for {peer}").as_bytes());
        }
    });
}

/// An IPv6 address takes a moment before it can be used.
fn bind_when_it_is_there(address: SocketAddr) -> TcpListener {
    let deadline = Instant::now() + Duration::from_secs(4);
    loop {
        match TcpListener::bind(address) {
            Ok(listener) => return listener,
            Err(error) if Instant::now() > deadline => panic!("{address}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn original(stream: &TcpStream) -> SocketAddr {
    if stream.local_addr().unwrap().is_ipv4() {
        let address = getsockopt(stream, OriginalDst).unwrap();
        (u32::from_be(address.sin_addr.s_addr).to_be_bytes(), u16::from_be(address.sin_port)).into()
    } else {
        let address = getsockopt(stream, Ip6tOriginalDst).unwrap();
        (address.sin6_addr.s6_addr, u16::from_be(address.sin6_port)).into()
    }
}

struct Lab {
    client: Namespace,
    host: Namespace,
    container: Namespace,
}

impl Lab {
    /// A host with the service addresses on `lo`; what listens on its port 15001 says what it caught. Its port 9500
    /// answers "socket" at every other address.
    fn new() -> Self {
        let Machines { client, host, container } = Machines::new();
        host.within(|| {
            run("ip", &format!("addr add {SERVICE4}/32 dev lo"));
            run("ip", &format!("addr add {SERVICE6}/128 dev lo"));
        });
        for address in [SERVICE4, SERVICE6, OWN4, OWN6] {
            catch(&host, address);
        }
        host.serve("[::]:9500".parse().unwrap(), "socket");
        Self { client, host, container }
    }

    fn capture(&self, asked: Asked, services: impl IntoIterator<Item = (IpAddr, u16)> + Send) -> Capture {
        self.host.within(|| capturing(asked, services))
    }
}

#[test]
fn connections_to_a_service_address_arrive_and_say_what_they_meant() {
    let lab = Lab::new();
    assert_eq!(lab.host.ask(ip(SERVICE4), 9501), "ConnectionRefused");
    let _capture = lab.capture(Asked::Auto, [9500, 9501].into_iter().flat_map(both));
    for port in [9500, 9501] {
        assert_eq!(lab.host.ask(ip(SERVICE4), port), format!("{SERVICE4}:{port} for {SERVICE4}"));
        assert_eq!(lab.host.ask(ip(SERVICE6), port), format!("[{SERVICE6}]:{port} for {SERVICE6}"));
        assert_eq!(lab.container.ask(ip(SERVICE4), port), format!("{SERVICE4}:{port} for 172.17.0.2"));
        assert_eq!(lab.container.ask(ip(SERVICE6), port), format!("[{SERVICE6}]:{port} for fd17::2"));
    }
    assert_eq!(lab.host.ask(ip(SERVICE4), 9502), "ConnectionRefused", "no service port");
    assert!(lab.client.ask(ip(OWN4), 9500).starts_with("socket"), "another address of the host's");
}

#[test]
fn a_service_address_that_is_the_hosts_own_serves_other_hosts() {
    let lab = Lab::new();
    let _capture = lab.capture(Asked::Auto, [(ip(OWN4), 8000), (ip(OWN6), 8000)]);
    assert_eq!(lab.client.ask(ip(OWN4), 8000), format!("{OWN4}:8000 for 10.77.0.2"));
    assert_eq!(lab.client.ask(ip(OWN6), 8000), format!("[{OWN6}]:8000 for fd77::2"));
    assert_eq!(lab.host.ask(ip(OWN4), 8000), format!("{OWN4}:8000 for {OWN4}"));
    assert_eq!(lab.container.ask(ip(OWN4), 8000), format!("{OWN4}:8000 for 172.17.0.2"));
}

#[test]
fn an_address_that_the_host_does_not_have_is_left_alone() {
    let lab = Lab::new();
    lab.client.within(|| run("ip", "route add 172.17.0.0/24 via 10.77.0.1"));
    lab.container.serve("[::]:9500".parse().unwrap(), "container");
    let _capture = lab.capture(Asked::Auto, [(ip("172.17.0.2"), 9500)]);
    assert!(lab.client.ask(ip("172.17.0.2"), 9500).starts_with("container"), "it only passes through");
    assert!(lab.host.ask(ip("172.17.0.2"), 9500).starts_with("container"));
}

#[test]
fn a_service_port_is_captured_whatever_dockers_firewall_does() {
    let lab = Lab::new();
    lab.host.within(|| {
        feed("nft", "-f -", "table ip nat { chain DOCKER { tcp dport 8080 dnat to 172.17.0.2:80; }; }");
        let mut capture = capturing(Asked::Auto, both(9500));
        capture.set_ports([tcp("0.0.0.0", 8080)]);
        capture.tick(Instant::now());
        assert_eq!(capture.status().mode, Mode::Divert);
        assert_eq!((elements("any4").as_str(), elements("service4").as_str()), ("8080", "192.168.168.168 . 9500"));
    });
    assert!(lab.host.ask(ip(SERVICE4), 9500).contains("192.168.168.168:9500 for"));

    lab.host.within(|| {
        run("iptables-nft", "-w -N DOCKER-USER");
        run("iptables-nft", "-w -A DOCKER-USER -s 10.0.0.1 -j DROP");
        let mut capture = Capture::new(Asked::Auto);
        capture.set_ports([tcp("0.0.0.0", 8080)]);
        capture.set_services(both(9501));
        capture.tick(Instant::now());
        assert_eq!(capture.status().mode, Mode::LeftAlone);
        assert_eq!((elements("any4").as_str(), elements("service4").as_str()), ("", "192.168.168.168 . 9501"));
    });
}

#[test]
fn at_a_service_address_a_service_port_beats_a_published_one() {
    let lab = Lab::new();
    lab.host.within(|| {
        let mut capture = capturing(Asked::Divert, [(ip(SERVICE4), 9500)]);
        capture.set_ports([tcp("0.0.0.0", 9500), tcp(SERVICE4, 9500)]);
        capture.tick(Instant::now());
    });
    assert_eq!(lab.host.ask(ip(SERVICE4), 9500), format!("{SERVICE4}:9500 for {SERVICE4}"));
    assert!(lab.client.ask(ip(OWN4), 9500).starts_with("socket"));
}

#[test]
fn when_the_lease_runs_out_nothing_is_captured() {
    let lab = Lab::new();
    let _capture = lab.capture(Asked::Auto, both(9500));
    // The same as 60 s without a registrar, in 1 s.
    let lease = "flush set inet envoy-docker-shim lease; add element inet envoy-docker-shim lease { tcp timeout 1s }";
    lab.host.within(|| feed("nft", "-f -", lease));
    assert!(lab.host.ask(ip(SERVICE4), 9500).contains(" for "));
    std::thread::sleep(Duration::from_millis(1100));
    assert!(lab.host.ask(ip(SERVICE4), 9500).starts_with("socket"));
}

#[test]
fn connections_that_are_under_way_outlive_their_element() {
    let lab = Lab::new();
    let listener = lab.host.within(|| TcpListener::bind("172.17.0.1:15001").unwrap());
    let mut capture = lab.capture(Asked::Auto, [(ip("172.17.0.1"), 9502)]);
    let mut client = lab.container.within(|| TcpStream::connect("172.17.0.1:9502").unwrap());
    let (mut caught, _) = listener.accept().unwrap();
    client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    lab.host.within(|| {
        capture.remove_service(ip("172.17.0.1"), 9502);
        capture.tick(Instant::now());
        assert_eq!(elements("service4"), "");
    });
    caught.write_all(b"still here").unwrap();
    drop(caught);
    let mut heard = String::new();
    client.read_to_string(&mut heard).unwrap();
    assert_eq!(heard, "still here");
    assert_eq!(lab.container.ask(ip("172.17.0.1"), 9502), "ConnectionRefused");
}

#[test]
fn one_service_port_more_or_less_changes_one_element() {
    Namespace::new().within(|| {
        let mut capture = capturing(Asked::Auto, both(9500).into_iter().chain(both(9501)));
        let before = run("nft", "-a list chains inet");
        capture.add_service(ip(SERVICE4), 9502);
        capture.remove_service(ip(SERVICE4), 9500);
        capture.tick(Instant::now());
        assert_eq!(elements("service4"), "192.168.168.168 . 9501, 192.168.168.168 . 9502");
        capture.set_services([(ip(SERVICE4), 9502), (ip(SERVICE6), 9503)]);
        capture.tick(Instant::now());
        assert_eq!(
            (elements("service4"), elements("service6")),
            ("192.168.168.168 . 9502".into(), "fd00::a8 . 9503".into())
        );
        assert_eq!(run("nft", "-a list chains inet"), before, "the chains are the same ones");
        capture.set_services([]);
        capture.tick(Instant::now());
        assert_eq!((elements("service4").as_str(), elements("service6").as_str()), ("", ""));
    });
}

#[test]
fn ports_and_services_come_and_go_without_each_other() {
    Namespace::new().within(|| {
        let mut capture = capturing(Asked::Divert, both(9500));
        capture.set_ports([tcp("0.0.0.0", 8080)]);
        capture.tick(Instant::now());
        assert_eq!((elements("any4").as_str(), elements("service6").as_str()), ("8080", "fd00::a8 . 9500"));
        capture.set_ports([]);
        capture.tick(Instant::now());
        assert_eq!((elements("any4").as_str(), elements("service6").as_str()), ("", "fd00::a8 . 9500"));
        capture.set_ports([tcp("0.0.0.0", 8081)]);
        capture.set_services([]);
        capture.tick(Instant::now());
        assert_eq!((elements("any4").as_str(), elements("service6").as_str()), ("8081", ""));
        capture.set_services(both(9500));
        capture.tick(Instant::now());
        capture.remove_for_good(Instant::now()).unwrap();
        assert_eq!(run("nft", "list tables"), "");
    });
}

#[test]
fn what_an_earlier_registrar_captured_stays_until_the_next_one_knows_better() {
    Namespace::new().within(|| {
        let mut earlier = capturing(Asked::Divert, both(9500).into_iter().chain(both(9501)));
        earlier.set_ports([tcp("0.0.0.0", 8080), tcp("0.0.0.0", 8081)]);
        earlier.tick(Instant::now());
        drop(earlier);
        let before = listed();

        let mut next = Capture::new(Asked::Divert);
        next.set_ports([tcp("0.0.0.0", 8080), tcp("0.0.0.0", 8081)]);
        next.tick(Instant::now());
        assert_eq!(listed(), before, "the service ports are not known yet");
        next.set_services(both(9501).into_iter().chain(both(9502)));
        next.tick(Instant::now());
        assert_eq!(elements("service4"), "192.168.168.168 . 9501, 192.168.168.168 . 9502");
        drop(next);

        let mut next = capturing(Asked::Divert, both(9501));
        assert_eq!(elements("any4"), "8080, 8081", "the published ports are not known yet");
        next.set_ports([tcp("0.0.0.0", 8081)]);
        next.tick(Instant::now());
        assert_eq!((elements("any4").as_str(), elements("service4").as_str()), ("8081", "192.168.168.168 . 9501"));
    });
}

#[test]
fn while_not_all_is_known_what_an_earlier_registrar_captured_stays_and_its_lease_is_renewed() {
    Namespace::new().within(|| {
        let mut earlier = capturing(Asked::Divert, both(9500));
        earlier.set_ports([tcp("0.0.0.0", 8080)]);
        earlier.tick(Instant::now());
        drop(earlier);
        run("nft", "flush set inet envoy-docker-shim lease");

        let mut next = Capture::new(Asked::Divert);
        next.keep_services([]);
        let due = next.tick(Instant::now()).expect("the lease has to be renewed");
        assert_ne!(elements("lease"), "", "renewed");
        assert!(due <= Instant::now() + capture::LEASE / 2);
        next.add_service([192, 168, 168, 168].into(), 9501);
        next.tick(Instant::now());
        assert_eq!(elements("service4"), "192.168.168.168 . 9500, 192.168.168.168 . 9501");
        assert_eq!(elements("any4"), "8080");
        next.set_ports([]);
        next.set_services(both(9501));
        next.tick(Instant::now());
        assert_eq!((elements("any4").as_str(), elements("service4").as_str()), ("", "192.168.168.168 . 9501"));
    });
}

#[test]
fn a_flushed_table_is_noticed_and_mended() {
    for harm in
        ["flush ruleset", "flush set inet envoy-docker-shim service4", "flush chain inet envoy-docker-shim divert"]
    {
        Namespace::new().within(|| {
            let mut capture = capturing(Asked::Auto, both(9500));
            let watch = capture.watch().unwrap();
            run("nft", harm);
            let now = Instant::now() + Duration::from_secs(1);
            capture.noticed(notices(&watch), now);
            capture.tick(now);
            assert_eq!(elements("service4"), "192.168.168.168 . 9500", "{harm}");
            assert!(run("nft", "list ruleset").contains("@service6 dnat ip6 to :15001"), "{harm}");
        });
    }
}

#[test]
fn the_lease_of_services_alone_is_renewed() {
    Namespace::new().within(|| {
        let mut capture = capturing(Asked::Auto, both(9500));
        run("nft", "flush set inet envoy-docker-shim lease");
        let due = capture.tick(Instant::now()).expect("the lease has to be renewed");
        capture.tick(due);
        assert!(elements("lease").starts_with("6 expires"), "{}", elements("lease"));
    });
}

#[test]
fn with_capture_none_nothing_is_captured() {
    Namespace::new().within(|| {
        drop(capturing(Asked::Auto, both(9500)));
        let capture = capturing(Asked::None, both(9500));
        assert_eq!(run("nft", "list tables"), "");
        assert!(capture.try_services().unwrap_err().contains("--capture none"));
    });
}

#[test]
fn to_try_changes_nothing() {
    Namespace::new().within(|| {
        Capture::new(Asked::Auto).try_services().unwrap();
        assert_eq!(run("nft", "list ruleset"), "");
        let capture = capturing(Asked::Auto, both(9500));
        let before = listed();
        let watch = Capture::new(Asked::Auto).watch().unwrap();
        capture.try_services().unwrap();
        assert_eq!(listed(), before);
        assert!(notices(&watch).is_empty());
    });
}

#[test]
fn nobody_is_refused_while_the_table_is_tried_and_changed() {
    let lab = Lab::new();
    let mut capture = lab.capture(Asked::Auto, both(9501));
    let asked = std::thread::scope(|scope| {
        let changing = scope.spawn(|| {
            lab.host.within(|| {
                for round in 0..200_u16 {
                    capture.add_service(ip(SERVICE4), 20_000 + round);
                    capture.try_services().unwrap();
                    capture.tick(Instant::now());
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        });
        let mut asked = 0;
        while !changing.is_finished() {
            assert_eq!(lab.host.ask(ip(SERVICE4), 9501), format!("{SERVICE4}:9501 for {SERVICE4}"));
            asked += 1;
        }
        asked
    });
    println!("{asked} connections while the table was changed and tried 200 times");
    assert!(asked > 200, "{asked}");
}

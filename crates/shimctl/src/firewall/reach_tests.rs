use super::*;
use crate::firewall::{of_iptables, usual_interfaces};

fn published(at: &str, port: u16) -> Door {
    let address = at.parse().unwrap();
    Door { kind: Kind::Published, protocol: "tcp".to_owned(), address, port, translated_to: None }
}

/// How it is to reach `door` by these rules of INPUT.
fn of(door: &Door, rules: &str) -> Reach {
    reach(door, &of_iptables(&format!("*filter\n:INPUT ACCEPT [0:0]\n{rules}\nCOMMIT\n")), &usual_interfaces())
}

#[test]
fn what_the_interface_of_the_default_route_closes_is_closed() {
    assert!(matches!(of(&published("0.0.0.0", 80), "-A INPUT -i eth0 -j DROP"), Reach::Closed(_)));
    assert!(matches!(of(&published("0.0.0.0", 80), "-A INPUT -i eth1 -j DROP"), Reach::ForSome(_)));
    assert_eq!(of(&published("0.0.0.0", 80), "-A INPUT -i docker0 -j DROP"), Reach::Open);
    assert_eq!(of(&published("::", 80), "-A INPUT -j DROP"), Reach::Open, "these are IPv4's rules");
}

#[test]
fn a_port_at_one_address_is_looked_at_there() {
    assert!(matches!(of(&published("10.1.0.1", 80), "-A INPUT -i eth1 -j DROP"), Reach::Closed(_)));
    assert_eq!(of(&published("10.1.0.1", 80), "-A INPUT -i eth0 -j DROP"), Reach::Open);
    assert_eq!(of(&published("10.0.0.1", 80), "-A INPUT -d 10.1.0.1/32 -j DROP"), Reach::Open);
}

#[test]
fn a_port_that_some_senders_are_allowed_to_is_open_for_some() {
    let rules = "-A INPUT -s 10.0.0.0/8 -j ACCEPT\n-A INPUT -j DROP";
    assert!(matches!(of(&published("0.0.0.0", 80), rules), Reach::ForSome(_)));
}

#[test]
fn service_ports_are_looked_at_from_the_containers() {
    let door = Door::of_services("192.168.168.168".parse().unwrap(), 9500);
    assert!(matches!(of(&door, "-A INPUT -i docker0 -j DROP"), Reach::Closed(_)));
    assert_eq!(of(&door, "-A INPUT -i eth0 -j DROP"), Reach::Open);
    assert_eq!(of(&door, "-A INPUT -s 172.17.0.0/16 -p tcp --dport 15001 -j ACCEPT\n-A INPUT -j DROP"), Reach::Open);
    let Reach::Closed(cause) = of(&door, "-A INPUT -j DROP") else { panic!("it is open") };
    let expected = "iptables -I INPUT -d 192.168.168.168 -p tcp --dport 15001 -j ACCEPT";
    assert_eq!(openers(&[(&door, &cause)]), [expected]);
    assert_eq!(cause.in_words(), "iptables, by the rule -A INPUT -j DROP");
}

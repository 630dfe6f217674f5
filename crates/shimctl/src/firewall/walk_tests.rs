use super::*;
use crate::firewall::iptables;
use crate::firewall::rules::Family;

fn of(input: &str) -> Ruleset {
    let saved = format!("# (nf_tables)\n*filter\n{input}COMMIT\n");
    Ruleset { tables: iptables::parse(&saved, Family::Ip4) }
}

/// A connection to 10.0.0.1 at this port by eth0.
fn to(port: u16) -> Packet {
    Packet {
        protocol: "tcp".to_owned(),
        destination: "10.0.0.1".parse().unwrap(),
        port,
        translated_to: None,
        interface: "eth0".to_owned(),
        sender: Sender::Anybody,
    }
}

fn word(fate: &Fate) -> &'static str {
    match fate {
        Fate::Open => "open",
        Fate::Closed(_) => "closed",
        Fate::Unclear(_) => "unclear",
    }
}

/// The fate of `packet` by these rules of INPUT, which accepts in the end.
#[track_caller]
fn assert_fate(expected: &str, packet: &Packet, rules: &str) {
    let fate = fate(&of(&format!(":INPUT ACCEPT [0:0]\n:mine - [0:0]\n:deep - [0:0]\n{rules}\n")), packet);
    assert_eq!(word(&fate), expected, "{rules}: {fate:?}");
}

#[test]
fn without_rules_all_is_open_and_a_policy_of_drop_closes_all() {
    assert_eq!(fate(&Ruleset::default(), &to(80)), Fate::Open);
    let Fate::Closed(cause) = fate(&of(":INPUT DROP [0:0]\n"), &to(80)) else { panic!("it is open") };
    assert_eq!((cause.chain.as_str(), cause.rule), ("INPUT", None));
}

#[test]
fn the_first_rule_that_decides_counts() {
    assert_fate("closed", &to(80), "-A INPUT -p tcp --dport 80 -j REJECT\n-A INPUT -p tcp --dport 80 -j ACCEPT");
    assert_fate("open", &to(80), "-A INPUT -p tcp --dport 80 -j ACCEPT\n-A INPUT -j DROP");
    assert_fate("closed", &to(81), "-A INPUT -p tcp --dport 80 -j ACCEPT\n-A INPUT -j DROP");
    assert_fate("closed", &to(80), "-A INPUT -p udp --dport 80 -j ACCEPT\n-A INPUT -j DROP");
    assert_fate("open", &to(80), "-A INPUT -d 10.0.0.2/32 -j DROP\n-A INPUT -i lo -j DROP");
}

#[test]
fn a_jump_comes_back_and_a_goto_does_not() {
    assert_fate("closed", &to(80), "-A INPUT -j mine\n-A INPUT -j DROP\n-A mine -p udp -j ACCEPT");
    assert_fate("open", &to(80), "-A INPUT -g mine\n-A INPUT -j DROP\n-A mine -p udp -j ACCEPT");
    assert_fate("open", &to(80), "-A INPUT -j mine\n-A INPUT -j DROP\n-A mine -j deep\n-A deep -p tcp -j ACCEPT");
    assert_fate("closed", &to(80), "-A INPUT -j mine\n-A INPUT -j DROP\n-A mine -j RETURN\n-A mine -j ACCEPT");
}

#[test]
fn a_rule_that_is_not_understood_matters_only_where_it_changes_the_end() {
    assert_fate("unclear", &to(80), "-A INPUT -m mark --mark 1 -j DROP");
    assert_fate("open", &to(80), "-A INPUT -m mark --mark 1 -j ACCEPT");
    assert_fate("closed", &to(80), "-A INPUT -m mark --mark 1 -j DROP\n-A INPUT -j DROP");
    assert_fate("open", &to(80), "-A INPUT -p tcp --dport 80 -j ACCEPT\n-A INPUT -m mark --mark 1 -j DROP");
    assert_fate("unclear", &to(80), "-A INPUT -j NFQUEUE --queue-num 1");
    assert_fate("unclear", &to(80), "-A INPUT -m mark --mark 1 -j mine\n-A mine -j DROP");
    assert_fate("open", &to(80), "-A INPUT -m mark --mark 1 -j LOG");
}

#[test]
fn rules_for_some_senders_leave_everybody_else_as_they_were() {
    let bans = "-A INPUT -s 192.0.2.1/32 -j REJECT\n-A INPUT -m set --match-set f2b src -j DROP";
    assert_fate("open", &to(80), bans);
    let some = "-A INPUT -s 10.0.0.0/8 -p tcp --dport 80 -j ACCEPT\n-A INPUT -j DROP";
    assert_fate("closed", &to(80), some);
    assert_fate("open", &Packet { sender: Sender::Favoured, ..to(80) }, some);
    assert_fate("open", &Packet { sender: Sender::Known("10.1.1.1".parse().unwrap()), ..to(80) }, some);
    assert_fate("closed", &Packet { sender: Sender::Known("192.0.2.1".parse().unwrap()), ..to(80) }, some);
    assert_fate("closed", &to(80), "-A INPUT ! -s 10.0.0.0/8 -j DROP");
    // That is this host itself.
    let own = "-A INPUT -s 127.0.0.0/8 -j ACCEPT\n-A INPUT -j DROP";
    assert_fate("closed", &Packet { sender: Sender::Favoured, ..to(80) }, own);
    assert_fate("open", &to(80), "-A INPUT -s 0.0.0.0/0 -j ACCEPT\n-A INPUT -j DROP");
}

#[test]
fn a_translated_port_is_what_input_sees() {
    let translated = Packet { translated_to: Some(15001), ..to(9500) };
    assert_fate("open", &translated, "-A INPUT -p tcp --dport 15001 -j ACCEPT\n-A INPUT -j DROP");
    assert_fate("closed", &translated, "-A INPUT -p tcp --dport 9500 -j ACCEPT\n-A INPUT -j DROP");
    assert_fate("open", &translated, "-A INPUT -m conntrack --ctstatus DNAT -j ACCEPT\n-A INPUT -j DROP");
    assert_fate("closed", &to(80), "-A INPUT -m conntrack --ctstatus DNAT -j ACCEPT\n-A INPUT -j DROP");
    let before = of(":PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp --dport 9500 -j DROP\n");
    assert_eq!(word(&fate(&before, &translated)), "closed");
}

#[test]
fn a_packet_has_to_pass_every_table() {
    let mut rules = of(":INPUT ACCEPT [0:0]\n-A INPUT -p tcp --dport 80 -j ACCEPT\n");
    rules.tables.extend(of(":INPUT DROP [0:0]\n").tables);
    assert_eq!(word(&fate(&rules, &to(80))), "closed");
    let other = Packet { destination: "fd00::1".parse().unwrap(), ..to(80) };
    assert_eq!(fate(&rules, &other), Fate::Open, "these are IPv4's");
}

#[test]
fn chains_that_jump_in_circles_end() {
    assert_fate("unclear", &to(80), "-A INPUT -j mine\n-A mine -j deep\n-A deep -j mine");
}

#[test]
fn ufw_as_it_comes_closes_what_it_was_not_told_to_allow() {
    let rules = Ruleset { tables: iptables::parse(include_str!("ufw.txt"), Family::Ip4) };
    assert_eq!(fate(&rules, &to(8080)), Fate::Open);
    assert_eq!(fate(&rules, &to(22)), Fate::Open, "limited, which a first client does not notice");
    let Fate::Closed(cause) = fate(&rules, &to(8081)) else { panic!("ufw denies it") };
    assert_eq!((cause.manager, cause.rule), (Manager::Ufw, None));
    assert_eq!(word(&fate(&rules, &to(9000))), "closed");
    assert_eq!(fate(&rules, &Packet { sender: Sender::Favoured, ..to(9000) }), Fate::Open);
}

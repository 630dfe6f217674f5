use super::*;

/// The only rule of INPUT.
fn rule(line: &str) -> Rule {
    let saved = format!(
        "# by iptables-save (nf_tables)\n*filter\n:INPUT ACCEPT [0:0]\n:mine - [0:0]\n-A INPUT {line}\nCOMMIT\n"
    );
    let tables = parse(&saved, Family::Ip4);
    tables[0].chains["INPUT"].rules[0].clone()
}

fn tests(line: &str) -> Vec<Test> {
    let conditions = rule(line).conditions;
    assert!(conditions.iter().all(|condition| !condition.negated), "{conditions:?}");
    conditions.into_iter().map(|condition| condition.test).collect()
}

#[test]
fn a_rule_is_its_conditions_and_its_target() {
    let rule =
        rule("-s 10.0.0.0/8 ! -i eth+ -p tcp -m tcp --dport 8080:8089 -m comment --comment \"a -j DROP\" -j ACCEPT");
    assert_eq!(rule.action, Action::Decide(Verdict::Accept));
    let expected = [
        Test::Source(vec![Network::parse("10.0.0.0/8").unwrap()]).holds(),
        Condition { test: Test::Interface(vec!["eth*".to_owned()]), negated: true },
        Test::Protocol(vec!["tcp".to_owned()]).holds(),
        Test::Port(vec![8080..=8089]).holds(),
    ];
    assert_eq!(rule.conditions, expected);
}

#[test]
fn what_holds_for_every_first_packet_is_known() {
    for line in [
        "-m conntrack --ctstate NEW,RELATED -j DROP",
        "-m state --state NEW -j DROP",
        "-m addrtype --dst-type LOCAL -j DROP",
        "-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN -j DROP",
        "-m limit --limit 3/min --limit-burst 10 -j DROP",
        "-m hashlimit --hashlimit-upto 5/sec --hashlimit-mode srcip --hashlimit-name x -j DROP",
        "-p tcp --sport 1024:65535 -j DROP",
    ] {
        assert!(tests(line).contains(&Test::Always(true)), "{line}: {:?}", tests(line));
        assert!(!tests(line).contains(&Test::Unknown), "{line}: {:?}", tests(line));
    }
    for line in [
        "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-m conntrack --ctstate INVALID -j DROP",
        "-m addrtype --dst-type BROADCAST -j ACCEPT",
        "-m rt --rt-type 0 -j DROP",
        "-p tcp -m connlimit --connlimit-above 20 --connlimit-mask 32 --connlimit-saddr -j REJECT",
        "-m recent --update --seconds 30 --hitcount 6 --name DEFAULT --mask 255.255.255.255 --rsource -j DROP",
        "-p udp -m udp --sport 67 --dport 68 -j ACCEPT",
        "-p tcp -m tcp --tcp-flags FIN,SYN FIN,SYN -j DROP",
        "-p icmp -m icmp --icmp-type 8 -j ACCEPT",
    ] {
        assert!(tests(line).contains(&Test::Always(false)), "{line}: {:?}", tests(line));
        assert!(!tests(line).contains(&Test::Unknown), "{line}: {:?}", tests(line));
    }
}

#[test]
fn what_is_not_understood_is_unknown() {
    for line in [
        "-m u32 --u32 0x0 -j DROP",
        "-m mark --mark 0x1 -j DROP",
        "-m string --string x --algo bm -j DROP",
        "-p tcp -m tcp --tcp-option 8 -j DROP",
        "-m set --match-set ports dst -j DROP",
        "-s nonsense -j DROP",
        "-p tcp --dport many -j DROP",
    ] {
        assert!(tests(line).contains(&Test::Unknown), "{line}: {:?}", tests(line));
    }
    assert_eq!(rule("-j NFQUEUE --queue-num 0").action, Action::Unknown);
}

#[test]
fn a_list_of_senders_singles_some_out() {
    assert_eq!(tests("-p tcp -m set --match-set f2b-sshd src -j REJECT")[1], Test::SomeSenders);
    assert_eq!(tests("-m geoip --source-country DE -j ACCEPT"), [Test::SomeSenders]);
}

#[test]
fn targets_decide_jump_or_go_on() {
    assert_eq!(rule("-j REJECT --reject-with tcp-reset").action, Action::Decide(Verdict::Drop));
    assert_eq!(rule("-j mine").action, Action::Jump("mine".to_owned()));
    assert_eq!(rule("-g mine").action, Action::Goto("mine".to_owned()));
    assert_eq!(rule("-m limit --limit 3/min -j LOG --log-prefix \"[UFW BLOCK] \"").action, Action::Continue);
    assert_eq!(rule("-p tcp --dport 80").action, Action::Continue);
}

#[test]
fn only_the_tables_that_filter_are_kept_with_who_keeps_them() {
    let saved = "*nat\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n*raw\n:PREROUTING ACCEPT [0:0]\nCOMMIT\n";
    let tables = parse(saved, Family::Ip4);
    let expected = Manager::Iptables { is_legacy: true, table: "raw".to_owned() };
    assert_eq!(tables.iter().map(|table| &table.manager).collect::<Vec<_>>(), [&expected]);
    let saved = "# (nf_tables)\n*filter\n:INPUT DROP [0:0]\n:ufw-user-input - [0:0]\nCOMMIT\n";
    assert_eq!(parse(saved, Family::Ip4)[0].manager, Manager::Ufw);
}

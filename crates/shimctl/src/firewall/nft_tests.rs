use super::*;

/// The rules of the chain `input` of the table `inet mine`, with these in the place of its expressions.
fn rules_of(expressions: &str) -> Vec<Rule> {
    let tables = parse(&ruleset(expressions), |_, _| false).unwrap();
    tables[0].chains["input"].rules.clone()
}

fn ruleset(expressions: &str) -> String {
    format!(
        r#"{{"nftables":[{{"metainfo":{{"version":"1.0.6"}}}},{{"table":{{"family":"inet","name":"mine"}}}},
        {{"set":{{"family":"inet","name":"ok","table":"mine","type":"inet_service","elem":[{{"range":[100,200]}},300]}}}},
        {{"set":{{"family":"inet","name":"bad","table":"mine","type":"ipv4_addr"}}}},
        {{"map":{{"family":"inet","name":"vm","table":"mine","map":"verdict","elem":[[22,{{"accept":null}}],[23,{{"drop":null}}]]}}}},
        {{"chain":{{"family":"inet","table":"mine","name":"input","handle":4,"type":"filter","hook":"input","prio":0,"policy":"drop"}}}},
        {{"chain":{{"family":"inet","table":"mine","name":"sub"}}}},
        {{"rule":{{"family":"inet","table":"mine","chain":"input","handle":9,"expr":[{expressions}]}}}}]}}"#
    )
}

/// The conditions of the only rule, which accepts.
fn conditions_of(matches: &str) -> Vec<Condition> {
    let mut rules = rules_of(&format!(r#"{matches},{{"accept":null}}"#));
    assert_eq!(rules.len(), 1, "{rules:?}");
    assert_eq!(rules[0].action, Action::Decide(Verdict::Accept));
    rules.remove(0).conditions
}

fn matching(left: &str, op: &str, right: &str) -> String {
    format!(r#"{{"match":{{"op":"{op}","left":{left},"right":{right}}}}}"#)
}

const DPORT: &str = r#"{"payload":{"protocol":"tcp","field":"dport"}}"#;

fn tcp() -> Condition {
    Test::Protocol(vec!["tcp".to_owned()]).holds()
}

#[test]
fn a_chain_at_the_hook_is_a_base_chain_with_its_policy() {
    let tables = parse(&ruleset(r#"{"accept":null}"#), |_, _| false).unwrap();
    assert_eq!(tables[0].chains["input"].base, Some(Base { hook: Hook::Input, policy: Verdict::Drop }));
    assert_eq!(tables[0].manager, Manager::Nft { family: "inet".to_owned(), table: "mine".to_owned() });
    assert_eq!(
        parse(&ruleset(r#"{"accept":null}"#), |family, name| (family, name) == ("inet", "mine")),
        Ok(Vec::new())
    );
    assert!(parse("{}", |_, _| false).is_err() && parse("nft: no", |_, _| false).is_err());
}

#[test]
fn ports_stand_alone_in_ranges_in_sets_and_in_comparisons() {
    let ports = |op: &str, right: &str| conditions_of(&matching(DPORT, op, right));
    for (op, right, expected) in [
        ("==", "8080", vec![8080..=8080]),
        ("==", r#"{"set":[22,{"range":[8000,8010]}]}"#, vec![22..=22, 8000..=8010]),
        ("==", r#""@ok""#, vec![100..=200, 300..=300]),
        (">=", "1024", vec![1024..=u16::MAX]),
        ("<", "1024", vec![0..=1023]),
    ] {
        let conditions = ports(op, right);
        assert_eq!(conditions.last(), Some(&Test::Port(expected).holds()), "{op} {right}");
    }
    let not = Condition { test: Test::Port(vec![22..=22]), negated: true };
    assert_eq!(ports("!=", "22"), [tcp(), not], "udp is no match");
}

#[test]
fn states_interfaces_addresses_and_kinds_are_understood() {
    let one = |left: &str, right: &str| conditions_of(&matching(left, "==", right)).pop().unwrap();
    assert_eq!(one(r#"{"ct":{"key":"state"}}"#, r#"["established","related"]"#), Test::Always(false).holds());
    assert_eq!(one(r#"{"ct":{"key":"state"}}"#, r#""new""#), Test::Always(true).holds());
    assert_eq!(one(r#"{"ct":{"key":"status"}}"#, r#""dnat""#), Test::Translated.holds());
    assert_eq!(
        one(r#"{"meta":{"key":"iifname"}}"#, r#""docker*""#),
        Test::Interface(vec!["docker*".to_owned()]).holds()
    );
    let ip4 = Condition { test: Test::IsIp6, negated: true };
    assert_eq!(one(r#"{"meta":{"key":"nfproto"}}"#, r#""ipv4""#), ip4);
    assert_eq!(one(r#"{"fib":{"result":"type","flags":["daddr"]}}"#, r#""local""#), Test::Always(true).holds());
    assert_eq!(one(r#"{"fib":{"result":"oif","flags":["saddr","mark","iif"]}}"#, "false"), Test::Always(false).holds());
    let ten = Test::Source(vec![Network::parse("10.0.0.0/8").unwrap()]).holds();
    let prefix = r#"{"prefix":{"addr":"10.0.0.0","len":8}}"#;
    assert_eq!(conditions_of(&matching(r#"{"payload":{"protocol":"ip","field":"saddr"}}"#, "==", prefix)), [ip4, ten]);
    assert_eq!(one(r#"{"payload":{"protocol":"ip","field":"saddr"}}"#, r#""@bad""#), Test::Source(Vec::new()).holds());
    assert_eq!(one(r#"{"meta":{"key":"mark"}}"#, "1"), Test::Unknown.holds());
}

#[test]
fn a_verdict_map_and_a_set_of_several_fields_are_a_rule_for_each_entry() {
    for map in [r#""@vm""#, r#"{"set":[[22,{"accept":null}],[23,{"drop":null}]]}"#] {
        let rules = rules_of(&format!(r#"{{"vmap":{{"key":{DPORT},"data":{map}}}}}"#));
        let actions: Vec<_> = rules.iter().map(|rule| rule.action.clone()).collect();
        assert_eq!(actions, [Action::Decide(Verdict::Accept), Action::Decide(Verdict::Drop)]);
        assert_eq!(rules[1].conditions, [tcp(), Test::Port(vec![23..=23]).holds()]);
    }
    let left = format!(r#"{{"concat":[{{"payload":{{"protocol":"ip","field":"saddr"}}}},{DPORT}]}}"#);
    let set = matching(&left, "==", r#"{"set":[{"concat":["10.0.0.1",80]},{"concat":["10.0.0.2",81]}]}"#);
    let rules = rules_of(&format!(r#"{set},{{"drop":null}}"#));
    assert_eq!(rules.len(), 2);
    assert_eq!(rules[1].conditions.last(), Some(&Test::Port(vec![81..=81]).holds()));
    assert_eq!(rules_of(r#"{"vmap":{"key":{"meta":{"key":"mark"}},"data":"@gone"}}"#)[0].action, Action::Unknown);
}

#[test]
fn what_only_counts_or_logs_goes_on_and_what_is_not_known_says_so() {
    let rules = rules_of(r#"{"counter":{"packets":0,"bytes":0}},{"log":{"prefix":"x"}}"#);
    assert_eq!((rules[0].conditions.len(), &rules[0].action), (0, &Action::Continue));
    let rules = rules_of(r#"{"xt":{"type":"match","name":"addrtype"}},{"drop":null}"#);
    assert_eq!(rules[0].conditions, [Test::Unknown.holds()]);
    let rules = rules_of(r#"{"xt":{"type":"target","name":"REJECT"}}"#);
    assert_eq!(rules[0].action, Action::Decide(Verdict::Drop));
    assert_eq!(rules_of(r#"{"queue":{"num":0}}"#)[0].action, Action::Unknown);
    assert_eq!(
        rules_of(r#"{"limit":{"rate":3,"per":"minute","inv":true}},{"drop":null}"#)[0].conditions,
        [Test::Always(false).holds()]
    );
}

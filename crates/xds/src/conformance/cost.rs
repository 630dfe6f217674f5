//! What a change costs must not depend on how many resources there are. Counted in resources looked at, not in
//! time.

use super::lab::Lab;
use crate::store::work;

/// Resources looked at while one port is added, changed and removed beside `others`, in sync with two Envoys.
fn cost_of_one_port(others: usize) -> u64 {
    let world: String = (0..others).map(|n| format!("C:c{n}=1 E:c{n}=1 L:l{n}=1 ")).collect();
    let names: String = (0..others).map(|n| format!("+c{n} ")).collect();
    let mut lab = Lab::serving(&world);
    let envoys = [lab.delta_in_sync(&names), lab.delta_in_sync(&names)];
    work::take();
    for changes in ["C:x=1 E:x=1 L:x=1", "E:x=2", "C:x=2", "L:x=2", "C:x E:x L:x"] {
        lab.apply(changes);
        for envoy in envoys {
            assert!(!lab.receive(envoy).is_empty());
            lab.settle(envoy);
        }
    }
    assert!(envoys.iter().all(|envoy| lab.in_sync(*envoy)));
    work::take()
}

#[test]
fn a_change_costs_the_same_among_ten_and_among_ten_thousand() {
    let few = cost_of_one_port(10);
    assert_eq!(cost_of_one_port(10_000), few);
    assert!(few < 200, "{few} resources looked at");
}

#[test]
fn a_reconnect_without_changes_costs_one_look_at_each_resource_and_sends_none() {
    let world: String = (0..1000).map(|n| format!("L:l{n}=1 ")).collect();
    let claims: String = (0..1000).map(|n| format!("have:l{n}=1 ")).collect();
    let mut lab = Lab::serving(&world);
    let envoy = lab.delta();
    work::take();
    assert!(lab.ask(envoy, &format!("LDS {claims}")).is_empty());
    assert!(work::take() <= 5 * 1000);
}

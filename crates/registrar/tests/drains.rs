//! Orders to drain, and what a restart of the registrar leaves of them, on a host without Docker.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::os::unix::fs::MetadataExt;

use common::{Registrar, wait_until};

/// Id and status of every instance.
fn instances(registrar: &Registrar) -> Vec<(String, String)> {
    let services: Vec<admin_api::Service> =
        serde_json::from_str(&registrar.get("/api/v1/services", "localhost").1).unwrap();
    let instances = services.into_iter().flat_map(|service| service.instances);
    instances.map(|instance| (instance.id, instance.status)).collect()
}

fn are_alive(registrar: &Registrar, count: usize) -> bool {
    instances(registrar).iter().filter(|(_, status)| status == "alive").count() == count
}

#[test]
fn a_drain_outlives_the_registrar_and_is_forgotten_with_its_instance() {
    let folder = tempfile::tempdir().unwrap();
    let services = folder.path().join("static.yaml");
    let entry = |name: &str, port: u16| {
        format!("- {{name: {name}, check: {{kind: AlwaysSuccessful}}, ports: [{{port: {port}, address: 10.0.0.5}}]}}\n")
    };
    std::fs::write(&services, [entry("one", 1), entry("two", 2)].concat()).unwrap();
    let options = ["--static-services", services.to_str().unwrap(), "--host-name", "here"];
    let registrar = Registrar::start(&options);
    wait_until("both are alive", || are_alive(&registrar, 2));
    let drained = instances(&registrar)[0].0.clone();
    let (status, body) = registrar.order("POST", &format!("/api/v1/instances/{drained}/drain"));
    assert_eq!(status, 204, "{body}");
    let file = registrar.folder.path().join("registrar.drains");
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    // What somebody else wrote does no harm.
    let kept = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("rubbish\n{kept}")).unwrap();

    let registrar = registrar.restart(&options);
    wait_until("both are back", || {
        let listed = instances(&registrar);
        let own = listed.iter().find(|(id, _)| *id == drained);
        assert!(own.is_none_or(|(_, status)| status == "draining"), "never anything else: {listed:?}");
        listed.len() == 2 && listed.iter().any(|(_, status)| status == "alive")
    });
    let (status, body) = registrar.order("DELETE", &format!("/api/v1/instances/{drained}/drain"));
    assert_eq!(status, 204, "{body}");
    assert!(instances(&registrar).iter().all(|(_, status)| status == "alive"));
    assert!(!file.exists(), "there is nothing to keep");

    // Drained, and gone while no registrar ran: it is not drained when it comes back.
    registrar.order("POST", &format!("/api/v1/instances/{drained}/drain"));
    std::fs::write(&services, "[]").unwrap();
    let registrar = registrar.restart(&options);
    wait_until("it is forgotten", || !file.exists());
    std::fs::write(&services, [entry("one", 1), entry("two", 2)].concat()).unwrap();
    wait_until("both are alive", || are_alive(&registrar, 2));
}

#[test]
fn an_order_for_an_instance_that_is_not_here_says_why_it_fails() {
    let registrar = Registrar::start(&["--host-name", "here"]);
    for (id, status, word) in [
        ("here/0123456789ab", 404, "host here has no instance 0123456789ab"),
        ("there/0123456789ab", 502, "gossip is off"),
        ("there/nonsense", 400, "12 hexadecimal digits"),
    ] {
        let (answered, body) = registrar.order("POST", &format!("/api/v1/instances/{id}/drain"));
        assert!(answered == status && body.contains(word), "{id}: {answered} {body}");
    }
}

#[test]
fn a_drain_outlives_a_start_at_which_the_file_of_static_services_is_bad() {
    let folder = tempfile::tempdir().unwrap();
    let services = folder.path().join("static.yaml");
    let good = "- {name: one, check: {kind: AlwaysSuccessful}, ports: [{port: 1, address: 10.0.0.5}]}\n";
    std::fs::write(&services, good).unwrap();
    let options = ["--static-services", services.to_str().unwrap(), "--host-name", "here"];
    let registrar = Registrar::start(&options);
    wait_until("it is alive", || are_alive(&registrar, 1));
    let drained = instances(&registrar)[0].0.clone();
    let order = format!("/api/v1/instances/{drained}/drain");
    assert_eq!(registrar.order("POST", &order).0, 204);

    std::fs::write(&services, "- name: [").unwrap();
    let registrar = registrar.restart(&options);
    let (status, body) = registrar.order("POST", &order);
    assert!(status == 503 && body.contains("still starting") && body.contains("try again"), "{status} {body}");
    // Once this host announces what it has, it is no longer said to be starting.
    wait_until("what is known counts", || registrar.order("POST", &order).0 == 404);

    std::fs::write(&services, good).unwrap();
    wait_until("it is back", || !instances(&registrar).is_empty());
    assert_eq!(instances(&registrar), [(drained, "draining".to_owned())]);
    assert!(registrar.folder.path().join("registrar.drains").exists());
}

#[test]
fn a_drain_that_can_not_be_kept_is_done_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let services = folder.path().join("static.yaml");
    std::fs::write(&services, "- {name: one, check: {kind: AlwaysSuccessful}, ports: [{port: 1, address: 10.0.0.5}]}")
        .unwrap();
    let registrar = Registrar::start(&["--static-services", services.to_str().unwrap()]);
    wait_until("it is alive", || are_alive(&registrar, 1));
    std::fs::create_dir(registrar.folder.path().join("registrar.drains.new")).unwrap();
    let (status, body) = registrar.order("POST", &format!("/api/v1/instances/{}/drain", instances(&registrar)[0].0));
    assert!(status == 500 && body.contains("registrar.drains") && body.contains("done, but"), "{status} {body}");
    assert_eq!(instances(&registrar)[0].1, "draining");
}

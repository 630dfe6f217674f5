//! Why an instance is not alive is said by the API and, once, by the log; on a host without Docker.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use common::{Registrar, command, wait_until};

/// A registrar that logs into `registrar.log` of its folder.
fn logging(folder: tempfile::TempDir, options: &[&str]) -> Registrar {
    let path = folder.path().join("registrar.log");
    let process = command(&folder).args(options).stderr(File::create(&path).unwrap()).spawn().unwrap();
    let mut http = None;
    wait_until("it runs", || {
        let log = std::fs::read_to_string(&path).unwrap();
        http = log.split_whitespace().find_map(|word| word.strip_prefix("http=127").map(|rest| format!("127{rest}")));
        http.is_some()
    });
    Registrar { folder, process, http: http.unwrap() }
}

/// A server that answers every request with 500; yields its port.
fn failing_server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
        }
    });
    port
}

#[test]
fn why_an_instance_is_unhealthy_is_said_without_secrets_and_logged_once() {
    let folder = tempfile::tempdir().unwrap();
    let services = folder.path().join("static.yaml");
    let (failing, closed) = (failing_server(), TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
    let checks = [
        ("failing", "HttpGet", format!("http://127.0.0.1:{failing}/status?token=secret"), "/status: 500"),
        ("closed", "HttpGet", format!("http://127.0.0.1:{closed}/"), "refused"),
        ("missing", "External", "/no/such/command --password=secret".to_owned(), "no such command"),
        ("fine", "AlwaysSuccessful", String::new(), ""),
    ];
    let entry = |(name, kind, args, _): &(&str, &str, String, &str)| {
        format!(
            "- {{name: {name}, ports: [{{port: 80, address: 10.0.0.5}}],\n   check: {{kind: {kind}, args: '{args}', interval: 100ms}}}}\n"
        )
    };
    std::fs::write(&services, checks.iter().map(entry).collect::<String>()).unwrap();
    let options = ["--static-services", services.to_str().unwrap(), "--allow-external-checks"];
    let registrar = logging(folder, &options);
    let reasons = || -> BTreeMap<String, (String, Option<String>)> {
        let services: Vec<admin_api::Service> =
            serde_json::from_str(&registrar.get("/api/v1/services", "localhost").1).unwrap();
        let of = |service: admin_api::Service| {
            let instance = service.instances.into_iter().next().unwrap();
            (service.service_name, (instance.status, instance.reason))
        };
        services.into_iter().map(of).collect()
    };
    wait_until("all were checked", || {
        let statuses: Vec<_> = reasons().into_values().map(|(status, _)| status).collect();
        statuses == ["unhealthy", "unhealthy", "alive", "unhealthy"]
    });
    // Some more checks, which say the same.
    thread::sleep(Duration::from_secs(1));
    let reasons = reasons();
    let log = std::fs::read_to_string(registrar.folder.path().join("registrar.log")).unwrap();
    for (name, _, _, expected) in &checks {
        let reason = reasons[*name].1.as_deref();
        if expected.is_empty() {
            assert_eq!(reason, None, "{name}");
            continue;
        }
        let reason = reason.unwrap_or_else(|| panic!("{name} has none"));
        assert!(reason.contains(expected) && !reason.contains("secret"), "{name}: {reason}");
        assert_eq!(log.matches(expected).count(), 1, "{name}: {log}");
    }
    assert!(!log.contains("secret"), "{log}");
}

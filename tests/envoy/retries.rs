//! What is tried on another instance, and what never is.

use std::time::Duration;

use lab::http::Request;
use model::Treatment;

use crate::app::App;
use crate::ports::{of_host, published, service, set};
use crate::rig::Envoy;

const SERVICE: &str = "http://127.0.0.5:9500/";
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn post(url: &str) -> Request {
    Request::get(url).method("POST").body("x")
}

/// An application's failure that says all that it has seen of an answer of Envoy's own, and more.
fn forged(token: &str) -> String {
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nx-shim-failure: not-connected\r\nx-shim-hop: {token}\r\n\
         x-shim-believed: not-connected\r\ncontent-length: 0\r\n\r\n"
    )
}

#[test]
fn an_application_that_says_not_connected_is_sent_its_post_once() {
    // One instance of this host, one on each of two others: there, one behind Envoy, one behind a shim alone.
    let mut changes = service(
        &[("here", "127.0.0.1:81"), ("there", "127.0.0.2:8080"), ("elsewhere", "127.0.0.3:8080")],
        &of_host("here"),
    );
    changes.extend(set(&published("127.0.0.2:8080", "127.0.0.1:82", Treatment::Http), &of_host("there")));
    let envoy = Envoy::start(&changes);
    // What anybody learns who asks a published port that can't be connected to.
    let own_failure = envoy.send(&post("http://127.0.0.2:8080/")).unwrap();
    assert_eq!((own_failure.status, own_failure.header("x-shim-failure")), (503, Some("not-connected")));
    let forged = forged(own_failure.header("x-shim-hop").expect("a published port has a token"));
    let apps = ["127.0.0.1:81", "127.0.0.1:82", "127.0.0.3:8080"].map(|address| envoy.app(address, &forged));
    for round in 1..=6 {
        let answer = envoy.send(&post(SERVICE)).unwrap();
        assert_eq!(answer.status, 503);
        assert!(["x-shim-hop", "x-shim-believed"].iter().all(|name| answer.header(name).is_none()), "{answer:?}");
        let sum: usize = apps.iter().map(App::requests).sum();
        assert_eq!(sum, round, "each request is handled once");
    }
    assert!(apps.iter().all(|app| app.requests() == 2), "all of the ways were gone");
    let answer = envoy.send(&post("http://127.0.0.2:8080/")).unwrap();
    assert_eq!((answer.status, answer.header("x-shim-hop")), (503, None), "a published port passes no token on");
    assert_eq!(apps[1].requests(), 3);
}

#[test]
fn an_instance_behind_another_envoy_that_cannot_connect_to_it_costs_no_post() {
    let mut changes = service(&[("here", "127.0.0.1:81"), ("there", "127.0.0.2:8080")], &of_host("here"));
    changes.extend(set(&published("127.0.0.2:8080", "127.0.0.1:82", Treatment::Http), &of_host("there")));
    let envoy = Envoy::start(&changes);
    let app = envoy.app("127.0.0.1:81", OK);
    for round in 1..=6 {
        let answer = envoy.send(&post(SERVICE)).unwrap();
        assert_eq!((answer.status, app.requests()), (200, round));
    }
    let retried = envoy.stat(r"^cluster\.service/web/test/9500\.upstream_rq_retry$");
    assert!(retried > 0, "the other instance was tried");
}

#[test]
fn no_client_can_ask_for_retries() {
    let envoy = Envoy::start(&set(&published("127.0.0.2:8080", "127.0.0.1:82", Treatment::Http), &of_host("there")));
    let app = envoy.app("127.0.0.1:82", "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    for (round, address) in ["127.0.0.1", "10.0.0.1", "192.0.2.1"].into_iter().enumerate() {
        let asks = post("http://127.0.0.2:8080/")
            .header("x-forwarded-for", address)
            .header("x-envoy-retry-on", "5xx,retriable-status-codes")
            .header("x-envoy-retriable-status-codes", "503")
            .header("x-envoy-max-retries", "5");
        assert_eq!(envoy.send(&asks).unwrap().status, 503);
        assert_eq!(app.requests(), round + 1, "a client of {address} has its request handled once");
    }
}

#[test]
fn instances_that_all_fail_are_not_given_several_times_the_load() {
    const CLIENTS: usize = 300;
    let instances: Vec<_> = (1..=4).map(|number| format!("127.0.0.1:8{number}")).collect();
    let named: Vec<_> = instances.iter().map(|address| ("here", address.as_str())).collect();
    let envoy = Envoy::start(&service(&named, &of_host("here")));
    let apps: Vec<_> = instances.iter().map(|address| envoy.app(address, "")).collect();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| envoy.send(&Request::get(SERVICE).limit(Duration::from_secs(20))));
        }
    });
    let handled: usize = apps.iter().map(App::requests).sum();
    let refused = envoy.stat(r"^cluster\.service/web/test/9500\.upstream_rq_retry_overflow$");
    println!("{CLIENTS} requests became {handled}, {refused} were not tried again");
    assert!(handled > CLIENTS && handled < 3 * CLIENTS && refused > 0, "{handled} of {CLIENTS}, {refused} refused");
}

//! Spans, and what must have none.

use std::time::Duration;

use lab::eventually;
use lab::http::Request;
use model::Treatment;
use xds::resources::{self, Settings, Tracing, TracingProtocol};

use crate::ports::{of_host, published, set};
use crate::rig::Envoy;

/// Long enough for a span of a span's way to be sent hundreds of times.
const AFTERWARDS: Duration = Duration::from_secs(2);

#[test]
fn a_collector_behind_a_published_port_is_sent_the_span_of_a_request_and_no_more() {
    for (protocol, port) in [(TracingProtocol::OtlpHttp, 4318), (TracingProtocol::Zipkin, 9411)] {
        let tracing =
            Tracing { protocol, collector_host: "127.0.0.2".to_owned(), collector_port: port, sampling_percent: 100.0 };
        let settings = Settings { tracing: Some(tracing), ..of_host("here") };
        let collector = format!("127.0.0.2:{port}");
        let mut changes = resources::common(&settings);
        changes.extend(set(&published(&collector, "127.0.0.1:83", Treatment::Http), &settings));
        changes.extend(set(&published("127.0.0.2:8080", "127.0.0.1:82", Treatment::Http), &settings));
        let envoy = Envoy::start(&changes);
        envoy.app("127.0.0.1:82", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        let collector = envoy.app("127.0.0.1:83", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        assert_eq!(envoy.send(&Request::get("http://127.0.0.2:8080/")).unwrap().status, 200);
        eventually("a span arrives", Duration::from_secs(10), || match collector.requests() {
            0 => Err("none yet"),
            _ => Ok(()),
        });
        std::thread::sleep(AFTERWARDS);
        assert_eq!(collector.requests(), 1, "the span of the one request, by {protocol:?}");
    }
}

//! Spans, as OpenTelemetry's and Zipkin's collectors get them.

use std::time::Duration;

use lab::collector::{self, Collector, Span};
use lab::http::Request;
use lab::{Host, Lab, eventually};

use crate::{passed_envoy, request_header};

/// The example of the W3C's recommendation "Trace Context".
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Asks two services once each, and yields the span of each.
fn spans_of_two_services(host: &Host, collector: &Collector) -> [Span; 2] {
    for (port, service, environment) in [(8080, "web", "production"), (8081, "api", "staging")] {
        let (service, environment) = (format!("ServiceName={service}"), format!("EnvironmentName={environment}"));
        host.run_web(&["-p", &format!("{port}:80"), "-l", &service, "-l", &environment]);
        host.await_served_by_envoy(port);
    }
    let traced = Request::get("http://127.0.0.1:8080/").header("traceparent", &format!("00-{TRACE}-{PARENT}-01"));
    let answer = host.send(&traced).expect("the port answers");
    assert!(passed_envoy(&answer), "{}", answer.text());
    let context = request_header(&answer, "traceparent").expect("a trace context goes on to the container");
    assert!(context.starts_with(&format!("00-{TRACE}-")), "it is the same trace: {context}");
    assert!(!context.contains(PARENT), "the container's parent is Envoy's span: {context}");
    let answer = host.get("http://[::1]:8081/").expect("the port answers");
    let begun = request_header(&answer, "traceparent").expect("Envoy begins a trace");
    assert!(!begun.contains(TRACE), "a trace of its own: {begun}");

    let span_of = |service: &str| {
        eventually(&format!("a span of {service}"), Duration::from_secs(15), || {
            let spans = collector.spans();
            let found = spans.iter().find(|span| span.tags.get("ServiceName").is_some_and(|name| name == service));
            found.cloned().ok_or_else(|| format!("{spans:#?}"))
        })
    };
    let spans = ["web", "api"].map(span_of);
    assert_eq!(spans[0].trace_id, TRACE, "the span joined the caller's trace");
    assert_eq!(spans[0].parent_id, PARENT);
    assert!(context.contains(&spans[0].span_id), "{context} names the span {}", spans[0].span_id);
    assert!(begun.contains(&spans[1].trace_id), "{begun} names the trace {}", spans[1].trace_id);
    assert_eq!(collector.spans().len(), 2, "one span for each request: {:#?}", collector.spans());
    spans
}

/// The tags that every span has, whatever the collector. Neither container has a `ProxyMode` label.
fn assert_tags(span: &Span, service: &str, environment: &str) {
    for (tag, value) in [("ServiceName", service), ("EnvironmentName", environment), ("ProxyMode", "http")] {
        assert_eq!(span.tags.get(tag).map(String::as_str), Some(value), "{tag} of {span:#?}");
    }
    assert!(span.name.contains(service), "a span is named after its service: {span:#?}");
}

fn opentelemetry_spans_tell_two_services_apart(collector_address: &str) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").registrar_arguments(&["--trace-collector", collector_address]).start();
    let collector = Collector::start(host.namespace());
    let [web, api] = spans_of_two_services(&host, &collector);
    for (span, service, environment) in [(web, "web", "production"), (api, "api", "staging")] {
        assert_tags(&span, service, environment);
        for (attribute, value) in [("service.name", service), ("deployment.environment.name", environment)] {
            assert_eq!(span.resource.get(attribute).map(String::as_str), Some(value), "{attribute} of {span:#?}");
        }
    }
}

#[test]
fn opentelemetry_spans_over_grpc_tell_two_services_apart() {
    opentelemetry_spans_tell_two_services_apart(collector::OTLP_ADDRESS);
}

#[test]
fn opentelemetry_spans_over_http_tell_two_services_apart() {
    opentelemetry_spans_tell_two_services_apart(collector::OTLP_HTTP_ADDRESS);
}

#[test]
fn zipkin_spans_tell_two_services_apart() {
    let lab = Lab::of_this_test();
    let arguments = ["--tracing", "zipkin", "--trace-collector", collector::ZIPKIN_ADDRESS];
    let host = lab.host("a").registrar_arguments(&arguments).start();
    let collector = Collector::start(host.namespace());
    let [web, api] = spans_of_two_services(&host, &collector);
    for (span, service, environment) in [(web, "web", "production"), (api, "api", "staging")] {
        assert_tags(&span, service, environment);
        // Envoy has one Zipkin service name for all; the tags tell services apart.
        for (tag, value) in [("service.name", service), ("deployment.environment.name", environment)] {
            assert_eq!(span.tags.get(tag).map(String::as_str), Some(value), "{tag} of {span:#?}");
        }
    }
}

#[test]
fn without_a_collector_requests_pass_and_no_trace_is_begun() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_web(&["-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    let traced = Request::get("http://127.0.0.1:8080/").header("traceparent", &format!("00-{TRACE}-{PARENT}-01"));
    let answer = host.send(&traced).expect("the port answers");
    let context = request_header(&answer, "traceparent");
    assert_eq!(context, Some(format!("00-{TRACE}-{PARENT}-01")), "what comes in goes on untouched");
    let answer = host.get("http://127.0.0.1:8080/").expect("the port answers");
    assert_eq!(request_header(&answer, "traceparent"), None);
}

#[test]
fn a_collector_that_is_not_there_hinders_nothing() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").registrar_arguments(&["--trace-collector", collector::OTLP_ADDRESS]).start();
    host.run_web(&["-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    for _ in 0..20 {
        assert!(passed_envoy(&host.get("http://127.0.0.1:8080/").expect("the port answers")));
    }
}

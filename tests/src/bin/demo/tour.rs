//! The tour, step by step. Whatever is told has happened: a step that fails ends the tour by a panic.

use std::time::{Duration, Instant};

use lab::collector::{Collector, OTLP_ADDRESS, Span};
use lab::http::Request;
use lab::load::{Load, Outcomes};
use lab::{Client, Docker, Host, Lab, eventually};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::asked_to_stop;
use crate::playground::WayIn;
use crate::story::Story;

const DOCKER: Docker = Docker::Current;
/// Where the HTTP container is published.
const WEB: u16 = 8080;
/// Where the container that speaks first is published.
const GREETER: u16 = 7000;
/// New connections per second while Envoy is killed.
const LOAD: u32 = 200;
/// How long the load runs before, during and after Envoy's absence.
const PHASE: Duration = Duration::from_secs(1);
/// Envoy sends spans within a few seconds.
const SPAN_LIMIT: Duration = Duration::from_secs(15);

/// All that the tour plays on. Dropping it cleans up.
pub(crate) struct Stage {
    way_in: WayIn,
    collector: Collector,
    host: Host,
    client: Client,
    // Last, since the others are plugged into it.
    _lab: Lab,
}

impl Stage {
    /// What to try after the tour.
    pub(crate) fn hints(&self) -> String {
        self.way_in.hints(&self.host)
    }
}

/// Goes through all steps; `None` if somebody asked to stop meanwhile.
pub(crate) fn run(story: &Story) -> Option<Stage> {
    let stage = set_up(story);
    let steps = [start_http, ask_http, start_tcp, show_ports, show_span, kill_envoy];
    for step in steps {
        if asked_to_stop() {
            return None;
        }
        step(&stage, story);
    }
    Some(stage)
}

fn set_up(story: &Story) -> Stage {
    story.step("A Docker host of its own");
    story.say("It lives in namespaces: its own network, its own dockerd, registrar and Envoy, which runs as an");
    story.say("ordinary user. This machine's Docker is not touched. A second machine is there to send requests.");
    let lab = Lab::new("demo");
    let user = lab::host::ORDINARY_USER;
    let host = lab
        .host("demo")
        .docker(DOCKER)
        .firewall()
        .envoy_user(user)
        .registrar_arguments(&["--trace-collector", OTLP_ADDRESS])
        .start();
    let collector = Collector::start(host.namespace());
    host.need_web_image();
    story.command("docker version; shimctl envoy");
    story.output(&format!("dockerd {}", host.docker(&["version", "--format", "{{.Server.Version}}"])));
    let connected = |envoy: &Value| envoy["connected"] == true;
    eventually("Envoy is connected", Duration::from_secs(5), || {
        Some(host.api("envoy")).filter(connected).ok_or("not yet")
    });
    story.output(&host.shimctl(&["envoy"]));
    Stage { way_in: WayIn::new(&host, DOCKER), collector, client: lab.client("client"), host, _lab: lab }
}

fn start_http(stage: &Stage, story: &Story) {
    story.step("A container that speaks HTTP");
    start(stage, story, WEB, "docker run -d --name web -p 8080:80 -l ServiceName=web -l EnvironmentName=demo web");
    story
        .say("No ProxyMode is given: the shim saw an answer that is safe for HTTP treatment, and Envoy took the port.");
}

fn start_tcp(stage: &Stage, story: &Story) {
    story.step("A container with a protocol of its own, whose server speaks first");
    let command = "docker run -d --name greeter -p 7000:7000 -l ServiceName=greeter -l EnvironmentName=demo -l ProxyMode=tcp web banner:7000";
    start(stage, story, GREETER, command);
    let address = stage.host.address();
    story.say(&format!("The other machine connects to {address}:{GREETER} and says nothing. It hears:"));
    story.output(&greeting(stage));
}

/// Runs what is shown, and waits until Envoy serves the port.
fn start(stage: &Stage, story: &Story, port: u16, command: &str) {
    story.command(command);
    let arguments: Vec<_> = command.split(' ').skip(1).collect();
    let id = stage.host.docker(&arguments);
    story.output(&id[..12]);
    stage.host.await_program(&id);
    let is_labelled = command.contains("ProxyMode");
    if !is_labelled {
        story.command(&format!("curl 127.0.0.1:{port}"));
        stage.host.get(&format!("http://127.0.0.1:{port}/")).unwrap_or_else(|error| panic!("port {port}: {error}"));
    }
    let since = Instant::now();
    stage.host.await_served_by_envoy(port);
    let milliseconds = since.elapsed().as_millis();
    let since = if is_labelled { "its program listened" } else { "its first answer" };
    let when = format!("{milliseconds} ms after {since}");
    story.say(&format!("Envoy served port {port}, IPv4 and IPv6, {when}."));
}

fn greeting(stage: &Stage) -> String {
    use std::io::{BufRead, BufReader};
    let address = (stage.host.address(), GREETER);
    let stream = stage.client.namespace().in_network(|| std::net::TcpStream::connect(address));
    let stream = stream.unwrap_or_else(|error| panic!("port {GREETER}: {error}"));
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("not zero");
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap_or_else(|error| panic!("port {GREETER}: {error}"));
    assert!(line.contains("I speak first"), "the greeting is {line:?}");
    line
}

/// What the registrar does about Docker's firewall, once it does something.
fn capture(stage: &Stage) -> String {
    eventually("traffic from other hosts is diverted to Envoy", Duration::from_secs(5), || {
        let printed = stage.host.shimctl(&["envoy"]);
        let line = printed.lines().find(|line| line.starts_with("Capture")).unwrap_or_default().to_owned();
        if line.contains("divert:") { Ok(line) } else { Err(printed) }
    })
}

fn ask_http(stage: &Stage, story: &Story) {
    story.step("Requests, from another machine, with Docker's firewall on");
    story.command("shimctl envoy | grep Capture");
    story.output(&capture(stage));
    let before = requests_counted(stage);
    let v4 = format!("http://{}:{WEB}/hello", stage.host.address());
    let v6 = format!("http://[{}]:{WEB}/hello", stage.host.address6());
    for url in [&v4, &v6] {
        story.command(&format!("curl {url}"));
        let answer = ask(stage, url);
        let header = |name: &str| header(&answer, name).unwrap_or("none").to_owned();
        story.say(&format!(
            "Container {} answered. It saw the client as x-forwarded-for: {}",
            answer["hostname"].as_str().unwrap_or("?"),
            header("x-forwarded-for")
        ));
        story.say(&format!("and got the trace to go on with, traceparent: {}", header("traceparent")));
    }
    let counted = requests_counted(stage) - before;
    assert_eq!(counted, 2, "Envoy counted the requests");
    story.say(&format!("Envoy counted {counted} requests for the service web in the environment demo."));
}

/// What the application says that it was asked.
fn ask(stage: &Stage, url: &str) -> Value {
    let answer = stage.client.get(url).unwrap_or_else(|error| panic!("{url}: {error}"));
    assert_eq!(answer.status, 200, "{url}: {}", answer.text());
    answer.json()
}

fn header<'a>(answer: &'a Value, name: &str) -> Option<&'a str> {
    let is_it = |pair: &&Value| pair[0].as_str().is_some_and(|own| own.eq_ignore_ascii_case(name));
    answer["headers"].as_array()?.iter().find(is_it)?[1].as_str()
}

fn requests_counted(stage: &Stage) -> u64 {
    stage.host.envoy_stat(r"^cluster\.local/web/demo/.*upstream_rq_total$")
}

fn show_ports(stage: &Stage, story: &Story) {
    story.step("What the operator sees");
    story.command("shimctl ports");
    story.output(&stage.host.shimctl(&["ports"]));
}

fn show_span(stage: &Stage, story: &Story) {
    story.step("The trace that arrived");
    let url = format!("http://{}:{WEB}/traced", stage.host.address());
    story.command(&format!("curl {url}"));
    let answer = ask(stage, &url);
    let traceparent = header(&answer, "traceparent").expect("Envoy hands the trace on").to_owned();
    let belongs = |span: &Span| traceparent.contains(&span.trace_id);
    let arrived = || stage.collector.spans().into_iter().find(belongs).ok_or("not yet");
    let span = eventually("the request's span arrives", SPAN_LIMIT, arrived);
    story.say(&format!("A collector on the host got this span, over OpenTelemetry's protocol ({OTLP_ADDRESS}):"));
    story.output(&format!("trace {}  {}", span.trace_id, span.name));
    for (name, expected) in [("ServiceName", "web"), ("EnvironmentName", "demo"), ("ProxyMode", "http")] {
        assert_eq!(span.tags.get(name).map(String::as_str), Some(expected), "{name} of {span:?}");
        story.output(&format!("{name} = {expected}"));
    }
}

fn kill_envoy(stage: &Stage, story: &Story) {
    story.step("Envoy is killed under load");
    let url = format!("http://{}:{WEB}/", stage.host.address());
    story.say(&format!("The other machine opens {LOAD} connections a second; then"));
    let load = Load::start(stage.client.namespace(), &Request::get(&url), LOAD);
    std::thread::sleep(PHASE);

    story.command("kill -9 ENVOY; shimctl ports");
    stage.host.end_envoy(Signal::SIGKILL);
    stage.host.await_served_by("shim", WEB);
    story.output(&stage.host.shimctl(&["ports"]));
    let before = load.outcomes();
    std::thread::sleep(PHASE);
    let meanwhile = load.outcomes().ok - before.ok;
    assert!(meanwhile > 0, "the shim answers without Envoy: {before:?}");
    story.say(&format!("Without Envoy, the shims forward: {meanwhile} requests answered in the last second."));

    story.step("Envoy comes back");
    stage.host.start_envoy();
    stage.host.await_served_by_envoy(WEB);
    let counted = requests_counted(stage);
    std::thread::sleep(PHASE);
    let counted = requests_counted(stage) - counted;
    let outcomes = load.stop();
    assert!(counted > 0, "Envoy serves again");
    story.say(&format!("{counted} requests went through the new Envoy in its first second. The load all in all:"));
    story.output(&sum(&outcomes));
    assert_eq!(outcomes.refused, 0, "{outcomes:?}");
    assert!(outcomes.other.is_empty() && outcomes.timed_out == 0, "{outcomes:?}");
}

fn sum(outcomes: &Outcomes) -> String {
    let cut_off = outcomes.reset + outcomes.empty;
    format!(
        "{} answered, {} refused, {cut_off} cut off (they had been accepted by the dying Envoy, or waited for it)",
        outcomes.ok, outcomes.refused
    )
}

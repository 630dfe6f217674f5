//! Those who want to hear of changes hear of what happens on other hosts.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::Command;
use std::time::Duration;

use lab::http::Request;
use lab::process::Process;
use lab::{Client, Host, Lab, eventually, parts};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::rig::{SPREAD, await_instances, cluster, plain, run_web_9500};

/// What Sidecar's numbers mean.
const ALIVE: u64 = 0;
const TOMBSTONE: u64 = 1;

/// How a listener's container is started: labels, then the image's own command line.
const LISTENER: [&str; 9] =
    ["-P", "--expose", "80", "-l", "ServiceName=watcher", "-l", "ServicePort_80=9600", "-l", "SidecarListener=9600"];

/// All that a listener was posted so far.
fn posts(host: &Host, listener: &str) -> Vec<Value> {
    let printed = host.docker(&["logs", listener]);
    let body = |line: &str| line.strip_prefix("/sidecar/update ").map(str::to_owned);
    let bodies = printed.lines().map(|line| body(line).unwrap_or_else(|| panic!("another path: {line}")));
    bodies.map(|body| serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))).collect()
}

/// Waits for a post whose event says that this container now has this status.
#[track_caller]
fn await_post(host: &Host, listener: &str, container: &str, status: u64) -> Value {
    eventually("the listener is posted it", SPREAD, || {
        let posts = posts(host, listener);
        let says = |post: &&Value| {
            let service = &post["ChangeEvent"]["Service"];
            service["ID"] == container[..12] && service["Status"] == status
        };
        posts.iter().find(says).cloned().ok_or_else(|| format!("{posts:?}"))
    })
}

/// The containers of a host in a state of Sidecar's shape.
fn containers_of(state: &Value, host: &str) -> Vec<String> {
    let services = state["Servers"][host]["Services"].as_object();
    services.into_iter().flatten().map(|(id, _)| id.clone()).collect()
}

/// What a host says is wrong with itself.
fn problem(host: &Host) -> String {
    let hosts = host.api("hosts");
    let own = hosts.as_array().into_iter().flatten().find(|listed| listed["name"] == host.name());
    own.map(|own| own["problem"].to_string()).unwrap_or_default()
}

#[test]
fn a_listener_hears_of_what_starts_and_stops_on_another_host_and_a_late_one_gets_the_newest_state() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b"]);
    let [a, b] = &hosts[..] else { unreachable!("two hosts were started") };
    let listener = a.run_program(&LISTENER, &["print:80"]);
    let late_arguments = [&LISTENER[..], &["--entrypoint", "sh"]].concat();
    a.need_web_image();
    let late_run = [&["run", "-d"], &late_arguments[..], &["web", "-c", "sleep 8; exec /echo-app print:80"]].concat();
    let late = a.docker(&late_run);

    let stays = run_web_9500(b);
    let post = await_post(a, &listener, &stays, ALIVE);
    let service = &post["ChangeEvent"]["Service"];
    assert_eq!((&service["Hostname"], &service["Name"]), (&"b".into(), &"web".into()), "{service}");
    assert_eq!(
        (&service["Ports"][0]["ServicePort"], &service["Ports"][0]["IP"]),
        (&9500.into(), &b.address().to_string().into())
    );
    assert_eq!(post["State"]["Servers"]["b"]["Services"][&stays[..12]]["Status"], ALIVE, "{post}");

    let goes = run_web_9500(b);
    await_post(a, &listener, &goes, ALIVE);
    b.docker(&["stop", &goes]);
    let post = await_post(a, &listener, &goes, TOMBSTONE);
    assert_eq!(containers_of(&post["State"], "b"), [&stays[..12]]);

    // It was away for all of that.
    let first = eventually("the late listener is posted something", Duration::from_secs(30), || {
        posts(a, &late).into_iter().next().ok_or("nothing yet")
    });
    assert_eq!(containers_of(&first["State"], "b"), [&stays[..12]], "{first}");

    // Listeners go with their containers, and nobody misses them.
    let before = posts(a, &late).len();
    a.docker(&["rm", "-f", &listener]);
    eventually("the other listener hears of that, too", SPREAD, || {
        let now = posts(a, &late).len();
        if now > before { Ok(()) } else { Err("not yet") }
    });
    a.docker(&["rm", "-f", &late]);
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(problem(a), "null");
}

#[test]
fn a_listener_that_cannot_be_reached_is_named_by_its_host() {
    let lab = Lab::of_this_test();
    let hosts = plain(&lab, &["a", "b"]);
    let deaf = hosts[0].run_program(&LISTENER, &["http:81"]);
    let unpublished = hosts[0].run_web(&["-l", "ServicePort_80=9601", "-l", "SidecarListener=9601"]);
    let named = |id: &str| format!("a/{}", &id[..12]);
    eventually("both are named", Duration::from_secs(20), || {
        let said = hosts[0].shimctl(&["hosts"]);
        let wrong = [
            (named(&deaf), "does not take changes: Connection refused"),
            (named(&unpublished), "no published TCP port of the container is service port 9601"),
        ];
        let missing = wrong.iter().filter(|(id, words)| !said.contains(id) || !said.contains(words)).count();
        if missing == 0 { Ok(()) } else { Err(said) }
    });
    assert_eq!(problem(&hosts[1]), "null", "each host speaks for itself alone");
}

/// A program on a machine of its own, and a file of static services that has it listen.
fn start_static_listener(lab: &Lab) -> ((Client, Process), String) {
    let machine = lab.client("listener");
    let mut program = Command::new(parts::own_binary("echo-app"));
    let log = lab.logs().join("listener.log");
    let process = Process::start("listener", machine.namespace(), program.arg("print:10005"), &log);
    let file = lab.logs().join("static.yaml");
    let address = machine.address();
    let entry = format!(
        "- {{name: db, check: {{kind: AlwaysSuccessful}}, ports: [{{port: 5432, address: {address}}}], listen-port: 10005}}\n"
    );
    fs::write(&file, entry).expect("the folder of logs can be written");
    ((machine, process), file.display().to_string())
}

#[test]
fn watchers_are_told_of_what_starts_and_stops_on_another_host() {
    let lab = Lab::of_this_test();
    let ((_machine, listener), file) = start_static_listener(&lab);
    let hosts = cluster(&lab, &["a", "b"], |host, name| match name {
        "a" => host.registrar_arguments(&["--static-services", &file]),
        _ => host,
    });
    let [a, b] = &hosts[..] else { unreachable!("two hosts were started") };
    let mut shimctl = Command::new(parts::ours("shimctl"));
    let mut watch = Process::start("watch", a.namespace(), shimctl.arg("watch"), &lab.logs().join("watch.log"));
    let await_line = |watch: &Process, words: &str| {
        eventually(&format!("{words:?} is printed"), SPREAD, || {
            let log = watch.log();
            if log.contains(words) { Ok(()) } else { Err(log) }
        });
    };
    await_line(&watch, "known now: hosts: 2");
    let request = Request::get("http://127.0.0.1:7777/api/v1/watch").limit(SPREAD);
    let events = a.namespace().in_network(|| request.open()).expect("the registrar answers");
    let mut lines = BufReader::new(events).lines().map(|line| line.expect("an event comes in time"));
    assert!(lines.any(|line| line == "event: state"), "the state comes first");

    let id = run_web_9500(b);
    await_line(&watch, &format!("web at 9500: instance b/{} is new at {}:", &id[..12], b.address()));
    let told = lines.find(|line| line.starts_with("data: {") && line.contains(&id[..12])).expect("the stream goes on");
    let service: Value = serde_json::from_str(&told["data: ".len()..]).expect("JSON");
    assert_eq!((&service["service_name"], &service["service_port"]), (&"web".into(), &9500.into()), "{service}");
    await_instances(&hosts, 9500, 1, "alive");
    for host in &hosts {
        let state = host.get("http://127.0.0.1:7777/api/state.json").expect("the registrar answers").json();
        assert_eq!(containers_of(&state, "b"), [&id[..12]], "{state}");
    }

    await_line(&listener, "/sidecar/update {\"State\":");
    await_line(&listener, &id[..12]);

    b.docker(&["stop", &id]);
    await_line(&watch, &format!("web at 9500: instance b/{} is gone", &id[..12]));
    assert!(lines.any(|line| line == "event: service-gone"), "the stream goes on");

    a.end_registrar(Signal::SIGTERM);
    await_line(&watch, "broke off");
    let other = run_web_9500(b);
    a.start_registrar();
    await_line(&watch, "the registrar answers again");
    await_line(&watch, &format!("instance b/{} is new", &other[..12]));
    assert!(!watch.log().contains("host b: no longer known"), "what is not known yet is not gone: {}", watch.log());
    assert!(watch.end_with(Signal::SIGINT).success(), "{}", watch.log());
}

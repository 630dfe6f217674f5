//! The registrar as a process: those who watch, over HTTP or as listeners, well-behaved and not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use common::{PATIENCE, Registrar, command, wait_until};
use serde_json::Value;

/// A file of static services, and the option that names it.
struct Services {
    folder: tempfile::TempDir,
}

impl Services {
    fn new(names: &[&str]) -> Self {
        let services = Self { folder: tempfile::tempdir().unwrap() };
        services.are(names);
        services
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("services.yaml")
    }

    fn are(&self, names: &[&str]) {
        let entry = |name: &&str| {
            format!(
                "- {{name: {name}, mode: tcp, check: {{kind: AlwaysSuccessful}}, ports: [{{port: 5432, service-port: 15432, address: 10.1.2.3}}]}}\n"
            )
        };
        let text: String = names.iter().map(entry).collect();
        std::fs::write(self.path(), if text.is_empty() { "[]".to_owned() } else { text }).unwrap();
    }

    fn registrar(&self, options: &[&str]) -> Registrar {
        let path = self.path().display().to_string();
        Registrar::start(&[&["--host-name", "host-1", "--static-services", &path], options].concat())
    }
}

/// Asks for `path` and leaves the answer to the caller, who reads it line by line. Yields the status.
fn open(registrar: &Registrar, path: &str) -> (u16, BufReader<TcpStream>) {
    let mut stream = TcpStream::connect(&registrar.http).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // Without HTTP/1.1 there are no chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    while line != "\r\n" {
        line.clear();
        answer.read_line(&mut line).unwrap();
    }
    (status, answer)
}

/// The next server-sent event: its name and its data.
fn event(answer: &mut impl BufRead) -> (String, Value) {
    let (mut name, mut data) = (String::new(), String::new());
    loop {
        let mut line = String::new();
        assert!(answer.read_line(&mut line).unwrap() > 0, "the stream ended");
        match line.trim_end().split_once(": ") {
            Some(("event", value)) => value.clone_into(&mut name),
            Some(("data", value)) => data += value,
            Some(_) => {}
            None if data.is_empty() => {}
            None => return (name, serde_json::from_str(&data).unwrap()),
        }
    }
}

fn await_service(registrar: &Registrar, name: &str) {
    wait_until(name, || registrar.get("/api/v1/services", "localhost").1.contains(&format!("\"{name}\"")));
}

#[test]
fn a_watcher_is_told_all_there_is_and_then_every_change() {
    let services = Services::new(&["db"]);
    let registrar = services.registrar(&[]);
    await_service(&registrar, "db");
    let (status, mut events) = open(&registrar, "/api/v1/watch");
    assert_eq!(status, 200);
    let (name, state) = event(&mut events);
    assert_eq!((name.as_str(), &state["hosts"][0]["name"]), ("state", &"host-1".into()));
    assert_eq!(state["services"][0]["service_name"], "db");

    services.are(&["db", "cache"]);
    let told: Vec<_> = (0..2).map(|_| event(&mut events)).collect();
    let service = &told.iter().find(|(name, _)| name == "service").expect("the new service is told").1;
    assert_eq!((&service["service_name"], &service["instances"][0]["status"]), (&"cache".into(), &"alive".into()));
    assert_eq!(told.iter().find(|(name, _)| name == "host").unwrap().1["instances"], 2);

    services.are(&["cache"]);
    let told: Vec<_> = (0..3).map(|_| event(&mut events)).collect();
    let gone = &told.iter().find(|(name, _)| name == "service-gone").expect("the end is told").1;
    assert_eq!((&gone["service_name"], &gone["service_port"]), (&"db".into(), &15432.into()));
}

#[test]
fn watchers_are_bounded_and_one_that_reads_nothing_delays_nobody() {
    let services = Services::new(&[]);
    let registrar = services.registrar(&[]);
    let watchers: Vec<_> = (0..64).map(|_| open(&registrar, "/api/v1/watch")).collect();
    assert!(watchers.iter().all(|(status, _)| *status == 200));
    for path in ["/api/v1/watch", "/api/watch"] {
        let (status, mut answer) = open(&registrar, path);
        let mut text = String::new();
        answer.read_to_string(&mut text).unwrap();
        assert!(status == 503 && text.contains("64 watchers already"), "{path}: {status} {text}");
    }
    // None of them has read a thing; others are answered all the same.
    services.are(&["db"]);
    await_service(&registrar, "db");
    drop(watchers);
    wait_until("there is room again", || open(&registrar, "/api/v1/watch").0 == 200);
    assert_eq!(registrar.get("/api/v1/watch", "evil.example").0, 403);
    assert_eq!(registrar.get("/api/state.json", "evil.example").0, 403);
}

#[test]
fn readers_of_sidecars_find_its_shapes_where_they_look_for_them() {
    let services = Services::new(&["db"]);
    let registrar = services.registrar(&[]);
    await_service(&registrar, "db");
    let json = |path: &str| -> Value {
        let (status, text) = registrar.get(path, "localhost");
        assert_eq!(status, 200, "{path}: {text}");
        serde_json::from_str(&text).unwrap()
    };
    for path in ["/api/services.json", "/services.json", "/api/services/db.json"] {
        let db = &json(path)["Services"]["db"][0];
        assert_eq!((&db["Status"], &db["Ports"][0]["ServicePort"]), (&0.into(), &15432.into()), "{path}: {db}");
    }
    for path in ["/api/state.json", "/state.json"] {
        let state = json(path);
        let services = state["Servers"]["host-1"]["Services"].as_object().unwrap();
        let (id, db) = services.iter().next().unwrap();
        assert_eq!((db["ID"].as_str().unwrap(), &db["ProxyMode"]), (id.as_str(), &"tcp".into()), "{path}");
        assert_eq!((&state["ClusterName"], &state["Hostname"]), (&"default".into(), &"host-1".into()));
    }
    for path in ["/api/services/none.json", "/api/services/db.xml"] {
        let (status, text) = registrar.get(path, "localhost");
        let error: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((status, &error["status"]), (404, &"error".into()), "{path}");
    }
    let mut streams: Vec<_> = ["/api/watch", "/watch?by_service=true", "/api/watch?by_service=false"]
        .map(|path| open(&registrar, path).1)
        .into();
    let next = |stream: &mut BufReader<TcpStream>| -> Value {
        let mut line = String::new();
        stream.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    };
    let first: Vec<_> = streams.iter_mut().map(next).collect();
    assert!(first[0]["db"][0]["Name"] == "db" && first[0] == first[1], "{first:?}");
    assert_eq!(first[2], json("/api/state.json"));
    services.are(&["db", "cache"]);
    for stream in &mut streams[..2] {
        assert_eq!(next(stream)["cache"][0]["Name"], "cache");
    }
    let later = next(&mut streams[2]);
    assert!(later["LastChanged"].as_str() > first[2]["LastChanged"].as_str(), "{later}");
}

/// A program that takes posts, and answers each with the next of these statuses, the last of them for ever.
fn listener(on: TcpListener, statuses: &'static [u16]) -> Receiver<(String, Value)> {
    let (posts, taken) = channel();
    thread::spawn(move || {
        for (number, connection) in on.incoming().enumerate() {
            let mut connection = BufReader::new(connection.unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                assert!(connection.read_line(&mut head).unwrap() > 0, "{head}");
            }
            let length =
                head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            let mut body = vec![0; length.unwrap().parse().unwrap()];
            connection.read_exact(&mut body).unwrap();
            let status = statuses[number.min(statuses.len() - 1)];
            write!(connection.get_mut(), "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").unwrap();
            if posts.send((head, serde_json::from_slice(&body).unwrap())).is_err() {
                return;
            }
        }
    });
    taken
}

fn bound() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/update?token=secret", listener.local_addr().unwrap());
    (listener, url)
}

/// The names of the services in a post's state.
fn names(post: &Value) -> Vec<&str> {
    let services = post["State"]["Servers"]["host-1"]["Services"].as_object().unwrap();
    let mut names: Vec<_> = services.values().map(|service| service["Name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

#[test]
fn a_listener_is_posted_all_and_then_each_change_in_sidecars_shape() {
    let services = Services::new(&["db"]);
    let (on, url) = bound();
    let posts = listener(on, &[200]);
    let _registrar = services.registrar(&["--listener-url", &url]);
    let mut last_changed = String::new();
    let mut next = |what: &str| -> Value {
        let (head, post) = posts.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no post: {what}"));
        assert!(head.starts_with("POST /update?token=secret HTTP/1.1\r\n"), "{head}");
        assert!(
            head.contains("content-type: application/json") && head.contains("sidecar-session-host=host-1"),
            "{head}"
        );
        let changed = post["State"]["LastChanged"].as_str().unwrap().to_owned();
        assert!(changed > last_changed, "a state is never posted twice under one time: {changed}, {last_changed}");
        last_changed = changed;
        post
    };
    // The registrar may know its world before the file was read.
    let mut post = next("all there is");
    while post["ChangeEvent"]["Service"]["Status"] != 0 {
        post = next("the service is alive");
    }
    assert_eq!((names(&post), &post["ChangeEvent"]["Service"]["Name"]), (vec!["db"], &"db".into()));

    services.are(&["cache"]);
    let told: Vec<_> = (0..2).map(|_| next("one came, one went")).collect();
    let events: Vec<_> = told.iter().map(|post| &post["ChangeEvent"]).collect();
    let gone = events.iter().find(|event| event["Service"]["Name"] == "db").unwrap();
    assert_eq!((&gone["Service"]["Status"], &gone["PreviousStatus"]), (&1.into(), &0.into()));
    let new = events.iter().find(|event| event["Service"]["Name"] == "cache").unwrap();
    assert_eq!(new["PreviousStatus"], 3);
    assert_eq!(names(told.last().unwrap()), ["cache"]);
}

#[test]
fn a_listener_that_is_away_is_a_problem_until_it_comes_and_gets_the_newest_state_alone() {
    let services = Services::new(&["db"]);
    let (closed, url) = bound();
    let address = closed.local_addr().unwrap();
    drop(closed);
    // One that takes connections and never answers must delay nobody.
    let (_hanging, hanging_url) = bound();
    let registrar = services.registrar(&["--listener-url", &hanging_url, "--listener-url", &url]);
    let problem = || registrar.get("/api/v1/hosts", "localhost").1;
    let title = format!("listener http://{address}/update (listener-url)");
    wait_until("the problem is shown", || problem().contains(&title));
    assert!(problem().contains("refused") && !problem().contains("secret"), "{}", problem());
    services.are(&["cache"]);
    await_service(&registrar, "cache");

    let posts = listener(TcpListener::bind(address).unwrap(), &[500, 200]);
    let (_, refused) = posts.recv_timeout(2 * PATIENCE).unwrap();
    let (_, taken) = posts.recv_timeout(2 * PATIENCE).unwrap();
    assert_eq!((names(&refused), names(&taken)), (vec!["cache"], vec!["cache"]));
    wait_until("the problem is over", || !problem().contains(&title));
    assert!(posts.recv_timeout(std::time::Duration::from_secs(1)).is_err(), "nothing is told twice");
}

#[test]
fn a_listener_url_that_makes_no_sense_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    for bad in ["https://example.test/", "example.test:80", "http://me:secret@example.test/"] {
        let refused = command(&folder).args(["--listener-url", bad, "--check-config"]).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            refused.status.code() == Some(64) && said.contains("--listener-url") && !said.contains("secret"),
            "{bad}: {said}"
        );
    }
}

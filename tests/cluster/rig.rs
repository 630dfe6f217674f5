//! A cluster of hosts, what they have to agree on, and who answers a service port.

use std::collections::BTreeSet;
use std::time::Duration;

use lab::host::registrar::key_file;
use lab::http::Request;
use lab::{Host, HostBuilder, Lab, eventually};
use serde_json::Value;

/// Where service ports are served unless told otherwise.
pub(crate) const SERVICE_ADDRESS: &str = "192.168.168.168";
/// Long enough for a change to reach every host of a machine that is busy with other tests.
pub(crate) const SPREAD: Duration = Duration::from_secs(15);
/// Long enough for hosts that were apart to find each other again.
const HEALING: Duration = Duration::from_secs(60);
/// As many hosts as a test has, at most: each is a seed of all.
const HOSTS_MAX: usize = 5;

/// A host that is to take part in the cluster whose key this is.
pub(crate) fn member<'a>(lab: &'a Lab, name: &str, key: &str) -> HostBuilder<'a> {
    let arguments = ["--gossip-key-file", key, "--assign-service-address"];
    let seeds = (1..=HOSTS_MAX).flat_map(|number| ["--seed".to_owned(), format!("10.77.0.{number}")]);
    let seeds: Vec<_> = seeds.collect();
    let seeds: Vec<_> = seeds.iter().map(String::as_str).collect();
    lab.host(name).registrar_arguments(&arguments).registrar_arguments(&seeds)
}

/// Starts hosts of these names, which find each other. `adapt` says what is different about each.
pub(crate) fn cluster(
    lab: &Lab,
    names: &[&str],
    adapt: impl for<'a> Fn(HostBuilder<'a>, &str) -> HostBuilder<'a> + Sync,
) -> Vec<Host> {
    let key = key_file(lab, "gossip.key").display().to_string();
    let start = |name: &str| adapt(member(lab, name, &key), name).start();
    let hosts: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> = names.iter().map(|name| scope.spawn(|| start(name))).collect();
        started.into_iter().map(|host| host.join().expect("the host starts")).collect()
    });
    await_agreement(&hosts);
    hosts
}

/// As [`cluster`], with nothing special.
pub(crate) fn plain(lab: &Lab, names: &[&str]) -> Vec<Host> {
    cluster(lab, names, |host, _| host)
}

/// What every host must say the same of: each host's name, address, status and number of instances; all services.
fn view(host: &Host) -> (Value, Vec<Value>) {
    let hosts = host.api("hosts").as_array().cloned().unwrap_or_default();
    let shared = |host: &Value| ["name", "address", "status", "instances"].map(|field| host[field].clone()).into();
    let mut services = host.api("services");
    let rows = services.as_array_mut().into_iter().flatten();
    for instance in rows.filter_map(|row| row["instances"].as_array_mut()).flatten() {
        // Only its own host knows why an instance is not alive.
        instance["reason"].take();
    }
    (services, hosts.iter().map(shared).collect())
}

/// Waits until all of them know the same, all of them alive.
#[track_caller]
pub(crate) fn await_agreement(hosts: &[Host]) {
    eventually("all hosts know the same", SPREAD, || agree(hosts));
}

fn agree(hosts: &[Host]) -> Result<(), String> {
    let everybody: BTreeSet<_> = hosts.iter().map(Host::name).collect();
    let views: Vec<_> = hosts.iter().map(view).collect();
    let alive: BTreeSet<_> =
        views[0].1.iter().filter(|host| host[2] == "alive").filter_map(|host| host[0].as_str()).collect();
    let agree = alive == everybody && views.iter().all(|view| *view == views[0]);
    if agree { Ok(()) } else { Err(format!("{views:?}")) }
}

/// Waits until all of them know the same, all of them alive, and what they know at service port 9500 is what runs: each
/// container of [`run_web_9500`], alive, and no other.
#[track_caller]
pub(crate) fn await_truth(hosts: &[Host]) {
    eventually("all hosts know what runs", HEALING, || {
        let running: BTreeSet<_> = hosts.iter().flat_map(running_web).collect();
        for host in hosts {
            let listed: BTreeSet<_> = instances(host, 9500).into_iter().collect();
            if listed != running {
                return Err(format!("{} lists {listed:?}, there run {running:?}", host.name()));
            }
        }
        agree(hosts)
    });
}

/// What has to be listed of a host's containers.
fn running_web(host: &Host) -> Vec<(String, String)> {
    let ids = host.docker(&["ps", "-q", "--no-trunc", "--filter", "label=ServicePort_80=9500"]);
    ids.lines().map(|id| (format!("{}/{}", host.name(), &id[..12]), "alive".to_owned())).collect()
}

/// The instances that a host lists at a service port: their ids and status.
pub(crate) fn instances(host: &Host, service_port: u16) -> Vec<(String, String)> {
    let services = host.api("services");
    let at_port = services.as_array().into_iter().flatten().filter(|row| row["service_port"] == service_port);
    let instances = at_port.flat_map(|row| row["instances"].as_array().cloned().unwrap_or_default());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    instances.map(|instance| (text(&instance["id"]), text(&instance["status"]))).collect()
}

/// Waits until every one of these hosts lists so many instances with this status at the service port, and no others.
#[track_caller]
pub(crate) fn await_instances(hosts: &[Host], service_port: u16, count: usize, status: &str) {
    eventually(&format!("{count} instances {status} at {service_port}"), SPREAD, || {
        let listed = hosts.iter().map(|host| (host.name(), instances(host, service_port)));
        let wrong = listed
            .filter(|(_, listed)| listed.len() != count || listed.iter().any(|(_, own)| own != status))
            .collect::<Vec<_>>();
        if wrong.is_empty() { Ok(()) } else { Err(format!("{wrong:?}")) }
    });
}

/// The URL of a service port.
pub(crate) fn url(service_port: u16) -> String {
    format!("http://{SERVICE_ADDRESS}:{service_port}/")
}

/// Waits until the service port at the service address is answered on this host by these containers and no others:
/// each is seen, and then so many answers in a row are from one of them.
#[track_caller]
pub(crate) fn await_answers(host: &Host, url: &str, containers: &[&str]) {
    let expected: BTreeSet<_> = containers.iter().map(|id| id[..12].to_owned()).collect();
    let rounds = 6 * expected.len() + 4;
    eventually(&format!("{url} on {} is answered by {expected:?}", host.name()), SPREAD, || {
        let mut seen = BTreeSet::new();
        for _ in 0..rounds {
            seen.insert(answered_by(host, url)?);
        }
        if seen == expected { Ok(()) } else { Err(format!("answered by {seen:?}")) }
    });
}

/// The container that answers.
pub(crate) fn answered_by(host: &Host, url: &str) -> Result<String, String> {
    let answer = host.send(&Request::get(url)).map_err(|error| error.to_string())?;
    if answer.status != 200 {
        return Err(format!("{}: {}", answer.status, answer.text()));
    }
    Ok(answer.json()["hostname"].as_str().unwrap_or_default().to_owned())
}

/// Labels of a service at a service port, for container port 80.
pub(crate) fn labels(service: &str, service_port: u16) -> [String; 4] {
    ["-l".to_owned(), format!("ServiceName={service}"), "-l".to_owned(), format!("ServicePort_80={service_port}")]
}

/// Starts a container of the service `web` at service port 9500, which Docker starts again when it starts itself; yields
/// its id once its program listens.
pub(crate) fn run_web_9500(host: &Host) -> String {
    let id = run_web_9500_at_once(host);
    host.await_program(&id);
    id
}

/// As [`run_web_9500`], but yields as soon as `docker run` does.
pub(crate) fn run_web_9500_at_once(host: &Host) -> String {
    let labels = labels("web", 9500);
    let labels: Vec<_> = labels.iter().map(String::as_str).collect();
    host.run_web_at_once(&[&["-P", "--expose", "80", "--restart", "always"], &labels[..]].concat())
}

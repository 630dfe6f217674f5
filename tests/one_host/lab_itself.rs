//! That the lab does what the other tests rely on. Here plain docker-proxy serves the ports.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::{Docker, Host, Lab, Proxy, eventually, parts};

fn plain_host(lab: &Lab, version: Docker) -> Host {
    lab.host("a").docker(version).proxy(Proxy::DockerProxy).without_registrar().without_envoy().start()
}

fn a_port_of_plain_docker_answers(version: Docker) {
    let lab = Lab::of_this_test();
    let host = plain_host(&lab, version);
    let client = lab.client("client");
    let id = host.run_web(&["-p", "8080:80"]);
    for address in ["127.0.0.1".to_owned(), "[::1]".to_owned(), host.address().to_string()] {
        let answer = host.get(&format!("http://{address}:8080/hello")).expect("the port answers");
        assert_eq!(answer.json()["hostname"], id[..12], "{}", answer.text());
        assert_eq!(answer.json()["path"], "/hello");
    }
    let url = format!("http://{}:8080/", host.address());
    assert_eq!(client.get(&url).expect("another machine is answered").status, 200);
    let url = format!("http://[{}]:8080/", host.address6());
    assert_eq!(client.get(&url).expect("another machine is answered over IPv6").status, 200);
}

#[test]
fn a_port_of_plain_docker_20_answers() {
    a_port_of_plain_docker_answers(Docker::V20);
}

#[test]
fn a_port_of_plain_docker_current_answers() {
    a_port_of_plain_docker_answers(Docker::Current);
}

#[test]
fn nothing_of_a_host_is_left_behind() {
    let lab = Lab::of_this_test();
    let host = plain_host(&lab, Docker::Current);
    host.run_web(&["-p", "8080:80"]);
    let mut processes = host.namespace().processes();
    assert!(processes.len() >= 6, "init, dockerd, containerd, its shim, proxies, application: {processes:?}");
    processes.extend(lab.processes());
    let groups = host.control_groups();
    assert!(!groups.is_empty(), "the container has a control group");
    drop((host, lab));
    processes.retain(|id| std::fs::exists(format!("/proc/{id}")).expect("/proc can be read"));
    assert_eq!(processes, [0; 0], "processes are left");
    for group in groups {
        assert!(!group.exists(), "{} is left", group.display());
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("/proc can be read");
    assert!(!mounts.contains("/run/lab"), "mounts are left: {mounts}");
}

#[test]
fn nothing_is_left_when_the_labs_process_is_killed() {
    let mut command = Command::new(parts::own_binary("host-until-killed"));
    let mut child = command.stdout(Stdio::piped()).spawn().expect("our own program starts");
    let mut printed = String::new();
    let mut output = BufReader::new(child.stdout.take().expect("it was asked for"));
    output.read_line(&mut printed).expect("it prints one line");
    let processes: Vec<u32> = printed.split_whitespace().filter_map(|id| id.parse().ok()).collect();
    assert!(processes.len() >= 6, "init, dockerd, containerd, its shim, proxies, application: {processes:?}");
    child.kill().expect("it runs");
    child.wait().expect("it ends");
    // Control groups outlive their processes, and where they are of version 1 a paused process its own death.
    let orphans = || lab::cgroup::of_process(child.id());
    assert!(!orphans().is_empty(), "the containers had control groups");
    eventually("the next lab sweeps all of the host's processes", Duration::from_secs(10), || {
        lab::cgroup::sweep();
        // A zombie has no memory left, but waits for the system's first process to take notice.
        let lives = |id: &&u32| {
            let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("VmSize:"))
        };
        let left: Vec<_> = processes.iter().filter(lives).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
    eventually("their control groups are gone, too", Duration::from_secs(5), || {
        lab::cgroup::sweep();
        let left = orphans();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

//! A container crashes, is restarted by its policy, or is paused. Its port does what the container does.

use std::thread::sleep;
use std::time::{Duration, Instant};

use lab::http::{Request, Response, passed_envoy};
use lab::load::Load;
use lab::{Docker, Host, Lab, Proxy, eventually, on_both_dockers};

use crate::SECOND;

on_both_dockers!(a_crashed_containers_port_is_gone_and_back_with_it, clients_of_a_paused_container_wait_for_it,);

/// Does not wait for the end of the connection: of one that is under way when its listener goes, Envoy sends the answer
/// at once and closes it when its time to drain is over.
fn ask(host: &Host, port: u16) -> std::io::Result<Response> {
    host.send(&Request::get(&format!("http://127.0.0.1:{port}/")).limit(Duration::from_millis(300)))
}

fn kill_program(host: &Host, container: &str) {
    let id = host.docker(&["inspect", "--format", "{{.State.Pid}}", container]);
    host.namespace().run("kill", &["-9", &id]);
}

/// From a crash to an answer, by a container that is restarted.
fn crash(host: &Host) -> Duration {
    kill_program(host, "again");
    let begun = Instant::now();
    eventually("no answer from the container that died", 5 * SECOND, || match ask(host, 8081) {
        Ok(answer) if answer.status == 200 => Err("it still answers"),
        _ => Ok(()),
    });
    eventually("the restarted container answers", 10 * SECOND, || {
        let answer = ask(host, 8081).map_err(|error| error.to_string())?;
        if answer.status == 200 { Ok(()) } else { Err(answer.text()) }
    });
    begun.elapsed()
}

fn a_crashed_containers_port_is_gone_and_back_with_it(version: Docker) {
    let lab = Lab::of_this_test();
    let ours = lab.host("ours").docker(version).start();
    let theirs =
        lab.host("theirs").docker(version).proxy(Proxy::DockerProxy).without_registrar().without_envoy().start();
    for host in [&ours, &theirs] {
        host.run_web(&["--name", "once", "-p", "8080:80"]);
        host.run_web(&["--name", "again", "--restart", "always", "-p", "8081:80"]);
    }
    ours.await_served_by_envoy(8080);
    ours.await_served_by_envoy(8081);

    kill_program(&ours, "once");
    let begun = Instant::now();
    eventually("the port is gone", 5 * SECOND, || match ask(&ours, 8080) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => Ok(()),
        outcome => Err(format!("{outcome:?}")),
    });
    println!("{version:?}: the port of a container that crashed is gone after {:.0?}", begun.elapsed());
    eventually(
        "nobody lists it",
        3 * SECOND,
        || if ours.ports(8080).is_empty() { Ok(()) } else { Err("it is listed") },
    );

    // Twice in turns; dockerd doubles its own wait each time.
    let times = [(); 2].map(|()| [crash(&ours), crash(&theirs)]);
    ours.await_served_by_envoy(8081);
    println!("{version:?}: from a crash to an answer: {times:.2?} (shim and Envoy, docker-proxy)");
    for [with_shim, with_proxy] in times {
        assert!(with_shim < with_proxy + SECOND, "{with_shim:?} against {with_proxy:?}");
    }
}

fn clients_of_a_paused_container_wait_for_it(version: Docker) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").docker(version).start();
    host.run_web(&["--name", "web", "-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    let request = Request::get("http://127.0.0.1:8080/").limit(10 * SECOND);
    let load = Load::with_workers(host.namespace(), &request, 20, 100);
    host.docker(&["pause", "web"]);
    sleep(2 * SECOND);
    host.docker(&["unpause", "web"]);
    assert!(passed_envoy(&host.get("http://127.0.0.1:8080/").expect("it answers again")));
    sleep(SECOND);
    let outcomes = load.stop();
    println!("{version:?}: paused for 2 s: {outcomes:?}");
    assert_eq!(outcomes.failed(), 0, "{outcomes:?}");
    assert!(outcomes.slow > 0, "some waited: {outcomes:?}");
}

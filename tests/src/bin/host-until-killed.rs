//! A host with a container and a paused one, until the process is killed; for the test that nothing of it is left then.

use std::io::Write;
use std::time::Duration;

use lab::{Lab, Proxy};

fn main() -> std::io::Result<()> {
    let lab = Lab::new("host-until-killed");
    let host = lab.host("a").proxy(Proxy::DockerProxy).without_registrar().without_envoy().start();
    host.run_web(&["--name", "running", "-p", "8080:80"]);
    host.run_web(&["--name", "paused"]);
    host.docker(&["pause", "paused"]);
    let processes: Vec<_> = host.namespace().processes().iter().map(ToString::to_string).collect();
    println!("{}", processes.join(" "));
    std::io::stdout().flush()?;
    loop {
        std::thread::sleep(Duration::from_secs(60));
    }
}

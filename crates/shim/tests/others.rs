//! `-reload`, and SCTP by docker-proxy.

mod common;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::registrar::Registrar;
use common::{Folder, Start, container_named};
use shim_wire::FromShim;

#[test]
fn reload_reaches_the_shim_of_the_same_mapping_and_no_other() {
    let folder = Folder::new();
    let registrar = Registrar::listen(&folder.join("registrar.sock"));
    let mut start = Start::new(container_named("container"));
    start.registrar = folder.join("registrar.sock");
    let mut arguments = start.arguments();
    let _shim = start.serve();
    let (mut connection, first) = registrar.accept_and_register(0);

    let reload = |arguments: &[String]| {
        Command::new(env!("CARGO_BIN_EXE_envoy-docker-shim")).arg("-reload").args(arguments).output().unwrap()
    };
    let output = reload(&arguments);
    assert!(output.status.success());
    assert_eq!(connection.hear(), Some(FromShim::Register(first)));

    let host = arguments[3].clone();
    *arguments.last_mut().unwrap() = "81".to_owned();
    let output = reload(&arguments);
    assert_eq!(output.status.code(), Some(1));
    let message = format!("envoy-docker-shim: no shim is running for {host}:8080/tcp\n");
    assert_eq!(String::from_utf8(output.stderr).unwrap(), message);
}

#[test]
fn sctp_is_handed_to_docker_proxy_with_everything() {
    let folder = Folder::new();
    let program = folder.join("docker-proxy");
    // Says what it was given, and where it found it.
    std::fs::write(&program, "#!/bin/sh\nprintf '0\\n%s' \"$*\" >&3\n").unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    let mut start = Start::new("192.0.2.1:80".parse().unwrap());
    start.protocol = "sctp";
    start.environment = vec![("PATH", folder.0.clone())];
    start.extra = vec!["-use-listen-fd".to_owned()];
    let arguments = start.arguments().join(" ");
    let mut shim = start.spawn();
    assert_eq!(shim.word, format!("0\n{arguments}"));
    assert!(shim.exit().success());
}

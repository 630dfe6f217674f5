//! Bad input from every side: a clear error that names the thing, and everything else works on.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use lab::host::ORDINARY_USER;
use lab::{Docker, Host, Lab, Proxy, eventually, parts};

use crate::{on_both_dockers, passed_envoy, write_program};

on_both_dockers!(an_unknown_flag_of_a_newer_dockerd_is_ignored_and_shown);

const SOCKET: &str = "/run/envoy-docker-shim/registrar.sock";

fn an_unknown_flag_of_a_newer_dockerd_is_ignored_and_shown(version: Docker) {
    let lab = Lab::of_this_test();
    let program = lab.logs().join("newer-dockerd");
    let shim = parts::ours("envoy-docker-shim");
    write_program(&program, &format!("#!/bin/sh\nexec {} -frobnicate=1 --from-tomorrow \"$@\"\n", shim.display()));
    let host = lab.host("a").docker(version).proxy(Proxy::Program(program)).start();
    host.run_web(&["-p", "8080:80"]);
    for port in host.await_served_by_envoy(8080) {
        let problem = port["problem"].as_str().unwrap_or_default();
        assert!(problem.contains("frobnicate") && problem.contains("from-tomorrow"), "{port}");
    }
    assert!(passed_envoy(&host.get("http://127.0.0.1:8080/").expect("the port answers")));
}

#[test]
fn a_missing_or_wrong_address_ends_the_shim_with_exit_2_and_its_name() {
    let good = [
        ("-proto", "tcp"),
        ("-host-ip", "0.0.0.0"),
        ("-host-port", "8080"),
        ("-container-ip", "172.17.0.2"),
        ("-container-port", "80"),
    ];
    let run = |flags: &[(&str, &str)]| {
        let flags = flags.iter().flat_map(|(flag, value)| [*flag, *value]);
        Command::new(parts::ours("envoy-docker-shim")).args(flags).output().expect("the shim starts")
    };
    for wrong in ["-host-ip", "-host-port", "-container-ip", "-container-port"] {
        let without: Vec<_> = good.into_iter().filter(|(flag, _)| *flag != wrong).collect();
        let with_nonsense = good.map(|(flag, value)| (flag, if flag == wrong { "nonsense" } else { value }));
        for (flags, case) in [(&without[..], "missing"), (&with_nonsense[..], "nonsense")] {
            let output = run(flags);
            let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
            assert_eq!(output.status.code(), Some(2), "{wrong} {case}: {complaint}");
            assert!(complaint.contains(wrong.trim_start_matches('-')), "{wrong} {case}: {complaint}");
        }
    }
}

/// Sends bytes to the registrar's socket as this user, from a program on the host; yields what came of it.
fn send_to_registrar(host: &Host, uid: u32, bytes: &[u8]) -> Output {
    let uid = uid.to_string();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", &uid, "--regid", &uid, "--clear-groups"]);
    // Where the project lies, other users may not be let in.
    command.arg(host.expose(&parts::busybox())).args(["timeout", "5"]);
    command.arg(host.expose(&parts::own_binary("unix-send"))).arg(SOCKET);
    let mut child = host.namespace().spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut input = child.stdin.take().expect("it was asked for");
    // The other side may have hung up already, which is what is tested.
    let _ = input.write_all(bytes);
    drop(input);
    child.wait_with_output().expect("it ends")
}

fn everything_else_works(host: &Host, port: u16) {
    assert!(passed_envoy(&host.get("http://127.0.0.1:8080/").expect("the first port answers")));
    host.run_web(&["-p", &format!("{port}:80")]);
    host.await_served_by_envoy(port);
    host.await_envoy_in_sync();
}

#[test]
fn garbage_and_huge_frames_on_the_registrars_socket_end_that_connection_alone() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_web(&["-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    let cases: [(&str, Vec<u8>); 4] = [
        ("text", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("a huge frame", [vec![0xff, 0xff, 2], vec![0; 1 << 20]].concat()),
        ("an empty frame", vec![0, 0]),
        ("a registration cut short", vec![0, 3, 2, 0, 1]),
    ];
    for (turn, (case, bytes)) in (0..).zip(cases) {
        let before = host.registrar_log().len();
        let output = send_to_registrar(&host, 0, &bytes);
        assert_ne!(output.status.code(), Some(124), "{case}: the registrar ends the connection");
        eventually(&format!("{case}: the registrar's log says so"), Duration::from_secs(2), || {
            let log = host.registrar_log()[before..].to_owned();
            let said = log.contains("frame") || log.contains("message");
            if said { Ok(()) } else { Err(format!("the log says {log:?}")) }
        });
        everything_else_works(&host, 8081 + turn);
    }
}

#[test]
fn connections_that_say_nothing_do_not_hinder_registrations() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_web(&["-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    let path = host.path(SOCKET);
    let silent: Vec<_> = (0..200).map(|_| std::os::unix::net::UnixStream::connect(&path)).collect();
    everything_else_works(&host, 8081);
    drop(silent);
    everything_else_works(&host, 8082);
}

#[test]
fn another_user_can_neither_connect_nor_register() {
    use std::os::unix::fs::PermissionsExt;
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    host.run_web(&["-p", "8080:80"]);
    host.await_served_by_envoy(8080);
    let mode = std::fs::metadata(host.path(SOCKET)).expect("the socket is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let output = send_to_registrar(&host, ORDINARY_USER, b"");
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && complaint.contains("denied"), "{complaint}");

    // Should the permissions ever be opened, who asks still counts.
    std::fs::set_permissions(host.path(SOCKET), std::fs::Permissions::from_mode(0o666)).expect("root may");
    let registration = claim_of_port(9999);
    let output = send_to_registrar(&host, ORDINARY_USER, &registration);
    let answer = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(host.ports(9999).is_empty(), "{:?}, told {answer:?}", host.ports(9999));
    eventually("the log names the user", Duration::from_secs(3), || {
        let log = host.registrar_log();
        if log.contains(&ORDINARY_USER.to_string()) { Ok(()) } else { Err(log) }
    });
    everything_else_works(&host, 8081);
}

/// A registration as a shim sends it.
fn claim_of_port(port: u16) -> Vec<u8> {
    use shim_wire::Message;
    let mut bytes = Vec::new();
    let published = model::PublishedPort { address: [0, 0, 0, 0].into(), port, protocol: model::Protocol::Tcp };
    let container = ([172, 17, 0, 2], 80).into();
    let register = shim_wire::Register {
        version: shim_wire::VERSION,
        published,
        container,
        problem: String::new(),
        shareable: true,
        socket_inode: 0,
        observes: false,
    };
    shim_wire::FromShim::Register(register).encode(&mut bytes);
    bytes
}

#[test]
fn bad_labels_are_shown_and_the_port_works() {
    let lab = Lab::of_this_test();
    let host = lab.host("a").start();
    let labels = ["-l", "ServiceName=my web/ünï", "-l", "ProxyMode=quic", "-l", "ServicePort_81=9501"];
    let id = host.run_web(&[&["-p", "8080:80"], &labels[..]].concat());
    // A mode that is not known counts as auto: the answer shows what the program speaks.
    host.get("http://127.0.0.1:8080/").expect("the port answers");
    for port in host.await_served_by_envoy(8080) {
        let problem = port["problem"].as_str().unwrap_or_default();
        assert!(problem.contains("ServiceName") && problem.contains("quic"), "{port}");
        assert_eq!((&port["service_name"], &port["proxy_mode"]), (&"my-web--n-".into(), &"auto".into()));
    }
    let answer = host.get("http://127.0.0.1:8080/").expect("the port answers");
    assert_eq!(answer.json()["hostname"], id[..12]);
    for said in [host.shimctl(&["services"]), host.shimctl(&["hosts"])] {
        let names = ["my web", "quic", "ServicePort_81=9501: that port of the container is not published"];
        assert!(names.iter().all(|name| said.contains(name)), "{said}");
    }
}

#[test]
fn a_registrar_with_a_wrong_setting_says_which_and_does_not_start() {
    let cases = [
        (vec!["--tracing", "smoke-signals"], "smoke-signals"),
        (vec!["--http-listen", "nowhere"], "nowhere"),
        (vec!["--envoy-user", "nobody-by-that-name"], "nobody-by-that-name"),
        (vec!["--default-proxy-mode", "quic"], "quic"),
        (vec!["--frobnicate"], "frobnicate"),
        (vec!["--config", "/does/not/exist.yaml"], "/does/not/exist.yaml"),
    ];
    for (arguments, culprit) in cases {
        let mut command = Command::new(parts::ours("envoy-docker-registrar"));
        let output = command.args(&arguments).arg("--check-config").output().expect("the registrar starts");
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{arguments:?}");
        assert!(complaint.contains(culprit), "{arguments:?}: {complaint}");
    }
}

//! From dockerd's call to the word on fd 3.

mod common;

use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Stdio};

use common::{Start, container_named, own_address};

#[test]
fn a_port_is_served_with_a_socket_of_our_own() {
    let shim = Start::new(container_named("container")).serve();
    assert_eq!(shim.ask(), "container");
    assert_eq!(shim.log(), "");
}

#[test]
fn an_ipv6_port_leaves_the_ipv4_one_alone() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut start = Start::new(container_named("container"));
    start.host = SocketAddr::new("::1".parse().unwrap(), port);
    assert_eq!(start.serve().ask(), "container");
}

#[test]
fn dockerds_socket_is_used_with_and_without_the_flag() {
    for extra in [vec!["-use-listen-fd".to_owned()], vec![]] {
        let mut start = Start::new(container_named("container"));
        start.socket = Some(TcpListener::bind(start.host).unwrap().into());
        start.extra = extra;
        let shim = start.serve();
        assert_eq!(shim.ask(), "container");
        assert_eq!(shim.log(), "");
    }
}

#[test]
fn something_else_on_fd_4_is_left_alone_and_reported_if_it_was_meant_for_us() {
    for (extra, log) in [
        (vec![], String::new()),
        (
            vec!["-use-listen-fd".to_owned()],
            "envoy-docker-shim: fd 4 is no socket (socket operation on non-socket)\n".to_owned(),
        ),
    ] {
        let mut start = Start::new(container_named("container"));
        start.socket = Some(std::fs::File::open("/dev/null").unwrap().into());
        start.extra = extra;
        let shim = start.serve();
        assert_eq!(shim.ask(), "container");
        assert_eq!(shim.log(), log);
    }
}

#[test]
fn a_taken_port_is_named_as_docker_proxy_would() {
    for share in [false, true] {
        let holder = TcpListener::bind((own_address(), 8080)).unwrap();
        // Somebody who would share the port, as Envoy does: it is taken all the same.
        nix::sys::socket::setsockopt(&holder, nix::sys::socket::sockopt::ReusePort, &share).unwrap();
        let mut start = Start::new(container_named("container"));
        start.host = holder.local_addr().unwrap();
        let mut shim = start.spawn();
        assert_eq!(shim.word, format!("1\nfailed to listen on {}: address already in use", shim.address));
        assert_eq!(shim.exit().code(), Some(1));
    }
}

#[test]
fn unknown_flags_are_ignored_and_logged() {
    let mut start = Start::new(container_named("container"));
    start.extra = vec!["--shape=round".to_owned(), "-colour".to_owned(), "blue".to_owned()];
    let shim = start.serve();
    assert_eq!(shim.ask(), "container");
    assert_eq!(
        shim.log(),
        "envoy-docker-shim: flag -shape \"round\" is not known and was ignored\n\
         envoy-docker-shim: flag -colour \"blue\" is not known and was ignored\n"
    );
}

#[test]
fn a_wrong_address_is_told_to_dockerd_and_ends_with_2() {
    let mut start = Start::new(container_named("container"));
    start.extra = vec!["-container-ip".to_owned(), "172.17.0".to_owned()];
    let mut shim = start.spawn();
    let reason = "invalid value \"172.17.0\" for flag -container-ip: expected an IPv4 or IPv6 address";
    assert_eq!(shim.word, format!("1\n{reason}"));
    assert_eq!(shim.exit().code(), Some(2));
}

#[test]
fn another_protocol_is_refused() {
    let mut start = Start::new(container_named("container"));
    start.protocol = "dccp";
    let mut shim = start.spawn();
    assert_eq!(shim.word, "1\nunknown protocol \"dccp\": expected tcp, udp or sctp");
    assert_eq!(shim.exit().code(), Some(1));
}

#[test]
fn without_anybody_on_fd_3_it_ends() {
    let start = Start::new(container_named("container"));
    for fd_3 in ["3>&-", "3>&1"] {
        // Nobody reads from this pipe from the beginning.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new("sh")
            .args(["-c", &format!("exec \"$@\" {fd_3} 4<&-"), "sh", env!("CARGO_BIN_EXE_envoy-docker-shim")])
            .args(start.arguments())
            .stdout(writer)
            .stderr(Stdio::piped())
            .spawn()
            .and_then(std::process::Child::wait_with_output)
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{fd_3}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("dockerd does not listen on fd 3"), "{fd_3}");
    }
}

#[test]
fn closed_standard_descriptors_are_filled_before_a_socket_takes_their_place() {
    let mut start = Start::new(container_named("container"));
    start.redirect = "0<&- 1>&- 2>&-";
    let shim = start.serve();
    assert_eq!(shim.ask(), "container");
    for number in 0..3 {
        let target = std::fs::read_link(format!("/proc/{}/fd/{number}", shim.child.id())).expect("it is open");
        assert_eq!(target.to_str(), Some("/dev/null"), "fd {number}");
    }
}

#[test]
fn version_and_help_need_no_dockerd() {
    for (flag, expected) in [("-v", "envoy-docker-shim version 0."), ("--help", "userland-proxy-path")] {
        let output = Command::new(env!("CARGO_BIN_EXE_envoy-docker-shim")).arg(flag).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(expected));
    }
}

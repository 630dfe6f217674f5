//! Without any label: real programs that speak something else than HTTP pass unharmed, first through the shim and then
//! through Envoy, and HTTP is treated as `http` once it was seen.

use std::time::Duration;

use lab::{Docker, Host, Lab, eventually};

use crate::on_both_dockers;

on_both_dockers!(real_protocols_pass_unharmed_without_a_label);

/// Docker's bridge, by which a container reaches the host's published ports.
const HOST: &str = "172.17.0.1";

fn real_protocols_pass_unharmed_without_a_label(version: Docker) {
    let lab = Lab::of_this_test();
    let host = lab.host("a").docker(version).start();
    host.need_debian_image();
    redis(&host);
    postgres(&host);
    ssh(&host);
    nginx(&host);
}

/// Starts a container of Debian's programs that runs this script.
fn start(host: &Host, name: &str, published: &[&str], script: &str) {
    let published = published.iter().flat_map(|port| ["-p", port]);
    let all = ["run", "-d", "--name", name].into_iter().chain(published).chain(["debian", "sh", "-c", script]);
    host.docker(&all.collect::<Vec<_>>());
}

/// Runs a client in that container until it succeeds (the server may still be starting), then says what it printed.
fn ask(host: &Host, name: &str, client: &str) -> String {
    eventually(&format!("{name} answers `{client}`"), Duration::from_secs(20), || {
        let output = host.try_docker(&["exec", name, "sh", "-c", client]);
        let printed = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() && !printed.is_empty() { Ok(printed) } else { Err(printed + &complaint) }
    })
}

/// How many connections of this port Envoy took for something else than HTTP, and how many for HTTP.
fn counted(host: &Host, port: u16) -> (u64, u64) {
    let count = |kind: &str| host.envoy_stat(&format!(r"^{kind}\.local/debian//[^/]*/{port}\.downstream_cx_total$"));
    (count("tcp"), count("http"))
}

fn redis(host: &Host) {
    start(host, "redis", &["6379:6379"], "exec redis-server --bind 0.0.0.0 --protected-mode no --save ''");
    let set = || assert_eq!(ask(host, "redis", &format!("redis-cli -h {HOST} set key value")), "OK");
    set();
    host.await_served_by_envoy(6379);
    set();
    assert_eq!(ask(host, "redis", &format!("redis-cli -h {HOST} get key")), "value");
    let (tcp, http) = counted(host, 6379);
    assert!(tcp >= 2 && http == 0, "Redis: {tcp} connections as tcp, {http} as http");
}

fn postgres(host: &Host) {
    let script = "
        for folder in /etc/postgresql/*/main; do
          echo 'host all all all trust' >> $folder/pg_hba.conf
          version=$(basename $(dirname $folder))
          exec su postgres -c \"/usr/lib/postgresql/$version/bin/postgres -c listen_addresses='*' -c config_file=$folder/postgresql.conf\"
        done";
    start(host, "postgres", &["5432:5432"], script);
    // The first bytes ask for TLS; what follows is encrypted with the server's own certificate.
    let client = format!("psql -h {HOST} -U postgres -tAc");
    let select = || assert_eq!(ask(host, "postgres", &format!("{client} 'select 6 * 7'")), "42");
    select();
    host.await_served_by_envoy(5432);
    select();
    let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    assert_eq!(ask(host, "postgres", &format!("{client} '{encrypted}'")), "t");
    let (tcp, http) = counted(host, 5432);
    assert!(tcp >= 2 && http == 0, "PostgreSQL: {tcp} connections as tcp, {http} as http");
}

fn ssh(host: &Host) {
    let script = "
        mkdir -p /run/sshd /root/.ssh
        ssh-keygen -q -t ed25519 -N '' -f /key && cp /key.pub /root/.ssh/authorized_keys
        ssh-keygen -A
        exec /usr/sbin/sshd -D -e";
    start(host, "ssh", &["2222:22"], script);
    let client = format!("ssh -i /key -p 2222 -o StrictHostKeyChecking=no root@{HOST} 'echo through ssh'");
    assert_eq!(ask(host, "ssh", &client), "through ssh");
    host.await_served_by_envoy(2222);
    assert_eq!(ask(host, "ssh", &client), "through ssh");
    let (tcp, http) = counted(host, 2222);
    assert!(tcp >= 1 && http == 0, "SSH: {tcp} connections as tcp, {http} as http");
}

fn nginx(host: &Host) {
    let script = "
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=lab -keyout /key.pem -out /cert.pem 2>/dev/null
        cat > /nginx.conf <<END
        events {}
        http {
          server {
            listen 80;
            listen 443 ssl;
            ssl_certificate /cert.pem;
            ssl_certificate_key /key.pem;
            location / { return 200 \"served over $scheme\\n\"; }
          }
        }
        END
        exec nginx -c /nginx.conf -g 'daemon off;'";
    start(host, "nginx", &["8443:443", "8080:80"], &script.replace("$scheme", r"\$scheme").replace("\n        ", "\n"));
    let request = r"printf 'GET / HTTP/1.0\r\n\r\n'";
    let client =
        format!("{request} | openssl s_client -quiet -verify_return_error -CAfile /cert.pem -connect {HOST}:8443");
    let over_tls = || {
        let answer = ask(host, "nginx", &format!("{client} 2>/dev/null | tail -n 1"));
        assert_eq!(answer, "served over https", "the client sees nginx's own certificate");
    };
    over_tls();
    host.await_served_by_envoy(8443);
    over_tls();
    let (tcp, http) = counted(host, 8443);
    assert!(tcp >= 1 && http == 0, "TLS: {tcp} connections as tcp, {http} as http");
    let in_plain = || {
        let answer = host.get("http://127.0.0.1:8080/").expect("plain HTTP is answered");
        assert_eq!(answer.text(), "served over http\n");
    };
    in_plain();
    host.await_served_by_envoy(8080);
    in_plain();
    assert_eq!(counted(host, 8080), (0, 1), "HTTP without a label is treated as http");
}

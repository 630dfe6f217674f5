//! The program in the lab's containers: it says what it was asked.
//!
//! Arguments are `MODE:PORT`, as many as wanted: `http`, `print` (as `http`, and each request's path and body are a line
//! of its output), `grpc` (over HTTP/2 without TLS), `banner` (speaks first, as SSH and MySQL do), `lines` (prints what it hears, and says nothing), `udp`, `udp-named`
//! (with its host's name first). It knows nothing of the project, and uses threads because tests never ask much at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use serde_json::json;

fn main() {
    // A first process that does not ask for SIGTERM never gets it, and each `docker stop` would take ten seconds.
    let ends = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    ends.thread_block().expect("signals can be waited for");
    std::env::args().skip(1).for_each(|argument| start(&argument));
    let _ = ends.wait();
}

fn start(argument: &str) {
    let parsed = argument.split_once(':').and_then(|(mode, port)| Some((mode.to_owned(), port.parse().ok()?)));
    let Some((mode, port)) = parsed else {
        eprintln!("{argument}: expected MODE:PORT");
        std::process::exit(2);
    };
    std::thread::spawn(move || match mode.as_str() {
        "http" => accept(port, |stream| http(stream, |_, _| {})),
        "print" => accept(port, |stream| http(stream, print)),
        "grpc" => lab::grpc::serve(port),
        "banner" => accept(port, banner),
        "lines" => accept(port, lines),
        "udp" => udp(port, ""),
        "udp-named" => udp(port, &format!("{} ", host_name())),
        _ => {
            eprintln!("unknown mode {mode}");
            std::process::exit(2);
        }
    });
}

/// One socket for both families, where there are both.
fn accept(port: u16, serve: fn(TcpStream) -> std::io::Result<()>) {
    let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port))
        .or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)))
        .expect("the port of a new container is free");
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || serve(stream));
    }
}

/// Says nothing, and prints what it hears, as a log server does.
fn lines(stream: TcpStream) -> std::io::Result<()> {
    BufReader::new(stream).lines().try_for_each(|line| writeln!(std::io::stdout(), "{}", line?))
}

fn banner(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(b"hello, I speak first\r\n")?;
    let mut echo = stream.try_clone()?;
    std::io::copy(&mut stream, &mut echo)?;
    // The client has said all; half of the connection is still open.
    echo.write_all(b"goodbye\r\n")
}

/// Answers what it was asked, after these words.
fn udp(port: u16, words: &str) {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).expect("the port of a new container is free");
    let mut buffer = [0; 65536];
    while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
        let _ = socket.send_to(&[words.as_bytes(), &buffer[..length]].concat(), peer);
    }
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname");
    name.expect("/proc is mounted").trim().to_owned()
}

/// What a request's head says.
struct Head {
    method: String,
    path: String,
    version: String,
    headers: Vec<(String, String)>,
}

impl Head {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn has(&self, name: &str, token: &str) -> bool {
        self.header(name).is_some_and(|value| value.to_ascii_lowercase().contains(token))
    }
}

fn print(head: &Head, body: &[u8]) {
    println!("{} {}", head.path, String::from_utf8_lossy(body));
}

fn http(stream: TcpStream, note: fn(&Head, &[u8])) -> std::io::Result<()> {
    let peer = stream.peer_addr()?.to_string();
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    while let Some(head) = read_head(&mut reader)? {
        if head.has("expect", "100-continue") {
            writer.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        if head.has("connection", "upgrade") {
            return upgraded(&head, reader, writer);
        }
        let body = read_body(&head, &mut reader)?;
        note(&head, &body);
        let keep = head.version == "HTTP/1.1" && !head.has("connection", "close");
        answer(&head, body.len(), &peer, &mut writer)?;
        if !keep {
            break;
        }
    }
    Ok(())
}

fn read_head(reader: &mut impl BufRead) -> std::io::Result<Option<Head>> {
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    let mut words = first.split_whitespace().map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    let mut head = Head { method: word(), path: word(), version: word(), headers: Vec::new() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { return Ok(Some(head)) };
        head.headers.push((name.to_owned(), value.trim().to_owned()));
    }
}

fn read_body(head: &Head, reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if let Some(length) = head.header("content-length").and_then(|length| length.parse().ok()) {
        reader.take(length).read_to_end(&mut body)?;
    }
    while head.has("transfer-encoding", "chunked") {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = u64::from_str_radix(line.trim(), 16).unwrap_or(0);
        reader.take(length).read_to_end(&mut body)?;
        reader.read_line(&mut line)?;
        if length == 0 {
            break;
        }
    }
    Ok(body)
}

/// `/sleep/MILLISECONDS` answers late, `/bytes/COUNT` at length, `/status/CODE` so; all else says what was asked.
fn answer(head: &Head, body_length: usize, peer: &str, writer: &mut impl Write) -> std::io::Result<()> {
    let mut parts = head.path.split('/').skip(1);
    let (kind, number) = (parts.next().unwrap_or_default(), parts.next().and_then(|number| number.parse().ok()));
    let mut status = 200;
    let body = match (kind, number) {
        ("bytes", Some(count)) => vec![b'x'; count],
        ("sleep" | "status", Some(number)) => {
            if kind == "sleep" {
                std::thread::sleep(Duration::from_millis(number as u64));
            } else {
                status = number;
            }
            described(head, body_length, peer)
        }
        _ => described(head, body_length, peer),
    };
    let length = body.len();
    write!(writer, "HTTP/1.1 {status} Fine\r\nX-Echo-App: yes\r\nContent-Length: {length}\r\n\r\n")?;
    writer.write_all(&body)
}

fn described(head: &Head, body_length: usize, peer: &str) -> Vec<u8> {
    json!({
        "method": head.method,
        "path": head.path,
        "version": head.version,
        "headers": head.headers,
        "body_length": body_length,
        "peer": peer,
        "hostname": host_name(),
    })
    .to_string()
    .into_bytes()
}

/// After an upgrade, such as a WebSocket's, every byte comes back.
fn upgraded(head: &Head, mut reader: impl Read, mut writer: impl Write) -> std::io::Result<()> {
    let protocol = head.header("upgrade").unwrap_or_default();
    write!(writer, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n")?;
    let mut buffer = [0; 4096];
    loop {
        let length = reader.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        writer.write_all(&buffer[..length])?;
    }
}

//! How many requests or connections per second there can be.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::namespace::Namespace;

/// Clients at the same time.
const CLIENTS: usize = 16;
/// How long a client waits for anything.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Requests, of which each client sends one after the other over one connection.
    Requests,
    /// Connections, each for one request.
    Connections,
}

/// Asks for `/` from the namespace's network, as fast as 16 clients can, for about `duration`; yields how many answers
/// came per second. Every answer must end with `ending`, which must not occur in it before.
///
/// # Panics
/// A request fails: a figure without its failures would be none.
#[must_use]
pub fn per_second(
    namespace: &Namespace,
    target: SocketAddr,
    counted: Counted,
    ending: &str,
    duration: Duration,
) -> f64 {
    let start = Instant::now();
    let counts = namespace.in_network(|| {
        thread::scope(|scope| {
            let client = || ask(target, counted, ending.as_bytes(), start + duration);
            let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect::<Vec<_>>()
        })
    });
    let elapsed = start.elapsed();
    let count: io::Result<u64> = counts.into_iter().sum();
    let count = count.unwrap_or_else(|error| panic!("{counted:?} to {target}: {error}"));
    count as f64 / elapsed.as_secs_f64()
}

fn ask(target: SocketAddr, counted: Counted, ending: &[u8], until: Instant) -> io::Result<u64> {
    let connection = if counted == Counted::Requests { "keep-alive" } else { "close" };
    let request = format!("GET / HTTP/1.1\r\nHost: {target}\r\nConnection: {connection}\r\n\r\n");
    let mut count = 0;
    let mut stream = connect(target)?;
    loop {
        stream.write_all(request.as_bytes())?;
        match counted {
            Counted::Requests => read_until(&mut stream, ending)?,
            // Whoever hangs up first keeps the port for a minute: let that be the server.
            Counted::Connections => read_all(&mut stream, ending)?,
        }
        count += 1;
        if Instant::now() > until {
            return Ok(count);
        }
        if counted == Counted::Connections {
            stream = connect(target)?;
        }
    }
}

fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, TIME_LIMIT)?;
    stream.set_read_timeout(Some(TIME_LIMIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn read_until(stream: &mut TcpStream, ending: &[u8]) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut length = 0;
    while !buffer[..length].ends_with(ending) {
        match stream.read(&mut buffer[length..])? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            more => length += more,
        }
    }
    Ok(())
}

fn read_all(stream: &mut TcpStream, ending: &[u8]) -> io::Result<()> {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    if answer.ends_with(ending) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

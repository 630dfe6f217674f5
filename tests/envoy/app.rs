//! An application that counts the requests it is sent, and answers each with the same bytes, or not at all.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use lab::namespace::Network;

/// How long it thinks of a request before it closes the connection, where it does not answer.
const THINKS: Duration = Duration::from_secs(1);

/// A running application. It runs as long as the test.
pub(crate) struct App {
    requests: Arc<AtomicUsize>,
}

impl App {
    /// `answer` is what it sends; empty: it closes the connection without a word.
    pub(crate) fn start(network: Network, address: &str, answer: &str) -> Self {
        let requests = Arc::new(AtomicUsize::new(0));
        let (counter, address, answer) = (Arc::clone(&requests), address.to_owned(), answer.to_owned());
        let (ready, listens) = mpsc::channel();
        std::thread::spawn(move || {
            network.enter();
            let listener = TcpListener::bind(address).unwrap();
            ready.send(()).unwrap();
            for stream in listener.incoming().flatten() {
                let (counter, answer) = (Arc::clone(&counter), answer.clone());
                std::thread::spawn(move || serve(&stream, &counter, &answer));
            }
        });
        listens.recv().unwrap();
        Self { requests }
    }

    /// The requests so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

fn serve(stream: &TcpStream, counter: &AtomicUsize, answer: &str) {
    let mut reader = BufReader::new(stream);
    while request(&mut reader).is_ok() {
        counter.fetch_add(1, Ordering::SeqCst);
        if answer.is_empty() {
            return std::thread::sleep(THINKS);
        }
        if (&mut &*stream).write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Reads a request to its end.
fn request(reader: &mut impl BufRead) -> io::Result<()> {
    let (mut length, mut is_chunked) = (0, false);
    loop {
        let line = line(reader)?.to_ascii_lowercase();
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
        is_chunked |= line.starts_with("transfer-encoding: chunked");
        if line == "\r\n" {
            break;
        }
    }
    if !is_chunked {
        return reader.read_exact(&mut vec![0; length]);
    }
    loop {
        let chunk = usize::from_str_radix(line(reader)?.trim(), 16).map_err(io::Error::other)?;
        reader.read_exact(&mut vec![0; chunk + "\r\n".len()])?;
        if chunk == 0 {
            return Ok(());
        }
    }
}

fn line(reader: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(line) }
}

//! Sends its input to a Unix socket and prints what comes back, until the other side hangs up.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).map(|path| talk(&path)) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("expected the path of a Unix socket");
            ExitCode::from(2)
        }
    }
}

fn talk(path: &str) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(path)?;
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input)?;
    // Whatever becomes of the sending, what the other side says counts.
    let _ = stream.write_all(&input);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    std::io::stdout().write_all(&answer)
}

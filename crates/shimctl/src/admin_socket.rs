//! Orders to the registrar over its admin socket: one small HTTP exchange, and every way in which it can go wrong.
//!
//! Reads go over TCP, see `client`. Written by hand: one request without a body, and an answer that is read to its
//! end, need no more than this.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long the registrar may keep silent. What it does on an order takes milliseconds.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// The longest answer that is read, in bytes: a status, a few headers, a sentence.
const ANSWER_MAX_LENGTH: u64 = 64 * 1024;

/// Why an order was not carried out. The texts name the socket, and the fix where there is one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// Nobody listens there.
    #[error(
        "no registrar listens on {}: {reason}\n\
         Is it running (systemctl status envoy-docker-registrar)? If its --admin-socket is another path, give --admin-socket.",
        socket.display()
    )]
    NotRunning { socket: PathBuf, reason: io::Error },
    /// The socket is for its owner, the registrar's user, alone.
    #[error("{} may be used by root alone: run this as root, with sudo for example", socket.display())]
    NotRoot { socket: PathBuf },
    /// The exchange broke off. The order may have been carried out.
    #[error("the registrar on {} did not answer: {reason}\nsystemctl status envoy-docker-registrar tells whether it runs.", socket.display())]
    Broken { socket: PathBuf, reason: io::Error },
    /// What listens there speaks no HTTP.
    #[error("what answers on {} is no registrar", socket.display())]
    NotUnderstood { socket: PathBuf },
    /// The registrar said no.
    #[error("the registrar answered {status}: {message}")]
    Refused { status: u16, message: String },
}

/// Sends one order, such as `POST` of `/api/v1/leave`, and waits until it was carried out.
///
/// # Errors
/// There was no connection, no answer, or one with another status than 2xx.
pub(crate) fn order(socket: &Path, method: &str, path: &str) -> Result<(), AdminError> {
    let stream = UnixStream::connect(socket).map_err(|error| no_connection(socket, error))?;
    let answer = exchange(stream, method, path, SILENCE_MAX)
        .map_err(|reason| AdminError::Broken { socket: socket.to_owned(), reason: in_words(reason) })?;
    let (status, body) = parse(&answer).ok_or_else(|| AdminError::NotUnderstood { socket: socket.to_owned() })?;
    if (200..300).contains(&status) {
        Ok(())
    } else {
        Err(AdminError::Refused { status, message: crate::client::message_of(body) })
    }
}

fn no_connection(socket: &Path, reason: io::Error) -> AdminError {
    let socket = socket.to_owned();
    match reason.kind() {
        ErrorKind::PermissionDenied => AdminError::NotRoot { socket },
        _ => AdminError::NotRunning { socket, reason },
    }
}

/// One request without a body, and the whole answer to it, however long that is up to a bound.
///
/// # Errors
/// The exchange broke off, or nothing came within `silence_max`.
pub(crate) fn exchange(mut stream: UnixStream, method: &str, path: &str, silence_max: Duration) -> io::Result<String> {
    stream.set_read_timeout(Some(silence_max))?;
    stream.set_write_timeout(Some(silence_max))?;
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX_LENGTH).read_to_end(&mut answer)?;
    if answer.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A blocking socket says "try again" when its time is over.
pub(crate) fn in_words(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => io::Error::other("nothing came in time"),
        ErrorKind::UnexpectedEof => io::Error::other("it hung up"),
        _ => error,
    }
}

/// The status and the body. The registrar's are short and come in one piece, with their length.
pub(crate) fn parse(answer: &str) -> Option<(u16, &str)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    /// What [`order`] makes of this answer, and what was asked.
    fn answered(answer: &'static str) -> (Result<(), AdminError>, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = vec![0; 1024];
            let length = stream.read(&mut asked).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&asked[..length]).into_owned()
        });
        let result = order(&path, "POST", "/api/v1/leave");
        (result, server.join().unwrap())
    }

    #[test]
    fn an_order_that_was_carried_out_is_a_success() {
        let (result, asked) = answered("HTTP/1.1 204 No Content\r\ndate: today\r\n\r\n");
        assert!(result.is_ok(), "{result:?}");
        assert!(asked.starts_with("POST /api/v1/leave HTTP/1.1\r\n"), "{asked}");
    }

    #[test]
    fn the_registrars_reason_is_shown() {
        let (result, _) =
            answered("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 23\r\n\r\n{\"error\":\"it is locked\"}");
        assert_eq!(result.unwrap_err().to_string(), "the registrar answered 500: it is locked");
    }

    #[test]
    fn an_answer_that_is_none_is_an_error() {
        assert!(matches!(answered("hello").0, Err(AdminError::NotUnderstood { .. })));
        let error = answered("").0.unwrap_err().to_string();
        assert!(error.contains("did not answer: it hung up"), "{error}");
    }

    #[test]
    fn a_socket_that_is_missing_or_dead_names_its_path_and_the_fix() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        for _ in ["missing", "dead"] {
            let error = order(&path, "POST", "/").unwrap_err();
            assert!(matches!(error, AdminError::NotRunning { .. }), "{error}");
            assert!(
                error.to_string().contains("admin.sock") && error.to_string().contains("--admin-socket"),
                "{error}"
            );
            drop(UnixListener::bind(&path));
        }
    }

    #[test]
    fn a_socket_of_somebody_elses_asks_for_root() {
        let error = no_connection(Path::new("/run/x/admin.sock"), ErrorKind::PermissionDenied.into());
        assert!(error.to_string().contains("as root"), "{error}");
    }
}

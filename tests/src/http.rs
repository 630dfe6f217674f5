//! A small HTTP/1 client: one request per connection, every byte under the test's control.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long a request may take unless told otherwise.
const TIME_LIMIT: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const ANSWER_MAX_LENGTH: u64 = 64 << 20;

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    method: String,
    target: SocketAddr,
    path: String,
    version: &'static str,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    limit: Duration,
}

impl Request {
    /// `GET` of `http://ADDRESS:PORT/PATH`; there are no names in the lab.
    ///
    /// # Panics
    /// The URL is none of this kind.
    #[must_use]
    pub fn get(url: &str) -> Self {
        let rest = url.strip_prefix("http://").unwrap_or_else(|| panic!("{url} does not begin with http://"));
        let slash = rest.find('/').unwrap_or(rest.len());
        let (authority, path) = rest.split_at(slash);
        let target = authority.parse().unwrap_or_else(|_| panic!("{url} has no address and port"));
        Self {
            method: "GET".to_owned(),
            target,
            path: if path.is_empty() { "/".to_owned() } else { path.to_owned() },
            version: "HTTP/1.1",
            headers: Vec::new(),
            body: Vec::new(),
            limit: TIME_LIMIT,
        }
    }

    /// Another method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        method.clone_into(&mut self.method);
        self
    }

    /// One more header, sent as it is written here.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// A body, with its length.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        let length = self.body.len().to_string();
        self.header("Content-Length", &length)
    }

    /// Speaks HTTP/1.0.
    #[must_use]
    pub fn http10(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    /// Another limit for the connection, and for each wait for bytes after it.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Connects, asks, and reads the answer to its end.
    ///
    /// # Errors
    /// `ConnectionRefused`; `ConnectionReset`; `UnexpectedEof` where the connection ended without an answer;
    /// `TimedOut`; `InvalidData` where the answer is not HTTP.
    pub fn send(&self) -> io::Result<Response> {
        let mut stream = self.open()?;
        let mut answer = Vec::new();
        Read::by_ref(&mut stream).take(ANSWER_MAX_LENGTH).read_to_end(&mut answer).map_err(as_timeout)?;
        Response::parse(&answer)
    }

    /// Connects, asks, and leaves the connection to the caller.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn open(&self) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect_timeout(&self.target, self.limit)?;
        stream.set_read_timeout(Some(self.limit))?;
        stream.set_write_timeout(Some(self.limit))?;
        stream.write_all(&self.bytes()).map_err(as_timeout)?;
        Ok(stream)
    }

    /// Asks over a connection that is kept for the next request, and opened where there is none. The answer has to say how
    /// long it is.
    ///
    /// # Errors
    /// As [`Self::send`]. The connection is closed then.
    pub fn send_over(&self, kept: &mut Option<TcpStream>) -> io::Result<Response> {
        let request = self.clone().header("Connection", "keep-alive");
        let mut stream = match kept.take() {
            None => request.open()?,
            Some(mut stream) => {
                stream.write_all(&request.bytes()).map_err(as_timeout)?;
                stream
            }
        };
        let answer = read_one(&mut stream).map_err(as_timeout)?;
        *kept = Some(stream);
        Ok(answer)
    }

    fn bytes(&self) -> Vec<u8> {
        let given = |name: &str| self.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        let mut head = format!("{} {} {}\r\n", self.method, self.path, self.version);
        let own = [("Host", self.target.to_string()), ("Connection", "close".to_owned())];
        let own = own.iter().filter(|(name, _)| !given(name)).map(|(name, value)| (*name, value.as_str()));
        let theirs = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        own.chain(theirs).for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend(&self.body);
        bytes
    }
}

/// Reads an answer of known length.
fn read_one(stream: &mut TcpStream) -> io::Result<Response> {
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer)?;
        answer.extend(&buffer[..read]);
        match Response::parse(&answer) {
            Ok(response) => {
                let length = response.header("content-length").and_then(|length| length.parse().ok());
                if response.body.len() >= length.ok_or(io::ErrorKind::InvalidData)? {
                    return Ok(response);
                }
            }
            Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => return Err(error),
            Err(_) => {}
        }
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// A blocking socket says `WouldBlock` when its time is over.
fn as_timeout(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The protocol's version, such as `HTTP/1.1`.
    pub version: String,
    /// The status.
    pub status: u16,
    /// The headers as they came.
    pub headers: Vec<(String, String)>,
    /// The body, without chunks' framing.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name, in whatever case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    fn parse(answer: &[u8]) -> io::Result<Self> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.ok_or(io::ErrorKind::UnexpectedEof)?;
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let mut lines = head.split("\r\n");
        let mut first = lines.next().unwrap_or_default().splitn(3, ' ');
        let version = first.next().unwrap_or_default().to_owned();
        let status = first.next().and_then(|status| status.parse().ok()).ok_or_else(|| invalid("no status"))?;
        let header = |line: &str| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned()));
        let headers =
            lines.map(|line| header(line).ok_or_else(|| invalid("a bad header"))).collect::<Result<_, _>>()?;
        let mut response = Self { version, status, headers, body: answer[end + 4..].to_vec() };
        if response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            response.body = joined(&response.body).ok_or(io::ErrorKind::UnexpectedEof)?;
        }
        Ok(response)
    }
}

/// A chunked body's content, or `None` where its end is missing.
fn joined(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let length = std::str::from_utf8(&rest[..line]).ok()?.split(';').next()?.trim();
        let length = usize::from_str_radix(length, 16).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend(rest.get(line + 2..line + 2 + length)?);
        rest = rest.get(line + 4 + length..)?;
    }
}

/// Whether a request came to the lab's program through Envoy in `http` mode, which adds this header.
#[must_use]
pub fn passed_envoy(answer: &Response) -> bool {
    request_header(answer, "x-forwarded-for").is_some()
}

/// A header of the request as the lab's program got it.
#[must_use]
pub fn request_header(answer: &Response, name: &str) -> Option<String> {
    let headers = answer.json()["headers"].as_array().cloned().unwrap_or_default();
    let is_it = |header: &Value| header[0].as_str().is_some_and(|own| own.eq_ignore_ascii_case(name));
    headers.iter().find(|header| is_it(header)).and_then(|header| header[1].as_str().map(ToOwned::to_owned))
}

/// A text as it may stand in a URL's query.
#[must_use]
pub fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunked_answer_is_joined_and_an_incomplete_one_is_an_error() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let whole = format!("{head}3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n");
        assert_eq!(Response::parse(whole.as_bytes()).unwrap().text(), "abcd");
        let cut = format!("{head}3\r\nabc\r\n");
        assert_eq!(Response::parse(cut.as_bytes()).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_request_has_a_host_and_closes_unless_told_otherwise() {
        let request = Request::get("http://[::1]:80").header("connection", "Upgrade").body("x");
        let text = String::from_utf8(request.bytes()).unwrap();
        assert_eq!(text, "GET / HTTP/1.1\r\nHost: [::1]:80\r\nconnection: Upgrade\r\nContent-Length: 1\r\n\r\nx");
    }
}

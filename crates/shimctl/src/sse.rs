//! Server-sent events, as they are read from a stream: see the HTML standard, section 9.2.
//!
//! Only what a registrar sends is understood: names, data, and comments. Deliberately absent: what the events mean.

use std::io::{self, BufRead, ErrorKind, Read};

/// The longest event that is read, in bytes. The first one holds all services; an instance takes about 300.
const EVENT_MAX_LENGTH: u64 = 64 * 1024 * 1024;

/// What came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The other side is there, and has nothing to say.
    Comment,
    /// An event.
    Event { name: String, data: String },
}

/// Reads until something came; `None` at the end of the stream. An event that is cut off there is none.
///
/// # Errors
/// The stream broke, is no text, or holds an event that is too long.
pub(crate) fn next(stream: &mut impl BufRead) -> io::Result<Option<Heard>> {
    let (mut name, mut data) = (String::new(), None::<String>);
    let mut rest = stream.take(EVENT_MAX_LENGTH);
    loop {
        let mut line = String::new();
        if rest.read_line(&mut line)? == 0 {
            let too_long = || Err(io::Error::new(ErrorKind::InvalidData, "an event of more than 64 MiB"));
            return if rest.limit() == 0 { too_long() } else { Ok(None) };
        }
        let line = line.trim_end_matches(['\r', '\n']);
        match line
            .split_once(':')
            .map_or((line, ""), |(field, value)| (field, value.strip_prefix(' ').unwrap_or(value)))
        {
            ("", _) if line.is_empty() => match data {
                Some(data) => return Ok(Some(Heard::Event { name, data })),
                None => name.clear(),
            },
            ("", _) => return Ok(Some(Heard::Comment)),
            ("event", value) => value.clone_into(&mut name),
            ("data", value) => match &mut data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => data = Some(value.to_owned()),
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Vec<Heard> {
        let mut stream = text.as_bytes();
        std::iter::from_fn(|| next(&mut stream).unwrap()).collect()
    }

    fn event(name: &str, data: &str) -> Heard {
        Heard::Event { name: name.to_owned(), data: data.to_owned() }
    }

    #[test]
    fn events_have_a_name_and_data_and_comments_are_signs_of_life() {
        let text =
            ":\n\nevent: state\ndata: {\ndata:}\n\n: hello\r\n\r\nid: 7\r\ndata: x\r\n\r\nevent: empty\n\ndata: y\n\n";
        let expected = [Heard::Comment, event("state", "{\n}"), Heard::Comment, event("", "x"), event("", "y")];
        assert_eq!(all(text), expected);
    }

    #[test]
    fn what_is_cut_off_is_no_event() {
        assert_eq!(all("data: x\n\nevent: state\ndata: {"), [event("", "x")]);
    }

    #[test]
    fn a_stream_that_is_no_text_is_an_error() {
        assert!(next(&mut &b"data: \xff\n\n"[..]).is_err());
    }
}

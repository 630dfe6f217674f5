//! `shimctl watch`: prints changes as they come, and connects again when the registrar goes.
//!
//! The stream is read on a thread of its own, so that a registrar that vanished without a word is noticed: there is a
//! comment every 15 s where nothing happens. What the events are is `sse`'s, what they say `show_changes`'s.

use std::io::{BufRead, BufReader, Read};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use admin_api::watch::WatchEvent;
use nix::sys::signal::{SigSet, Signal};
use serde_json::{Value, json};

use crate::age::now_ms;
use crate::args::Output;
use crate::client::Client;
use crate::show_changes::Picture;
use crate::sse::{self, Heard};
use crate::{complain, write_out};

const PATH: &str = "/api/v1/watch";

/// After so much silence the registrar is taken for gone: three of its comments are missing.
const SILENCE_MAX: Duration = Duration::from_secs(45);

/// Between tries to connect again, doubling from the first to the second.
const DELAYS: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// Prints changes until it is interrupted, or nobody reads them.
///
/// # Errors
/// In words: there is no registrar to begin with, or the answer can't be written.
pub(crate) fn run(client: &Client, output: Output) -> Result<bool, String> {
    exit_well_when_interrupted()?;
    let mut stream = Some(client.stream(PATH).map_err(|error| error.to_string())?);
    let mut picture = Picture::default();
    let mut delay = DELAYS.0;
    let mut is_away = false;
    loop {
        if let Some(stream) = stream.take() {
            if is_away {
                complain("shimctl: the registrar answers again");
            }
            let ended = listen(&heard_from(stream), &mut picture, output, &mut delay)?;
            let Ended::Broken(reason) = ended else { return Ok(true) };
            complain(&format!("shimctl: the stream from {} broke off: {reason}; trying again", client.address()));
            is_away = true;
        }
        thread::sleep(delay);
        delay = (delay * 2).min(DELAYS.1);
        stream = client.stream(PATH).ok();
    }
}

/// Ctrl-C is how one ends watching, so it is a success. Other threads must be started after this one.
fn exit_well_when_interrupted() -> Result<(), String> {
    let mut interrupt = SigSet::empty();
    interrupt.add(Signal::SIGINT);
    interrupt.thread_block().map_err(|error| format!("SIGINT can't be waited for: {error}"))?;
    thread::spawn(move || {
        if interrupt.wait().is_ok() {
            std::process::exit(0);
        }
    });
    Ok(())
}

enum Ended {
    /// Nobody reads what is printed any longer.
    Unread,
    Broken(String),
}

/// Reads the stream on a thread. One item at a time: who prints slowly slows the registrar down, too.
fn heard_from(stream: impl Read + Send + 'static) -> Receiver<Result<Heard, String>> {
    let (sender, heard) = sync_channel(1);
    thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        while sender.send(next(&mut stream)).is_ok() {}
    });
    heard
}

fn next(stream: &mut impl BufRead) -> Result<Heard, String> {
    match sse::next(stream) {
        Ok(Some(heard)) => Ok(heard),
        Ok(None) => Err("the registrar has ended it".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn listen(
    heard: &Receiver<Result<Heard, String>>,
    picture: &mut Picture,
    output: Output,
    delay: &mut Duration,
) -> Result<Ended, String> {
    loop {
        let (name, data) = match heard.recv_timeout(SILENCE_MAX) {
            Ok(Ok(Heard::Event { name, data })) => (name, data),
            Ok(Ok(Heard::Comment)) => continue,
            Ok(Err(reason)) => return Ok(Ended::Broken(reason)),
            Err(RecvTimeoutError::Timeout) => return Ok(Ended::Broken(format!("nothing came for {SILENCE_MAX:?}"))),
            Err(RecvTimeoutError::Disconnected) => return Ok(Ended::Broken("it ended".to_owned())),
        };
        *delay = DELAYS.0;
        let text = match in_words(&name, &data, picture, output) {
            Ok(text) => text,
            Err(reason) => return Ok(Ended::Broken(format!("the event {name:?} can't be understood: {reason}"))),
        };
        if !text.is_empty() && !write_out(&text)? {
            return Ok(Ended::Unread);
        }
    }
}

/// What is printed of an event; nothing for one that this shimctl does not know.
fn in_words(name: &str, data: &str, picture: &mut Picture, output: Output) -> Result<String, serde_json::Error> {
    let data: Value = serde_json::from_str(data)?;
    let event = json!({ "event": name, "data": data });
    if output == Output::Json {
        return Ok(format!("{event}\n"));
    }
    let is_known = ["state", "service", "service-gone", "host", "host-gone"].contains(&name);
    let lines = if is_known { picture.apply(serde_json::from_value::<WatchEvent>(event)?) } else { Vec::new() };
    let time = clock(now_ms());
    Ok(lines.iter().map(|line| format!("{time}  {line}\n")).collect())
}

/// The time of day, in UTC.
fn clock(unix_ms: u64) -> String {
    let seconds = unix_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_day_is_utc() {
        assert_eq!(clock(1_600_000_001_999), "12:26:41Z");
        assert_eq!(clock(0), "00:00:00Z");
    }

    #[test]
    fn an_event_that_is_not_known_is_passed_on_as_json_alone() {
        let mut picture = Picture::default();
        assert_eq!(in_words("weather", "[1]", &mut picture, Output::Table).unwrap(), "");
        let json = in_words("weather", "[1]", &mut picture, Output::Json).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), json!({"event": "weather", "data": [1]}));
        assert!(in_words("host", "{}", &mut picture, Output::Table).is_err());
        assert!(in_words("host", "{", &mut picture, Output::Json).is_err());
    }
}

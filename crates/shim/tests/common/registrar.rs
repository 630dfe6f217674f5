//! A registrar of the test's making, to say what the real one can't be made to say.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use shim_wire::{Decoder, FromRegistrar, FromShim, Message, Register, VERSION};

use super::{PATIENCE, eventually};

/// The listening socket.
pub struct Registrar(UnixListener);

impl Registrar {
    pub fn listen(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    /// The next shim that connects.
    pub fn accept(&self) -> Connection {
        let (stream, _) = eventually("a shim connects", || self.0.accept().ok());
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Connection { stream, decoder: Decoder::default() }
    }

    /// Whether a shim is connecting right now.
    pub fn is_asked(&self) -> bool {
        self.0.accept().is_ok()
    }

    /// The next shim, greeted and registered.
    pub fn accept_and_register(&self, envoy_uid: u32) -> (Connection, Register) {
        let mut connection = self.accept();
        let register = connection.greet(envoy_uid);
        connection.say(&FromRegistrar::Registered);
        (connection, register)
    }
}

/// A connection from a shim.
pub struct Connection {
    pub stream: UnixStream,
    decoder: Decoder<FromShim>,
}

impl Connection {
    pub fn say(&mut self, message: &FromRegistrar) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.stream.write_all(&bytes).unwrap();
    }

    /// The next message, or `None` where the shim hung up.
    pub fn hear(&mut self) -> Option<FromShim> {
        loop {
            if let Some(message) = self.decoder.next_message().unwrap() {
                return Some(message);
            }
            let mut bytes = [0; 4096];
            let length = self.stream.read(&mut bytes).unwrap();
            if length == 0 {
                return None;
            }
            self.decoder.push(&bytes[..length]);
        }
    }

    /// Says hello, and hears the shim's registration.
    pub fn greet(&mut self, envoy_uid: u32) -> Register {
        self.say(&FromRegistrar::Hello { version: VERSION, envoy_uid });
        match self.hear() {
            Some(FromShim::Register(register)) => register,
            other => panic!("expected a registration, got {other:?}"),
        }
    }
}

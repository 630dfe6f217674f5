//! A server in a container's network that plays a script on each connection.

use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};

use lab::namespace::Network;
use nix::sys::socket::{Shutdown, shutdown};

use crate::player::{Record, play};
use crate::script::Script;
use crate::seen::Half;

/// It listens until it is dropped.
pub(crate) struct Server {
    listener: TcpListener,
    connections: Arc<Mutex<Vec<Record>>>,
}

impl Server {
    /// Listens at this port. After the script's last step, each connection is read to its end.
    pub(crate) fn start(network: &Network, port: u16, script: &Script) -> Self {
        let bind = || {
            network.enter();
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port))
        };
        let listener = std::thread::scope(|scope| scope.spawn(bind).join().expect("it does not panic"));
        let listener = listener.unwrap_or_else(|error| panic!("port {port} of a container: {error}"));
        let connections = Arc::<Mutex<Vec<Record>>>::default();
        let accepting = listener.try_clone().expect("a socket can be cloned");
        let (script, records) = (script.clone().end(), Arc::clone(&connections));
        std::thread::spawn(move || {
            while let Ok((stream, _)) = accepting.accept() {
                let (script, record) = (script.clone(), Record::default());
                records.lock().unwrap_or_else(PoisonError::into_inner).push(record.clone());
                std::thread::spawn(move || play(stream, &script, &record));
            }
        });
        Self { listener, connections }
    }

    /// Whether it got so many connections and all have ended.
    pub(crate) fn is_done(&self, connections: usize) -> bool {
        let records = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        records.len() == connections && records.iter().all(Record::is_done)
    }

    /// What its connections have seen so far.
    pub(crate) fn seen(&self) -> Vec<Half> {
        let records = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let mut seen: Vec<_> = records.iter().map(Record::half).collect();
        seen.sort();
        seen
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Ends the thread's wait, and frees the port with its own copy of the socket.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
    }
}

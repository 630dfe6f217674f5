//! The folder and the sockets through which everything that runs here talks.
//!
//! A socket is created closed to everybody but its owner, and replaces one that a dead registrar left; a
//! living registrar is found by its lock and never disturbed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, umask};
use tokio::net::UnixListener;

/// Why a socket could not be had; nothing was changed for others.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeFileError {
    /// A folder, socket or lock is not to be had.
    #[error("{path}: {error}", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// Another registrar has the socket.
    #[error("another registrar is running (it holds {path}): stop it first, or give this one its own --shim-socket", path = .lock.display())]
    AlreadyRunning {
        /// The lock that it holds.
        lock: PathBuf,
    },
}

/// Keeps other registrars from the same sockets, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not used")] Flock<File>);

/// Creates the socket's folder where it is missing, and locks it against other registrars.
pub(crate) fn lock_beside(socket: &Path) -> Result<Lock, RuntimeFileError> {
    create_folder_of(socket)?;
    let path = socket.with_extension("lock");
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path).map_err(at(&path))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Lock(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(RuntimeFileError::AlreadyRunning { lock: path }),
        Err((_, errno)) => Err(at(&path)(errno.into())),
    }
}

/// Creates the file's folder where it is missing, open for all to look into.
pub(crate) fn create_folder_of(file: &Path) -> Result<(), RuntimeFileError> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(at(folder))
}

/// Listens on a Unix socket that only `owner` (and root) can connect to.
pub(crate) fn listen(path: &Path, owner: u32) -> Result<UnixListener, RuntimeFileError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(at(path)(error)),
        _ => {}
    }
    // Closed from its first moment. Set back at once: other files have modes of their own.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound.map_err(at(path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(at(path))?;
    // Whose it is already need not be given to them, which root alone may.
    if owner != nix::unistd::geteuid().as_raw() {
        chown(path, Some(owner), None).map_err(at(path))?;
    }
    Ok(listener)
}

fn at(path: &Path) -> impl Fn(io::Error) -> RuntimeFileError {
    let path = path.to_owned();
    move |error| RuntimeFileError::Io { path: path.clone(), error }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_second_registrar_is_refused_while_the_first_lives() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("run/registrar.sock");
        let lock = lock_beside(&socket).unwrap();
        let refused = lock_beside(&socket).unwrap_err();
        assert!(matches!(refused, RuntimeFileError::AlreadyRunning { .. }), "{refused}");
        drop(lock);
        lock_beside(&socket).unwrap();
    }

    #[tokio::test]
    async fn a_socket_is_its_owners_alone_and_replaces_a_dead_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sock");
        drop(listen(&path, nix::unistd::geteuid().as_raw()).unwrap());
        let _listener = listen(&path, 65_534).unwrap();
        let metadata = fs::metadata(&path).unwrap();
        assert_eq!((metadata.mode() & 0o777, metadata.uid()), (0o600, 65_534));
    }
}

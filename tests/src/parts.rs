//! Where the real parts and our own binaries are. What is missing is an error that says how to get it.

use std::path::{Path, PathBuf};

use crate::Docker;

/// The project's top folder.
#[must_use]
pub fn project() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the package has a folder above it").to_owned()
}

fn required(path: PathBuf, mend: &str) -> PathBuf {
    assert!(path.exists(), "{} is missing: run {mend}", path.display());
    path
}

fn part(name: &str) -> PathBuf {
    required(project().join("target/parts").join(name), "scripts/parts")
}

/// Envoy's binary.
#[must_use]
pub fn envoy() -> PathBuf {
    part("envoy-1.40.0/envoy")
}

/// An init that ends zombies, for a host's first process.
#[must_use]
pub fn init() -> PathBuf {
    part("docker-20.10/usr/bin/tini-static")
}

/// The static busybox.
#[must_use]
pub fn busybox() -> PathBuf {
    part("busybox/bin/busybox")
}

/// Debian's ufw, unpacked, with all that belongs into `/usr` there.
#[must_use]
pub fn ufw() -> PathBuf {
    part("ufw")
}

/// Debian's serf, unpacked; `None` where it could not be had.
#[must_use]
pub fn serf() -> Option<PathBuf> {
    let path = project().join("target/parts/serf/usr/bin/serf");
    path.exists().then_some(path)
}

/// A whole Debian with redis, postgres, sshd, nginx and openssl, as a tar file.
#[must_use]
pub fn debian_image() -> PathBuf {
    part("images/debian.tar")
}

/// A whole Debian with the servers and clients of the test `programs`, as a tar file.
#[must_use]
pub fn programs_image() -> PathBuf {
    required(project().join("target/parts/images/programs.tar"), "scripts/parts --programs")
}

/// The folders in which a Docker of this version finds its programs.
#[must_use]
pub fn docker_folders(version: Docker) -> Vec<PathBuf> {
    let own = match version {
        Docker::V20 => vec![],
        // Its containers are run by the older runc and asked for by the older command line.
        Docker::Current => vec![part("docker-current/usr/sbin"), part("docker-current/usr/bin")],
    };
    own.into_iter().chain([part("docker-20.10/usr/sbin"), part("docker-20.10/usr/bin")]).collect()
}

/// The docker-proxy that comes with a Docker of this version.
#[must_use]
pub fn docker_proxy(version: Docker) -> PathBuf {
    match version {
        Docker::V20 => part("docker-20.10/usr/sbin/docker-proxy"),
        Docker::Current => part("docker-current/usr/sbin/docker-proxy"),
    }
}

/// One of our own release binaries.
#[must_use]
pub fn ours(name: &str) -> PathBuf {
    required(project().join("target/dist").join(name), "scripts/build")
}

/// The bootstrap that users copy.
#[must_use]
pub fn envoy_bootstrap() -> PathBuf {
    required(project().join("examples/envoy.yaml"), "git checkout examples/envoy.yaml")
}

/// A binary of this package, which cargo has put beside the program that runs now.
#[must_use]
pub fn own_binary(name: &str) -> PathBuf {
    let running = std::env::current_exe().expect("a running program has a path");
    let folder = running.ancestors().find(|folder| folder.join(name).is_file());
    folder.map_or_else(|| panic!("{name} is missing: run cargo build -p e2e --bins"), |folder| folder.join(name))
}

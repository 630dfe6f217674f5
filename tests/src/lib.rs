//! The lab: whole Docker hosts in namespaces, made of the real parts, for the end-to-end tests and the demo.
//!
//! ```no_run
//! let lab = lab::Lab::new("example");
//! let host = lab.host("a").docker(lab::Docker::V20).start();
//! host.docker(&["run", "-d", "-p", "8080:80", "web"]);
//! let answer = host.get("http://127.0.0.1:8080/").expect("the port answers");
//! ```
//!
//! A host is a set of namespaces (mount, network, processes, host name) with its own `/run`,
//! `/var/lib/docker` and `/etc/docker`, so that every program runs with its defaults and several hosts run at
//! once. The kernel ends everything in it when its first process ends, and that one dies with the lab's
//! process, however that ends: nothing is left behind but folders under `target/e2e`.
//!
//! | what | file |
//! |---|---|
//! | a host and the programs on it | [`host`] |
//! | the network between hosts, and clients on it | [`network`] |
//! | namespaces | [`namespace`] |
//! | running programs and their logs | [`process`] |
//! | where the real parts and our binaries are | [`parts`] |
//! | images for containers | [`image`] |
//! | requests | [`http`] |
//! | a gRPC service and its client | [`grpc`] |
//! | steady load | [`load`] |
//! | measurements | [`measure`] |
//! | how much can be had per second | [`rate`] |
//! | trace collectors | [`collector`] |
//! | loads of UDP, and what they cost a proxy | [`datagrams`] |
//! | control groups of containers | [`cgroup`] |
//! | waiting for something to become true | [`wait`] |
//!
//! Everything here panics when it can't do what it was asked, naming the thing and the log to read: its users
//! are tests and the demo, where nothing else would make sense.

pub mod cgroup;
pub mod collector;
mod datagram_loads;
pub mod datagrams;
pub mod grpc;
pub mod host;
pub mod http;
pub mod image;
pub mod load;
pub mod measure;
pub mod namespace;
pub mod network;
pub mod parts;
pub mod process;
pub mod rate;
pub mod wait;

pub use host::{Docker, Host, HostBuilder, Proxy};
pub use network::{Client, Lab};
pub use wait::eventually;

/// Makes a test of each function for each dockerd: `THEME::docker_20::NAME` and `THEME::docker_current::NAME`. What stands
/// before a function's name, such as `#[ignore = "takes a minute"]`, holds for its tests.
#[macro_export]
macro_rules! on_both_dockers {
    ($($(#[$attribute:meta])* $name:ident),+ $(,)?) => {
        mod docker_20 {
            $(#[test]
            $(#[$attribute])*
            fn $name() {
                super::$name($crate::Docker::V20);
            })+
        }
        mod docker_current {
            $(#[test]
            $(#[$attribute])*
            fn $name() {
                super::$name($crate::Docker::Current);
            })+
        }
    };
}

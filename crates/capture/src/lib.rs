//! Brings traffic for published ports to Envoy's and the shim's sockets although Docker's firewall is on, and traffic
//! for service ports to Envoy.
//!
//! Docker's DNAT takes packets from other hosts past every socket on the host. A table of our own, asked before
//! Docker's, gives connections to published ports a DNAT that changes nothing: with it a connection counts as
//! translated, Docker's rules are not asked any more, and the packet comes to whoever listens on the port. See
//! `docs/capture.md`.
//!
//! Connections to a service port at a service address get a DNAT to one port of Envoy's, in the same table. So do those
//! to unproxied ports: published ports that no shim holds, and Envoy can't listen on.
//!
//! The table has an effect only while its lease lasts, which the registrar renews. Whether there is a table at all
//! is decided in [`mod@choice`] from what Docker's rules really do. Deliberately absent: what Envoy does with a
//! port, and any change of a rule outside our own table.
//!
//! | what | file |
//! |---|---|
//! | what the registrar calls | [`capture`] |
//! | whether to divert, and why | [`mod@choice`] |
//! | what Docker's firewall does | `docker_rules`, read by `nft_rules` and `iptables_legacy` |
//! | our table: its looks, its state, read back | `layout`, `table`, `read_back` |
//! | other programs' changes | [`watch`] |
//! | service addresses on `lo` | `address` |
//! | netlink: messages, transactions | `batch`, `socket` |

mod address;
mod batch;
pub mod capture;
pub mod choice;
mod docker_rules;
mod element;
mod iptables_legacy;
mod layout;
mod nft_rules;
mod read_back;
mod socket;
mod table;
pub mod watch;

pub use address::AssignedAddress;
pub use capture::Capture;
pub use choice::{Asked, Choice, Mode};
pub use docker_rules::{Backend, DockerRules};
pub use layout::{CATCH_PORT, LEASE, UNPROXIED_CATCH_PORT, UNPROXIED_LEASE};
pub use socket::NetfilterError;
pub use watch::{Notice, Watch};

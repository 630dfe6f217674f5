//! Several hosts together: gossip between their registrars, and service ports that answer on all of them.
//!
//! Each file is a theme. Every test makes its own hosts, each with its own dockerd, registrar and Envoy.

mod drains;
mod hostile;
mod lives;
mod networks;
mod renames;
mod requests;
mod rig;
mod served;
mod slow;
mod standby;
mod times;
mod walks;
mod watch;

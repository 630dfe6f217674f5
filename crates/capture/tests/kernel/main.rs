//! Against the running kernel, in network namespaces that the tests make. They need root, and the programs `ip`,
//! `nft`, `iptables-nft`, `iptables-legacy` and `setpriv`; the crate itself needs none of them.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod addresses;
mod docker_rules;
mod figures;
mod machines;
mod namespace;
mod notices;
mod services;
mod table;
mod traffic;
mod unproxied;

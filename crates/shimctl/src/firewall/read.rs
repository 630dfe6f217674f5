//! Reads the rules as the programs that are there print them. Nothing is changed, and no kernel module is loaded.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::rules::{Family, Ruleset};
use super::{iptables, nft};

/// Where the kernel lists the tables of its older interface; the file is there if that is in use.
const LEGACY: [(&str, &str, Family); 2] =
    [("/proc/net/ip_tables_names", "iptables", Family::Ip4), ("/proc/net/ip6_tables_names", "ip6tables", Family::Ip6)];
const BY_NFT: [(&str, Family); 2] = [("iptables", Family::Ip4), ("ip6tables", Family::Ip6)];

/// The kernel's newer interface; without it there are no such rules.
const NF_TABLES: &str = "/sys/module/nf_tables";

/// This host's rules.
#[derive(Clone, Debug, Default)]
pub(crate) struct Firewall {
    /// As far as they were read.
    pub rules: Ruleset,
    /// Why some may be missing, in words.
    pub unseen: Option<String>,
}

/// Reads them. Only root may.
pub(crate) fn read() -> Firewall {
    let mut told: Vec<(&str, String)> = Vec::new();
    let mut tables = Vec::new();
    let mut unseen = None;
    for (program, family) in BY_NFT {
        let programs = [format!("{program}-nft-save"), format!("{program}-save")];
        let Some(saved) = programs.iter().find_map(|name| saved(name, true)) else { continue };
        let nft_family = if family == Family::Ip4 { "ip" } else { "ip6" };
        told.extend(saved.lines().filter_map(|line| Some((nft_family, line.strip_prefix('*')?.to_owned()))));
        tables.extend(iptables::parse(&saved, family));
    }
    for (names, program, family) in LEGACY {
        if fs::read_to_string(names).is_ok_and(|names| !names.trim().is_empty()) {
            let programs = [format!("{program}-legacy-save"), format!("{program}-save")];
            match programs.iter().find_map(|name| saved(name, false)) {
                Some(saved) => tables.extend(iptables::parse(&saved, family)),
                None => unseen = Some(format!("{program}-legacy-save does not show the rules that the kernel has")),
            }
        }
    }
    let is_told = |family: &str, name: &str| told.iter().any(|own| own.0 == family && own.1 == name);
    match printed("nft", &["-j", "list", "ruleset"]).and_then(|json| nft::parse(&json, is_told)) {
        Ok(more) => tables.extend(more),
        Err(_) if !Path::new(NF_TABLES).exists() => {}
        Err(reason) => unseen = Some(format!("`nft -j list ruleset` does not show the rules: {reason}")),
    }
    Firewall { rules: Ruleset { tables }, unseen }
}

/// What this program prints, if it is one for nf_tables, or one for the older interface.
fn saved(program: &str, by_nft: bool) -> Option<String> {
    printed(program, &[]).ok().filter(|saved| saved.contains("(nf_tables)") == by_nft)
}

/// What a program prints.
///
/// # Errors
/// In words: it is not there, or fails.
fn printed(program: &str, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(program);
    let output = command.args(arguments).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(complaint.lines().next().unwrap_or("it failed").trim().to_owned())
}

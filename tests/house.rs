//! The rules of the house that a compiler does not know: licences, and which crate may use which.
//!
//! Reads `cargo metadata`. What each crate is, and why these lines: `docs/architecture.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;
use spdx::{Expression, ParseMode};

/// Licences under which a dependency may come. All let the binaries be passed on under Apache-2.0; MPL-2.0 asks
/// for the source of its own files, which is public and unchanged here.
const LICENCES: [&str; 10] = [
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// For each crate of ours, those of ours that it may use.
const LAYERS: [(&str, &[&str]); 15] = [
    ("model", &[]),
    ("admin-api", &[]),
    ("evidence", &[]),
    ("sock-diag", &[]),
    ("socket-group", &[]),
    ("shim-wire", &["model"]),
    ("health", &["model"]),
    ("gossip", &["model"]),
    ("xds", &["model"]),
    ("capture", &["model"]),
    ("catalog", &["evidence", "health", "model"]),
    ("envoy-docker-shim", &["evidence", "model", "shim-wire", "sock-diag", "socket-group"]),
    (
        "envoy-docker-registrar",
        &[
            "admin-api",
            "capture",
            "catalog",
            "evidence",
            "gossip",
            "health",
            "model",
            "shim-wire",
            "sock-diag",
            "socket-group",
            "xds",
        ],
    ),
    ("shimctl", &["admin-api", "gossip", "model"]),
    ("sim", &["catalog", "gossip", "health", "model", "xds"]),
];

/// Crates that decide: nothing below them may wait, ask the system, or serialize.
const DECIDING: [&str; 7] = ["model", "evidence", "shim-wire", "catalog", "gossip", "health", "xds"];
/// What crates that decide may not use. (Envoy's generated messages bring tonic, which the crate `xds` leaves alone.)
const DOING: [&str; 6] = ["axum", "bollard", "clap", "hyper", "nix", "tracing"];
/// What makes a process large, and so may not be in the shim, of which there is one for each port.
const LARGE: [&str; 8] = ["tokio", "serde", "serde_json", "clap", "tracing", "prost", "tonic", "regex"];

fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(cargo).args(["metadata", "--format-version", "1", "--manifest-path", manifest]).output();
    let output = output.expect("cargo runs this test");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo prints JSON")
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// Packages by their id.
fn packages(metadata: &Value) -> BTreeMap<&str, &Value> {
    array(&metadata["packages"]).map(|package| (text(&package["id"]), package)).collect()
}

/// The names of the workspace's packages.
fn members(metadata: &Value) -> BTreeSet<&str> {
    let packages = packages(metadata);
    array(&metadata["workspace_members"]).map(|id| text(&packages[text(id)]["name"])).collect()
}

/// What a package declares for its own code, not for its tests or its build.
fn declared<'a>(metadata: &'a Value, package: &str) -> BTreeSet<&'a str> {
    let found =
        array(&metadata["packages"]).find(|candidate| candidate["name"] == package && candidate["source"].is_null());
    let dependencies = array(&found.unwrap_or_else(|| panic!("{package} is not in the workspace"))["dependencies"]);
    dependencies.filter(|dependency| dependency["kind"].is_null()).map(|dependency| text(&dependency["name"])).collect()
}

/// All that ends up in a package's binary, by name.
fn linked<'a>(metadata: &'a Value, package: &str) -> BTreeSet<&'a str> {
    let packages = packages(metadata);
    let nodes: BTreeMap<_, _> = array(&metadata["resolve"]["nodes"]).map(|node| (text(&node["id"]), node)).collect();
    let is_it = |id: &&&str| packages[**id]["name"] == package && packages[**id]["source"].is_null();
    let mut waiting: Vec<_> = nodes.keys().filter(is_it).copied().collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        if seen.insert(id) {
            let normal = |dependency: &&Value| array(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
            waiting.extend(array(&nodes[id]["deps"]).filter(normal).map(|dependency| text(&dependency["pkg"])));
        }
    }
    seen.into_iter().map(|id| text(&packages[id]["name"])).collect()
}

#[test]
fn every_dependency_comes_under_a_licence_that_we_may_pass_on() {
    let metadata = metadata();
    let packages = packages(&metadata);
    assert!(packages.len() > 50, "cargo knows the dependencies");
    for package in packages.values() {
        let licence = text(&package["license"]);
        let expression = Expression::parse_mode(licence, ParseMode::LAX);
        let expression = expression.unwrap_or_else(|error| panic!("{}: {licence:?}: {error}", package["name"]));
        let allowed =
            |requirement: &spdx::LicenseReq| requirement.license.id().is_some_and(|id| LICENCES.contains(&id.name));
        assert!(expression.evaluate(allowed), "{} {}: {licence}", package["name"], package["version"]);
    }
}

#[test]
fn each_crate_uses_only_those_of_ours_that_it_may() {
    let metadata = metadata();
    let members = members(&metadata);
    let layers = BTreeMap::from(LAYERS);
    for member in members.iter().filter(|member| **member != "e2e") {
        let allowed =
            layers.get(member).unwrap_or_else(|| panic!("{member} has no line in LAYERS: where does it stand?"));
        for used in declared(&metadata, member).intersection(&members) {
            assert!(allowed.contains(used), "{member} may not use {used}");
        }
    }
}

#[test]
fn crates_that_decide_do_nothing_else() {
    let metadata = metadata();
    for member in DECIDING.iter().filter(|name| members(&metadata).contains(*name)) {
        for used in declared(&metadata, member) {
            assert!(!DOING.contains(&used) && used != "tokio" && used != "serde", "{member} may not use {used}");
        }
    }
}

#[test]
fn the_shim_is_small() {
    let metadata = metadata();
    let linked = linked(&metadata, "envoy-docker-shim");
    assert!(linked.contains("shim-wire"), "{linked:?}");
    for name in LARGE {
        assert!(!linked.contains(name), "the shim may not hold {name}");
    }
}

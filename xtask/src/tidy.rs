//! What no lint can check: which crate may depend on which, and the size of files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::sh;

/// A file with more lines has more than one reason to change.
const LINES_MAX: usize = 800;

/// Who may depend on a package outside this workspace that must stay behind one door.
const DOORS: &[(&str, &[&str])] = &[
    ("etcd-client", &["xebec-store"]),
    ("aya", &["xebec-datapath", "xebec-abi"]),
    ("aya-ebpf", &["xebec-programs"]),
    ("containerd-client", &["xebec-cri"]),
    ("k8s-openapi", &["xebec-types", "xebec-schema"]),
    ("rtnetlink", &["xebec-netlink"]),
    ("netlink-packet-route", &["xebec-netlink"]),
];

/// # Errors
/// Every broken rule, with where it is broken.
pub fn run() -> Result<()> {
    let mut faults = edges(&sh::read(sh::cargo().args(["metadata", "--format-version=1", "--no-deps"]))?)?;
    faults.extend(long_files()?);
    if faults.is_empty() {
        return Ok(());
    }
    bail!("tidy:\n  {}", faults.join("\n  "))
}

/// Dependencies that the architecture forbids (docs/architecture.md).
fn edges(metadata: &str) -> Result<Vec<String>> {
    let metadata: Value = serde_json::from_str(metadata).context("cargo metadata")?;
    let mut packages = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default().to_owned();
        let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
        let folder = manifest.strip_prefix(sh::root()).unwrap_or(manifest).iter().next();
        let dependencies: BTreeSet<String> = package["dependencies"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|dependency| dependency["kind"].is_null())
            .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
            .collect();
        packages.insert(name, (folder.map(|f| f.to_string_lossy().into_owned()).unwrap_or_default(), dependencies));
    }
    let mut faults = Vec::new();
    for (name, (folder, dependencies)) in &packages {
        for dependency in dependencies {
            let target = packages.get(dependency).map(|(folder, _)| folder.as_str());
            if !may_depend(folder, target) {
                faults.push(format!("{name} ({folder}) may not depend on {dependency}"));
            }
            let door = DOORS.iter().find(|(behind, _)| behind == dependency);
            if door.is_some_and(|(_, keepers)| !keepers.contains(&name.as_str())) {
                faults.push(format!("{name} may not use {dependency}: only {} may", door.map_or("", |(_, k)| k[0])));
            }
        }
    }
    for pure in ["xebec-abi", "xebec-logic"] {
        let allowed = ["zerocopy", "xebec-abi", "aya"];
        let extra = packages.get(pure).into_iter().flat_map(|(_, d)| d).filter(|d| !allowed.contains(&d.as_str()));
        faults.extend(extra.map(|dependency| format!("{pure} may depend on zerocopy only, not on {dependency}")));
    }
    Ok(faults)
}

/// `target` is the top folder of a workspace member, or `None` for a package from outside.
fn may_depend(folder: &str, target: Option<&str>) -> bool {
    match (folder, target) {
        (_, None) => true,
        ("cli" | "xtask" | "tests", _) => true,
        ("api", Some(target)) => target == "api",
        ("proto", Some(_)) => false,
        ("ebpf", Some(target)) => target == "ebpf",
        ("control-plane", Some(target)) => matches!(target, "api" | "proto" | "control-plane"),
        ("node", Some(target)) => matches!(target, "api" | "proto" | "ebpf" | "node"),
        _ => false,
    }
}

fn long_files() -> Result<Vec<String>> {
    let files = sh::read(sh::command("git").args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"]))?;
    let mut faults = Vec::new();
    for file in files.lines() {
        let text = std::fs::read_to_string(sh::root().join(file)).with_context(|| format!("read {file}"))?;
        let generated = text.lines().take(5).any(|line| line.contains("@generated"));
        let lines = text.lines().count();
        if lines > LINES_MAX && !generated {
            faults.push(format!("{file} has {lines} lines: split it (at most {LINES_MAX})"));
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::edges;

    fn check(folder: &str, name: &str, dependency: &str, allowed: bool) {
        let package = |name: &str, folder: &str, dependencies: serde_json::Value| {
            let manifest = crate::sh::root().join(folder).join(name).join("Cargo.toml");
            serde_json::json!({"name": name, "manifest_path": manifest, "dependencies": dependencies})
        };
        let metadata = serde_json::json!({"packages": [
            package(name, folder, serde_json::json!([{"name": dependency, "kind": null}])),
            package("xebec-kubelet", "node", serde_json::json!([])),
            package("xebec-store", "control-plane", serde_json::json!([])),
            package("xebec-types", "api", serde_json::json!([])),
        ]});
        let faults = edges(&metadata.to_string()).expect("metadata is JSON");
        assert_eq!(faults.is_empty(), allowed, "{name} -> {dependency}: {faults:?}");
    }

    #[test]
    fn edges_follow_the_architecture() {
        check("control-plane", "xebec-x", "xebec-kubelet", false);
        check("node", "xebec-x", "xebec-store", false);
        check("node", "xebec-x", "xebec-types", true);
        check("api", "xebec-x", "xebec-store", false);
        check("cli", "xebec-x", "xebec-kubelet", true);
        check("node", "xebec-x", "aya", false);
        check("control-plane", "xebec-x", "etcd-client", false);
        check("ebpf", "xebec-logic", "serde", false);
    }
}

//! Where the facts come from: two packages of public registries, fetched by their ordinary clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

const DEFINITIONS: &str = "kubernetes_validate/kubernetes-json-schema/v1.36.0-local/_definitions.json";

fn run(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().with_context(|| format!("run {command:?}"))?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(output.stdout)
}

/// The OpenAPI definitions of Kubernetes 1.36.
pub fn openapi(scratch: &Path) -> Result<Value> {
    run(Command::new("pip")
        .args(["download", "--quiet", "--no-deps", "--only-binary=:all:", "kubernetes-validate==1.37.0", "--dest"])
        .arg(scratch))?;
    let wheel = fs::read_dir(scratch)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|e| e == "whl"))
        .context("pip downloaded no wheel")?;
    let unpacked = scratch.join("wheel");
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).args([&wheel, &unpacked]))?;
    Ok(serde_json::from_slice(&fs::read(unpacked.join(DEFINITIONS))?)?)
}

/// The source folder of `k8s-pb`, fetched by cargo as the dependency of an empty package.
pub fn protobuf(scratch: &Path) -> Result<PathBuf> {
    let package = scratch.join("package");
    fs::create_dir_all(package.join("src"))?;
    fs::write(package.join("src/lib.rs"), "")?;
    let manifest = package.join("Cargo.toml");
    let text = "[package]\nname = \"scratch\"\nedition = \"2024\"\n[dependencies]\nk8s-pb = { version = \"=0.9.0\", default-features = false }\n[workspace]\n";
    fs::write(&manifest, text)?;
    let metadata =
        run(Command::new("cargo").args(["metadata", "--format-version=1", "--manifest-path"]).arg(&manifest))?;
    let metadata: Value = serde_json::from_slice(&metadata)?;
    let mut packages = metadata["packages"].as_array().into_iter().flatten();
    let found = packages.find(|p| p["name"] == "k8s-pb").context("cargo knows no k8s-pb")?;
    let manifest = found["manifest_path"].as_str().context("a package has a manifest")?;
    Ok(Path::new(manifest).with_file_name("src"))
}

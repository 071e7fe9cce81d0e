//! Packs the descriptions of upstream's types, for `kubectl explain`: they are the doc comments of the crate `k8s-openapi`, which the workspace builds
//! anyway. Nothing is copied into the repository; without the crate's sources there are no descriptions.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use flate2::Compression;
use flate2::write::DeflateEncoder;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    let mut text = String::new();
    match sources() {
        Ok(folder) => visit(&folder, &mut text)?,
        Err(error) => println!("cargo::warning=no descriptions for kubectl explain: {error}"),
    }
    let out = Path::new(&std::env::var("OUT_DIR")?).join("descriptions.deflate");
    let mut encoder = DeflateEncoder::new(fs::File::create(out)?, Compression::best());
    encoder.write_all(text.as_bytes())?;
    encoder.finish()?;
    Ok(())
}

/// The folder of the types of Kubernetes 1.36 in the sources of `k8s-openapi`. Building this crate alone does not fetch it; then cargo is asked to.
fn sources() -> Result<PathBuf, Box<dyn Error>> {
    let metadata = metadata(&["--offline"]).or_else(|_| metadata(&[]))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    let found = packages.iter().find(|p| p["name"] == "k8s-openapi").ok_or("k8s-openapi is no dependency")?;
    let manifest = found["manifest_path"].as_str().ok_or("a package without manifest")?;
    Ok(Path::new(manifest).with_file_name("src").join("v1_36"))
}

fn metadata(options: &[&str]) -> Result<serde_json::Value, Box<dyn Error>> {
    let manifest = Path::new(&std::env::var("CARGO_MANIFEST_DIR")?).join("Cargo.toml");
    let output = Command::new(std::env::var("CARGO")?)
        .args(["metadata", "--format-version=1", "--locked", "--filter-platform", &std::env::var("TARGET")?])
        .args(options)
        .arg("--manifest-path")
        .arg(manifest)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn visit(folder: &Path, text: &mut String) -> Result<(), Box<dyn Error>> {
    let mut entries = fs::read_dir(folder)?.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    entries.sort();
    for path in entries {
        if path.is_dir() {
            visit(&path, text)?;
        } else {
            describe(&fs::read_to_string(&path)?, text);
        }
    }
    Ok(())
}

/// Writes `D name`, `T text` and, for each field, `F name` and `T text`; line breaks in texts become `\x01`.
fn describe(source: &str, text: &mut String) {
    let Some(name) = source.lines().find_map(|l| l.strip_prefix("// Generated from definition ")) else { return };
    let mut comment: Vec<&str> = Vec::new();
    for line in source.lines() {
        let code = line.trim_start();
        if let Some(words) = code.strip_prefix("///") {
            comment.push(words.strip_prefix(' ').unwrap_or(words));
        } else if let Some(item) = code.strip_prefix("pub ").filter(|_| !comment.is_empty()) {
            let joined = comment.join("\x01");
            comment.clear();
            match item.split_once(':') {
                Some((field, _)) if !item.starts_with("struct ") => {
                    *text += &format!("F {}\nT {joined}\n", field.trim_start_matches("r#"));
                }
                _ => *text += &format!("D {name}\nT {joined}\n"),
            }
        } else if code.starts_with("impl") {
            return;
        } else if !code.starts_with("#[") {
            comment.clear();
        }
    }
}

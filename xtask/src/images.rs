//! The demo image: a busybox and the `demo` program, as a docker-archive.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::sh;

/// The demo image's reference.
pub const DEMO: &str = "xebec-demo:1";

/// Builds the demo image and returns the archive's path.
pub fn demo() -> Result<PathBuf> {
    let program = demo_program()?;
    let layer = layer(&program)?;
    let directory = sh::target_dir().join("images");
    fs::create_dir_all(&directory)?;
    let path = directory.join("demo.tar");
    archive(&path, DEMO, &layer, &["/bin/demo", "http"])?;
    Ok(path)
}

/// A static `demo`: glibc linked in, so that it runs in an image without libraries.
pub fn demo_program() -> Result<PathBuf> {
    sh::run(sh::cargo().args(["rustc", "--quiet", "--release", "-p", "xebec-demo", "--bin", "demo", "--"]).args([
        "-C",
        "target-feature=+crt-static",
        "-C",
        "strip=symbols",
    ]))?;
    Ok(sh::target_dir().join("release/demo"))
}

fn layer(program: &Path) -> Result<Vec<u8>> {
    let busybox = Path::new("/bin/busybox");
    let mut tar = tar::Builder::new(Vec::new());
    for directory in ["bin", "etc", "tmp", "root", "usr", "usr/bin", "var", "var/log"] {
        let mode = if directory == "tmp" { 0o1777 } else { 0o755 };
        tar.append_data(&mut header(tar::EntryType::Directory, mode, 0), format!("{directory}/"), std::io::empty())?;
    }
    for (path, file) in [("bin/busybox", busybox), ("bin/demo", program)] {
        let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
        tar.append_data(&mut header(tar::EntryType::Regular, 0o755, bytes.len() as u64), path, bytes.as_slice())?;
    }
    for applet in sh::read(sh::command(busybox).arg("--list"))?.lines().filter(|applet| *applet != "busybox") {
        tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), format!("bin/{applet}"), "busybox")?;
    }
    let files = [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
        ("etc/group", "root:x:0:\nnobody:x:65534:\n"),
        // Without this file busybox's static wget crashes inside glibc's name service switch.
        ("etc/nsswitch.conf", "hosts: files dns\n"),
    ];
    for (path, text) in files {
        tar.append_data(&mut header(tar::EntryType::Regular, 0o644, text.len() as u64), path, text.as_bytes())?;
    }
    Ok(tar.into_inner()?)
}

fn archive(path: &Path, reference: &str, layer: &[u8], command: &[&str]) -> Result<()> {
    let config = serde_json::to_vec(&json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": command, "Env": ["PATH=/usr/bin:/bin"], "WorkingDir": "/"},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(layer))]},
    }))?;
    let config_name = format!("{}.json", hex(&config));
    let manifest = json!([{"Config": config_name, "RepoTags": [reference], "Layers": ["layer.tar"]}]);
    let mut tar = tar::Builder::new(File::create(path).with_context(|| format!("create {}", path.display()))?);
    let files = [("layer.tar", layer), (&config_name, &config), ("manifest.json", &serde_json::to_vec(&manifest)?)];
    for (name, bytes) in files {
        tar.append_data(&mut header(tar::EntryType::Regular, 0o644, bytes.len() as u64), name, bytes)?;
    }
    tar.into_inner()?.flush()?;
    Ok(())
}

/// A header without times and owners, so that the same content gives the same image.
fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

//! What runs inside the machine: a busybox, our programs, and the script that drives them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::Value;

use super::initramfs::{self, Entry};
use crate::{images, setup, sh, up};

const INIT: &str = include_str!("guest.sh");

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Step {
    /// Load every program, report what the kernel has and what its verifier spent
    Load,
    /// The datapath's unit tests
    Unit,
    /// The same packets through the kernel's programs and through the model
    Differential,
    /// Nodes, pods and a client in network namespaces, with real connections
    Topology,
    /// A whole node with containerd: pods, services and DNS
    Cluster,
}

impl Step {
    pub const ALL: [Self; 5] = [Self::Load, Self::Unit, Self::Differential, Self::Topology, Self::Cluster];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Unit => "unit",
            Self::Differential => "differential",
            Self::Topology => "topology",
            Self::Cluster => "cluster",
        }
    }
}

/// The files of a machine that runs `steps`.
///
/// # Errors
/// When something does not build, or a program that the machine needs is not on this one.
pub fn files(steps: &[Step]) -> Result<Vec<Entry>> {
    let mut files = initramfs::program(Path::new("/bin/busybox"), "bin/busybox")?;
    let script = |path: &str, text: String| Entry { path: path.to_owned(), bytes: text.into_bytes(), executable: true };
    files.push(script("init", INIT.to_owned()));
    files.push(script("xb/steps", steps.iter().map(|step| format!("{}\n", step.name())).collect()));
    for (path, text) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/hosts", "127.0.0.1 localhost\n"),
        ("etc/hostname", "xebec-vm\n"),
        ("etc/resolv.conf", ""),
    ] {
        files.push(script(path, text.to_owned()));
    }
    for (program, name) in datapath_programs()? {
        files.extend(initramfs::program(&program, &format!("xb/{name}"))?);
    }
    if steps.contains(&Step::Differential) || steps.contains(&Step::Topology) {
        // busybox's `ip` can neither replace neighbours nor show what runs on a device.
        for program in ["ip", "tc"] {
            let path = sh::on_path(program).with_context(|| format!("{program} is not on PATH: cargo xtask setup"))?;
            files.extend(initramfs::program(&path, &format!("usr/sbin/{program}"))?);
        }
    }
    if steps.contains(&Step::Cluster) {
        let xebec = given("XEBEC", up::release)?;
        files.extend(initramfs::program(&xebec, "usr/bin/xebec")?);
        for program in ["containerd", "containerd-shim-runc-v2", "runc"] {
            let path = sh::on_path(program).with_context(|| format!("{program} is not on PATH: cargo xtask setup"))?;
            files.extend(initramfs::program(&path, &format!("usr/bin/{program}"))?);
        }
        let kubectl = setup::kubectls().pop().context("no kubectl")?;
        files.extend(initramfs::program(&kubectl, "usr/bin/kubectl")?);
        let image = given("XEBEC_DEMO_IMAGE", images::demo)?;
        let bytes = std::fs::read(&image).with_context(|| format!("read {}", image.display()))?;
        files.push(Entry { path: "xb/demo.tar".to_owned(), bytes, executable: false });
    }
    Ok(files)
}

/// What the environment names, as it does for the tests of `xebec-tests`, or else what is built.
fn given(variable: &str, build: fn() -> Result<PathBuf>) -> Result<PathBuf> {
    std::env::var_os(variable).map_or_else(build, |path| Ok(PathBuf::from(path)))
}

/// The datapath's test programs and examples, with the names that they have in the machine.
fn datapath_programs() -> Result<Vec<(PathBuf, String)>> {
    let package = ["--package", "xebec-datapath", "--message-format", "json-render-diagnostics", "--quiet"];
    let mut programs = Vec::new();
    let tests = sh::read(sh::cargo().args(["test", "--no-run"]).args(package))?;
    let examples = sh::read(sh::cargo().args(["build", "--example", "stats", "--example", "features"]).args(package))?;
    for line in tests.lines().chain(examples.lines()) {
        let message: Value = serde_json::from_str(line).context("cargo's messages")?;
        let (Some(path), Some(name)) = (message["executable"].as_str(), message["target"]["name"].as_str()) else {
            continue;
        };
        let name = if message["target"]["kind"][0] == "lib" { "unit" } else { name };
        programs.push((PathBuf::from(path), name.to_owned()));
    }
    Ok(programs)
}

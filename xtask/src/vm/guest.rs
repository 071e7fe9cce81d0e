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
    /// Whole nodes with containerd: tests of clusters, with pods, services and DNS
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

    /// What cargo builds for it.
    const fn build(self) -> &'static [&'static str] {
        match self {
            Self::Load => &["build", "--package", "xebec-datapath", "--example", "stats", "--example", "features"],
            Self::Unit => &["test", "--no-run", "--package", "xebec-datapath", "--lib"],
            Self::Differential => &["test", "--no-run", "--package", "xebec-datapath", "--test", "differential"],
            Self::Topology => &["test", "--no-run", "--package", "xebec-datapath", "--test", "topology"],
            Self::Cluster => &["test", "--no-run", "--package", "xebec-tests", "--test", "cluster"],
        }
    }
}

/// The files of a machine that runs `steps`, and of their tests those whose names contain `tests`.
///
/// # Errors
/// When something does not build, or a program that the machine needs is not on this one.
pub fn files(steps: &[Step], tests: &str) -> Result<Vec<Entry>> {
    let mut files = initramfs::program(Path::new("/bin/busybox"), "bin/busybox")?;
    let script = |path: &str, text: String| Entry { path: path.to_owned(), bytes: text.into_bytes(), executable: true };
    files.push(script("init", INIT.to_owned()));
    files.push(script("xb/steps", steps.iter().map(|step| format!("{}\n", step.name())).collect()));
    files.push(script("xb/tests", tests.to_owned()));
    for (path, text) in [
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/hosts", "127.0.0.1 localhost\n"),
        ("etc/hostname", "xebec-vm\n"),
        ("etc/resolv.conf", ""),
    ] {
        files.push(script(path, text.to_owned()));
    }
    for step in steps {
        for (program, name) in built(*step)? {
            files.extend(initramfs::program(&program, &format!("xb/{name}"))?);
        }
    }
    if steps.iter().any(|step| *step != Step::Load) {
        // busybox's `ip` can neither replace neighbours nor show what runs on a device.
        for program in ["ip", "tc"] {
            files.extend(installed(program)?);
        }
    }
    if steps.contains(&Step::Cluster) {
        for program in ["containerd", "containerd-shim-runc-v2", "runc", "nft"] {
            files.extend(installed(program)?);
        }
        let kubectl = setup::kubectls().pop().context("no kubectl")?;
        let image = given("XEBEC_DEMO_IMAGE", images::demo)?;
        for (file, path) in [
            (given("XEBEC", up::release)?, "usr/bin/xebec"),
            (given("XEBEC_DEMO", images::demo_program)?, "usr/bin/demo"),
            (kubectl, "usr/bin/kubectl"),
            (image, "xb/demo.tar"),
        ] {
            files.extend(initramfs::program(&file, path)?);
        }
    }
    Ok(files)
}

/// A program of this machine.
fn installed(program: &str) -> Result<Vec<Entry>> {
    let path = sh::on_path(program).with_context(|| format!("{program} is not on PATH: cargo xtask setup"))?;
    initramfs::program(&path, &format!("usr/bin/{program}"))
}

/// What the environment names, as it does for the tests of `xebec-tests`, or else what is built.
fn given(variable: &str, build: fn() -> Result<PathBuf>) -> Result<PathBuf> {
    std::env::var_os(variable).map_or_else(build, |path| Ok(PathBuf::from(path)))
}

/// The programs of a step, with the names that they have in the machine.
fn built(step: Step) -> Result<Vec<(PathBuf, String)>> {
    let messages = ["--message-format", "json-render-diagnostics", "--quiet"];
    let mut programs = Vec::new();
    for line in sh::read(sh::cargo().args(step.build()).args(messages))?.lines() {
        let message: Value = serde_json::from_str(line).context("cargo's messages")?;
        let (Some(path), Some(name)) = (message["executable"].as_str(), message["target"]["name"].as_str()) else {
            continue;
        };
        let name = if step == Step::Unit { step.name() } else { name };
        programs.push((PathBuf::from(path), name.to_owned()));
    }
    Ok(programs)
}

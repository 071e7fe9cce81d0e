//! Runs cargo for the BPF target.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{BuildError, Linker, Toolchain, check};

/// The binary of `xebec-programs`.
pub const OBJECT_NAME: &str = "xebec-datapath";

const TARGET: &str = "bpfel-unknown-none";

/// A feature of `xebec-programs`: its object takes flows over from maps of the other layout.
pub const BRIDGE: &str = "bridge";
/// A feature of `xebec-programs`: its object is for maps of flows with another layout, to try migration with.
pub const REHEARSAL: &str = "rehearsal";

/// One build of the object.
#[derive(Clone, Debug)]
pub struct Build {
    pub workspace: PathBuf,
    /// Cargo's target directory for the BPF target; never the outer cargo's.
    pub target_dir: PathBuf,
    pub linker: Linker,
    pub toolchain: Toolchain,
    /// Of `xebec-programs`.
    pub feature: Option<&'static str>,
}

impl Build {
    pub fn find(workspace: &Path, target_dir: &Path) -> Result<Self, BuildError> {
        Ok(Self {
            workspace: workspace.to_owned(),
            target_dir: target_dir.to_owned(),
            linker: Linker::find(workspace)?,
            toolchain: Toolchain::find()?,
            feature: None,
        })
    }

    /// Builds the object, checks it, and returns its path.
    pub fn run(&self) -> Result<PathBuf, BuildError> {
        let mut command = self.command();
        let program = PathBuf::from(command.get_program());
        let output = command.output().map_err(|source| BuildError::Run { program, source })?;
        if !output.status.success() {
            let output = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(BuildError::Compile { output });
        }
        let path = self.target_dir.join(TARGET).join("release").join(OBJECT_NAME);
        let bytes = fs::read(&path).map_err(|source| BuildError::Read { path: path.clone(), source })?;
        match check::object(&bytes) {
            problems if problems.is_empty() => Ok(path),
            problems => Err(BuildError::Refused { path, problems }),
        }
    }

    fn command(&self) -> Command {
        let mut command = self.toolchain.cargo();
        command
            .current_dir(&self.workspace)
            .args(["build", "--release", "--package", "xebec-programs", "--bin", OBJECT_NAME])
            .args(self.feature.iter().flat_map(|feature| ["--features", feature]))
            .args(["-Z", "build-std=core", "--target", TARGET, "--target-dir"])
            .arg(&self.target_dir)
            .env("CARGO_ENCODED_RUSTFLAGS", self.rustflags().join("\u{1f}"))
            // Link-time optimisation is bpf-linker's; rustc's would hand it machine code.
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_PANIC", "abort")
            .stdin(Stdio::null());
        command
    }

    fn rustflags(&self) -> Vec<String> {
        vec![
            format!("-Clinker={}", self.linker.0.display()),
            // Without v3 LLVM shifts packet pointers and the verifier refuses plain parsers.
            "-Ctarget-cpu=v3".into(),
            "-Cdebuginfo=2".into(),
            "-Cpanic=abort".into(),
            "-Clink-arg=--btf".into(),
            // In order, LLVM expands copies alone, and calls loops over bytes to clear three of them or to move twelve.
            "-Clink-arg=--disable-expand-memcpy-in-order".into(),
            // LLVM 21 and later call `__bpf_trap` for unreachable code, which kernels before 6.16
            // refuse.
            "-Clink-arg=--llvm-args=-bpf-disable-trap-unreachable".into(),
        ]
    }
}

/// What the object depends on, for `rerun-if-changed`.
pub fn inputs(workspace: &Path) -> Vec<PathBuf> {
    let crates = ["abi", "logic", "programs"].map(|name| workspace.join("ebpf").join(name));
    crates.iter().flat_map(|path| [path.join("src"), path.join("Cargo.toml")]).collect()
}

//! Where the linker and a cargo that can build `core` are.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::BuildError;

/// A `bpf-linker` executable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Linker(pub PathBuf);

impl Linker {
    /// `XEBEC_BPF_LINKER`, then `PATH`, then `<workspace>/target/tools/bin`, where
    /// `cargo xtask setup` puts it.
    pub fn find(workspace: &Path) -> Result<Self, BuildError> {
        if let Some(path) = env::var_os("XEBEC_BPF_LINKER") {
            return Ok(Self(path.into()));
        }
        let on_path = env::var_os("PATH").unwrap_or_default();
        let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
        env::split_paths(&on_path)
            .chain(target.map(|target| target.join("tools/bin")))
            .chain([workspace.join("target/tools/bin")])
            .map(|directory| directory.join("bpf-linker"))
            .find(|path| path.is_file())
            .map(Self)
            .ok_or(BuildError::NoLinker)
    }
}

/// A cargo with the sources of `core`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Toolchain {
    /// A rustup toolchain by name.
    Rustup(String),
    /// A cargo by path; the rustc beside it is used.
    Cargo(PathBuf),
}

impl Toolchain {
    /// `XEBEC_BPF_CARGO`, then a rustup nightly with `rust-src`, then Debian's `/usr/bin/cargo` with
    /// `rust-web-src`.
    pub fn find() -> Result<Self, BuildError> {
        if let Some(path) = env::var_os("XEBEC_BPF_CARGO") {
            return Ok(Self::Cargo(path.into()));
        }
        if let Some(name) = rustup_nightly() {
            return Ok(Self::Rustup(name));
        }
        let debian = Path::new("/usr/bin/cargo");
        if debian.is_file() && has_core(Path::new("/usr")) {
            return Ok(Self::Cargo(debian.into()));
        }
        Err(BuildError::NoToolchain)
    }

    /// The command that runs this toolchain's cargo, whatever toolchain runs us.
    pub fn cargo(&self) -> Command {
        let mut command = match self {
            Self::Rustup(name) => {
                let mut command = Command::new("rustup");
                command.args(["run", name, "cargo"]);
                command
            }
            Self::Cargo(path) => {
                let mut command = Command::new(path);
                command.env("PATH", path_with_first(path.parent()));
                command
            }
        };
        // The outer cargo describes itself to build scripts; the inner one must not listen.
        for (name, _) in env::vars_os() {
            let text = name.to_string_lossy();
            let private = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"];
            let keep = ["CARGO_HOME", "CARGO_BUILD_JOBS", "CARGO_NET_OFFLINE"];
            if private.iter().any(|prefix| text.starts_with(prefix))
                && !keep.contains(&text.as_ref())
                && !text.starts_with("CARGO_REGISTR")
                && !text.starts_with("CARGO_SOURCE")
                && !text.starts_with("CARGO_HTTP")
            {
                command.env_remove(&name);
            }
        }
        // `-Z build-std` on a compiler that is not nightly.
        command.env("RUSTC_BOOTSTRAP", "1");
        command
    }
}

fn rustup_nightly() -> Option<String> {
    let output = Command::new("rustup").args(["toolchain", "list"]).output().ok()?;
    String::from_utf8(output.stdout)
        .ok()?
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .find(|name| name.starts_with("nightly") && sysroot(name).is_some_and(|s| has_core(&s)))
        .map(str::to_owned)
}

fn sysroot(toolchain: &str) -> Option<PathBuf> {
    let output = Command::new("rustup").args(["run", toolchain, "rustc", "--print", "sysroot"]).output().ok()?;
    Some(PathBuf::from(String::from_utf8(output.stdout).ok()?.trim()))
}

fn has_core(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file()
}

fn path_with_first(first: Option<&Path>) -> std::ffi::OsString {
    let rest = env::var_os("PATH").unwrap_or_default();
    let paths = first.map(Path::to_owned).into_iter().chain(env::split_paths(&rest));
    env::join_paths(paths).unwrap_or(rest)
}

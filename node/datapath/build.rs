//! Embeds the eBPF object.
//!
//! `XEBEC_BPF=skip` embeds nothing (for `cargo check` and clippy without a BPF toolchain; the
//! loader says "object not built"), `XEBEC_BPF_OBJECT=<file>` embeds a prebuilt object.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::exit,
};

use xebec_builder::{Build, inputs};

fn main() {
    for name in ["XEBEC_BPF", "XEBEC_BPF_OBJECT", "XEBEC_BPF_CARGO", "XEBEC_BPF_LINKER"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let embedded = out.join("xebec-datapath.o");
    if env::var("XEBEC_BPF").is_ok_and(|value| value == "skip") {
        write(&embedded, &[]);
        return;
    }
    let object = match env::var_os("XEBEC_BPF_OBJECT") {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", Path::new(&path).display());
            PathBuf::from(path)
        }
        None => build(&out),
    };
    match fs::read(&object) {
        Ok(bytes) => write(&embedded, &bytes),
        Err(error) => fail(&format!("read {}: {error}", object.display())),
    }
}

fn build(out: &Path) -> PathBuf {
    let manifest = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let workspace = manifest.ancestors().nth(2).expect("node/datapath is two levels deep");
    // Relative to the package: with a target directory that clones share, each must look at its own sources.
    let up = Path::new("../..");
    for input in inputs(workspace) {
        println!("cargo::rerun-if-changed={}", up.join(input.strip_prefix(workspace).unwrap_or(&input)).display());
    }
    // OUT_DIR is <target>/<profile>/build/<package>/out.
    let target = out.ancestors().nth(4).expect("OUT_DIR is in a target directory");
    let built = Build::find(workspace, &target.join("bpf")).and_then(|build| {
        println!("cargo::rerun-if-changed={}", build.linker.0.display());
        build.run()
    });
    built.unwrap_or_else(|error| fail(&error.to_string()))
}

fn write(path: &Path, bytes: &[u8]) {
    if let Err(error) = fs::write(path, bytes) {
        fail(&format!("write {}: {error}", path.display()));
    }
}

fn fail(message: &str) -> ! {
    for line in message.lines() {
        println!("cargo::error={line}");
    }
    exit(1);
}

//! Embeds the eBPF object.
//!
//! `XEBEC_BPF=skip` embeds nothing (for `cargo check` and clippy without a BPF toolchain; the
//! loader says "object not built"), `XEBEC_BPF_OBJECT=<file>` embeds a prebuilt object, and none for migrations.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::exit,
};

use xebec_builder::{BRIDGE, Build, REHEARSAL, inputs, strip};

fn main() {
    for name in ["XEBEC_BPF", "XEBEC_BPF_OBJECT", "XEBEC_BPF_CARGO", "XEBEC_BPF_LINKER"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let objects =
        [("xebec-datapath.o", None), ("xebec-bridge.o", Some(BRIDGE)), ("xebec-rehearsal.o", Some(REHEARSAL))];
    for (name, feature) in objects {
        let bytes = match env::var_os("XEBEC_BPF_OBJECT") {
            _ if env::var("XEBEC_BPF").is_ok_and(|value| value == "skip") => Vec::new(),
            Some(_) if feature.is_some() => Vec::new(),
            Some(path) => {
                println!("cargo::rerun-if-changed={}", Path::new(&path).display());
                read(Path::new(&path))
            }
            None => read(&build(&out, feature)),
        };
        let embedded = if bytes.is_empty() { bytes } else { stripped(&bytes) };
        write(&out.join(name), &embedded);
    }
}

fn stripped(object: &[u8]) -> Vec<u8> {
    strip::debug_info(object).unwrap_or_else(|error| fail(&format!("strip the eBPF object: {error}")))
}

fn read(object: &Path) -> Vec<u8> {
    fs::read(object).unwrap_or_else(|error| fail(&format!("read {}: {error}", object.display())))
}

fn build(out: &Path, feature: Option<&'static str>) -> PathBuf {
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
        Build { feature, ..build }.run()
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

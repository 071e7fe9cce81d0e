//! What the node's machine is: capacity and identity.

use std::fs;
use std::path::Path;

use crate::config::Config;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// False on a hollow node: there are no cgroups to make.
    pub real: bool,
    pub cpus: i64,
    pub memory: i64,
    pub kernel_version: String,
    pub os_image: String,
    pub machine_id: String,
    pub boot_id: String,
}

impl Machine {
    pub fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
        let release = read("/etc/os-release");
        let os_image = release
            .lines()
            .find_map(|line| line.strip_prefix("PRETTY_NAME="))
            .unwrap_or("Linux")
            .trim_matches('"')
            .to_owned();
        Self {
            real: true,
            cpus: std::thread::available_parallelism().ok().and_then(|n| i64::try_from(n.get()).ok()).unwrap_or(1),
            memory: memory_bytes(&read("/proc/meminfo"), "MemTotal:"),
            kernel_version: read("/proc/sys/kernel/osrelease"),
            os_image,
            machine_id: read("/etc/machine-id"),
            boot_id: read("/proc/sys/kernel/random/boot_id"),
        }
    }

    pub fn milli_cpu(&self, config: &Config) -> i64 {
        config.capacity_milli_cpu.unwrap_or(self.cpus * 1000)
    }

    pub fn memory_bytes(&self, config: &Config) -> i64 {
        config.capacity_memory_bytes.unwrap_or(self.memory)
    }

    pub fn allocatable_milli_cpu(&self, config: &Config) -> i64 {
        (self.milli_cpu(config) - config.reserved_milli_cpu).max(0)
    }

    pub fn allocatable_memory_bytes(&self, config: &Config) -> i64 {
        (self.memory_bytes(config) - config.reserved_memory_bytes).max(0)
    }
}

pub fn available_memory_bytes() -> i64 {
    memory_bytes(&fs::read_to_string("/proc/meminfo").unwrap_or_default(), "MemAvailable:")
}

fn memory_bytes(meminfo: &str, field: &str) -> i64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse::<i64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Inodes of the filesystem that `path` lies on, and how many are free. Some filesystems count none: zeroes.
pub fn inodes(path: &Path) -> Option<(u64, u64)> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    Some((stat.files(), stat.files_available()))
}

/// Size and free bytes of the filesystem that `path` lies on.
pub fn filesystem(path: &Path) -> Option<(u64, u64)> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    Some((stat.blocks() * stat.fragment_size(), stat.blocks_available() * stat.fragment_size()))
}

//! The pod's own cgroup: above its containers, in every hierarchy. The runtime makes the paths; nobody but the kubelet removes them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::qos::{Amount, CPU_PERIOD_US, QosClass, cpu_quota, cpu_shares};

const ROOT: &str = "/sys/fs/cgroup";

/// `/…/kubepods/burstable/pod<uid>`; guaranteed pods lie at the top, as upstream has them.
pub fn pod_path(root: &str, class: QosClass, uid: &str) -> String {
    match class {
        QosClass::Guaranteed => format!("{root}/pod{uid}"),
        QosClass::Burstable => format!("{root}/burstable/pod{uid}"),
        QosClass::BestEffort => format!("{root}/besteffort/pod{uid}"),
    }
}

/// The mount points of all hierarchies: one for pure cgroup v2, many for v1 and hybrid.
fn hierarchies() -> Vec<PathBuf> {
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        return vec![ROOT.into()];
    }
    fs::read_dir(ROOT).into_iter().flatten().flatten().map(|e| e.path()).filter(|p| p.is_dir()).collect()
}

fn below(hierarchy: &Path, path: &str) -> PathBuf {
    hierarchy.join(path.trim_start_matches('/'))
}

/// Raises the limits of a pod's cgroup to `amount`; those that are higher stay.
pub fn grow(path: &str, amount: &Amount) -> io::Result<()> {
    let at_least =
        |wanted: Option<i64>, now: Option<i64>| wanted.zip(now).map(|(wanted, now)| wanted.max(now)).or(wanted);
    let now = limits(path);
    let cpu_limit = at_least(amount.cpu_limit, now.cpu_limit);
    set(path, &Amount { cpu_limit, memory_limit: at_least(amount.memory_limit, now.memory_limit), ..*amount })
}

/// The limits of a pod's cgroup, as far as it has any.
fn limits(path: &str) -> Amount {
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.split_whitespace().next()?.parse::<i64>().ok();
    let v2 = Path::new(ROOT).join("cgroup.controllers").exists();
    let file = |controller: &str, v1: &str, name: &str| {
        let hierarchy = if v2 { PathBuf::from(ROOT) } else { Path::new(ROOT).join(controller) };
        below(&hierarchy, path).join(if v2 { name } else { v1 })
    };
    let quota = number(file("cpu", "cpu.cfs_quota_us", "cpu.max")).filter(|quota| *quota > 0);
    Amount {
        cpu_limit: quota.map(|quota| quota * 1000 / CPU_PERIOD_US),
        memory_limit: number(file("memory", "memory.limit_in_bytes", "memory.max")),
        ..Amount::default()
    }
}

/// Creates the pod's cgroup if it is not there, and sets its limits where the hierarchy has the controller.
pub fn set(path: &str, amount: &Amount) -> io::Result<()> {
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        return set_v2(path, amount);
    }
    let cpu = below(&Path::new(ROOT).join("cpu"), path);
    if Path::new(ROOT).join("cpu").is_dir() {
        fs::create_dir_all(&cpu)?;
        fs::write(cpu.join("cpu.shares"), cpu_shares(amount.cpu_request).to_string())?;
        if let Some(quota) = cpu_quota(amount.cpu_limit) {
            fs::write(cpu.join("cpu.cfs_period_us"), CPU_PERIOD_US.to_string())?;
            fs::write(cpu.join("cpu.cfs_quota_us"), quota.to_string())?;
        }
    }
    let memory = below(&Path::new(ROOT).join("memory"), path);
    if let Some(limit) = amount.memory_limit.filter(|_| Path::new(ROOT).join("memory").is_dir()) {
        fs::create_dir_all(&memory)?;
        fs::write(memory.join("memory.limit_in_bytes"), limit.to_string())?;
    }
    Ok(())
}

fn set_v2(path: &str, amount: &Amount) -> io::Result<()> {
    let group = below(Path::new(ROOT), path);
    fs::create_dir_all(&group)?;
    let mut parent = PathBuf::from(ROOT);
    let parts: Vec<&str> = path.split('/').filter(|p| !p.is_empty()).collect();
    for part in parts {
        for controller in ["+cpu", "+memory", "+pids", "+cpuset", "+io"] {
            // One that the kernel lacks or that is enabled already is no reason to fail: the limits below tell.
            let _ = fs::write(parent.join("cgroup.subtree_control"), controller);
        }
        parent.push(part);
    }
    // The kernel's mapping of shares (2..262144) to weight (1..10000), as runc computes it.
    let weight = 1 + (cpu_shares(amount.cpu_request) - 2) * 9999 / 262_142;
    fs::write(group.join("cpu.weight"), weight.to_string())?;
    if let Some(quota) = cpu_quota(amount.cpu_limit) {
        fs::write(group.join("cpu.max"), format!("{quota} {CPU_PERIOD_US}"))?;
    }
    if let Some(limit) = amount.memory_limit {
        fs::write(group.join("memory.max"), limit.to_string())?;
    }
    Ok(())
}

/// Removes the pod's cgroup from every hierarchy; false while something still lives in it.
pub fn remove(path: &str) -> bool {
    let mut gone = true;
    for hierarchy in hierarchies() {
        gone &= remove_tree(&below(&hierarchy, path));
    }
    gone
}

fn remove_tree(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
    {
        remove_tree(&entry.path());
    }
    match fs::remove_dir(group) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// The UIDs of all pods that have a cgroup below `root`, with its path.
pub fn list(root: &str) -> Vec<(String, String)> {
    let mut found = std::collections::BTreeMap::new();
    for hierarchy in hierarchies() {
        for level in [root.to_owned(), format!("{root}/burstable"), format!("{root}/besteffort")] {
            for entry in fs::read_dir(below(&hierarchy, &level)).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if let Some(uid) = name.strip_prefix("pod") {
                    found.insert(format!("{level}/{name}"), uid.to_owned());
                }
            }
        }
    }
    found.into_iter().map(|(path, uid)| (uid, path)).collect()
}

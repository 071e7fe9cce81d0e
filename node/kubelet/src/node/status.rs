//! What a node's status says.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use xebec_types::core::{Node, NodeCondition};
use xebec_types::time::{self, Timestamp};

use crate::config::{Config, NodeVerdict};
use crate::eviction;
use crate::kubelet::Kubelet;
use crate::machine;

/// upstream lists at most so many images.
const IMAGES_MAX: usize = 50;

const PIDS_AVAILABLE_MIN_PERCENT: u64 = 10;

/// The changing part.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    runtime_version: Option<String>,
    runtime_problem: Option<String>,
    network_ready: bool,
    images: Vec<Value>,
    memory_pressure: bool,
    disk_pressure: bool,
    pid_pressure: bool,
    others: Vec<NodeVerdict>,
}

impl Facts {
    pub(crate) fn ready(&self) -> bool {
        self.runtime_problem.is_none() && self.network_ready
    }
}

/// Whether all that a node lacks is a pod network that the agent before left working: pods, their connections and services go
/// on while this one takes it over, unless the machine was started in between.
pub(crate) fn goes_on(facts: &Facts, node: &Node, boot_id: &str) -> bool {
    let Some(status) = &node.status else { return false };
    let was_ready = status.conditions.iter().flatten().any(|c| c.type_ == "Ready" && c.status == "True");
    let is_same_boot = status.node_info.as_ref().is_some_and(|info| info.boot_id == boot_id);
    facts.runtime_problem.is_none() && !facts.network_ready && was_ready && is_same_boot
}

pub(crate) async fn gather(kubelet: &Kubelet) -> Facts {
    let mut facts = Facts { network_ready: *kubelet.config.network_ready.borrow(), ..Facts::default() };
    match kubelet.runtime.version().await {
        Ok(version) => {
            facts.runtime_version =
                Some(format!("{}://{}", version.runtime_name, version.runtime_version.trim_start_matches('v')))
        }
        Err(error) => facts.runtime_problem = Some(format!("container runtime is down: {}", error.message())),
    }
    if facts.runtime_problem.is_none() {
        match kubelet.runtime.status().await {
            Ok(status) => {
                let bad = status.conditions.iter().find(|c| !c.status);
                facts.runtime_problem = bad.map(|c| {
                    format!(
                        "container runtime {} not ready: {}={} reason:{} message:{}",
                        c.r#type, c.r#type, c.status, c.reason, c.message
                    )
                });
            }
            Err(error) => {
                facts.runtime_problem = Some(format!("container runtime status check failed: {}", error.message()))
            }
        }
    }
    facts.images = images(kubelet).await;
    facts.others = kubelet.config.node_conditions.iter().flat_map(|others| others.borrow().clone()).collect();
    let pressure = eviction::pressure(kubelet);
    (facts.memory_pressure, facts.disk_pressure) = (pressure.memory, pressure.disk);
    facts.pid_pressure =
        pids().is_some_and(|(used, max)| max.saturating_sub(used) * 100 < max * PIDS_AVAILABLE_MIN_PERCENT);
    facts
}

/// Threads on the machine, and how many there may be.
fn pids() -> Option<(u64, u64)> {
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let used = load.split_whitespace().nth(3)?.split('/').nth(1)?.parse().ok()?;
    let max = std::fs::read_to_string("/proc/sys/kernel/pid_max").ok()?.trim().parse().ok()?;
    Some((used, max))
}

async fn images(kubelet: &Kubelet) -> Vec<Value> {
    let mut images = kubelet.runtime.list_images().await.unwrap_or_default();
    images.sort_by_key(|image| std::cmp::Reverse(image.size));
    let names =
        |image: &xebec_cri::v1::Image| image.repo_digests.iter().chain(&image.repo_tags).cloned().collect::<Vec<_>>();
    let named = images.iter().map(|image| (names(image), image.size)).filter(|(names, _)| !names.is_empty());
    named.take(IMAGES_MAX).map(|(names, size)| json!({"names": names, "sizeBytes": size})).collect()
}

pub(crate) fn labels(config: &Config) -> BTreeMap<String, String> {
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let mut labels = config.node_labels.clone();
    for (key, value) in [
        ("kubernetes.io/hostname", config.node_name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", arch),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", arch),
    ] {
        labels.entry(key.to_owned()).or_insert_with(|| value.to_owned());
    }
    labels
}

fn amounts(config: &Config, milli_cpu: i64, memory: i64) -> Value {
    let cpu = if milli_cpu % 1000 == 0 { (milli_cpu / 1000).to_string() } else { format!("{milli_cpu}m") };
    let disk = machine::filesystem(&config.root_dir).map_or(0, |(size, _)| size);
    json!({
        "cpu": cpu,
        "memory": format!("{}Ki", memory / 1024),
        "ephemeral-storage": format!("{}Ki", disk / 1024),
        "pods": config.max_pods.to_string(),
        "hugepages-1Gi": "0",
        "hugepages-2Mi": "0",
    })
}

fn addresses(config: &Config) -> Vec<Value> {
    let ips = config.node_ips.iter().map(|ip| json!({"type": "InternalIP", "address": ip}));
    ips.chain([json!({"type": "Hostname", "address": config.node_name})]).collect()
}

/// Everything but the conditions' times: a change of it is worth a write.
pub(crate) fn steady(kubelet: &Kubelet, facts: &Facts, port: u16) -> Value {
    let (config, machine) = (&kubelet.config, &kubelet.machine);
    let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let conditions: BTreeMap<&str, (bool, String)> =
        verdicts(facts).into_iter().map(|v| (v.kind, (v.status, v.message))).collect();
    json!({
        "addresses": addresses(config),
        "capacity": amounts(config, machine.milli_cpu(config), machine.memory_bytes(config)),
        "allocatable": amounts(config, machine.allocatable_milli_cpu(config), machine.allocatable_memory_bytes(config)),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
        "nodeInfo": {
            "machineID": machine.machine_id,
            "systemUUID": machine.machine_id,
            "bootID": machine.boot_id,
            "kernelVersion": machine.kernel_version,
            "osImage": machine.os_image,
            "containerRuntimeVersion": facts.runtime_version.clone().unwrap_or_else(|| "containerd://unknown".to_owned()),
            "kubeletVersion": concat!("v1.36.0+xebec-", env!("CARGO_PKG_VERSION")),
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": arch,
        },
        "images": facts.images,
        "conditions": conditions,
    })
}

fn verdicts(facts: &Facts) -> Vec<NodeVerdict> {
    let pressure = |kind, under: bool, bad: (&'static str, &str), good: (&'static str, &str)| {
        let (reason, message) = if under { bad } else { good };
        NodeVerdict { kind, status: under, reason, message: message.to_owned() }
    };
    let ready = if facts.ready() {
        NodeVerdict {
            kind: "Ready",
            status: true,
            reason: "KubeletReady",
            message: "kubelet is posting ready status".to_owned(),
        }
    } else {
        let network = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: cni plugin not initialized";
        let message = facts.runtime_problem.clone().unwrap_or_else(|| network.to_owned());
        NodeVerdict { kind: "Ready", status: false, reason: "KubeletNotReady", message }
    };
    let mut verdicts = vec![
        pressure(
            "MemoryPressure",
            facts.memory_pressure,
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressure(
            "DiskPressure",
            facts.disk_pressure,
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressure(
            "PIDPressure",
            facts.pid_pressure,
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        ready,
    ];
    verdicts.extend(facts.others.iter().cloned());
    verdicts
}

pub(crate) fn conditions(facts: &Facts, node: &Node) -> Vec<NodeCondition> {
    let now: Timestamp = time::now();
    let known = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let conditions = verdicts(facts).into_iter().map(|verdict| {
        let status = if verdict.status { "True" } else { "False" };
        let before = known.iter().find(|c| c.type_ == verdict.kind && c.status == status);
        NodeCondition {
            type_: verdict.kind.to_owned(),
            status: status.to_owned(),
            reason: Some(verdict.reason.to_owned()),
            message: Some(verdict.message),
            last_heartbeat_time: Some(time::time(now)),
            last_transition_time: before.and_then(|c| c.last_transition_time.clone()).or_else(|| Some(time::time(now))),
        }
    });
    conditions.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(facts: Facts, ready: &str, boot_id: &str, expected: bool) {
        let node = json!({"status": {
            "conditions": [{"type": "MemoryPressure", "status": "False"}, {"type": "Ready", "status": ready}],
            "nodeInfo": {"bootID": "b1", "machineID": "", "systemUUID": "", "kernelVersion": "", "osImage": "",
                "containerRuntimeVersion": "", "kubeletVersion": "", "kubeProxyVersion": "", "operatingSystem": "", "architecture": ""},
        }});
        let node: Node = serde_json::from_value(node).unwrap();
        assert_eq!(goes_on(&facts, &node, boot_id), expected, "{facts:?}, was {ready}, {boot_id}");
    }

    #[test]
    fn a_node_whose_agent_alone_was_restarted_goes_on() {
        let down = || Facts { runtime_problem: Some("container runtime is down".to_owned()), ..Facts::default() };
        check(Facts::default(), "True", "b1", true);
        check(Facts::default(), "True", "b2", false);
        check(Facts::default(), "False", "b1", false);
        check(Facts::default(), "Unknown", "b1", false);
        check(down(), "True", "b1", false);
        check(Facts { network_ready: true, ..Facts::default() }, "True", "b1", false);
        assert!(!goes_on(&Facts::default(), &Node::default(), ""));
    }
}

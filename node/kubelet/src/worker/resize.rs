//! Resources that change while a pod runs (KEP-1287): what the node grants, and what its containers have of it.
//!
//! A grant is all or nothing for a pod. It outlives the kubelet in the status: `allocatedResources` and `resources`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use xebec_cri::v1;
use xebec_types::core::{Container, Pod, ResourceRequirements};

use super::Worker;
use super::sync::Retry;
use crate::cgroup;
use crate::container;
use crate::observed::{Instance, Observed, State};
use crate::pod;
use crate::qos::{self, Amount};

/// What the node may still give to a pod that asks for more, in thousandths of a CPU and in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    pub allocatable_milli_cpu: i64,
    pub allocatable_memory_bytes: i64,
    /// By other pods.
    pub used_milli_cpu: i64,
    pub used_memory_bytes: i64,
}

/// Why a resize is not granted: the condition `PodResizePending`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// `Infeasible` or `Deferred`.
    pub reason: &'static str,
    pub message: String,
}

/// Where a resize is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resize {
    pub pending: Option<Pending>,
    /// Granted, and not yet what the containers have: the condition `PodResizeInProgress`.
    pub in_progress: bool,
    /// Why it does not go on.
    pub error: Option<String>,
    /// What running containers have, by container id.
    pub actual: BTreeMap<String, ResourceRequirements>,
}

/// Whether a pod that wants `wanted` fits; messages are upstream's.
pub fn admit(wanted: Amount, room: Room) -> Result<(), Pending> {
    let rows = [
        ("cpu", wanted.cpu_request, room.allocatable_milli_cpu, room.used_milli_cpu),
        ("memory", wanted.memory_request, room.allocatable_memory_bytes, room.used_memory_bytes),
    ];
    for (name, wanted, capacity, _) in rows {
        let wanted = wanted.unwrap_or(0);
        if wanted > capacity {
            let message =
                format!("Node didn't have enough capacity: {name}, requested: {wanted}, capacity: {capacity}");
            return Err(Pending { reason: "Infeasible", message });
        }
    }
    for (name, wanted, capacity, used) in rows {
        let wanted = wanted.unwrap_or(0);
        if used + wanted > capacity {
            let message = format!(
                "Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}"
            );
            return Err(Pending { reason: "Deferred", message });
        }
    }
    Ok(())
}

/// The pod with the resources that its node has granted; `None` where the spec and the grant are the same.
pub fn granted(pod: &Pod, grant: &BTreeMap<String, ResourceRequirements>) -> Option<Pod> {
    let differs = |c: &Container| grant.get(&c.name).is_some_and(|g| *g != c.resources.clone().unwrap_or_default());
    if !pod::all_containers(pod).any(differs) {
        return None;
    }
    let mut granted = pod.clone();
    let spec = granted.spec.as_mut()?;
    for container in spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten()) {
        if let Some(resources) = grant.get(&container.name) {
            container.resources = Some(resources.clone());
        }
    }
    Some(granted)
}

/// The resources of each container as the spec has them.
pub fn asked(pod: &Pod) -> BTreeMap<String, ResourceRequirements> {
    pod::all_containers(pod).map(|c| (c.name.clone(), c.resources.clone().unwrap_or_default())).collect()
}

/// What a former kubelet granted, from the status that it wrote; the spec's for containers that never ran.
pub fn remembered(pod: &Pod) -> BTreeMap<String, ResourceRequirements> {
    let mut grant = asked(pod);
    for status in pod::container_statuses(pod).filter(|s| s.container_id.is_some()) {
        let Some(resources) = grant.get_mut(&status.name) else { continue };
        for (name, allocated) in status.allocated_resources.iter().flatten() {
            resources.requests.get_or_insert_default().insert(name.clone(), allocated.clone());
        }
        if let Some(limits) = status.resources.as_ref().and_then(|r| r.limits.clone()) {
            resources.limits.get_or_insert_default().extend(limits);
        }
    }
    grant
}

/// How a container comes to what it was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    InPlace,
    Restart,
}

/// `resizePolicy` decides, resource by resource.
fn step(container: &Container, has: &ResourceRequirements) -> Step {
    let wanted = Amount::of(container);
    let has = Amount::of_requirements(has);
    let cpu = (wanted.cpu_request, wanted.cpu_limit) != (has.cpu_request, has.cpu_limit);
    let memory = (wanted.memory_request, wanted.memory_limit) != (has.memory_request, has.memory_limit);
    let restarts = |name: &str| {
        let mut policies = container.resize_policy.iter().flatten();
        policies.any(|policy| policy.resource_name == name && policy.restart_policy == "RestartContainer")
    };
    match (cpu, memory) {
        (false, false) => Step::Nothing,
        (cpu, memory) if (cpu && restarts("cpu")) || (memory && restarts("memory")) => Step::Restart,
        _ => Step::InPlace,
    }
}

impl Worker {
    /// The pod as its node runs it. A change of the spec is granted here, or not yet, or never.
    pub(super) fn allocate(&mut self, pod: &Arc<Pod>) -> Arc<Pod> {
        let asked = asked(pod);
        if self.grant.is_none() {
            let grant = remembered(pod);
            let amount = qos::pod_amount(granted(pod, &grant).as_ref().unwrap_or(pod));
            self.kubelet.note_grant(&self.reference.uid, amount);
            self.grant = Some(grant);
        }
        let grant = self.grant.clone().unwrap_or_default();
        let changed = grant.iter().any(|(name, granted)| asked.get(name).is_some_and(|asked| asked != granted));
        self.resize.pending = None;
        if changed {
            match self.kubelet.regrant(&self.reference.uid, qos::pod_amount(pod)) {
                Ok(()) => {
                    self.told = None;
                    self.grant = Some(asked);
                    return Arc::clone(pod);
                }
                Err(pending) => {
                    if self.told.as_ref() != Some(&pending) {
                        let event = format!("Resize{}", pending.reason);
                        self.kubelet.recorder.pod_warning(pod, &event, &pending.message);
                        self.told = Some(pending.clone());
                    }
                    self.resize.pending = Some(pending);
                }
            }
        }
        match granted(pod, &grant) {
            Some(granted) => Arc::new(granted),
            None => Arc::clone(pod),
        }
    }

    /// What containers have that were there before this kubelet, and which of all must restart to get what was granted.
    pub(super) fn survey(&mut self, pod: &Pod, observed: &Observed) -> BTreeSet<String> {
        let mut restart = BTreeSet::new();
        let mut actual = BTreeMap::new();
        let mut outstanding = false;
        for container in pod::all_containers(pod) {
            let Some(running) = observed.newest(&container.name).filter(|i| i.state == State::Running) else {
                continue;
            };
            let known = self.resize.actual.get(&running.id).cloned();
            let has = known.unwrap_or_else(|| before(pod, container, running));
            match step(container, &has) {
                Step::Nothing => {}
                Step::InPlace => outstanding = true,
                Step::Restart => {
                    outstanding = true;
                    restart.insert(container.name.clone());
                }
            }
            actual.insert(running.id.clone(), has);
        }
        self.resize.actual = actual;
        self.resize.in_progress = outstanding;
        if !outstanding {
            self.resize.error = None;
        }
        restart
    }

    /// Gives running containers what was granted to them. True when something was changed.
    pub(super) async fn resize_in_place(&mut self, pod: &Arc<Pod>, observed: &Observed) -> Result<bool, Retry> {
        let of = |container: &Container| {
            let running = observed.newest(&container.name).filter(|i| i.state == State::Running)?;
            let has = self.resize.actual.get(&running.id)?;
            (step(container, has) == Step::InPlace).then(|| (container.clone(), running.id.clone()))
        };
        let due: Vec<(Container, String)> = pod::all_containers(pod).filter_map(of).collect();
        if due.is_empty() {
            return Ok(false);
        }
        if let Err(why) = self.change(pod, &due).await {
            self.resize.error = Some(why.clone());
            return Err(self.failed(pod, "ResizeError", &why));
        }
        self.resize.error = None;
        self.kubelet.recorder.pod_normal(pod, "ResizeCompleted", "Pod resize completed");
        Ok(true)
    }

    /// The pod's cgroup is never smaller than what its containers may use.
    async fn change(&mut self, pod: &Arc<Pod>, due: &[(Container, String)]) -> Result<(), String> {
        let stats = self.kubelet.runtime.container_stats().await.unwrap_or_default();
        for (container, id) in due {
            shrinks_below_usage(container, id, &stats)?;
        }
        let path = cgroup::pod_path(&self.kubelet.config.cgroup_root, qos::class(pod), &self.reference.uid);
        let amount = qos::pod_amount(pod);
        let real = self.kubelet.machine.real;
        let failed = |error: std::io::Error| format!("resize the pod's cgroup {path}: {error}");
        if real {
            cgroup::grow(&path, &amount).map_err(failed)?;
        }
        for (container, id) in due {
            let memory = self.kubelet.machine.memory_bytes(&self.kubelet.config);
            let resources = container::resources(pod, container, memory);
            let updated = self.kubelet.runtime.update_container_resources(id, resources).await;
            updated.map_err(|error| format!("resize container {}: {}", container.name, error.message()))?;
            self.resize.actual.insert(id.clone(), container.resources.clone().unwrap_or_default());
        }
        if real {
            cgroup::set(&path, &amount).map_err(failed)?;
        }
        Ok(())
    }
}

/// The kernel would kill a container whose limit falls below what it uses (cgroup v2), or refuse (v1).
fn shrinks_below_usage(container: &Container, id: &str, stats: &[v1::ContainerStats]) -> Result<(), String> {
    let of = stats.iter().find(|s| s.attributes.as_ref().is_some_and(|a| a.id == id));
    let used = of.and_then(|s| s.memory.as_ref()?.usage_bytes.as_ref()).map_or(0, |v| v.value);
    let used = i64::try_from(used).unwrap_or(i64::MAX);
    match Amount::of(container).memory_limit {
        Some(limit) if limit <= used => Err(format!(
            "attempting to set container {} memory limit ({limit}) below current usage ({used})",
            container.name
        )),
        _ => Ok(()),
    }
}

/// What a container of a former kubelet has: as its status says, else as the spec did when it started.
fn before(pod: &Pod, container: &Container, running: &Instance) -> ResourceRequirements {
    let known = pod::status_of(pod, &running.id).and_then(|s| s.resources.clone());
    known.or_else(|| container.resources.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ROOM: Room = Room {
        allocatable_milli_cpu: 2000,
        allocatable_memory_bytes: 1000,
        used_milli_cpu: 1500,
        used_memory_bytes: 0,
    };

    #[track_caller]
    fn check_admit(milli_cpu: i64, memory: i64, expected: Option<&str>) {
        let wanted = Amount { cpu_request: Some(milli_cpu), memory_request: Some(memory), ..Amount::default() };
        assert_eq!(admit(wanted, ROOM).err().map(|pending| pending.reason), expected, "{milli_cpu} {memory}");
    }

    #[test]
    fn what_fits_is_granted() {
        check_admit(500, 1000, None);
        check_admit(501, 0, Some("Deferred"));
        check_admit(2001, 0, Some("Infeasible"));
        check_admit(600, 1001, Some("Infeasible"));
    }

    #[track_caller]
    fn check_step(policy: serde_json::Value, has: serde_json::Value, wanted: serde_json::Value, expected: Step) {
        let container = json!({"name": "c", "resizePolicy": policy, "resources": wanted});
        let container: Container = serde_json::from_value(container).unwrap();
        let has: ResourceRequirements = serde_json::from_value(has).unwrap();
        assert_eq!(step(&container, &has), expected, "{container:?}");
    }

    #[test]
    fn policies_decide_how_a_container_is_resized() {
        let of = |cpu: &str, memory: &str| json!({"limits": {"cpu": cpu, "memory": memory}});
        let policy = json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
        check_step(policy.clone(), of("1", "1Mi"), of("1000m", "1024Ki"), Step::Nothing);
        check_step(policy.clone(), of("1", "1Mi"), of("2", "1Mi"), Step::InPlace);
        check_step(policy, of("1", "1Mi"), of("2", "2Mi"), Step::Restart);
        check_step(json!(null), of("1", "1Mi"), of("1", "2Mi"), Step::InPlace);
    }

    #[test]
    fn a_grant_survives_in_the_status() {
        let pod: Pod = serde_json::from_value(json!({
            "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "4"}}}, {"name": "d"}]},
            "status": {"containerStatuses": [{
                "name": "c", "containerID": "containerd://1", "image": "", "imageID": "", "ready": true, "restartCount": 0,
                "allocatedResources": {"cpu": "1"}, "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "3"}},
            }]},
        }))
        .unwrap();
        let grant = remembered(&pod);
        let wanted: ResourceRequirements =
            serde_json::from_value(json!({"requests": {"cpu": "1"}, "limits": {"cpu": "3"}})).unwrap();
        assert_eq!(grant["c"], wanted);
        assert_eq!(granted(&pod, &grant).unwrap().spec.unwrap().containers[0].resources, Some(wanted));
        assert_eq!(granted(&pod, &asked(&pod)), None);
    }
}

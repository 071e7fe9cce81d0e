//! The pods of a node that leaves its cluster.

use std::path::Path;
use std::time::Duration;

use xebec_cri::{Error, Result, v1};

use crate::runtime::{Runtime, key};

/// For what the runtime does itself with a sandbox.
const PATIENCE: Duration = Duration::from_secs(60);
/// Upstream's default for a pod.
const GRACE_SECONDS: u64 = 30;

/// A sandbox that was to go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ended {
    /// `namespace/name`.
    pub pod: String,
    /// Why it is still there, if it is.
    pub fault: Option<String>,
}

/// Ends and removes all pods whose cgroups are below `cgroup_root`, at the same time: a runtime may have others', of which
/// nothing is touched. Containers get SIGTERM and the time that their pod asks for, `grace` at most; hooks do not run.
/// Each pod takes a minute longer than that at most.
///
/// # Errors
/// When the runtime does not say what sandboxes it has.
pub async fn remove_pods(runtime: &dyn Runtime, cgroup_root: &Path, grace: Duration) -> Result<Vec<Ended>> {
    let mut own = Vec::new();
    for sandbox in runtime.list_pod_sandbox(None).await? {
        match runtime.cgroup_parent(&sandbox.id).await {
            Ok(parent) if parent.as_ref().is_some_and(|parent| parent.starts_with(cgroup_root)) => own.push(sandbox),
            Ok(_) => {}
            // Removed between the two calls.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    let containers = &runtime.list_containers(None).await?;
    let remove = |sandbox: v1::PodSandbox| async move {
        let of_sandbox = containers.iter().filter(|container| container.pod_sandbox_id == sandbox.id);
        let removed = tokio::time::timeout(grace + PATIENCE, remove_pod(runtime, &sandbox.id, of_sandbox, grace)).await;
        let fault = match removed {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(xebec_cri::chain(&error)),
            Err(_) => Some(format!("the runtime has not removed it within {} s", (grace + PATIENCE).as_secs())),
        };
        let label = |key: &str| sandbox.labels.get(key).map_or("", String::as_str);
        Ended { pod: format!("{}/{}", label(key::POD_NAMESPACE), label(key::POD_NAME)), fault }
    };
    Ok(futures::future::join_all(own.into_iter().map(remove)).await)
}

async fn remove_pod(
    runtime: &dyn Runtime,
    sandbox: &str,
    containers: impl Iterator<Item = &v1::Container>,
    grace: Duration,
) -> Result<()> {
    let running = containers.filter(|container| container.state == v1::ContainerState::ContainerRunning as i32);
    let stops = running.map(|container| {
        let asked = container.annotations.get(key::GRACE_PERIOD).and_then(|seconds| seconds.parse().ok());
        runtime.stop_container(&container.id, grace.min(Duration::from_secs(asked.unwrap_or(GRACE_SECONDS))))
    });
    for stopped in futures::future::join_all(stops).await {
        gone_is_fine(stopped)?;
    }
    gone_is_fine(runtime.stop_pod_sandbox(sandbox).await)?;
    // Takes the sandbox's containers with it.
    gone_is_fine(runtime.remove_pod_sandbox(sandbox).await)
}

fn gone_is_fine(outcome: Result<()>) -> Result<()> {
    outcome.or_else(|error: Error| if error.is_not_found() { Ok(()) } else { Err(error) })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::Ipv4Addr;

    use super::*;
    use crate::runtime::Fake;

    async fn run(fake: &Fake, name: &str, cgroup: &str) {
        let labels: HashMap<String, String> =
            [(key::POD_NAMESPACE, "ns"), (key::POD_NAME, name)].map(|(key, value)| (key.into(), value.into())).into();
        let config = v1::PodSandboxConfig {
            labels,
            linux: Some(v1::LinuxPodSandboxConfig { cgroup_parent: cgroup.to_owned(), ..Default::default() }),
            ..Default::default()
        };
        let sandbox = fake.run_pod_sandbox(config.clone()).await.unwrap();
        let container = fake.create_container(&sandbox, v1::ContainerConfig::default(), config).await.unwrap();
        fake.start_container(&container).await.unwrap();
    }

    #[tokio::test]
    async fn pods_of_other_kubelets_stay() {
        let fake = Fake::new(Ipv4Addr::new(10, 244, 1, 2));
        run(&fake, "own", "/xebec/n1/kubepods/burstable/pod1").await;
        run(&fake, "guaranteed", "/xebec/n1/kubepods/pod2").await;
        run(&fake, "of-a-node-with-a-longer-name", "/xebec/n1/kubepods2/pod3").await;
        run(&fake, "of-another-kubelet", "/kubepods/pod4").await;
        run(&fake, "without-a-cgroup", "").await;
        let remove = || remove_pods(&*fake, Path::new("/xebec/n1/kubepods"), Duration::from_secs(1));
        let ended = |pod: &str| Ended { pod: pod.to_owned(), fault: None };
        let mut removed = remove().await.unwrap();
        removed.sort_by(|a, b| a.pod.cmp(&b.pod));
        assert_eq!(removed, [ended("ns/guaranteed"), ended("ns/own")]);
        assert_eq!(fake.list_pod_sandbox(None).await.unwrap().len(), 3);
        let is_running = |c: &v1::Container| c.state == v1::ContainerState::ContainerRunning as i32;
        let left = fake.list_containers(None).await.unwrap();
        assert!(left.len() == 3 && left.iter().all(is_running), "{left:?}");
        assert_eq!(remove().await.unwrap(), []);
    }
}

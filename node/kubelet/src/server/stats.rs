//! `/stats/summary` and `/metrics`: what metrics pipelines read of a node.

use std::collections::BTreeMap;

use http::StatusCode;
use serde_json::{Value, json};
use xebec_cri::v1;

use super::{Answer, json as json_answer, text};
use crate::kubelet::Kubelet;
use crate::observed::timestamp;
use crate::runtime::key;

pub(super) fn of(value: Option<&v1::UInt64Value>) -> u64 {
    value.map(|v| v.value).unwrap_or_default()
}

pub(super) fn label<'a>(stats: &'a v1::ContainerStats, name: &str) -> &'a str {
    stats.attributes.as_ref().and_then(|a| a.labels.get(name)).map(String::as_str).unwrap_or_default()
}

fn container(stats: &v1::ContainerStats) -> Value {
    let cpu = stats.cpu.unwrap_or_default();
    let memory = stats.memory.unwrap_or_default();
    let time = |nanos: i64| timestamp(nanos).map(|t| t.to_string());
    json!({
        "name": label(stats, key::CONTAINER_NAME),
        "cpu": {
            "time": time(cpu.timestamp),
            "usageNanoCores": of(cpu.usage_nano_cores.as_ref()),
            "usageCoreNanoSeconds": of(cpu.usage_core_nano_seconds.as_ref()),
        },
        "memory": {
            "time": time(memory.timestamp),
            "workingSetBytes": of(memory.working_set_bytes.as_ref()),
            "usageBytes": of(memory.usage_bytes.as_ref()),
            "rssBytes": of(memory.rss_bytes.as_ref()),
        },
    })
}

pub(super) async fn summary(kubelet: &Kubelet) -> Answer {
    let stats = match kubelet.runtime.container_stats().await {
        Ok(stats) => stats,
        Err(error) => return text(StatusCode::INTERNAL_SERVER_ERROR, error.message()),
    };
    let mut pods: BTreeMap<(String, String, String), Vec<Value>> = BTreeMap::new();
    for one in &stats {
        let reference = [key::POD_NAMESPACE, key::POD_NAME, key::POD_UID].map(|name| label(one, name).to_owned());
        let [namespace, name, uid] = reference;
        pods.entry((namespace, name, uid)).or_default().push(container(one));
    }
    let pods: Vec<Value> = pods
        .into_iter()
        .map(|((namespace, name, uid), containers)| json!({"podRef": {"name": name, "namespace": namespace, "uid": uid}, "containers": containers}))
        .collect();
    json_answer(&json!({"node": {"nodeName": kubelet.config.node_name}, "pods": pods}))
}

pub(super) async fn metrics(kubelet: &Kubelet) -> Answer {
    let running = kubelet.runtime.list_containers(None).await.unwrap_or_default();
    let running = running.iter().filter(|c| c.state == v1::ContainerState::ContainerRunning as i32).count();
    let pods = kubelet.pods().len();
    let own = format!(
        "# HELP kubelet_running_pods Number of pods that have a worker\n# TYPE kubelet_running_pods gauge\nkubelet_running_pods {pods}\n\
             # HELP kubelet_running_containers Number of containers currently running\n# TYPE kubelet_running_containers gauge\n\
             kubelet_running_containers{{container_state=\"running\"}} {running}\n"
    );
    let others = kubelet.config.metrics.iter().map(|metrics| metrics());
    text(StatusCode::OK, std::iter::once(own).chain(others).collect::<String>())
}

//! Who goes first: whoever uses more than it asked for, then lower priority, then the larger excess.

use std::collections::HashMap;
use std::sync::Arc;

use xebec_cri::v1;
use xebec_types::core::Pod;

use super::Signal;
use crate::pod::PodRef;
use crate::qos;
use crate::runtime::key;

/// The pod to evict, and its use in words.
pub fn first(pods: &[Arc<Pod>], stats: &[v1::ContainerStats], signal: Signal) -> Option<(Arc<Pod>, String)> {
    let usage = usage(stats, signal);
    let worst = pods.iter().min_by_key(|pod| {
        let used = used(&usage, pod);
        let request = request(pod, signal);
        let priority = pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        (used <= request, priority, std::cmp::Reverse(used.saturating_sub(request)))
    })?;
    let (used, request) = (used(&usage, worst), request(worst, signal));
    let what = signal.resource();
    let more = if used > request { ", has larger consumption of " } else { ", consumes " };
    let text = format!("Pod was using {}Ki, request is {}Ki{more}{what}.", used / 1024, request / 1024);
    Some((Arc::clone(worst), text))
}

fn used(usage: &HashMap<String, u64>, pod: &Pod) -> u64 {
    usage.get(&PodRef::of(pod).uid).copied().unwrap_or(0)
}

fn request(pod: &Pod, signal: Signal) -> u64 {
    match signal {
        Signal::MemoryAvailable => qos::pod_amount(pod).memory_request.and_then(|r| u64::try_from(r).ok()).unwrap_or(0),
        _ => 0,
    }
}

/// Bytes, or inodes, by pod.
fn usage(stats: &[v1::ContainerStats], signal: Signal) -> HashMap<String, u64> {
    let mut usage = HashMap::new();
    for container in stats {
        let labels = container.attributes.as_ref().map(|attributes| &attributes.labels);
        let Some(uid) = labels.and_then(|labels| labels.get(key::POD_UID)) else { continue };
        let value = |value: Option<&v1::UInt64Value>| value.map_or(0, |value| value.value);
        let layer = container.writable_layer.as_ref();
        let used = match signal {
            Signal::MemoryAvailable => value(container.memory.as_ref().and_then(|m| m.working_set_bytes.as_ref())),
            Signal::NodefsInodesFree => value(layer.and_then(|layer| layer.inodes_used.as_ref())),
            Signal::NodefsAvailable | Signal::ImagefsAvailable => value(layer.and_then(|l| l.used_bytes.as_ref())),
        };
        *usage.entry(uid.clone()).or_default() += used;
    }
    usage
}

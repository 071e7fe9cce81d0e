//! The bandwidth of pods: `kubernetes.io/ingress-bandwidth` is a token bucket in the datapath, in front of the pod,
//! `kubernetes.io/egress-bandwidth` the queueing discipline of the pod's own device.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use xebec_client::event::reference;
use xebec_client::informer::Selection;
use xebec_client::{EventRecorder, EventType, Informer, Informers, chain};
use xebec_datapath::Datapath;
use xebec_machinery::quantity::Quantity;
use xebec_podnet::PodNetwork;
use xebec_podnet::ipam::Record;
use xebec_types::core::Pod;

use crate::drift::Upkeep;

const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// Upstream's bounds, in bits a second (pkg/util/bandwidth/utils.go): `1k` and `1P`.
const LEAST: i64 = 1_000;
const MOST: i64 = 1_000_000_000_000_000;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// What a pod is limited to, in bytes a second.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
struct Limits {
    ingress: Option<u64>,
    egress: Option<u64>,
}

impl Limits {
    const NONE: Self = Self { ingress: None, egress: None };

    /// What annotations say, and which of them mean nothing.
    fn of(pod: &Pod) -> (Self, Vec<Invalid>) {
        let mut invalid = Vec::new();
        let mut read = |annotation| {
            let text = pod.metadata.annotations.as_ref()?.get(annotation)?;
            match bytes_per_s(text) {
                Ok(bytes) => Some(bytes),
                Err(why) => {
                    invalid.push(Invalid { annotation, text: text.clone(), why });
                    None
                }
            }
        };
        (Self { ingress: read(INGRESS), egress: read(EGRESS) }, invalid)
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Invalid {
    annotation: &'static str,
    text: String,
    why: String,
}

/// As upstream's ExtractPodBandwidthResources, with its words.
fn bytes_per_s(text: &str) -> Result<u64, String> {
    let quantity: Quantity = text.parse().map_err(|error: xebec_machinery::quantity::ParseError| error.to_string())?;
    if quantity < Quantity::from_value(LEAST) {
        return Err("resource is unreasonably small (< 1kbit)".to_owned());
    }
    if quantity > Quantity::from_value(MOST) {
        return Err("resource is unreasonably large (> 1Pbit)".to_owned());
    }
    Ok(quantity.value().unsigned_abs().div_ceil(8))
}

pub struct Bandwidth {
    pods: Arc<Informer<Pod>>,
    network: Arc<PodNetwork>,
    datapath: Arc<Datapath>,
    recorder: EventRecorder,
    /// What each sandbox was brought to.
    applied: HashMap<String, Limits>,
    /// Why others were not, as their pods were told.
    failed: HashMap<String, String>,
    told: HashSet<(String, Invalid)>,
}

impl Bandwidth {
    pub fn new(
        informers: &Informers,
        node_name: &str,
        network: Arc<PodNetwork>,
        datapath: Arc<Datapath>,
        recorder: EventRecorder,
    ) -> Self {
        let pods = informers.selected::<Pod>(&Selection::fields(&format!("spec.nodeName={node_name}")));
        Self {
            pods,
            network,
            datapath,
            recorder,
            applied: HashMap::new(),
            failed: HashMap::new(),
            told: HashSet::new(),
        }
    }

    /// Follows pods for ever. `attached` names sandboxes whose devices were made, or made again.
    pub async fn follow(mut self, mut attached: mpsc::UnboundedReceiver<String>, mut upkeep: Upkeep) {
        let mut changes = self.pods.subscribe();
        self.pods.synced().await;
        // An earlier agent may have limited pods that are limited no more.
        let mut is_first = true;
        let mut look_again = true;
        loop {
            let outcome = self.apply(is_first, look_again, &upkeep).await;
            upkeep.repairs.looked("bandwidth", outcome);
            is_first = false;
            look_again = false;
            tokio::select! {
                _ = changes.changed() => {}
                Some(container) = attached.recv() => drop(self.applied.remove(&container)),
                told = upkeep.looked.changed() => match told {
                    Ok(()) => look_again = true,
                    // Nobody looks any more: the agent ends.
                    Err(_) => return,
                },
            }
        }
    }

    /// Brings every pod of the node to its limits. Goes on after a failure and returns the first.
    async fn apply(&mut self, is_first: bool, look_again: bool, upkeep: &Upkeep) -> Result<(), AnyError> {
        let records = self.network.records();
        self.applied.retain(|container, _| records.iter().any(|record| record.container == *container));
        self.failed.retain(|container, _| records.iter().any(|record| record.container == *container));
        let mut outcome = Ok(());
        for record in &records {
            let Some(pod) = self.pods.get(&record.namespace, &record.name).filter(|pod| is_of(pod, record)) else {
                continue;
            };
            let (limits, invalid) = Limits::of(&pod);
            self.tell(&pod, invalid);
            let known = self.applied.get(&record.container).copied();
            let untouched = if is_first { None } else { Some(Limits::NONE) };
            let is_right = known.or(untouched) == Some(limits);
            if is_right && !(look_again && limits.egress.is_some()) {
                continue;
            }
            match self.limit(record, limits).await {
                Ok(changed) => {
                    if is_right && changed {
                        upkeep.repairs.repaired("bandwidth", &[format!("of pod {}/{}", record.namespace, record.name)]);
                    }
                    self.applied.insert(record.container.clone(), limits);
                    self.failed.remove(&record.container);
                }
                // A pod that goes takes its namespace with it.
                Err(_) if !self.network.records().contains(record) => {}
                Err(error) => {
                    let why = chain(error.as_ref());
                    if self.failed.insert(record.container.clone(), why.clone()).as_ref() != Some(&why) {
                        self.recorder.warning(&*pod, "BandwidthNotLimited", why);
                    }
                    outcome = outcome.and(Err(error));
                }
            }
        }
        outcome
    }

    /// True if anything was otherwise.
    async fn limit(&self, record: &Record, limits: Limits) -> Result<bool, AnyError> {
        let ingress = self.datapath.limit_pod(record.ip, limits.ingress)?;
        let egress = self.network.shape(record, limits.egress).await?;
        Ok(ingress || egress)
    }

    /// Once of each value.
    fn tell(&mut self, pod: &Pod, invalid: Vec<Invalid>) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        for invalid in invalid {
            let Invalid { annotation, text, why } = &invalid;
            let message = format!("annotation {annotation}: {text:?}: {why}; the pod has no such limit");
            if self.told.insert((uid.clone(), invalid)) {
                self.recorder.record_ref(reference(pod), EventType::Warning, "InvalidBandwidth", message);
            }
        }
        let pods = &self.pods;
        if self.told.len() > 1_000 {
            let live: HashSet<String> = pods.list().iter().filter_map(|pod| pod.metadata.uid.clone()).collect();
            self.told.retain(|(uid, _)| live.contains(uid));
        }
    }
}

/// A sandbox may outlive its pod, and another pod may have its name.
fn is_of(pod: &Pod, record: &Record) -> bool {
    record.uid.is_empty() || pod.metadata.uid.as_deref() == Some(&record.uid)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<u64, &str>) {
        assert_eq!(bytes_per_s(text), expected.map_err(str::to_owned), "{text:?}");
    }

    #[test]
    fn bandwidths_are_bits_within_upstreams_bounds() {
        check("1k", Ok(125));
        check("10M", Ok(1_250_000));
        check("1Mi", Ok(131_072));
        check("1001", Ok(126));
        check("1P", Ok(125_000_000_000_000));
        let (small, large) = ("resource is unreasonably small (< 1kbit)", "resource is unreasonably large (> 1Pbit)");
        check("999", Err(small));
        check("0", Err(small));
        check("-1M", Err(small));
        check("1001T", Err(large));
        check("1E", Err(large));
        check(
            "10Mbit",
            Err("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
        );
    }

    #[test]
    fn one_wrong_annotation_leaves_the_other() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": { "annotations": { INGRESS: "5", EGRESS: "8k" } }
        }))
        .expect("a pod");
        let (limits, invalid) = Limits::of(&pod);
        assert_eq!(limits, Limits { ingress: None, egress: Some(1_000) });
        assert_eq!(invalid.iter().map(|invalid| invalid.annotation).collect::<Vec<_>>(), [INGRESS]);
        let (limits, invalid) = Limits::of(&Pod::default());
        assert_eq!((limits, invalid), (Limits::NONE, Vec::new()));
    }
}

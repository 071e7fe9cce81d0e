//! Scales workloads by metrics, as upstream's `horizontalpodautoscaling` controller.

mod behavior;
mod condition;
mod metric;
mod replicas;

use crate::Context;
use crate::control::{self, Reconcile};
use crate::discovery;
pub use behavior::{Bounds, History, Normalized, normalize};
use condition::Conditions;
use metric::Metrics;
pub use replicas::{Pods, Proposal, Target, per_pod, total};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use xebec_client::{Api, Error, EventRecorder, Informer, Key, Outcome, PostParams, Workqueue, chain};
use xebec_types::autoscaling::{
    CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, HorizontalPodAutoscalerStatus,
    MetricStatus,
};
use xebec_types::core::Pod;
use xebec_types::{object, time};

/// As kube-controller-manager's `--horizontal-pod-autoscaler-sync-period`.
const PERIOD: Duration = Duration::from_secs(15);

pub(crate) async fn run(context: Context, stop: CancellationToken) {
    let controller = Controller {
        autoscalers: context.informers.informer(),
        metrics: Metrics::new(context.client.clone(), context.informers.informer::<Pod>()),
        recorder: context.recorder("horizontal-pod-autoscaler"),
        histories: Mutex::default(),
        queue: Workqueue::new(),
        context,
    };
    controller.watch();
    tokio::join!(controller.autoscalers.synced(), controller.metrics.synced());
    control::run(&controller, &stop).await;
}

struct Controller {
    context: Context,
    autoscalers: Arc<Informer<HorizontalPodAutoscaler>>,
    metrics: Metrics,
    recorder: EventRecorder,
    histories: Mutex<HashMap<Key, History>>,
    queue: Workqueue<Key>,
}

/// The scale of what is scaled.
struct Scale {
    api: Api<xebec_client::kube::core::DynamicObject>,
    whole: xebec_types::k8s_openapi::api::autoscaling::v1::Scale,
    replicas: i32,
    selector: String,
}

/// What the metrics say.
struct Recommended {
    replicas: i32,
    reason: String,
    statuses: Vec<MetricStatus>,
}

impl Reconcile for Controller {
    const KIND: &'static str = "horizontalpodautoscaler";
    const WORKERS: usize = 5;

    fn queue(&self) -> &Workqueue<Key> {
        &self.queue
    }

    async fn sync(&self, key: &Key) -> Result<Outcome, Error> {
        let Some(autoscaler) = self.autoscalers.get_key(key) else {
            self.histories.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
            return Ok(Outcome::Done);
        };
        let spec = &autoscaler.spec;
        let mut status = autoscaler.status.clone().unwrap_or_default();
        let mut conditions = Conditions::new(status.conditions.take(), self.context.now());
        self.scale(key, &autoscaler, spec, &mut status, &mut conditions).await?;
        status.conditions = Some(conditions.into_inner());
        status.observed_generation = autoscaler.metadata.generation;
        if autoscaler.status.as_ref() != Some(&status) {
            let updated =
                HorizontalPodAutoscaler { status: Some(status), ..HorizontalPodAutoscaler::clone(&autoscaler) };
            control::write_status(&self.context.client, &updated).await?;
        }
        Ok(Outcome::After(PERIOD))
    }
}

impl Controller {
    fn watch(&self) {
        let queue = self.queue.clone();
        self.autoscalers.on_change(move |change| {
            let spec = |a: &Option<Arc<HorizontalPodAutoscaler>>| a.as_ref().map(|a| a.spec.clone());
            if change.is_deletion() || change.old.is_none() || spec(&change.old) != spec(&change.new) {
                queue.add(change.key());
            }
        });
    }

    async fn scale(
        &self,
        key: &Key,
        autoscaler: &HorizontalPodAutoscaler,
        spec: &HorizontalPodAutoscalerSpec,
        status: &mut HorizontalPodAutoscalerStatus,
        conditions: &mut Conditions,
    ) -> Result<(), Error> {
        let scale = match self.find(&key.namespace, &spec.scale_target_ref).await {
            Ok(scale) => scale,
            Err(why) => {
                self.recorder.warning(autoscaler, "FailedGetScale", why.clone());
                let message = format!("the HPA controller was unable to get the target's current scale: {why}");
                conditions.set("AbleToScale", false, "FailedGetScale", &message);
                return Ok(());
            }
        };
        let message = "the HPA controller was able to get the target's current scale";
        conditions.set("AbleToScale", true, "SucceededGetScale", message);
        status.current_replicas = Some(scale.replicas);
        let Some((wanted, reason)) = self.decide(key, autoscaler, (spec, &scale), status, conditions).await else {
            return Ok(());
        };
        status.desired_replicas = wanted;
        if wanted == scale.replicas {
            return Ok(());
        }
        self.resize(key, autoscaler, (&scale, wanted, &reason), status, conditions).await
    }

    async fn resize(
        &self,
        key: &Key,
        autoscaler: &HorizontalPodAutoscaler,
        (scale, wanted, reason): (&Scale, i32, &str),
        status: &mut HorizontalPodAutoscalerStatus,
        conditions: &mut Conditions,
    ) -> Result<(), Error> {
        let mut whole = scale.whole.clone();
        whole.spec.get_or_insert_default().replicas = Some(wanted);
        let name = object::name(&whole.metadata).to_owned();
        if let Err(error) = scale.api.replace_scale(&name, &PostParams::default(), &whole).await {
            let message = format!("New size: {wanted}; reason: {reason}; error: {}", chain(&error));
            self.recorder.warning(autoscaler, "FailedRescale", message);
            let message = format!("the HPA controller was unable to update the target scale: {}", chain(&error));
            conditions.set("AbleToScale", false, "FailedUpdateScale", &message);
            status.desired_replicas = scale.replicas;
            return Ok(());
        }
        self.recorder.normal(autoscaler, "SuccessfulRescale", format!("New size: {wanted}; reason: {reason}"));
        let message = format!("the HPA controller was able to update the target scale to {wanted}");
        conditions.set("AbleToScale", true, "SucceededRescale", &message);
        status.last_scale_time = Some(time::time(self.context.now()));
        let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
        histories.entry(key.clone()).or_default().scaled(self.context.now(), wanted - scale.replicas);
        Ok(())
    }

    /// The number of replicas to have, and why; `None` if nothing can be said.
    async fn decide(
        &self,
        key: &Key,
        autoscaler: &HorizontalPodAutoscaler,
        (spec, scale): (&HorizontalPodAutoscalerSpec, &Scale),
        status: &mut HorizontalPodAutoscalerStatus,
        conditions: &mut Conditions,
    ) -> Option<(i32, String)> {
        let (current, min, max) = (scale.replicas, spec.min_replicas.unwrap_or(1), spec.max_replicas);
        if current == 0 && min != 0 {
            let message = "scaling is disabled since the replica count of the target is zero";
            conditions.set("ScalingActive", false, "ScalingDisabled", message);
            return Some((0, String::new()));
        }
        if current > max {
            return Some((max, "Current number of replicas above Spec.MaxReplicas".into()));
        }
        if current < min {
            return Some((min, "Current number of replicas below Spec.MinReplicas".into()));
        }
        let recommended = match self.recommend(&key.namespace, spec, scale).await {
            Ok(recommended) => recommended,
            Err((reason, why)) => {
                self.recorder.warning(autoscaler, reason, why.clone());
                self.recorder.warning(autoscaler, "FailedComputeMetricsReplicas", format!("invalid metrics: {why}"));
                let message = format!("the HPA was unable to compute the replica count: {why}");
                conditions.set("ScalingActive", false, reason, &message);
                return None;
            }
        };
        let message = format!("the HPA was able to successfully calculate a replica count from {}", recommended.reason);
        conditions.set("ScalingActive", true, "ValidMetricFound", &message);
        status.current_metrics = Some(recommended.statuses);
        let normalized = {
            let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
            let history = histories.entry(key.clone()).or_default();
            let bounds = Bounds { min, max };
            normalize(current, recommended.replicas, &bounds, spec.behavior.as_ref(), history, self.context.now())
        };
        conditions.set("AbleToScale", true, normalized.able.0, normalized.able.1);
        let (reason, message) = normalized.limited;
        conditions.set("ScalingLimited", reason != "DesiredWithinRange", reason, message);
        let direction = if recommended.replicas > current { "above target" } else { "below target" };
        let reason = if normalized.replicas < current {
            "All metrics below target".to_owned()
        } else {
            format!("{} {direction}", recommended.reason)
        };
        Some((normalized.replicas, reason))
    }

    /// The largest of what the metrics ask for. One that fails matters only if the others would take pods away.
    async fn recommend(
        &self,
        namespace: &str,
        spec: &HorizontalPodAutoscalerSpec,
        scale: &Scale,
    ) -> Result<Recommended, (&'static str, String)> {
        let mut best: Option<(i32, String)> = None;
        let mut failed = None;
        let mut statuses = Vec::new();
        for metric in spec.metrics.iter().flatten() {
            match self.metrics.measure(namespace, metric, scale.replicas, &scale.selector).await {
                Ok(measured) => {
                    statuses.extend(measured.status);
                    if best.as_ref().is_none_or(|(replicas, _)| measured.replicas > *replicas) {
                        best = Some((measured.replicas, measured.name));
                    }
                }
                Err(why) => _ = failed.get_or_insert(why),
            }
        }
        match (best, failed) {
            (Some((replicas, _)), Some(why)) if replicas < scale.replicas => Err(why),
            (Some((replicas, reason)), _) => Ok(Recommended { replicas, reason, statuses }),
            (None, Some(why)) => Err(why),
            (None, None) => Err(("InvalidMetricSourceType", "no metrics are given".into())),
        }
    }

    async fn find(&self, namespace: &str, target: &CrossVersionObjectReference) -> Result<Scale, String> {
        let group = target.api_version.as_deref().and_then(|v| v.split_once('/')).map_or("", |(group, _)| group);
        let served = discovery::served(&self.context.client).await.map_err(|e| chain(&e))?;
        let kind = served.iter().find(|k| k.api.group == group && k.api.kind == target.kind);
        let kind = kind.ok_or_else(|| format!("no matches for kind {:?} in group {group:?}", target.kind))?;
        let api = kind.within(&self.context.client, namespace);
        let whole = api.get_scale(&target.name).await.map_err(|e| chain(&e))?;
        let replicas = whole.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(0);
        let selector = whole.status.as_ref().and_then(|status| status.selector.clone()).unwrap_or_default();
        Ok(Scale { api, whole, replicas, selector })
    }
}

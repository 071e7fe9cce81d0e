//! Figures from the metrics APIs: `metrics.k8s.io`, `custom.metrics.k8s.io`, `external.metrics.k8s.io`.

use super::replicas::{Pods, Proposal, TOLERANCE, Target, per_pod, total};
use serde_json::{Value, json};
use std::sync::Arc;
use xebec_client::{Client, Informer, chain};
use xebec_machinery::Quantity;
use xebec_machinery::quota::quantity;
use xebec_machinery::selector::LabelSelector;
use xebec_types::autoscaling::{MetricIdentifier, MetricSpec, MetricStatus, MetricTarget};
use xebec_types::core::Pod;
use xebec_types::{object, pod, resource};

pub(super) struct Metrics {
    client: Client,
    pods: Arc<Informer<Pod>>,
}

pub(super) struct Measured {
    pub replicas: i32,
    /// What is above or below its target.
    pub name: String,
    pub status: Option<MetricStatus>,
}

/// The reason of the condition, and its message.
type Failure = (&'static str, String);

impl Metrics {
    pub(super) fn new(client: Client, pods: Arc<Informer<Pod>>) -> Self {
        Self { client, pods }
    }

    pub(super) async fn synced(&self) {
        self.pods.synced().await;
    }

    /// What one metric asks for.
    pub(super) async fn measure(
        &self,
        namespace: &str,
        metric: &MetricSpec,
        current: i32,
        selector: &str,
    ) -> Result<Measured, Failure> {
        if let Some(source) = &metric.resource {
            let failed = |why| ("FailedGetResourceMetric", format!("failed to get {} utilization: {why}", source.name));
            let wanted = target(&source.target, true).map_err(failed)?;
            let proposal = self.of_resource(namespace, (&source.name, None), wanted, current, selector).await;
            let proposal = proposal.map_err(failed)?;
            let name = format!("{} resource", source.name);
            return Ok(measured("Resource", json!({"name": source.name}), name, proposal));
        }
        if let Some(source) = &metric.container_resource {
            let failed =
                |why| ("FailedGetContainerResourceMetric", format!("failed to get {} utilization: {why}", source.name));
            let wanted = target(&source.target, true).map_err(failed)?;
            let of = (source.name.as_str(), Some(source.container.as_str()));
            let proposal = self.of_resource(namespace, of, wanted, current, selector).await.map_err(failed)?;
            let name = format!("{} container resource", source.name);
            let known = json!({"name": source.name, "container": source.container});
            return Ok(measured("ContainerResource", known, name, proposal));
        }
        if let Some(source) = &metric.pods {
            let failed = |why| ("FailedGetPodsMetric", format!("failed to get pods metric value: {why}"));
            let wanted = target(&source.target, false).map_err(failed)?;
            let proposal = self.of_pods(namespace, &source.metric, wanted, current, selector).await.map_err(failed)?;
            let name = format!("pods metric {}", source.metric.name);
            return Ok(measured("Pods", json!({"metric": source.metric}), name, proposal));
        }
        if let Some(source) = &metric.object {
            let failed = |why| ("FailedGetObjectMetric", format!("failed to get object metric value: {why}"));
            let wanted = target(&source.target, false).map_err(failed)?;
            let of = &source.described_object;
            let group = of.api_version.as_deref().and_then(|v| v.split_once('/')).map_or("", |(group, _)| group);
            let plural = format!("{}s", of.kind.to_lowercase());
            let plural = if group.is_empty() { plural } else { format!("{plural}.{group}") };
            let path = format!("{plural}/{}/{}", of.name, source.metric.name);
            let values = self.custom(namespace, &path, &source.metric, None).await.map_err(failed)?;
            let used = values.iter().map(|(_, value)| *value).sum();
            let proposal = total(used, wanted, current, self.ready(namespace, selector), TOLERANCE);
            let name = format!("{} metric {}", of.kind, source.metric.name);
            return Ok(measured("Object", json!({"metric": source.metric, "describedObject": of}), name, proposal));
        }
        if let Some(source) = &metric.external {
            let failed = |why| {
                ("FailedGetExternalMetric", format!("failed to get {} external metric: {why}", source.metric.name))
            };
            let wanted = target(&source.target, false).map_err(failed)?;
            let used = self.external(namespace, &source.metric).await.map_err(failed)?;
            let proposal = total(used, wanted, current, self.ready(namespace, selector), TOLERANCE);
            let name = format!("external metric {}", source.metric.name);
            return Ok(measured("External", json!({"metric": source.metric}), name, proposal));
        }
        Err(("InvalidMetricSourceType", format!("invalid metric source type {:?}", metric.type_)))
    }

    async fn of_resource(
        &self,
        namespace: &str,
        (name, container): (&str, Option<&str>),
        wanted: Target,
        current: i32,
        selector: &str,
    ) -> Result<Proposal, String> {
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{namespace}/pods");
        let list = self.get(&path, &[("labelSelector", selector)]).await?;
        let used = |item: &Value| -> Option<i64> {
            let of = item["containers"].as_array().into_iter().flatten();
            let of: Vec<&Value> = of.filter(|c| container.is_none_or(|wanted| c["name"] == wanted)).collect();
            let all: Option<Vec<i64>> =
                of.iter().map(|c| quantity(&c["usage"][name]).map(Quantity::as_milli)).collect();
            all.filter(|all| !all.is_empty()).map(|all| all.iter().sum())
        };
        let items = list["items"].as_array().into_iter().flatten();
        let figures = items.filter_map(|i| Some((i["metadata"]["name"].as_str()?.to_owned(), used(i)?))).collect();
        self.grouped(namespace, selector, figures, |pod| request(pod, name, container), wanted, current)
    }

    async fn of_pods(
        &self,
        namespace: &str,
        metric: &MetricIdentifier,
        wanted: Target,
        current: i32,
        selector: &str,
    ) -> Result<Proposal, String> {
        let figures = self.custom(namespace, &format!("pods/*/{}", metric.name), metric, Some(selector)).await?;
        self.grouped(namespace, selector, figures, |_| None, wanted, current)
    }

    /// Joins figures with the pods they are about.
    fn grouped(
        &self,
        namespace: &str,
        selector: &str,
        figures: Vec<(String, i64)>,
        request: impl Fn(&Pod) -> Option<i64>,
        wanted: Target,
        current: i32,
    ) -> Result<Proposal, String> {
        let all = self.selected(namespace, selector);
        let mut pods = Pods::default();
        for pod in all.iter().filter(|pod| pod::is_active(pod)) {
            let name = object::name(&pod.metadata);
            let figure = figures.iter().find(|(known, _)| known == name).map(|(_, figure)| *figure);
            if let Some(request) = request(pod) {
                pods.requested.insert(name, request);
            } else if matches!(wanted, Target::Utilization(_)) {
                return Err(format!("missing request in pod {name:?}"));
            }
            match figure {
                _ if pod::phase(pod) == "Pending" => pods.unready.push(name),
                None => pods.missing.push(name),
                Some(_) if !pod::is_ready(pod) => pods.unready.push(name),
                Some(figure) => _ = pods.used.insert(name, figure),
            }
        }
        per_pod(&pods, wanted, current, TOLERANCE)
    }

    /// Object names and figures in thousandths.
    async fn custom(
        &self,
        namespace: &str,
        path: &str,
        metric: &MetricIdentifier,
        pods: Option<&str>,
    ) -> Result<Vec<(String, i64)>, String> {
        let path = format!("/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/{path}");
        let own = selector(metric);
        let mut query = vec![("metricLabelSelector", own.as_str())];
        query.extend(pods.map(|pods| ("labelSelector", pods)));
        let list = self.get(&path, &query).await?;
        let figure = |item: &Value| {
            let name = item["describedObject"]["name"].as_str()?;
            Some((name.to_owned(), quantity(&item["value"])?.as_milli()))
        };
        let figures: Vec<_> = list["items"].as_array().into_iter().flatten().filter_map(figure).collect();
        if figures.is_empty() { Err("no metrics returned from custom metrics API".into()) } else { Ok(figures) }
    }

    async fn external(&self, namespace: &str, metric: &MetricIdentifier) -> Result<i64, String> {
        let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{}", metric.name);
        let list = self.get(&path, &[("labelSelector", &selector(metric))]).await?;
        let values = list["items"].as_array().into_iter().flatten();
        let values: Vec<i64> = values.filter_map(|item| Some(quantity(&item["value"])?.as_milli())).collect();
        if values.is_empty() {
            Err("no metrics returned from external metrics API".into())
        } else {
            Ok(values.iter().sum())
        }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let request = http::Request::get(format!("{path}?{}", encoded(query))).body(Vec::new());
        let request = request.map_err(|e| chain(&e))?;
        let failed = |e| format!("unable to get metrics from {path}: {}", chain(&e));
        self.client.request(request).await.map_err(failed)
    }

    fn selected(&self, namespace: &str, selector: &str) -> Vec<Arc<Pod>> {
        let Ok(selector) = LabelSelector::parse(selector) else { return Vec::new() };
        let mut pods = self.pods.list_namespace(namespace);
        pods.retain(|pod| selector.matches(|key| object::label(&pod.metadata, key)));
        pods
    }

    fn ready(&self, namespace: &str, selector: &str) -> i32 {
        let pods = self.selected(namespace, selector);
        i32::try_from(pods.iter().filter(|pod| pod::is_active(pod) && pod::is_ready(pod)).count()).unwrap_or(i32::MAX)
    }
}

fn encoded(query: &[(&str, &str)]) -> String {
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    pairs.extend_pairs(query.iter().filter(|(_, value)| !value.is_empty()));
    pairs.finish()
}

/// What a pod requests, in thousandths; nothing if some container does not say.
fn request(pod: &Pod, name: &str, container: Option<&str>) -> Option<i64> {
    let spec = pod.spec.as_ref()?;
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let all = spec.containers.iter().chain(sidecars).filter(|c| container.is_none_or(|wanted| c.name == wanted));
    let of = |c: &xebec_types::core::Container| {
        let requests = c.resources.as_ref()?.requests.as_ref()?;
        resource::milli(requests.get(name)?)
    };
    all.map(of).sum()
}

fn target(target: &MetricTarget, of_resource: bool) -> Result<Target, String> {
    let milli = |q: &Option<xebec_types::Quantity>| q.as_ref().and_then(resource::milli);
    if let Some(percent) = target.average_utilization.filter(|_| of_resource) {
        return Ok(Target::Utilization(percent.into()));
    }
    if let Some(average) = milli(&target.average_value) {
        return Ok(Target::Average(average));
    }
    let value = milli(&target.value).filter(|_| !of_resource).map(Target::Total);
    value.ok_or_else(|| "neither a target value nor a target utilization was set".to_owned())
}

fn selector(metric: &MetricIdentifier) -> String {
    let Some(selector) = &metric.selector else { return String::new() };
    let value = serde_json::to_value(selector).unwrap_or_default();
    LabelSelector::from_object(&value).map(|selector| selector.to_string()).unwrap_or_default()
}

fn measured(kind: &str, known: Value, name: String, proposal: Proposal) -> Measured {
    let mut source = known;
    let value = Quantity::from_milli(proposal.average).to_string();
    let per_pod = matches!(kind, "Resource" | "ContainerResource" | "Pods");
    source["current"] = if per_pod { json!({"averageValue": value}) } else { json!({"value": value}) };
    if let Some(utilization) = proposal.utilization {
        source["current"]["averageUtilization"] = utilization.into();
    }
    let field = format!("{}{}", kind[..1].to_lowercase(), &kind[1..]);
    let status = serde_json::from_value(json!({"type": kind, field: source})).ok();
    let name = match proposal.utilization {
        Some(_) => format!("{name} utilization (percentage of request)"),
        None => name,
    };
    Measured { replicas: proposal.replicas, name, status }
}

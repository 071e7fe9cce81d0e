//! Figures from the metrics APIs: `metrics.k8s.io`, `custom.metrics.k8s.io`, `external.metrics.k8s.io`.

use super::replicas::{Pods, Proposal, TOLERANCE, Target, per_pod, total};
use serde_json::{Value, json};
use std::sync::Arc;
use xebec_client::{Client, Error, Informer, chain, is_not_found};
use xebec_machinery::Quantity;
use xebec_machinery::quota::quantity;
use xebec_machinery::selector::LabelSelector;
use xebec_types::autoscaling::{MetricIdentifier, MetricSpec, MetricStatus, MetricTarget};
use xebec_types::core::{Container, Pod};
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
            let values = self.custom(namespace, &path, &source.metric, None).await.map_err(|why| {
                // Upstream's words, out of order as they are there.
                let (metric, kind, name) = (&source.metric.name, &of.kind, &of.name);
                failed(format!("unable to get metric {metric}: {kind} on {namespace} {name}/{why}"))
            })?;
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
        let failed = |why: String| format!("unable to get metrics for resource {name}: {why}");
        let list = self.get(&path, &[("labelSelector", selector)]).await.map_err(failed)?;
        let used = |item: &Value| -> Option<i64> {
            let of = item["containers"].as_array().into_iter().flatten();
            let of: Vec<&Value> = of.filter(|c| container.is_none_or(|wanted| c["name"] == wanted)).collect();
            let all: Option<Vec<i64>> =
                of.iter().map(|c| quantity(&c["usage"][name]).map(Quantity::as_milli)).collect();
            all.filter(|all| !all.is_empty()).map(|all| all.iter().sum())
        };
        let items = list["items"].as_array().filter(|items| !items.is_empty());
        let items = items.ok_or_else(|| failed("no metrics returned from resource metrics API".into()))?;
        let figure = |item: &Value| Some((item["metadata"]["name"].as_str()?.to_owned(), used(item)?));
        let figures = items.iter().filter_map(figure).collect();
        let requested = |pod: &Pod| match wanted {
            Target::Utilization(_) => request(pod, name, container).map(Some),
            Target::Average(_) | Target::Total(_) => Ok(None),
        };
        self.grouped(namespace, selector, figures, requested, wanted, current)
    }

    async fn of_pods(
        &self,
        namespace: &str,
        metric: &MetricIdentifier,
        wanted: Target,
        current: i32,
        selector: &str,
    ) -> Result<Proposal, String> {
        let figures = self.custom(namespace, &format!("pods/*/{}", metric.name), metric, Some(selector)).await;
        let figures = figures.map_err(|why| format!("unable to get metric {}: {why}", metric.name))?;
        self.grouped(namespace, selector, figures, |_| Ok(None), wanted, current)
    }

    /// Joins figures with the pods they are about.
    fn grouped(
        &self,
        namespace: &str,
        selector: &str,
        figures: Vec<(String, i64)>,
        request: impl Fn(&Pod) -> Result<Option<i64>, String>,
        wanted: Target,
        current: i32,
    ) -> Result<Proposal, String> {
        let all = self.selected(namespace, selector);
        if all.is_empty() {
            return Err("no pods returned by selector while calculating replica count".into());
        }
        let mut pods = Pods::default();
        for pod in all.iter().filter(|pod| pod::is_active(pod)) {
            let name = object::name(&pod.metadata);
            let figure = figures.iter().find(|(known, _)| known == name).map(|(_, figure)| *figure);
            match figure {
                _ if pod::phase(pod) == "Pending" => pods.unready.push(name),
                None => pods.missing.push(name),
                Some(_) if !pod::is_ready(pod) => pods.unready.push(name),
                Some(figure) => _ = pods.used.insert(name, figure),
            }
        }
        // That nobody is measured is said first.
        for pod in all.iter().filter(|pod| pod::is_active(pod) && !pods.used.is_empty()) {
            if let Some(request) = request(pod)? {
                pods.requested.insert(object::name(&pod.metadata), request);
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
        let selector = selector(metric);
        let failed =
            |why: String| format!("unable to get external metric {namespace}/{}/{selector}: {why}", metric.name);
        let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{namespace}/{}", metric.name);
        let list = self.get(&path, &[("labelSelector", &selector)]).await.map_err(failed)?;
        let values = list["items"].as_array().into_iter().flatten();
        let values: Vec<i64> = values.filter_map(|item| Some(quantity(&item["value"])?.as_milli())).collect();
        if values.is_empty() {
            Err(failed("no metrics returned from external metrics API".into()))
        } else {
            Ok(values.iter().sum())
        }
    }

    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        let request = http::Request::get(format!("{path}?{}", encoded(query))).body(Vec::new());
        let request = request.map_err(|e| chain(&e))?;
        self.client.request(request).await.map_err(|error| unavailable(path, &error))
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

/// Upstream's words for a metrics API that does not answer, or that nobody serves.
fn unavailable(path: &str, error: &Error) -> String {
    let group = path.split('/').nth(2).unwrap_or_default();
    let kind = group.split('.').next().filter(|first| *first != "metrics").unwrap_or("resource");
    let why = match kind {
        "custom" | "external" if is_not_found(error) => format!("no {kind} metrics API ({group}) registered"),
        _ => chain(error),
    };
    format!("unable to fetch metrics from {kind} metrics API: {why}")
}

fn encoded(query: &[(&str, &str)]) -> String {
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    pairs.extend_pairs(query.iter().filter(|(_, value)| !value.is_empty()));
    pairs.finish()
}

/// What a pod requests, in thousandths; all its containers, or one of them, have to say.
fn request(pod: &Pod, name: &str, container: Option<&str>) -> Result<i64, String> {
    let (spec, pod) = (pod.spec.as_ref(), object::name(&pod.metadata));
    let sidecars = spec.and_then(|spec| spec.init_containers.as_ref()).into_iter().flatten();
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let all = spec.into_iter().flat_map(|spec| &spec.containers).chain(sidecars);
    let mut all = all.filter(|c| container.is_none_or(|wanted| c.name == wanted)).peekable();
    if let Some(container) = container.filter(|_| all.peek().is_none()) {
        return Err(format!("container {container} not found in Pod {pod}"));
    }
    let of = |c: &Container| {
        let quantity = c.resources.as_ref().and_then(|r| r.requests.as_ref()?.get(name));
        let missing = || format!("missing request for {name} in container {} of Pod {pod}", c.name);
        quantity.and_then(resource::milli).ok_or_else(missing)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(container: Option<&str>, cpu_of_sidecar: Option<&str>, expected: Result<i64, &str>) {
        let requests = |cpu: Option<&str>| json!({"requests": cpu.map(|cpu| json!({"cpu": cpu}))});
        let pod = json!({
            "metadata": {"name": "p"},
            "spec": {
                "containers": [{"name": "c", "resources": requests(Some("1"))}],
                "initContainers": [
                    {"name": "init"},
                    {"name": "sidecar", "restartPolicy": "Always", "resources": requests(cpu_of_sidecar)},
                ],
            },
        });
        let pod = serde_json::from_value(pod).expect("a Pod");
        assert_eq!(request(&pod, "cpu", container), expected.map_err(String::from));
    }

    #[test]
    fn every_container_that_counts_has_to_request_the_resource() {
        check(None, Some("250m"), Ok(1250));
        check(None, None, Err("missing request for cpu in container sidecar of Pod p"));
        check(Some("c"), None, Ok(1000));
        check(Some("init"), None, Err("container init not found in Pod p"));
    }

    #[track_caller]
    fn check_unavailable(group: &str, expected: &str) {
        let status = serde_json::from_value(json!({"code": 404, "reason": "NotFound", "message": "absent"}));
        let error = Error::Api(status.expect("a Status"));
        assert_eq!(unavailable(&format!("/apis/{group}/v1/x"), &error), expected);
    }

    #[test]
    fn a_metrics_api_that_nobody_serves_is_named() {
        check_unavailable("metrics.k8s.io", "unable to fetch metrics from resource metrics API: absent");
        check_unavailable(
            "custom.metrics.k8s.io",
            "unable to fetch metrics from custom metrics API: no custom metrics API (custom.metrics.k8s.io) registered",
        );
        check_unavailable(
            "external.metrics.k8s.io",
            "unable to fetch metrics from external metrics API: no external metrics API (external.metrics.k8s.io) registered",
        );
    }
}

//! `metrics.k8s.io`: how measurements are printed. Nobody writes them.

use serde_json::{Value, json};
use time::OffsetDateTime;
use xebec_machinery::Quantity;

use crate::meta;
use crate::strategy::{Column, Scope, Strategy};
use crate::value::{at, items, string};

/// Columns and cells are metrics-server's.
const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::string("cpu", "Resource usage"),
    Column::string("memory", "Resource usage"),
    Column::string("Window", "The window over which usage was measured"),
];

pub struct NodeMetrics;

impl Strategy for NodeMetrics {
    fn scope(&self) -> Scope {
        Scope::Cluster
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, metrics: &Value, _now: OffsetDateTime) -> Vec<Value> {
        let used = |name: &str| total(std::iter::once(metrics), name);
        vec![json!(meta::name(metrics)), used("cpu"), used("memory"), at(metrics, "window").clone()]
    }
}

pub struct PodMetrics;

impl Strategy for PodMetrics {
    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, metrics: &Value, _now: OffsetDateTime) -> Vec<Value> {
        let used = |name: &str| total(items(metrics, "containers").iter(), name);
        vec![json!(meta::name(metrics)), used("cpu"), used("memory"), at(metrics, "window").clone()]
    }
}

fn total<'a>(of: impl Iterator<Item = &'a Value>, name: &str) -> Value {
    let amounts = of.filter_map(|of| string(at(of, "usage"), name).parse::<Quantity>().ok());
    json!(amounts.fold(Quantity::default(), |sum, amount| sum + amount).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_uses_what_its_containers_use() {
        let usage = |cpu: &str, memory: &str| json!({"usage": {"cpu": cpu, "memory": memory}});
        let pod = json!({"metadata": {"name": "p"}, "window": "15s", "containers": [usage("1500n", "1Ki"), usage("1m", "3Ki")]});
        let cells = PodMetrics.row(&pod, OffsetDateTime::UNIX_EPOCH);
        assert_eq!(cells, ["p", "1001500n", "4Ki", "15s"]);
        let node = json!({"metadata": {"name": "n"}, "window": "15s", "usage": {"cpu": "2", "memory": "1Gi"}});
        assert_eq!(NodeMetrics.row(&node, OffsetDateTime::UNIX_EPOCH), ["n", "2", "1Gi", "15s"]);
    }
}

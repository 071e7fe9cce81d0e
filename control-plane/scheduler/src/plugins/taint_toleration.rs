use xebec_types::core::{Taint, Toleration};
use xebec_types::taint;

use crate::cluster::{NodeInfo, PodInfo};
use crate::framework::{Filter, Score, Verdict, scale};

/// Taints keep pods away that do not tolerate them.
pub struct TaintToleration<'a> {
    tolerations: &'a [Toleration],
}

pub fn prepare(pod: &PodInfo) -> TaintToleration<'_> {
    TaintToleration { tolerations: &pod.tolerations }
}

impl TaintToleration<'_> {
    fn tolerates(&self, taint: &Taint) -> bool {
        let value = taint.value.as_deref().unwrap_or_default();
        self.tolerations.iter().any(|toleration| tolerates(toleration, &taint.key, value, &taint.effect))
    }
}

impl Filter for TaintToleration<'_> {
    fn filter(&self, node: &NodeInfo) -> Verdict {
        let keeps_away = |taint: &&Taint| taint.effect == taint::NO_SCHEDULE || taint.effect == taint::NO_EXECUTE;
        if node.taints.iter().filter(keeps_away).all(|taint| self.tolerates(taint)) {
            return Ok(());
        }
        Err("node(s) had untolerated taint(s)".into())
    }
}

impl Score for TaintToleration<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let soft = node.taints.iter().filter(|taint| taint.effect == taint::PREFER_NO_SCHEDULE);
        soft.filter(|taint| !self.tolerates(taint)).count() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        scale(scores, true);
    }
}

/// `Toleration.ToleratesTaint` of upstream's core/v1, with the numeric operators of 1.35.
pub fn tolerates(toleration: &Toleration, key: &str, value: &str, effect: &str) -> bool {
    let is = |field: &Option<String>, expected: &str| field.as_deref().is_none_or(|f| f.is_empty() || f == expected);
    if !is(&toleration.effect, effect) || !is(&toleration.key, key) {
        return false;
    }
    let tolerated = toleration.value.as_deref().unwrap_or_default();
    let compare = |holds: fn(&i64, &i64) -> bool| match (value.parse::<i64>(), tolerated.parse::<i64>()) {
        (Ok(value), Ok(tolerated)) => holds(&value, &tolerated),
        _ => false,
    };
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => tolerated == value,
        "Exists" => true,
        "Gt" => compare(i64::gt),
        "Lt" => compare(i64::lt),
        _ => false,
    }
}

use xebec_types::core::{Taint, Toleration};
pub use xebec_types::node::tolerates;
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

//! Conditions of an autoscaler.

use xebec_types::autoscaling::HorizontalPodAutoscalerCondition as Condition;
use xebec_types::time::{self, Timestamp};

pub(super) struct Conditions {
    all: Vec<Condition>,
    now: Timestamp,
}

impl Conditions {
    pub(super) fn new(known: Option<Vec<Condition>>, now: Timestamp) -> Self {
        Self { all: known.unwrap_or_default(), now }
    }

    pub(super) fn into_inner(self) -> Vec<Condition> {
        self.all
    }

    /// The time changes with the status alone.
    pub(super) fn set(&mut self, kind: &str, holds: bool, reason: &str, message: &str) {
        let status = if holds { "True" } else { "False" };
        let at = self.all.iter().position(|c| c.type_ == kind);
        let since = at.map(|at| &self.all[at]).filter(|c| c.status == status);
        let condition = Condition {
            last_transition_time: since.map_or_else(|| Some(time::time(self.now)), |c| c.last_transition_time.clone()),
            message: Some(message.into()),
            reason: Some(reason.into()),
            status: status.into(),
            type_: kind.into(),
        };
        match at {
            Some(at) => self.all[at] = condition,
            None => self.all.push(condition),
        }
    }
}

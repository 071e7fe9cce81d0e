//! How fast the number of replicas may follow (`normalizeDesiredReplicasWithBehaviors`).

use std::time::Duration;
use xebec_types::autoscaling::{HPAScalingPolicy, HPAScalingRules, HorizontalPodAutoscalerBehavior};
use xebec_types::time::{self, Timestamp};

/// What was recommended and done before.
#[derive(Clone, Default, Debug)]
pub struct History {
    recommendations: Vec<(Timestamp, i32)>,
    /// Replicas added (positive) or taken away.
    changes: Vec<(Timestamp, i32)>,
}

/// A number of replicas with what held it back.
#[derive(PartialEq, Debug)]
pub struct Normalized {
    pub replicas: i32,
    /// Reason and message of `AbleToScale`.
    pub able: (&'static str, &'static str),
    /// Reason and message of `ScalingLimited`; limited unless it is `DesiredWithinRange`.
    pub limited: (&'static str, &'static str),
}

pub struct Bounds {
    pub min: i32,
    pub max: i32,
}

const UP: bool = true;
/// No change is remembered longer: the largest `periodSeconds` and window that validation allows.
const MEMORY: Duration = Duration::from_secs(3600);
const WITHIN: (&str, &str) = ("DesiredWithinRange", "the desired count is within the acceptable range");

impl History {
    pub fn scaled(&mut self, now: Timestamp, change: i32) {
        self.changes.push((now, change));
    }

    fn forget(&mut self, now: Timestamp) {
        let recent = |at: Timestamp| time::since(at, now) < MEMORY;
        self.recommendations.retain(|(at, _)| recent(*at));
        self.changes.retain(|(at, _)| recent(*at));
    }

    /// Replicas that were added or taken away within a period.
    fn changed(&self, up: bool, period_seconds: i32, now: Timestamp) -> i32 {
        let within = |at: Timestamp| time::since(at, now) < seconds(period_seconds);
        let of = self.changes.iter().filter(|(at, change)| within(*at) && (*change > 0) == up);
        of.map(|(_, change)| change.abs()).sum()
    }
}

pub fn normalize(
    current: i32,
    wanted: i32,
    bounds: &Bounds,
    behavior: Option<&HorizontalPodAutoscalerBehavior>,
    history: &mut History,
    now: Timestamp,
) -> Normalized {
    history.forget(now);
    let up = rules(behavior.and_then(|b| b.scale_up.as_ref()), UP);
    let down = rules(behavior.and_then(|b| b.scale_down.as_ref()), !UP);
    let (stable, able) = stabilize(current, wanted, (&up, &down), history, now);
    let replicas = if stable > current {
        let limit = scale_up_limit(current, &up, history, now).max(current).min(bounds.max);
        stable.min(limit)
    } else if stable < current {
        let limit = scale_down_limit(current, &down, history, now).min(current).max(bounds.min);
        stable.max(limit)
    } else {
        stable
    };
    let replicas = replicas.clamp(bounds.min, bounds.max.max(bounds.min));
    let limited = match () {
        () if replicas == stable => WITHIN,
        () if stable < bounds.min => {
            ("TooFewReplicas", "the desired replica count is less than the minimum replica count")
        }
        () if stable > bounds.max && replicas == bounds.max => {
            ("TooManyReplicas", "the desired replica count is more than the maximum replica count")
        }
        () if stable > replicas => {
            ("ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate")
        }
        () => ("ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate"),
    };
    Normalized { replicas, able, limited }
}

/// Goes no lower than anything recommended in the window of scale-down, no higher than anything in that of scale-up.
fn stabilize(
    current: i32,
    wanted: i32,
    (up, down): (&HPAScalingRules, &HPAScalingRules),
    history: &mut History,
    now: Timestamp,
) -> (i32, (&'static str, &'static str)) {
    let within = |rules: &HPAScalingRules| {
        let window = seconds(rules.stabilization_window_seconds.unwrap_or(0));
        history.recommendations.iter().filter(move |(at, _)| time::since(*at, now) < window).map(|(_, r)| *r)
    };
    let lowest = within(up).chain([wanted]).min().unwrap_or(wanted);
    let highest = within(down).chain([wanted]).max().unwrap_or(wanted);
    let mut stable = current;
    stable = stable.max(lowest);
    stable = stable.min(highest);
    history.recommendations.push((now, wanted));
    let able = match () {
        () if stable == wanted => ("ReadyForNewScale", "recommended size matches current size"),
        () if wanted < current => (
            "ScaleDownStabilized",
            "recent recommendations were higher than current one, applying the highest recent recommendation",
        ),
        () => (
            "ScaleUpStabilized",
            "recent recommendations were lower than current one, applying the lowest recent recommendation",
        ),
    };
    (stable, able)
}

fn scale_up_limit(current: i32, rules: &HPAScalingRules, history: &History, now: Timestamp) -> i32 {
    let limit = |policy: &HPAScalingPolicy| {
        let before = current.saturating_sub(history.changed(UP, policy.period_seconds, now));
        match policy.type_.as_str() {
            "Percent" => percent_of(before, 100 + i64::from(policy.value), UP),
            _ => before.saturating_add(policy.value),
        }
    };
    match rules.select_policy.as_deref() {
        Some("Disabled") => current,
        Some("Min") => rules.policies.iter().flatten().map(limit).min().unwrap_or(current),
        _ => rules.policies.iter().flatten().map(limit).max().unwrap_or(current),
    }
}

fn scale_down_limit(current: i32, rules: &HPAScalingRules, history: &History, now: Timestamp) -> i32 {
    let limit = |policy: &HPAScalingPolicy| {
        let before = current.saturating_add(history.changed(!UP, policy.period_seconds, now));
        match policy.type_.as_str() {
            "Percent" => percent_of(before, 100 - i64::from(policy.value), !UP),
            _ => before.saturating_sub(policy.value),
        }
    };
    // The policy that allows most takes most away.
    match rules.select_policy.as_deref() {
        Some("Disabled") => current,
        Some("Min") => rules.policies.iter().flatten().map(limit).max().unwrap_or(current),
        _ => rules.policies.iter().flatten().map(limit).min().unwrap_or(current),
    }
}

/// More is rounded up, less is cut off.
fn percent_of(replicas: i32, percent: i64, up: bool) -> i32 {
    let product = i64::from(replicas) * percent;
    let share = if up { product.div_euclid(100) + i64::from(product % 100 > 0) } else { product.div_euclid(100) };
    i32::try_from(share).unwrap_or(i32::MAX)
}

/// The rules with upstream's defaults (`GenerateHPAScaleUpRules`, `GenerateHPAScaleDownRules`).
fn rules(given: Option<&HPAScalingRules>, up: bool) -> HPAScalingRules {
    let policy = |kind: &str, value: i32| HPAScalingPolicy { type_: kind.into(), value, period_seconds: 15 };
    let mut rules = given.cloned().unwrap_or_default();
    if rules.policies.as_ref().is_none_or(Vec::is_empty) {
        let defaults = if up { vec![policy("Pods", 4), policy("Percent", 100)] } else { vec![policy("Percent", 100)] };
        rules.policies = Some(defaults);
    }
    rules.stabilization_window_seconds.get_or_insert(if up { 0 } else { 300 });
    rules
}

fn seconds(seconds: i32) -> Duration {
    Duration::from_secs(seconds.max(0).unsigned_abs().into())
}

#[cfg(test)]
mod tests;

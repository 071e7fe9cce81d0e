//! How many replicas a metric asks for (`pkg/controller/podautoscaler/replica_calculator.go`).

use std::collections::BTreeMap;

/// Ratios this near to one change nothing: kube-controller-manager's `--horizontal-pod-autoscaler-tolerance`.
pub const TOLERANCE: f64 = 0.1;

/// What is asked of a metric.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Target {
    /// Percent of what pods request.
    Utilization(i64),
    /// For each pod, in thousandths.
    Average(i64),
    /// For all of them, in thousandths.
    Total(i64),
}

/// The target's pods.
#[derive(Clone, Default, Debug)]
pub struct Pods<'a> {
    /// What ready pods use, in thousandths.
    pub used: BTreeMap<&'a str, i64>,
    /// What pods request, in thousandths.
    pub requested: BTreeMap<&'a str, i64>,
    /// Pods that run but are not ready.
    pub unready: Vec<&'a str>,
    /// Pods without a figure.
    pub missing: Vec<&'a str>,
}

/// A number of replicas and the figure that led to it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Proposal {
    pub replicas: i32,
    pub utilization: Option<i64>,
    pub average: i64,
}

/// From a figure for each pod. `current`: replicas that the target is asked for.
///
/// # Errors
/// Why there is no number.
pub fn per_pod(pods: &Pods<'_>, target: Target, current: i32, tolerance: f64) -> Result<Proposal, String> {
    if pods.used.is_empty() {
        return Err("did not receive metrics for targeted pods (pods might be unready)".into());
    }
    let mut used = pods.used.clone();
    let (ratio, utilization, average) = ratio(&used, &pods.requested, target)?;
    let proposal = |replicas: i32| Proposal { replicas, utilization, average };
    let scale_up_with_unready = !pods.unready.is_empty() && ratio > 1.0;
    if !scale_up_with_unready && pods.missing.is_empty() {
        if (1.0 - ratio).abs() <= tolerance {
            return Ok(proposal(current));
        }
        return Ok(proposal(ceil(ratio * count(used.len()))));
    }
    // Pods without figures are taken for what makes the change smaller.
    for name in &pods.missing {
        let full = match target {
            Target::Utilization(percent) => pods.requested.get(name).copied().unwrap_or(0) * percent.max(100) / 100,
            Target::Average(average) | Target::Total(average) => average,
        };
        used.insert(name, if ratio < 1.0 { full } else { 0 });
    }
    if scale_up_with_unready {
        pods.unready.iter().for_each(|name| _ = used.insert(name, 0));
    }
    let (new, ..) = self::ratio(&used, &pods.requested, target)?;
    let turned = (ratio < 1.0 && new > 1.0) || (ratio > 1.0 && new < 1.0);
    if (1.0 - new).abs() <= tolerance || turned {
        return Ok(proposal(current));
    }
    let replicas = ceil(new * count(used.len()));
    let against = (new < 1.0 && replicas > current) || (new > 1.0 && replicas < current);
    Ok(proposal(if against { current } else { replicas }))
}

/// From one figure for all pods.
#[must_use]
pub fn total(used: i64, target: Target, current: i32, ready: i32, tolerance: f64) -> Proposal {
    let (replicas, average) = match target {
        Target::Average(average) => {
            let ratio = quotient(used, average.saturating_mul(i64::from(current.max(1))));
            let wanted = if (1.0 - ratio).abs() <= tolerance { current } else { ceil(quotient(used, average)) };
            (wanted, used / i64::from(current.max(1)))
        }
        Target::Total(wanted) | Target::Utilization(wanted) => {
            let ratio = quotient(used, wanted);
            let replicas = if current == 0 {
                ceil(ratio)
            } else if (1.0 - ratio).abs() <= tolerance {
                current
            } else {
                ceil(ratio * f64::from(ready))
            };
            (replicas, used)
        }
    };
    Proposal { replicas, utilization: None, average }
}

/// How much is used of the target, the percentage, the average.
fn ratio(
    used: &BTreeMap<&str, i64>,
    requested: &BTreeMap<&str, i64>,
    target: Target,
) -> Result<(f64, Option<i64>, i64), String> {
    let sum: i64 = used.values().sum();
    let average = sum / i64::try_from(used.len().max(1)).unwrap_or(1);
    match target {
        Target::Utilization(percent) => {
            let requests: i64 = used.keys().filter_map(|name| requested.get(name)).sum();
            if requests == 0 {
                return Err("no metrics returned matched known pods".into());
            }
            let utilization = sum.saturating_mul(100) / requests;
            Ok((quotient(utilization, percent), Some(utilization), average))
        }
        Target::Average(wanted) | Target::Total(wanted) => Ok((quotient(average, wanted), None, average)),
    }
}

#[allow(clippy::cast_precision_loss)] // Ratios, as upstream.
fn quotient(a: i64, b: i64) -> f64 {
    a as f64 / b.max(1) as f64
}

#[allow(clippy::cast_precision_loss)]
fn count(n: usize) -> f64 {
    n as f64
}

#[allow(clippy::cast_possible_truncation)] // Saturates.
fn ceil(replicas: f64) -> i32 {
    replicas.ceil() as i32
}

#[cfg(test)]
mod tests;

//! What a Deployment needs next.

use crate::deployment::template;
use crate::deployment::view::{View, actual, available, revision, wanted};
use std::sync::Arc;
use xebec_types::annotation;
use xebec_types::apps::ReplicaSet;
use xebec_types::object;

/// Writes, in the order in which they are made. Most steps hold few.
#[derive(Default, Debug)]
pub struct Plan {
    pub create: Option<ReplicaSet>,
    /// The new set with annotations brought up to date.
    pub annotate: Option<ReplicaSet>,
    pub scale: Vec<Scale>,
    pub delete: Vec<Arc<ReplicaSet>>,
    /// The revision that the Deployment should carry.
    pub revision: Option<i64>,
}

#[derive(Debug)]
pub struct Scale {
    pub set: Arc<ReplicaSet>,
    pub to: i32,
}

/// `pods_of_old` tells whether pods of old sets still run; only a Recreate waits for them.
#[must_use]
pub fn step(view: &View<'_>, pods_of_old: bool) -> Plan {
    if view.is_paused() || is_scaling(view) {
        let mut plan = Plan { scale: scale(view), ..Plan::default() };
        note_scale(view, &mut plan);
        if view.is_paused() {
            plan.delete = surplus_history(view);
        }
        return plan;
    }
    if view.is_recreate() { recreate(view, pods_of_old) } else { rolling(view) }
}

fn rolling(view: &View<'_>) -> Plan {
    let mut plan = with_new_set(view);
    if let Some(new) = &view.new {
        plan.scale.extend(scale_new(view, new));
    } else if let Some(create) = &mut plan.create {
        let replicas = grow_new(view, 0);
        if let Some(spec) = &mut create.spec {
            spec.replicas = Some(replicas);
        }
        return plan;
    }
    if plan.scale.is_empty() {
        plan.scale = shrink_old(view);
    }
    if plan.scale.is_empty() && is_complete(view) {
        plan.delete = surplus_history(view);
    }
    plan
}

fn recreate(view: &View<'_>, pods_of_old: bool) -> Plan {
    let running = view.old.iter().filter(|set| wanted(set) > 0);
    let scale: Vec<_> = running.map(|set| Scale { set: Arc::clone(set), to: 0 }).collect();
    if !scale.is_empty() {
        return Plan { scale, ..Plan::default() };
    }
    if pods_of_old {
        return Plan::default();
    }
    let mut plan = with_new_set(view);
    if let Some(new) = &view.new {
        if wanted(new) != view.replicas() {
            plan.scale.push(Scale { set: Arc::clone(new), to: view.replicas() });
        }
    } else if let Some(spec) = plan.create.as_mut().and_then(|c| c.spec.as_mut()) {
        spec.replicas = Some(view.replicas());
    }
    if plan.scale.is_empty() && is_complete(view) {
        plan.delete = surplus_history(view);
    }
    plan
}

/// Creates the new set, or keeps its annotations and the Deployment's revision current.
fn with_new_set(view: &View<'_>) -> Plan {
    let next = view.old.iter().map(|set| revision(set)).max().unwrap_or_default() + 1;
    let Some(new) = &view.new else {
        let create = Some(template::new_set(view, next));
        return Plan { create, revision: changed_revision(view, next), ..Plan::default() };
    };
    let revision = revision(new).max(next);
    let known = new.metadata.annotations.clone().unwrap_or_default();
    let annotations = template::annotations(view, known.clone(), revision);
    let min_ready = view.spec().min_ready_seconds.unwrap_or_default();
    let known_min_ready = new.spec.as_ref().and_then(|s| s.min_ready_seconds).unwrap_or_default();
    let annotate = (annotations != known || min_ready != known_min_ready).then(|| {
        let mut set = ReplicaSet::clone(new);
        set.metadata.annotations = Some(annotations);
        if let Some(spec) = &mut set.spec {
            spec.min_ready_seconds = Some(min_ready);
        }
        set
    });
    Plan { annotate, revision: changed_revision(view, revision), ..Plan::default() }
}

fn changed_revision(view: &View<'_>, revision: i64) -> Option<i64> {
    let known = object::annotation(&view.deployment.metadata, annotation::REVISION);
    (known != Some(revision.to_string().as_str())).then_some(revision)
}

fn scale_new(view: &View<'_>, new: &Arc<ReplicaSet>) -> Option<Scale> {
    let have = wanted(new);
    let to = if have > view.replicas() { view.replicas() } else { grow_new(view, have) };
    (to != have).then(|| Scale { set: Arc::clone(new), to })
}

/// As many as the surge leaves room for.
fn grow_new(view: &View<'_>, have: i32) -> i32 {
    let total: i32 = view.all().map(|set| wanted(set)).sum();
    let room = (view.replicas() + view.max_surge() - total).max(0);
    have + room.min(view.replicas() - have).max(0)
}

/// Old pods that may go without falling under the minimum: first those that do not work anyway.
fn shrink_old(view: &View<'_>) -> Vec<Scale> {
    let Some(new) = &view.new else { return Vec::new() };
    let least = view.replicas() - view.max_unavailable();
    let total: i32 = view.all().map(|set| wanted(set)).sum();
    let new_unavailable = wanted(new) - available(new);
    let mut budget = total - least - new_unavailable;
    if budget <= 0 || view.old.iter().all(|set| wanted(set) == 0) {
        return Vec::new();
    }
    let mut sizes: Vec<i32> = view.old.iter().map(|set| wanted(set)).collect();
    for (set, size) in view.old.iter().zip(&mut sizes) {
        let broken = (*size - available(set)).max(0).min(budget);
        *size -= broken;
        budget -= broken;
    }
    // Pods that are there but no longer wanted are as good as gone.
    let available: i32 = view.all().map(|set| available(set).min(wanted(set))).sum();
    let mut spare = (available - least).max(0);
    for size in &mut sizes {
        let gone = spare.min(*size);
        *size -= gone;
        spare -= gone;
    }
    let scaled = view.old.iter().zip(sizes).filter(|(set, size)| wanted(set) != *size);
    scaled.map(|(set, to)| Scale { set: Arc::clone(set), to }).collect()
}

/// Whether `replicas` changed since the sets were last sized.
fn is_scaling(view: &View<'_>) -> bool {
    let annotated = |set: &&Arc<ReplicaSet>| {
        let desired = object::annotation(&set.metadata, annotation::DESIRED_REPLICAS);
        desired.and_then(|d| d.parse::<i32>().ok()).is_some_and(|d| d != view.replicas())
    };
    view.all().filter(|set| wanted(set) > 0).any(|set| annotated(&set))
}

/// Sizes for a changed number of replicas in the middle of a rollout: every active set keeps its
/// share, so that the risk of the new template stays what it was.
fn scale(view: &View<'_>) -> Vec<Scale> {
    let active: Vec<_> = view.all().filter(|set| wanted(set) > 0).cloned().collect();
    let only = match active.as_slice() {
        [] => view.new.clone().or_else(|| view.old.last().cloned()),
        [only] => Some(Arc::clone(only)),
        _ => None,
    };
    if let Some(only) = only {
        let to = view.replicas();
        return if wanted(&only) == to { Vec::new() } else { vec![Scale { set: only, to }] };
    }
    if view.new.as_ref().is_some_and(|new| is_saturated(view, new)) {
        let old = view.old.iter().filter(|set| wanted(set) > 0);
        return old.map(|set| Scale { set: Arc::clone(set), to: 0 }).collect();
    }
    if view.is_recreate() { Vec::new() } else { proportional(view, active) }
}

fn proportional(view: &View<'_>, mut active: Vec<Arc<ReplicaSet>>) -> Vec<Scale> {
    let total: i32 = active.iter().map(|set| wanted(set)).sum();
    let mut left = view.max_replicas() - total;
    // Largest first; growing favours newer sets among equals, shrinking older ones.
    let growing = left > 0;
    active.sort_by_key(|set| std::cmp::Reverse(wanted(set)));
    if growing {
        let newest_first = |set: &Arc<ReplicaSet>| {
            let created = set.metadata.creation_timestamp.as_ref().map(|t| t.0);
            (std::cmp::Reverse(wanted(set)), std::cmp::Reverse(created))
        };
        active.sort_by_key(newest_first);
    }
    let mut sizes: Vec<i32> = Vec::with_capacity(active.len());
    for set in &active {
        let share = share(view, set);
        let step = if growing { share.clamp(0, left.max(0)) } else { share.clamp(left.min(0), 0) };
        sizes.push((wanted(set) + step).max(0));
        left -= step;
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + left).max(0); // What rounding left over.
    }
    let sized = active.into_iter().zip(sizes);
    sized.filter(|(set, to)| wanted(set) != *to).map(|(set, to)| Scale { set, to }).collect()
}

fn share(view: &View<'_>, set: &ReplicaSet) -> i32 {
    let have = wanted(set);
    if view.replicas() == 0 {
        return -have;
    }
    let annotated = object::annotation(&set.metadata, annotation::MAX_REPLICAS);
    let sized_for = annotated.and_then(|m| m.parse::<i32>().ok()).filter(|m| *m > 0);
    let sized_for = sized_for.unwrap_or_else(|| actual(set).max(1));
    let exact = f64::from(have) * f64::from(view.max_replicas()) / f64::from(sized_for);
    // Bounded by the pods of one Deployment.
    #[allow(clippy::cast_possible_truncation)]
    let rounded = exact.round() as i32;
    rounded - have
}

fn is_saturated(view: &View<'_>, set: &ReplicaSet) -> bool {
    let desired = object::annotation(&set.metadata, annotation::DESIRED_REPLICAS);
    let desired = desired.and_then(|d| d.parse::<i32>().ok());
    wanted(set) == view.replicas() && desired == Some(view.replicas()) && available(set) == view.replicas()
}

/// A set whose size is right must still learn what it was sized for.
fn note_scale(view: &View<'_>, plan: &mut Plan) {
    for set in view.all().filter(|set| wanted(set) > 0) {
        let known = |(k, v): &(String, String)| object::annotation(&set.metadata, k) == Some(v);
        let noted = template::scale_annotations(view).iter().all(known);
        if !noted && !plan.scale.iter().any(|s| Arc::ptr_eq(&s.set, set)) {
            plan.scale.push(Scale { set: Arc::clone(set), to: wanted(set) });
        }
    }
}

/// Whether every pod runs the current template and is available.
pub(super) fn is_complete(view: &View<'_>) -> bool {
    let Some(new) = &view.new else { return false };
    let total: i32 = view.all().map(|set| actual(set)).sum();
    let available: i32 = view.all().map(|set| available(set)).sum();
    actual(new) == view.replicas() && total == view.replicas() && available == view.replicas()
}

/// Old sets beyond `revisionHistoryLimit` that have nothing running, oldest revision first.
fn surplus_history(view: &View<'_>) -> Vec<Arc<ReplicaSet>> {
    let limit = view.spec().revision_history_limit.unwrap_or(10);
    let Ok(limit) = usize::try_from(limit) else { return Vec::new() };
    let alive = view.old.iter().filter(|set| !object::is_being_deleted(&set.metadata));
    let mut old: Vec<_> = alive.cloned().collect();
    old.sort_by_key(|set| revision(set));
    let surplus = old.len().saturating_sub(limit);
    let is_idle = |set: &Arc<ReplicaSet>| {
        let observed = set.status.as_ref().and_then(|s| s.observed_generation);
        actual(set) == 0 && wanted(set) == 0 && set.metadata.generation <= observed
    };
    old.into_iter().take(surplus).filter(is_idle).collect()
}

#[cfg(test)]
mod tests;

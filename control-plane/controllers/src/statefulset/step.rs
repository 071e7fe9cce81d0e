//! What a StatefulSet needs next.

use crate::statefulset::view::{Slot, View, is_running_and_ready};
use crate::statefulset::{identity, retention};
use std::ops::ControlFlow;
use std::sync::Arc;
use xebec_types::core::{PersistentVolumeClaim, Pod};
use xebec_types::{OwnerReference, object, pod};

/// Writes, in the order in which they are made.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// The claims that are missing first.
    Create {
        pod: Box<Pod>,
        claims: Vec<PersistentVolumeClaim>,
    },
    /// Claims that went missing under a pod that waits for them.
    CreateClaims {
        pod: Arc<Pod>,
        claims: Vec<PersistentVolumeClaim>,
    },
    /// Labels by which members are told.
    Identify {
        pod: Arc<Pod>,
        ordinal: i32,
    },
    Own {
        claim: Arc<PersistentVolumeClaim>,
        owners: Vec<OwnerReference>,
    },
    Delete {
        pod: Arc<Pod>,
    },
}

/// An ordered set does one thing at a time, from the lowest ordinal up and from the highest down, and
/// waits for what is not ready. A parallel one does everything at once. Updates come last.
#[must_use]
pub fn step(view: &View<'_>) -> Vec<Action> {
    let mut actions = Vec::new();
    if object::is_being_deleted(&view.set.metadata) {
        return actions;
    }
    for slot in &view.slots {
        if fill(view, slot, &mut actions).is_break() && view.is_ordered() {
            return actions;
        }
    }
    for (_, pod) in &view.condemned {
        own_claims(view, pod, true, &mut actions);
    }
    let first_unavailable = view.first_unavailable();
    for (_, pod) in &view.condemned {
        if condemn(view, pod, first_unavailable.as_ref(), &mut actions).is_break() && view.is_ordered() {
            return actions;
        }
    }
    if !view.is_on_delete() {
        update(view, &mut actions);
    }
    actions
}

/// Makes or mends the member of one ordinal; breaks where an ordered set has to wait.
fn fill(view: &View<'_>, slot: &Slot, actions: &mut Vec<Action>) -> ControlFlow<()> {
    let Some(pod) = &slot.pod else { return create(view, slot.ordinal, actions) };
    let terminating = pod::is_terminating(pod);
    if pod::is_terminal(pod) {
        if !terminating {
            actions.push(Action::Delete { pod: Arc::clone(pod) });
        }
        return ControlFlow::Break(());
    }
    if pod::phase(pod) == "Pending" && !terminating {
        let claims = view.missing_claims(slot.ordinal);
        if !claims.is_empty() {
            actions.push(Action::CreateClaims { pod: Arc::clone(pod), claims });
        }
    }
    if (terminating || !is_running_and_ready(pod) || !view.is_available(pod)) && view.is_ordered() {
        return ControlFlow::Break(());
    }
    if !terminating {
        if !identity::is_identified(view.set, slot.ordinal, pod) {
            actions.push(Action::Identify { pod: Arc::clone(pod), ordinal: slot.ordinal });
        }
        own_claims(view, pod, false, actions);
    }
    ControlFlow::Continue(())
}

fn create(view: &View<'_>, ordinal: i32, actions: &mut Vec<Action>) -> ControlFlow<()> {
    let name = identity::pod_name(view.set, ordinal);
    if !view.claims_of(ordinal).any(|claim| retention::is_stale(&name, &claim.metadata)) {
        let revision = view.revision_for(ordinal);
        let pod = identity::new_pod(view.set, &revision.template, &revision.name, ordinal);
        actions.push(Action::Create { pod: Box::new(pod), claims: view.missing_claims(ordinal) });
    }
    ControlFlow::Break(())
}

fn own_claims(view: &View<'_>, pod: &Pod, condemned: bool, actions: &mut Vec<Action>) {
    let Some(ordinal) = identity::ordinal(view.set, pod) else { return };
    let differing = view.claims_of(ordinal).filter_map(|claim| {
        let owners = retention::owners(view.set, pod, condemned, &claim)?;
        Some(Action::Own { claim, owners })
    });
    actions.extend(differing);
}

/// Takes one pod that the set has outgrown. An ordered set waits for those that are not available,
/// but for the first of them: that one must not keep the others alive for ever.
fn condemn(
    view: &View<'_>,
    pod: &Arc<Pod>,
    first_unavailable: Option<&Arc<Pod>>,
    actions: &mut Vec<Action>,
) -> ControlFlow<()> {
    if pod::is_terminating(pod) {
        return ControlFlow::Break(());
    }
    let waits = !is_running_and_ready(pod) || !view.is_available(pod);
    let is_first = first_unavailable.is_some_and(|first| Arc::ptr_eq(first, pod));
    if !(waits && view.is_ordered()) || is_first {
        actions.push(Action::Delete { pod: Arc::clone(pod) });
    }
    ControlFlow::Break(())
}

/// Deletes pods of former revisions from the highest ordinal down to the partition, as long as no
/// more than `maxUnavailable` are missing. A pod that is not available anyway costs nothing.
fn update(view: &View<'_>, actions: &mut Vec<Action>) {
    let unavailable = view.slots.iter().filter(|slot| !slot.is_healthy(view)).count();
    let mut budget = view.max_unavailable().saturating_sub(unavailable);
    let above_partition = view.slots.iter().skip(view.partition()).rev();
    for slot in above_partition {
        let Some(pod) = slot.pod.as_ref().filter(|pod| !pod::is_terminating(pod)) else { continue };
        if identity::revision(pod) == view.update.name || pod::is_terminal(pod) {
            continue;
        }
        if slot.is_healthy(view) {
            if budget == 0 {
                return;
            }
            budget -= 1;
        }
        actions.push(Action::Delete { pod: Arc::clone(pod) });
    }
}

#[cfg(test)]
mod tests;

//! The status of a StatefulSet.

use crate::statefulset::identity;
use crate::statefulset::view::{View, is_running_and_ready};
use xebec_types::apps::StatefulSetStatus;
use xebec_types::pod;

#[must_use]
pub fn status(view: &View<'_>, collision_count: Option<i32>) -> StatefulSetStatus {
    let count = |holds: &dyn Fn(&xebec_types::core::Pod) -> bool| {
        let count = view.pods().filter(|pod| holds(pod)).count();
        i32::try_from(count).unwrap_or(i32::MAX)
    };
    let of = |name: &str, pod: &xebec_types::core::Pod| !pod::is_terminating(pod) && identity::revision(pod) == name;
    let replicas = count(&|_| true);
    let ready = count(&is_running_and_ready);
    let updated = count(&|pod| of(&view.update.name, pod));
    let mut current = (count(&|pod| of(&view.current.name, pod)), &view.current.name);
    let wanted = i32::try_from(view.slots.len()).unwrap_or(i32::MAX);
    if !view.is_on_delete() && [replicas, ready, updated].iter().all(|n| *n == wanted) {
        current = (updated, &view.update.name); // The update is complete.
    }
    let some = |count: i32| Some(count).filter(|count| *count != 0);
    StatefulSetStatus {
        observed_generation: view.set.metadata.generation,
        replicas,
        ready_replicas: some(ready),
        // Upstream writes this one also when it is zero.
        available_replicas: Some(count(&|pod| is_running_and_ready(pod) && view.is_available(pod))),
        current_replicas: some(current.0),
        updated_replicas: some(updated),
        current_revision: Some(current.1.clone()),
        update_revision: Some(view.update.name.clone()),
        collision_count: Some(collision_count.unwrap_or_default()),
        conditions: view.set.status.as_ref().and_then(|s| s.conditions.clone()),
    }
}

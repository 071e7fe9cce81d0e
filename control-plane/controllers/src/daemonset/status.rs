//! The status of a DaemonSet.

use crate::daemonset::template::Fit;
use crate::daemonset::view::View;
use xebec_types::apps::DaemonSetStatus;
use xebec_types::pod;

#[must_use]
pub fn status(view: &View<'_>, collision_count: Option<i32>) -> DaemonSetStatus {
    let mut new = DaemonSetStatus::default();
    let (mut available, mut updated) = (0, 0);
    for node in &view.nodes {
        let first = node.pods.first();
        if node.fit != Fit::Runs {
            new.number_misscheduled += i32::from(first.is_some());
            continue;
        }
        new.desired_number_scheduled += 1;
        let Some(first) = first else { continue };
        new.current_number_scheduled += 1;
        // While surging, the old pod keeps the node served and the new one counts as the update.
        let ready = node.pods.iter().find(|pod| pod::is_ready(pod) && !pod::is_terminating(pod));
        new.number_ready += i32::from(ready.is_some());
        available += i32::from(ready.is_some_and(|pod| view.is_available(pod)));
        let newest = node.staying().find(|pod| view.is_updated(pod)).unwrap_or(first);
        updated += i32::from(view.is_updated(newest));
    }
    let some = |count: i32| Some(count).filter(|count| *count != 0);
    new.number_available = some(available);
    new.number_unavailable = some(new.desired_number_scheduled - available);
    new.updated_number_scheduled = some(updated);
    new.observed_generation = view.set.metadata.generation;
    new.collision_count = collision_count;
    new.conditions = view.set.status.as_ref().and_then(|s| s.conditions.clone());
    new
}

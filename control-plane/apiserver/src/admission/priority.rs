//! The priority of pods. PriorityClasses are not served, so there are the two of the system and none.

use async_trait::async_trait;
use xebec_machinery::Status;
use xebec_registry::value::{at, default_string, integer, set, string};

use super::{Attributes, Operation, Plugin, Reader};

/// `scheduling.SystemPriorityClasses`.
const SYSTEM: [(&str, i64); 2] = [("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];
const PREEMPTION: &str = "PreemptLowerPriority";

pub struct Priority;

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, _reader: &dyn Reader) -> Result<(), Status> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        let class = string(&attributes.object, "spec.priorityClassName");
        let priority = match SYSTEM.iter().find(|(name, _)| *name == class) {
            Some((_, priority)) => *priority,
            None if class.is_empty() => 0,
            None => {
                let message = format!("no PriorityClass with name {class} was found");
                return Err(Status::forbidden(&attributes.resource.group_resource(), attributes.name, message));
            }
        };
        let pod = &mut attributes.object;
        if integer(pod, "spec.priority").is_some_and(|asked| asked != priority) {
            let asked = at(pod, "spec.priority").clone();
            let message = format!(
                "the integer value of priority ({asked}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
            );
            return Err(Status::forbidden(&attributes.resource.group_resource(), attributes.name, message));
        }
        set(pod, "spec.priority", priority);
        if let Some(spec) = pod.get_mut("spec") {
            default_string(spec, "preemptionPolicy", PREEMPTION);
        }
        Ok(())
    }
}

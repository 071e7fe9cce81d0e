//! The priority of pods, from their PriorityClass (`plugin/pkg/admission/priority`).

use async_trait::async_trait;
use serde_json::Value;
use xebec_machinery::{Status, object};
use xebec_registry::scheduling::SYSTEM;
use xebec_registry::value::{at, boolean, integer, set, string};

use super::{Attributes, Operation, Plugin, Reader};

const GROUP: &str = "scheduling.k8s.io";
const CLASSES: &str = "priorityclasses";
const PREEMPTION: &str = "PreemptLowerPriority";

pub struct Priority;

#[async_trait]
impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, reader: &dyn Reader) -> Result<(), Status> {
        if !attributes.is("", "pods") || attributes.operation != Operation::Create {
            return Ok(());
        }
        let class = resolve(attributes, reader).await?;
        class.write(&mut attributes.object).map_err(|why| forbidden(attributes, why))
    }

    async fn validate(&self, attributes: &Attributes<'_>, reader: &dyn Reader) -> Result<(), Status> {
        if !attributes.is(GROUP, CLASSES) || !boolean(&attributes.object, "globalDefault") {
            return Ok(());
        }
        let other = default_class(&reader.list(GROUP, CLASSES, "").await?).map(|class| object::name(&class).to_owned());
        match other.filter(|other| other != attributes.name) {
            None => Ok(()),
            Some(other) => {
                let why = format!("PriorityClass {other} is already marked as default. Only one default can exist");
                Err(forbidden(attributes, why))
            }
        }
    }
}

fn forbidden(attributes: &Attributes<'_>, why: impl Into<String>) -> Status {
    Status::forbidden(&attributes.resource.group_resource(), attributes.name, why.into())
}

/// What a PriorityClass gives to a pod.
#[derive(PartialEq, Debug)]
struct Class {
    name: String,
    value: i64,
    preemption: String,
}

impl Class {
    fn of(class: &Value) -> Self {
        let preemption = Some(string(class, "preemptionPolicy")).filter(|p| !p.is_empty()).unwrap_or(PREEMPTION);
        Self {
            name: object::name(class).to_owned(),
            value: integer(class, "value").unwrap_or(0),
            preemption: preemption.to_owned(),
        }
    }

    /// Sets the pod's priority; an error if the pod asks for another.
    fn write(&self, pod: &mut Value) -> Result<(), String> {
        let computed = self.value;
        if integer(pod, "spec.priority").is_some_and(|asked| asked != computed) {
            let asked = at(pod, "spec.priority");
            return Err(format!(
                "the integer value of priority ({asked}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
            ));
        }
        let (asked, computed) = (string(pod, "spec.preemptionPolicy"), &self.preemption);
        if !asked.is_empty() && asked != computed {
            return Err(format!(
                "the string value of PreemptionPolicy ({asked}) must not be provided in pod spec; priority admission controller computed {computed} from the given PriorityClass name"
            ));
        }
        set(pod, "spec.priority", self.value);
        set(pod, "spec.preemptionPolicy", computed.clone());
        if !self.name.is_empty() {
            set(pod, "spec.priorityClassName", self.name.clone());
        }
        Ok(())
    }
}

async fn resolve(attributes: &Attributes<'_>, reader: &dyn Reader) -> Result<Class, Status> {
    let name = string(&attributes.object, "spec.priorityClassName");
    if name.is_empty() {
        let none = || Class { name: String::new(), value: 0, preemption: PREEMPTION.to_owned() };
        return Ok(default_class(&reader.list(GROUP, CLASSES, "").await?).as_ref().map_or_else(none, Class::of));
    }
    let found = match reader.get(GROUP, CLASSES, "", name) {
        Some(class) => Some(class),
        None => reader.get_consistent(GROUP, CLASSES, "", name).await?,
    };
    if let Some(class) = found {
        return Ok(Class::of(&class));
    }
    // The system's classes hold also before their objects are there.
    let system = SYSTEM.iter().find(|(system, ..)| *system == name);
    let class = |(name, value, _): &(&str, i64, &str)| Class {
        name: (*name).to_owned(),
        value: *value,
        preemption: PREEMPTION.to_owned(),
    };
    system.map(class).ok_or_else(|| forbidden(attributes, format!("no PriorityClass with name {name} was found")))
}

/// The class of pods that name none; the lowest if several claim to be.
fn default_class(classes: &[Value]) -> Option<Value> {
    let marked = classes.iter().filter(|class| boolean(class, "globalDefault"));
    marked.min_by_key(|class| integer(class, "value").unwrap_or(0)).cloned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(pod: Value, expected: Result<Value, &str>) {
        let class = Class::of(&json!({"metadata": {"name": "high"}, "value": 7, "preemptionPolicy": "Never"}));
        let mut pod = json!({"spec": pod});
        let outcome = class.write(&mut pod).map(|()| pod["spec"].take());
        match expected {
            Ok(spec) => assert_eq!(outcome, Ok(spec)),
            Err(part) => assert!(outcome.as_ref().is_err_and(|why| why.contains(part)), "{outcome:?}"),
        }
    }

    #[test]
    fn a_pod_gets_what_its_class_says_and_may_not_say_otherwise() {
        let done = json!({"priority": 7, "preemptionPolicy": "Never", "priorityClassName": "high"});
        check(json!({}), Ok(done.clone()));
        check(done.clone(), Ok(done));
        check(json!({"priority": 8}), Err("the integer value of priority (8) must not be provided"));
        check(json!({"preemptionPolicy": "PreemptLowerPriority"}), Err("computed Never"));
    }

    #[test]
    fn the_lowest_of_several_defaults_counts() {
        let class = |name: &str, value: i64, default: bool| json!({"metadata": {"name": name}, "value": value, "globalDefault": default});
        let classes = [class("a", 9, true), class("b", 3, true), class("c", 1, false)];
        assert_eq!(default_class(&classes).map(|class| Class::of(&class).name), Some("b".to_owned()));
        assert_eq!(default_class(&classes[2..]), None);
    }
}

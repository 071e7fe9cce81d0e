//! What a RuntimeClass adds to its pods: overhead, node selector, tolerations (`plugin/pkg/admission/runtimeclass`).

use async_trait::async_trait;
use serde_json::Value;
use xebec_machinery::Status;
use xebec_machinery::quota;
use xebec_registry::value::{at, entries, is_set, items, object_mut, set, string};

use super::{Attributes, Operation, Plugin, Reader};

pub struct RuntimeClass;

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, reader: &dyn Reader) -> Result<(), Status> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        let Some(class) = find(attributes, reader).await? else { return Ok(()) };
        apply(&mut attributes.object, &class).map_err(|why| forbidden(attributes, why))
    }

    async fn validate(&self, attributes: &Attributes<'_>, reader: &dyn Reader) -> Result<(), Status> {
        if !attributes.is("", "pods") {
            return Ok(());
        }
        let class = find(attributes, reader).await?;
        check(&attributes.object, class.as_ref()).map_err(|why| forbidden(attributes, why))
    }
}

fn forbidden(attributes: &Attributes<'_>, why: impl Into<String>) -> Status {
    Status::forbidden(&attributes.resource.group_resource(), attributes.name, why.into())
}

async fn find(attributes: &Attributes<'_>, reader: &dyn Reader) -> Result<Option<Value>, Status> {
    let name = string(&attributes.object, "spec.runtimeClassName");
    if name.is_empty() {
        return Ok(None);
    }
    if let Some(class) = reader.get("node.k8s.io", "runtimeclasses", "", name) {
        return Ok(Some(class));
    }
    let class = reader.get_consistent("node.k8s.io", "runtimeclasses", "", name).await?;
    let missing = || forbidden(attributes, format!("pod rejected: RuntimeClass {name:?} not found"));
    class.map(Some).ok_or_else(missing)
}

fn apply(pod: &mut Value, class: &Value) -> Result<(), String> {
    let overhead = at(class, "overhead.podFixed");
    if !overhead.is_null() {
        if is_set(pod, "spec.overhead") && !is_overhead(pod, overhead) {
            return Err(MISMATCH.into());
        }
        set(pod, "spec.overhead", overhead.clone());
    }
    for (key, wanted) in entries(class, "scheduling.nodeSelector") {
        let known = at(pod, "spec.nodeSelector").get(key).and_then(Value::as_str).map(str::to_owned);
        if let Some(known) = known.filter(|known| wanted != known.as_str()) {
            let wanted = wanted.as_str().unwrap_or("");
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {known}"
            ));
        }
        object_mut(pod, "spec.nodeSelector").insert(key.clone(), wanted.clone());
    }
    let mut tolerations = items(pod, "spec.tolerations").to_vec();
    let added = items(class, "scheduling.tolerations").iter().filter(|t| !tolerations.contains(t));
    let added: Vec<Value> = added.cloned().collect();
    if !added.is_empty() {
        tolerations.extend(added);
        set(pod, "spec.tolerations", tolerations);
    }
    Ok(())
}

fn is_overhead(pod: &Value, overhead: &Value) -> bool {
    quota::amounts(Some(at(pod, "spec.overhead"))) == quota::amounts(Some(overhead))
}

fn check(pod: &Value, class: Option<&Value>) -> Result<(), String> {
    let defined = class.map(|class| at(class, "overhead.podFixed")).filter(|overhead| !overhead.is_null());
    match defined {
        Some(overhead) if !is_overhead(pod, overhead) => Err(MISMATCH.into()),
        None if is_set(pod, "spec.overhead") => {
            Err("pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead".into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_class_adds_overhead_selector_and_tolerations() {
        let class = json!({
            "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"kvm": "yes"}, "tolerations": [{"key": "kvm"}]},
        });
        let run = |spec: Value| {
            let mut pod = json!({"spec": spec});
            apply(&mut pod, &class).map(|()| pod["spec"].take())
        };
        let done =
            json!({"overhead": {"cpu": "250m"}, "nodeSelector": {"kvm": "yes"}, "tolerations": [{"key": "kvm"}]});
        assert_eq!(run(json!({})), Ok(done.clone()));
        assert_eq!(run(done.clone()), Ok(done));
        assert_eq!(run(json!({"overhead": {"cpu": "1"}})), Err(MISMATCH.to_owned()));
        let conflict = "conflict: runtimeClass.scheduling.nodeSelector[kvm] = yes; pod.spec.nodeSelector[kvm] = no";
        assert_eq!(run(json!({"nodeSelector": {"kvm": "no"}})), Err(conflict.to_owned()));
    }

    #[test]
    fn overhead_comes_from_a_class_alone() {
        let class = json!({"overhead": {"podFixed": {"cpu": "250m"}}});
        let with = |overhead: Value| json!({"spec": {"overhead": overhead}});
        assert!(check(&with(json!({"cpu": "0.25"})), Some(&class)).is_ok(), "amounts are compared, not texts");
        assert!(check(&json!({"spec": {}}), Some(&class)).is_err());
        assert!(check(&with(json!({"cpu": "1"})), None).is_err());
        assert!(check(&json!({"spec": {}}), None).is_ok());
    }
}

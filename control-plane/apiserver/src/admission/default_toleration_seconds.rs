//! Pods tolerate a node that is not ready or unreachable for five minutes, unless they say otherwise.

use async_trait::async_trait;
use serde_json::{Value, json};
use xebec_machinery::Status;
use xebec_registry::value::{items, object_mut, string};

use super::{Attributes, Operation, Plugin, Reader};

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

pub struct DefaultTolerationSeconds;

#[async_trait]
impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, operation: Operation) -> bool {
        matches!(operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, _reader: &dyn Reader) -> Result<(), Status> {
        if attributes.is("", "pods") && attributes.object.get("spec").is_some() {
            tolerate(&mut attributes.object);
        }
        Ok(())
    }
}

fn tolerate(pod: &mut Value) {
    for taint in TAINTS {
        let tolerated = items(pod, "spec.tolerations").iter().any(|toleration| {
            ["", taint].contains(&string(toleration, "key"))
                && ["", "NoExecute"].contains(&string(toleration, "effect"))
        });
        if tolerated {
            continue;
        }
        let toleration =
            json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS});
        match object_mut(pod, "spec").entry("tolerations").or_insert(Value::Null) {
            Value::Array(list) => list.push(toleration),
            other => *other = json!([toleration]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(tolerations: Value, added: &[&str]) {
        let before = tolerations.as_array().map_or(0, Vec::len);
        let mut pod = json!({"spec": {"tolerations": tolerations}});
        tolerate(&mut pod);
        let keys: Vec<&str> = items(&pod, "spec.tolerations")[before..].iter().map(|t| string(t, "key")).collect();
        assert_eq!(keys, added);
    }

    #[test]
    fn only_what_is_not_tolerated_is_added() {
        check(Value::Null, &TAINTS);
        check(json!([{"key": "other", "operator": "Exists"}]), &TAINTS);
        check(json!([{"operator": "Exists"}]), &[]);
        check(json!([{"key": TAINTS[0], "operator": "Exists", "effect": "NoExecute"}]), &TAINTS[1..]);
        check(json!([{"key": TAINTS[0], "operator": "Exists", "effect": "NoSchedule"}]), &TAINTS);
    }
}

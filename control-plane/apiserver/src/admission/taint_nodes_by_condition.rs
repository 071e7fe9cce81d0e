//! A node takes no pods before it was seen ready.

use async_trait::async_trait;
use serde_json::{Value, json};
use xebec_machinery::Status;
use xebec_registry::value::{items, object_mut, string};

use super::{Attributes, Operation, Plugin, Reader};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes<'_>, _reader: &dyn Reader) -> Result<(), Status> {
        if !attributes.is("", "nodes") {
            return Ok(());
        }
        let node = &mut attributes.object;
        let tainted = |taint: &Value| string(taint, "key") == NOT_READY && string(taint, "effect") == "NoSchedule";
        if !items(node, "spec.taints").iter().any(tainted) {
            let taint = json!({"key": NOT_READY, "effect": "NoSchedule"});
            match object_mut(node, "spec").entry("taints").or_insert(Value::Null) {
                Value::Array(list) => list.push(taint),
                other => *other = json!([taint]),
            }
        }
        Ok(())
    }
}

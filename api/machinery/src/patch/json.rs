//! JSON patch, RFC 6902.

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use crate::status::Reason;
use crate::{Status, json};

/// Upstream's limit on the operations of one patch (`maxJSONPatchOperations`).
const OPERATIONS_MAX: usize = 10_000;

/// How many bytes all copies of one patch may add: a few that copy a parent into its child would otherwise fill the memory. Upstream's limit is that of a
/// request body.
const COPIED_BYTES_MAX: usize = 3 << 20;

/// Applies the operations in order; if one fails, `target` is unchanged.
pub fn apply(target: &mut Value, patch: &[u8]) -> Result<(), Status> {
    let patch = decode(patch)?;
    if patch.len() > OPERATIONS_MAX {
        return Err(Status::request_entity_too_large(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {}",
            patch.len()
        )));
    }
    let mut patched = target.clone();
    let mut copied = 0;
    for operation in patch.iter() {
        if let PatchOperation::Copy(copy) = operation {
            let source = copy.from.resolve(&patched).map_err(|e| unfit(&e))?;
            copied += source.to_string().len();
            if copied > COPIED_BYTES_MAX {
                return Err(Status::request_entity_too_large(format!(
                    "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {COPIED_BYTES_MAX}"
                )));
            }
        }
        if is_absence(operation, &patched) {
            continue;
        }
        json_patch::patch(&mut patched, std::slice::from_ref(operation)).map_err(|e| unfit(&e))?;
    }
    *target = patched;
    Ok(())
}

/// What is no list is told at once, an operation that nobody knows like one that does not fit (evanphx/json-patch).
fn decode(patch: &[u8]) -> Result<Patch, Status> {
    let (value, _) = json::parse_strict(patch).map_err(|e| Status::bad_request(e.to_string()))?;
    let Value::Array(operations) = value else {
        return Err(Status::bad_request(json::mistyped(&value, "jsonpatch.Patch")));
    };
    let known = ["add", "remove", "replace", "move", "copy", "test"];
    let operation = |operation: Value| {
        let kind = operation["op"].as_str().unwrap_or("unknown").to_owned();
        if !known.contains(&kind.as_str()) {
            return Err(unfit(&format!("Unexpected kind: {kind}")));
        }
        serde_json::from_value(operation).map_err(|error| unfit(&error))
    };
    operations.into_iter().map(operation).collect::<Result<Vec<_>, _>>().map(Patch)
}

/// Whether the operation tests for `null` what its parent does not have. Upstream's library lets that pass, and clients rely on it: kube-rs adds the
/// first finalizer so.
fn is_absence(operation: &PatchOperation, target: &Value) -> bool {
    let PatchOperation::Test(test) = operation else { return false };
    let Some((parent, key)) = test.path.split_back() else { return false };
    let parent = target.pointer(parent.as_str()).and_then(Value::as_object);
    test.value.is_null() && parent.is_some_and(|fields| !fields.contains_key(&*key.decoded()))
}

/// Upstream answers 422 without details for an operation that does not fit the object.
fn unfit(error: &dyn std::fmt::Display) -> Status {
    let message = format!("the server rejected our request due to an error in our request: {error}");
    Status::new(422, Reason::Invalid, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn operations_apply_in_order() {
        let mut object = json!({"a": 1, "l": ["x"]});
        let patch = json!([
            {"op": "test", "path": "/a", "value": 1}, {"op": "replace", "path": "/a", "value": 2}, {"op": "add", "path": "/l/-", "value": "y"},
            {"op": "copy", "from": "/l", "path": "/m"}, {"op": "move", "from": "/l/0", "path": "/n"}, {"op": "remove", "path": "/l/0"},
        ]);
        apply(&mut object, patch.to_string().as_bytes()).expect("a good patch");
        assert_eq!(object, json!({"a": 2, "l": [], "m": ["x", "y"], "n": "x"}));
    }

    #[test]
    fn what_is_absent_is_null_to_a_test() {
        let mut object = json!({"metadata": {"name": "n"}});
        let add = json!([
            {"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": ["f"]},
        ]);
        apply(&mut object, add.to_string().as_bytes()).expect("nothing is there");
        assert_eq!(object["metadata"]["finalizers"], json!(["f"]));
        assert_eq!(apply(&mut object, add.to_string().as_bytes()).expect_err("something is there").code, 422);
        let parent = json!([{"op": "test", "path": "/status/conditions", "value": null}]);
        assert_eq!(apply(&mut object, parent.to_string().as_bytes()).expect_err("the parent must be there").code, 422);
    }

    #[test]
    fn a_patch_that_fails_changes_nothing() {
        let check = |patch: Value, code: u16| {
            let before = json!({"a": {"b": "0123456789"}});
            let mut object = before.clone();
            let error = apply(&mut object, patch.to_string().as_bytes()).expect_err("a bad patch");
            assert_eq!((error.code, object), (code, before), "{error}");
        };
        check(json!([{"op": "remove", "path": "/a"}, {"op": "test", "path": "/x", "value": 1}]), 422);
        check(json!([{"op": "remove", "path": "/x"}]), 422);
        check(json!([{"op": "copy", "from": "/x", "path": "/y"}]), 422);
        check(json!({"op": "remove"}), 400);
        check(json!([{"op": "nothing", "path": "/a"}]), 422);
        check(json!([{"op": "remove", "path": "/a"}, {"op": "nothing", "path": "/a"}]), 422);
        let remove = json!({"op": "remove", "path": "/a"});
        check(vec![remove; OPERATIONS_MAX + 1].into(), 413);
        let double = json!({"op": "copy", "from": "/a", "path": "/a/c"});
        let mut doubling = vec![double; 20];
        for (i, op) in doubling.iter_mut().enumerate() {
            op["path"] = format!("/a/c{i}").into();
        }
        check(doubling.into(), 413);
    }
}

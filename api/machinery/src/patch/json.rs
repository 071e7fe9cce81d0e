//! JSON patch, RFC 6902.

use serde_json::Value;

use crate::Status;

/// Upstream's limit on the operations of one patch (`maxJSONPatchOperations`).
const OPERATIONS_MAX: usize = 10_000;

/// Applies the operations in order; if one fails, `target` is unchanged.
pub fn apply(target: &mut Value, patch: &[u8]) -> Result<(), Status> {
    let patch: json_patch::Patch =
        serde_json::from_slice(patch).map_err(|e| Status::bad_request(format!("error decoding patch: {e}")))?;
    if patch.len() > OPERATIONS_MAX {
        let count = patch.len();
        return Err(Status::request_entity_too_large(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {count}"
        )));
    }
    // Upstream answers 422 without details for an operation that does not fit the object.
    json_patch::patch(target, &patch).map_err(|e| {
        Status::new(
            422,
            crate::status::Reason::Invalid,
            format!("the server rejected our request due to an error in our request: {e}"),
        )
    })
}

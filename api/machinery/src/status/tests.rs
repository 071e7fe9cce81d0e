use serde_json::{json, to_value};

use super::*;
use crate::field::{self, Path};

fn pods() -> GroupResource {
    GroupResource::new("", "pods")
}

#[test]
fn messages_are_worded_as_upstream() {
    let check = |status: Status, code, reason, message: &str| {
        assert_eq!((status.code, status.reason.as_str(), status.message.as_str()), (code, reason, message));
    };
    let deployments = GroupResource::new("apps", "deployments");
    check(Status::not_found(&pods(), "a"), 404, "NotFound", "pods \"a\" not found");
    check(Status::already_exists(&deployments, "a"), 409, "AlreadyExists", "deployments.apps \"a\" already exists");
    check(Status::forbidden(&pods(), "", "no"), 403, "Forbidden", "pods is forbidden: no");
    check(
        Status::modified(&pods(), "a"),
        409,
        "Conflict",
        "Operation cannot be fulfilled on pods \"a\": the object has been modified; please apply your changes to the latest version and try again",
    );
    check(
        Status::method_not_allowed(&pods(), "patch"),
        405,
        "MethodNotAllowed",
        "patch is not supported on resources of kind \"pods\"",
    );
}

#[test]
fn invalid_lists_every_error_as_a_cause() {
    let name = Path::new("metadata").child("name");
    let errors =
        vec![field::Error::required(&name, "name or generateName is required"), field::Error::forbidden(&name, "no")];
    let status = Status::invalid(&GroupKind::new("apps", "Deployment"), "x", errors);
    assert_eq!(
        status.message,
        "Deployment.apps \"x\" is invalid: [metadata.name: Required value: name or generateName is required, metadata.name: Forbidden: no]"
    );
    let want = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": status.message, "reason": "Invalid", "code": 422,
        "details": {"name": "x", "group": "apps", "kind": "Deployment", "causes": [
            {"reason": "FieldValueRequired", "message": "Required value: name or generateName is required", "field": "metadata.name"},
            {"reason": "FieldValueForbidden", "message": "Forbidden: no", "field": "metadata.name"},
        ]}
    });
    assert_eq!(to_value(&status).expect("serialisable"), want);
}

#[test]
fn success_carries_details_only() {
    let details = Details { uid: "u".into(), ..Details::of(&pods(), "a") };
    assert_eq!(
        to_value(Status::success(Some(details))).expect("serialisable"),
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": {"name": "a", "kind": "pods", "uid": "u"}})
    );
}

//! Who may look on at devices that others use: claims of namespaces with a label that only administrators set (KEP-5018).

use serde_json::Value;
use xebec_machinery::GroupResource;
use xebec_machinery::field::{Error, Path};
use xebec_registry::value::{at, boolean, items};

use crate::GROUP;

const LABEL: &str = "resource.kubernetes.io/admin-access";

/// What is wrong with a write that asks for admin access, or grants it, in a namespace; `old` is none on create. `namespace` gives the
/// namespace's object and is asked only if it matters.
pub fn check(
    resource: &GroupResource,
    subresource: &str,
    new: &Value,
    old: Option<&Value>,
    namespace: impl FnOnce() -> Option<Value>,
) -> Option<Error> {
    let path = match (&*resource.group, &*resource.resource, subresource) {
        // Specs do not change, so updates ask for nothing.
        (GROUP, "resourceclaims", "") if old.is_none() => requested(at(new, "spec")),
        (GROUP, "resourceclaimtemplates", "") if old.is_none() => requested(at(new, "spec.spec")),
        (GROUP, "resourceclaims", "status") => granted(new, old),
        _ => None,
    }?;
    let labels = namespace().map(|namespace| at(&namespace, "metadata.labels").clone()).unwrap_or_default();
    (labels.get(LABEL).and_then(Value::as_str) != Some("true")).then(|| {
        let detail = format!("admin access to devices requires the `{LABEL}: true` label on the containing namespace");
        Error::forbidden(&path, detail)
    })
}

fn requested(spec: &Value) -> Option<Path> {
    let index = items(spec, "devices.requests").iter().position(|request| boolean(request, "exactly.adminAccess"))?;
    // Upstream's path, also in templates.
    Some(Path::new("spec").child("devices").child("requests").index(index).child("adminAccess"))
}

fn granted(new: &Value, old: Option<&Value>) -> Option<Path> {
    const RESULTS: &str = "status.allocation.devices.results";
    let is_granted = |result: &Value| boolean(result, "adminAccess");
    if old.is_some_and(|old| items(old, RESULTS).iter().any(is_granted)) {
        return None;
    }
    let index = items(new, RESULTS).iter().position(is_granted)?;
    let results = Path::new("status").child("allocation").child("devices").child("results");
    Some(results.index(index).child("adminAccess"))
}

//! What a body says that it is, against what its path takes: in the words of apimachinery's codecs, whose schemes know Go types.

use serde_json::Value;
use xebec_machinery::field::{Error, Path};
use xebec_machinery::{GroupVersionKind, Status, object};

use crate::kinds::Resource;

/// Where upstream makes the two schemes of its API, which is how it names them.
const SCHEME: &str = "k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30";
const EXTENSIONS_SCHEME: &str = "k8s.io/apiextensions-apiserver/pkg/apiserver/apiserver.go:56";
const EXTENSIONS: &str = "apiextensions.k8s.io";

/// Why an object is not what is expected.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mismatch {
    /// It cannot be made into what is expected.
    Unfit(String),
    /// It is the same in another version, which the path does not take.
    Version,
}

/// Fills in what `given` leaves out of its type (`gvkWithDefaults`).
pub fn or_expected(given: (&str, &str), expected: &GroupVersionKind) -> Result<GroupVersionKind, String> {
    let (api_version, kind) = given;
    let kind = if kind.is_empty() { &expected.kind } else { kind };
    let api_version = if api_version.is_empty() { &expected.api_version() } else { api_version };
    stated((api_version, kind))
}

/// The type that `given` states; where it leaves the version out, there is none.
pub fn stated((api_version, kind): (&str, &str)) -> Result<GroupVersionKind, String> {
    GroupVersionKind::from_api_version(api_version, kind).map_err(|error| error.to_string())
}

/// Whether an object of a built-in type can be taken for another.
pub fn built_in(given: &GroupVersionKind, expected: &GroupVersionKind) -> Result<(), Mismatch> {
    if given == expected {
        return Ok(());
    }
    if !is_registered(given, expected) {
        let scheme = if expected.group == EXTENSIONS { EXTENSIONS_SCHEME } else { SCHEME };
        let (kind, version) = (&given.kind, given.api_version());
        let why = format!("no kind {kind:?} is registered for version {version:?} in scheme {scheme:?}");
        return Err(Mismatch::Unfit(why));
    }
    let internal = |gvk: &GroupVersionKind| format!("{}.{}", package(&gvk.group), gvk.kind);
    if internal(given) == internal(expected) {
        return Err(Mismatch::Version);
    }
    let why = format!("converting ({}.{}) to ({}): unknown conversion", given.version, given.kind, internal(expected));
    Err(Mismatch::Unfit(why))
}

/// Whether an object can be taken for a custom resource. Of another kind it is found out by validation ([`custom_kind`]).
pub fn custom(given: &GroupVersionKind, expected: &GroupVersionKind) -> Result<(), Mismatch> {
    if given.group != expected.group {
        let GroupVersionKind { group, version, kind } = given;
        let to = expected.api_version();
        let why =
            format!("{group}/{version}, Kind={kind} is unstructured and is not suitable for converting to {to:?}");
        return Err(Mismatch::Unfit(why));
    }
    if given.version == expected.version { Ok(()) } else { Err(Mismatch::Version) }
}

/// `customresource/validator.go`
pub fn custom_kind(resource: &Resource, value: &Value) -> Result<(), Status> {
    let (given, expected) = (object::kind(value), resource.row.kind);
    if given == expected {
        return Ok(());
    }
    let error = Error::invalid(&Path::new("kind"), given, format!("must be {expected}"));
    Err(Status::invalid(&resource.gk, object::name(value), vec![error]))
}

pub fn other_version(given: &GroupVersionKind, expected: &GroupVersionKind) -> Status {
    let (given, expected) = (given.api_version(), expected.api_version());
    Status::bad_request(format!(
        "the API version in the data ({given}) does not match the expected API version ({expected})"
    ))
}

/// Whether the scheme that `expected` is of knows a kind, or the list of it.
fn is_registered(given: &GroupVersionKind, expected: &GroupVersionKind) -> bool {
    let known = |gvk: &GroupVersionKind| xebec_schema::schema().by_kind(gvk).is_some();
    let item = given.kind.strip_suffix("List").filter(|item| !item.is_empty());
    let listed = item.map(|item| GroupVersionKind::new(&*given.group, &*given.version, item));
    let is_list = given.kind == "List" && given.api_version() == "v1";
    let is_one_scheme = (given.group == EXTENSIONS) == (expected.group == EXTENSIONS);
    is_one_scheme && (known(given) || is_list || listed.is_some_and(|item| known(&item)))
}

/// The Go package of a group's internal types.
fn package(group: &str) -> &str {
    match group {
        "" | "events.k8s.io" => "core",
        group => group.split('.').next().unwrap_or(group),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gvk(api_version: &str, kind: &str) -> GroupVersionKind {
        GroupVersionKind::from_api_version(api_version, kind).unwrap()
    }

    #[track_caller]
    fn check(given: (&str, &str), expected: (&str, &str), outcome: Result<(), Option<&str>>) {
        let found = built_in(&gvk(given.0, given.1), &gvk(expected.0, expected.1));
        let outcome = outcome.map_err(|why| why.map_or(Mismatch::Version, |why| Mismatch::Unfit(why.to_owned())));
        assert_eq!(found, outcome, "{given:?}");
    }

    #[test]
    fn what_is_not_expected_is_told_as_the_codecs_tell_it() {
        let config_map = ("v1", "ConfigMap");
        check(config_map, config_map, Ok(()));
        let of = |what: &str| format!("{what} in scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\"");
        check(("v1", "Foo"), config_map, Err(Some(&of("no kind \"Foo\" is registered for version \"v1\""))));
        check(
            ("v2", "ConfigMap"),
            config_map,
            Err(Some(&of("no kind \"ConfigMap\" is registered for version \"v2\""))),
        );
        check(("apps/v1", "Pod"), config_map, Err(Some(&of("no kind \"Pod\" is registered for version \"apps/v1\""))));
        let to = |what: &str| format!("converting (v1.{what}) to (core.ConfigMap): unknown conversion");
        for kind in ["Pod", "ConfigMapList", "List", "DeleteOptions"] {
            check(("v1", kind), config_map, Err(Some(&to(kind))));
        }
        check(
            ("rbac.authorization.k8s.io/v1", "Role"),
            ("rbac.authorization.k8s.io/v1", "ClusterRole"),
            Err(Some("converting (v1.Role) to (rbac.ClusterRole): unknown conversion")),
        );
        check(("autoscaling/v1", "HorizontalPodAutoscaler"), ("autoscaling/v2", "HorizontalPodAutoscaler"), Err(None));
        check(("v1", "Event"), ("events.k8s.io/v1", "Event"), Err(None));
        check(
            ("v1", "Pod"),
            ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
            Err(Some(
                "no kind \"Pod\" is registered for version \"v1\" in scheme \"k8s.io/apiextensions-apiserver/pkg/apiserver/apiserver.go:56\"",
            )),
        );
    }

    #[test]
    fn a_custom_resource_is_of_its_group_and_version() {
        let expected = gvk("example.com/v1", "Widget");
        assert_eq!(custom(&gvk("example.com/v1", "Gadget"), &expected), Ok(()));
        assert_eq!(custom(&gvk("example.com/v2", "Widget"), &expected), Err(Mismatch::Version));
        let why = "/v1, Kind=Pod is unstructured and is not suitable for converting to \"example.com/v1\"";
        assert_eq!(custom(&gvk("v1", "Pod"), &expected), Err(Mismatch::Unfit(why.into())));
    }
}

//! Volumes, claims, quotas and limits.

use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::core::limit_range::LimitRange;
use crate::core::persistent_volume::PersistentVolume;
use crate::core::persistent_volume_claim::PersistentVolumeClaim;
use crate::core::replication_controller::ReplicationController;
use crate::core::resource_quota::ResourceQuota;
use crate::strategy::Strategy;
use crate::value::merge_patch;

fn object(strategy: &dyn Strategy, spec: Value, change: &Value) -> Value {
    let mut object = json!({"metadata": {"name": "o"}, "spec": spec});
    if strategy.scope() == crate::Scope::Namespaced {
        object["metadata"]["namespace"] = json!("n");
    }
    merge_patch(&mut object, change);
    strategy.default(&mut object);
    object
}

fn claim(change: &Value) -> Value {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
    object(&PersistentVolumeClaim, spec, change)
}

fn volume(change: &Value) -> Value {
    let spec = json!({"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/x"}});
    object(&PersistentVolume, spec, change)
}

fn texts(errors: Vec<xebec_machinery::field::Error>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check_claim(change: Value, expected: &[&str]) {
    assert_eq!(texts(PersistentVolumeClaim.validate(&claim(&change))), expected);
}

#[track_caller]
fn check_volume(change: Value, expected: &[&str]) {
    assert_eq!(texts(PersistentVolume.validate(&volume(&change))), expected);
}

#[test]
fn a_claim_says_how_much_and_how() {
    check_claim(json!({}), &[]);
    check_claim(
        json!({"spec": {"accessModes": [], "resources": Value::Null}}),
        &[
            "spec.accessModes: Required value: at least 1 access mode is required",
            "spec.resources[storage]: Required value",
        ],
    );
    check_claim(
        json!({"spec": {"resources": {"requests": {"storage": "0"}}, "volumeMode": "Tape"}}),
        &[
            "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
            "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
        ],
    );
    check_claim(
        json!({"spec": {"accessModes": ["ReadWriteOncePod", "ReadWriteMany", "Never"]}}),
        &[
            "spec.accessModes: Unsupported value: \"Never\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
        ],
    );
    check_claim(
        json!({"spec": {"dataSource": {"kind": "VolumeSnapshot", "name": "s"}}}),
        &[
            "spec.dataSource: Invalid value: \"VolumeSnapshot\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        ],
    );
}

#[track_caller]
fn check_claim_update(old: &Value, change: Value, expected: &[&str]) {
    let mut new = old.clone();
    merge_patch(&mut new, &change);
    assert_eq!(texts(PersistentVolumeClaim.validate_update(&new, old)), expected);
}

#[test]
fn only_a_bound_claim_grows() {
    let immutable = "spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
    let bigger = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let pending = claim(&json!({}));
    check_claim_update(&pending, bigger.clone(), &[immutable]);
    // The binder names the volume once, and a default class is found later.
    check_claim_update(&pending, json!({"spec": {"volumeName": "v", "storageClassName": "fast"}}), &[]);
    let bound =
        claim(&json!({"spec": {"volumeName": "v"}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}}}));
    check_claim_update(&bound, bigger, &[]);
    check_claim_update(&bound, json!({"spec": {"volumeName": "w"}}), &[immutable]);
    check_claim_update(
        &bound,
        json!({"spec": {"resources": {"requests": {"storage": "1Mi"}}}}),
        &["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"],
    );
}

#[test]
fn a_claim_is_a_row() {
    let bound = claim(
        &json!({"spec": {"volumeName": "v", "storageClassName": "s"}, "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce", "ReadOnlyMany"]}}),
    );
    let cells = PersistentVolumeClaim.row(&bound, OffsetDateTime::UNIX_EPOCH);
    let expected = ["o", "Bound", "v", "1Gi", "RWO,ROX", "s", "<unset>", "<unknown>", "Filesystem"];
    assert_eq!(cells, expected.map(|text| json!(text)));
}

#[test]
fn a_volume_is_in_one_place() {
    check_volume(json!({}), &[]);
    check_volume(json!({"spec": {"hostPath": Value::Null}}), &["spec: Required value: must specify a volume type"]);
    check_volume(
        json!({"spec": {"nfs": {"server": "s", "path": "/"}}}),
        &["spec.nfs: Forbidden: may not specify more than 1 volume type"],
    );
    check_volume(
        json!({"spec": {"hostPath": Value::Null, "local": {"path": "/x"}}}),
        &["spec.nodeAffinity: Required value: Local volume requires node affinity"],
    );
    check_volume(
        json!({"spec": {"hostPath": {"path": "/"}, "persistentVolumeReclaimPolicy": "Recycle"}}),
        &["spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'"],
    );
    check_volume(
        json!({"spec": {"capacity": {"storage": "0", "cpu": "1"}}}),
        &[
            "spec.capacity: Unsupported value: {\"cpu\":\"1\",\"storage\":\"0\"}: supported values: \"storage\"",
            "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
        ],
    );
}

#[test]
fn a_volume_stays_where_it_is() {
    let old = volume(&json!({}));
    let update = |change: Value| {
        let mut new = old.clone();
        merge_patch(&mut new, &change);
        texts(PersistentVolume.validate_update(&new, &old))
    };
    let free = json!({"spec": {"capacity": {"storage": "2Gi"}, "claimRef": {"name": "c", "namespace": "n"}}});
    assert_eq!(update(free), [] as [&str; 0]);
    assert_eq!(
        update(json!({"spec": {"hostPath": {"path": "/y"}}})),
        ["spec.persistentvolumesource: Forbidden: spec.persistentvolumesource is immutable after creation"]
    );
    assert_eq!(
        update(json!({"spec": {"volumeMode": "Block"}})),
        ["volumeMode: Invalid value: \"Block\": field is immutable"]
    );
}

#[track_caller]
fn check_quota(spec: Value, expected: &[&str]) {
    assert_eq!(texts(ResourceQuota.validate(&object(&ResourceQuota, spec, &json!({})))), expected);
}

#[test]
fn a_quota_limits_what_can_be_counted() {
    check_quota(
        json!({"hard": {"pods": "3", "requests.cpu": "500m", "count/jobs.batch": "1", "requests.nvidia.com/gpu": 1}}),
        &[],
    );
    check_quota(
        json!({"hard": {"apples": "1"}}),
        &[
            "spec.hard[apples]: Invalid value: \"apples\": must be a standard resource type or fully qualified",
            "spec.hard[apples]: Invalid value: \"apples\": must be a standard resource for quota",
        ],
    );
    check_quota(
        json!({"hard": {"pods": "1500m", "memory": "-1"}}),
        &[
            "spec.hard[memory]: Invalid value: \"-1\": must be greater than or equal to 0",
            "spec.hard[pods]: Invalid value: \"1500m\": must be an integer",
        ],
    );
}

#[test]
fn scopes_fit_what_is_limited() {
    check_quota(json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotTerminating"]}), &[]);
    check_quota(
        json!({"hard": {"services": "1"}, "scopes": ["Terminating"]}),
        &["spec.scopes: Invalid value: [\"Terminating\"]: unsupported scope applied to resource"],
    );
    check_quota(
        json!({"hard": {"pods": "1"}, "scopes": ["BestEffort", "NotBestEffort"]}),
        &["spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes"],
    );
    let path = "spec.scopeSelector.matchExpressions";
    check_quota(
        json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In"}]}}),
        &[&format!(
            "{path}.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
        )],
    );
    let old = object(&ResourceQuota, json!({"scopes": ["BestEffort"]}), &json!({}));
    let new = object(&ResourceQuota, json!({"scopes": ["NotBestEffort"]}), &json!({}));
    assert_eq!(
        texts(ResourceQuota.validate_update(&new, &old)),
        ["spec.scopes: Invalid value: [\"NotBestEffort\"]: field is immutable"]
    );
}

#[test]
fn a_quota_is_a_row() {
    let mut quota = object(&ResourceQuota, json!({}), &json!({}));
    quota["status"] = json!({"hard": {"pods": "3", "limits.cpu": "2"}, "used": {"pods": "1", "limits.cpu": "500m"}});
    let cells = ResourceQuota.row(&quota, OffsetDateTime::UNIX_EPOCH);
    assert_eq!(cells[1..3], [json!("pods: 1/3"), json!("limits.cpu: 500m/2")]);
}

#[track_caller]
fn check_limit(item: Value, expected: &[&str]) {
    let range = object(&LimitRange, json!({"limits": [item]}), &json!({}));
    assert_eq!(texts(LimitRange.validate(&range)), expected);
}

#[test]
fn what_a_container_gets_follows_from_its_limits() {
    let range = object(
        &LimitRange,
        json!({"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}),
        &json!({}),
    );
    let item = &range["spec"]["limits"][0];
    assert_eq!(
        (&item["default"], &item["defaultRequest"]),
        (&json!({"cpu": "2"}), &json!({"cpu": "2", "memory": "1Mi"}))
    );
}

#[test]
fn limits_are_consistent() {
    let path = "spec.limits[0]";
    check_limit(json!({"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1"}}), &[]);
    check_limit(
        json!({"type": "Pod", "max": {"cpu": "1"}, "min": {"cpu": "2"}}),
        &[&format!("{path}.min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1")],
    );
    check_limit(
        json!({"type": "Pod", "default": {"cpu": "1"}}),
        &[&format!("{path}.default: Forbidden: may not be specified when `type` is 'Pod'")],
    );
    check_limit(
        json!({"type": "Container", "default": {"cpu": "1"}, "defaultRequest": {"cpu": "2"}}),
        &[&format!(
            "{path}.defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than default limit value 1"
        )],
    );
    check_limit(
        json!({"type": "PersistentVolumeClaim"}),
        &[&format!(
            "{path}.limits: Required value: either minimum or maximum storage value is required, but neither was provided"
        )],
    );
    check_limit(
        json!({"type": "Pod", "min": {"cpu": "1"}, "max": {"cpu": "2"}, "maxLimitRequestRatio": {"cpu": "3"}}),
        &[&format!(
            "{path}.maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000"
        )],
    );
    check_limit(
        json!({"type": "Some"}),
        &[&format!("{path}.type: Invalid value: \"Some\": must be a standard limit type or fully qualified")],
    );
}

#[test]
fn a_replication_controller_takes_its_labels_from_its_template() {
    let template =
        json!({"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}});
    let controller =
        |change: Value| object(&ReplicationController, json!({"template": template}), &json!({"spec": change}));
    let least = controller(json!({}));
    assert_eq!(
        (&least["spec"]["selector"], &least["metadata"]["labels"]),
        (&json!({"app": "a"}), &json!({"app": "a"}))
    );
    assert_eq!(texts(ReplicationController.validate(&least)), [] as [&str; 0]);
    assert_eq!(
        texts(ReplicationController.validate(&controller(json!({"selector": {"app": "b"}, "replicas": -1})))),
        [
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"a\"}: `selector` does not match template `labels`",
        ]
    );
    assert_eq!(
        texts(ReplicationController.validate(&object(&ReplicationController, json!({}), &json!({})))),
        ["spec.selector: Required value", "spec.template: Required value"]
    );
}

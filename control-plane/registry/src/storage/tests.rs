use serde_json::{Value, json};
use time::OffsetDateTime;

use super::class::{StorageClass, VolumeAttributesClass};
use super::csi::{CsiDriver, CsiNode, CsiStorageCapacity};
use super::volume_attachment::VolumeAttachment;
use crate::strategy::{Scope, Strategy};
use crate::value::merge_patch;

fn object(strategy: &dyn Strategy, base: &Value, change: &Value) -> Value {
    let mut object = base.clone();
    object["metadata"] = json!({"name": "o"});
    if strategy.scope() == Scope::Namespaced {
        object["metadata"]["namespace"] = json!("n");
    }
    merge_patch(&mut object, change);
    strategy.default(&mut object);
    object
}

fn texts(errors: Vec<xebec_machinery::field::Error>) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

#[track_caller]
fn check(strategy: &dyn Strategy, base: &Value, change: Value, expected: &[&str]) {
    assert_eq!(texts(strategy.validate(&object(strategy, base, &change))), expected);
}

#[track_caller]
fn check_update(strategy: &dyn Strategy, base: &Value, change: Value, expected: &[&str]) {
    let old = object(strategy, base, &json!({}));
    assert_eq!(texts(strategy.validate_update(&object(strategy, base, &change), &old)), expected);
}

#[test]
fn a_storage_class_names_its_provisioner() {
    let base = json!({"provisioner": "example.com/p"});
    let least = object(&StorageClass, &base, &json!({}));
    assert_eq!((&least["reclaimPolicy"], &least["volumeBindingMode"]), (&json!("Delete"), &json!("Immediate")));
    check(&StorageClass, &base, json!({}), &[]);
    check(
        &StorageClass,
        &base,
        json!({"provisioner": "", "reclaimPolicy": "Recycle", "volumeBindingMode": "Later"}),
        &[
            "provisioner: Required value",
            "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
            "volumeBindingMode: Unsupported value: \"Later\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
        ],
    );
    check(
        &StorageClass,
        &base,
        json!({"allowedTopologies": [{"matchLabelExpressions": [{"key": "zone", "values": ["a", "a"]}, {"key": "zone"}]}]}),
        &[
            "allowedTopologies[0].matchLabelExpressions[0].values[1]: Duplicate value: \"a\"",
            "allowedTopologies[0].matchLabelExpressions[1].values: Required value",
            "allowedTopologies[0].matchLabelExpressions[1].key: Duplicate value: \"zone\"",
        ],
    );
    check_update(
        &StorageClass,
        &base,
        json!({"parameters": {"a": "b"}, "provisioner": "other", "reclaimPolicy": "Retain", "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true}),
        &[
            "parameters: Forbidden: updates to parameters are forbidden.",
            "provisioner: Forbidden: updates to provisioner are forbidden.",
            "reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden.",
            "volumeBindingMode: Invalid value: \"WaitForFirstConsumer\": field is immutable",
        ],
    );
    let marked = json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}});
    let cells = StorageClass.row(&object(&StorageClass, &base, &marked), OffsetDateTime::UNIX_EPOCH);
    assert_eq!(cells[0], "o (default)");
}

#[test]
fn attributes_have_at_least_one_parameter() {
    let base = json!({"driverName": "d.example.com", "parameters": {"iops": "1"}});
    check(&VolumeAttributesClass, &base, json!({}), &[]);
    check(
        &VolumeAttributesClass,
        &base,
        json!({"parameters": Value::Null}),
        &["parameters: Required value: must contain at least one key/value pair"],
    );
    check_update(
        &VolumeAttributesClass,
        &base,
        json!({"parameters": {"iops": "2"}}),
        &["parameters: Forbidden: updates to parameters are forbidden."],
    );
}

#[test]
fn a_driver_is_completed_and_stays() {
    let base = json!({"spec": {}});
    assert_eq!(
        object(&CsiDriver, &base, &json!({}))["spec"],
        json!({
            "attachRequired": true, "podInfoOnMount": false, "storageCapacity": false, "requiresRepublish": false,
            "seLinuxMount": false, "fsGroupPolicy": "ReadWriteOnceWithFSType", "volumeLifecycleModes": ["Persistent"],
        })
    );
    check(&CsiDriver, &base, json!({}), &[]);
    check(
        &CsiDriver,
        &base,
        json!({"spec": {"fsGroupPolicy": "Some", "volumeLifecycleModes": ["Fleeting"], "tokenRequests": [{"audience": "a", "expirationSeconds": 1}, {"audience": "a"}]}}),
        &[
            "spec.fsGroupPolicy: Unsupported value: \"Some\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
            "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
            "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
            "spec.volumeLifecycleModes: Unsupported value: \"Fleeting\": supported values: \"Persistent\", \"Ephemeral\"",
        ],
    );
    check_update(
        &CsiDriver,
        &base,
        json!({"spec": {"attachRequired": false, "podInfoOnMount": true}}),
        &["spec.attachedRequired: Invalid value: false: field is immutable"],
    );
}

#[test]
fn the_drivers_of_a_node_are_distinct_and_stay() {
    let base = json!({"spec": {"drivers": [{"name": "d.example.com", "nodeID": "n"}]}});
    check(&CsiNode, &base, json!({}), &[]);
    check(
        &CsiNode,
        &base,
        json!({"spec": {"drivers": [{"name": "d", "nodeID": ""}, {"name": "d", "nodeID": "n", "allocatable": {"count": -1}, "topologyKeys": ["a", "a"]}]}}),
        &[
            "spec.drivers[0].nodeID: Required value",
            "spec.drivers[1].allocatable.count: Invalid value: -1: must be greater than or equal to 0",
            "spec.drivers[1].name: Duplicate value: \"d\"",
            "spec.drivers[1]: Duplicate value: \"a\"",
        ],
    );
    check_update(
        &CsiNode,
        &base,
        json!({"spec": {"drivers": [{"name": "d.example.com", "nodeID": "n", "allocatable": {"count": 3}}, {"name": "e", "nodeID": "n"}]}}),
        &[],
    );
    check_update(
        &CsiNode,
        &base,
        json!({"spec": {"drivers": [{"name": "d.example.com", "nodeID": "m"}]}}),
        &["spec.drivers: Invalid value: {\"name\":\"d.example.com\",\"nodeID\":\"m\"}: field is immutable"],
    );
}

#[test]
fn a_capacity_is_of_a_class_somewhere() {
    let base = json!({"storageClassName": "fast", "capacity": "1Gi"});
    check(&CsiStorageCapacity, &base, json!({}), &[]);
    check(
        &CsiStorageCapacity,
        &base,
        json!({"capacity": "-1"}),
        &["capacity: Invalid value: \"-1\": must be greater than or equal to 0"],
    );
    check_update(
        &CsiStorageCapacity,
        &base,
        json!({"storageClassName": "slow", "capacity": "2Gi"}),
        &["storageClassName: Invalid value: \"slow\": field is immutable"],
    );
}

#[test]
fn an_attachment_is_of_one_volume_to_one_node() {
    let base = json!({"spec": {"attacher": "d.example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
    check(&VolumeAttachment, &base, json!({}), &[]);
    check(
        &VolumeAttachment,
        &base,
        json!({"spec": {"attacher": "", "source": {"persistentVolumeName": Value::Null}}}),
        &[
            "spec.attacher: Required value",
            "spec.attacher: Invalid value: \"\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        ],
    );
    check_update(
        &VolumeAttachment,
        &base,
        json!({"spec": {"nodeName": "m"}}),
        &[
            "spec: Invalid value: {\"attacher\":\"d.example.com\",\"nodeName\":\"m\",\"source\":{\"persistentVolumeName\":\"v\"}}: field is immutable",
        ],
    );
}

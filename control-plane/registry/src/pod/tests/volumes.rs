use serde_json::json;

use super::{check_container, check_spec};

#[test]
fn a_volume_has_one_source() {
    let check = |volume, expected: &[&str]| check_spec(json!({"volumes": [volume]}), expected);
    check(json!({"name": "v", "emptyDir": {"medium": "Memory"}}), &[]);
    check(
        json!({"name": "v", "emptyDir": {}, "hostPath": {"path": "/x"}}),
        &["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
    );
    check(json!({"emptyDir": {}}), &["spec.volumes[0].name: Required value"]);
    check(
        json!({"name": "v", "hostPath": {"path": "/a/../b", "type": "Dir"}}),
        &[
            "spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
            "spec.volumes[0].hostPath.type: Unsupported value: \"Dir\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
        ],
    );
    check(json!({"name": "v", "secret": {}}), &["spec.volumes[0].secret.secretName: Required value"]);
    check(
        json!({"name": "v", "configMap": {"name": "m", "defaultMode": 512, "items": [{"path": "/a"}]}}),
        &[
            "spec.volumes[0].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777 (octal), both inclusive",
            "spec.volumes[0].configMap.items[0].key: Required value",
            "spec.volumes[0].configMap.items[0].path: Invalid value: \"/a\": must be a relative path",
        ],
    );
    check(
        json!({"name": "v", "downwardAPI": {"items": [{"path": "..a", "fieldRef": {"fieldPath": "spec.nodeName"}}, {"path": "b"}]}}),
        &[
            "spec.volumes[0].downwardAPI.items[0].path: Invalid value: \"..a\": must not start with '..'",
            "spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath: Unsupported value: \"spec.nodeName\": supported values: \"metadata.annotations\", \"metadata.labels\", \"metadata.name\", \"metadata.namespace\", \"metadata.uid\"",
            "spec.volumes[0].downwardAPI.items[1]: Required value: one of fieldRef and resourceFieldRef is required",
        ],
    );
    check(
        json!({"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 1}}, {"secret": {}}]}}),
        &[
            "spec.volumes[0].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
            "spec.volumes[0].projected.sources[1].secret.name: Required value",
        ],
    );
    check(json!({"name": "v", "ephemeral": {}}), &["spec.volumes[0].ephemeral.volumeClaimTemplate: Required value"]);
    check(
        json!({"name": "v", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}}}),
        &["spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value"],
    );
    check(json!({"name": "v", "csi": {"driver": "inline.example.com", "nodePublishSecretRef": {"name": "s"}}}), &[]);
    check(
        json!({"name": "v", "csi": {"driver": "inline.example.com", "nodePublishSecretRef": {}}}),
        &["spec.volumes[0].csi.nodePublishSecretRef.name: Required value"],
    );
    check_spec(json!({"volumes": [{"name": "v"}, {"name": "v"}]}), &["spec.volumes[1].name: Duplicate value: \"v\""]);
}

#[test]
fn a_mount_has_a_volume_and_a_path() {
    let check = |mounts, expected: &[&str]| check_container(json!({"volumeMounts": mounts}), expected);
    check(json!([{"name": "v", "mountPath": "/a", "subPath": "b/c"}]), &[]);
    check(json!([{"name": "w", "mountPath": "/a"}]), &["spec.containers[0].volumeMounts[0].name: Not found: \"w\""]);
    check(json!([{"name": "v"}]), &["spec.containers[0].volumeMounts[0].mountPath: Required value"]);
    check(
        json!([{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a"}]),
        &["spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique"],
    );
    check(
        json!([{"name": "v", "mountPath": "/a", "subPath": "../b", "subPathExpr": "c"}]),
        &[
            "spec.containers[0].volumeMounts[0].subPath: Invalid value: \"../b\": must not contain '..'",
            "spec.containers[0].volumeMounts[0].subPathExpr: Invalid value: \"c\": subPathExpr and subPath are mutually exclusive",
        ],
    );
    check(
        json!([{"name": "v", "mountPath": "/a", "mountPropagation": "Bidirectional"}]),
        &[
            "spec.containers[0].volumeMounts[0].mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
        ],
    );
}
